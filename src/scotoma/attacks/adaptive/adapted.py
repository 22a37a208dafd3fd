"""The audit attack on a model whose gradient misleads it: other views, then no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.adaptive.expected import Expected
from scotoma.attacks.adaptive.plan import CLEAN, Plan
from scotoma.attacks.adaptive.views import View, Viewed
from scotoma.attacks.apgd import APGDT
from scotoma.attacks.core.base import BoundedAttack, share_of_passes
from scotoma.attacks.core.batch import Batch, changed
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.hop_skip_jump import HopSkipJump
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.pgd import PGD
from scotoma.attacks.refine import reverted
from scotoma.attacks.square import Square
from scotoma.threat import TOLERANCE
from scotoma.utils.random import Randomness

SEARCHES: dict[str, type[MinLinf] | type[MinL2]] = {"linf": MinLinf, "l2": MinL2}
"""Minimum-norm search in each norm."""
QUERIES, FEWEST_QUERIES = 5000, 500
"""Queries of random search on every image that withstands gradients, as in AutoAttack; and the
fewest for a slow model."""
STEPS = 10
"""Steps along estimated gradients, each of up to 65 queries. Neither 10 nor 40 fool one of 157
images of digits that withstand random search (docs/log.md)."""
DECISIONS, FEWEST_DECISIONS = 1500, 400
"""Queries of the search by decisions, the last on images that withstand everything else; and the
fewest for a slow model: with those it has found a start and taken two steps."""


@dataclass(frozen=True)
class Adapted(BoundedAttack):
    """Attacks by the views of a plan, then without gradients on every image that withstands eps.

    In L2, on a model whose logits change in steps, changed pixels are reverted one by one while
    it stays fooled: along other gradients all values change, but only those that cross a step
    matter.

    The closest fooling images are returned, even beyond eps; images without one are unchanged.

    Args:
        threat: L-inf or L2; its norm is minimised, its eps is where images are attacked further.
        until: a smaller size that matters as much as eps; 0 finds each image's smallest.
        plan: see `make_plan`; a plan without views follows the exact gradient.
        share: share of the queries without gradients, for a slow model.
    """

    id: ClassVar[str] = "adapted"
    norms: ClassVar = ("linf", "l2")
    until: float = 0.0
    plan: Plan = CLEAN
    share: float = share_of_passes()

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        batch = Batch(model, images, labels, random)
        if self.plan.blind:
            return self._without_gradient(batch)
        views = self.plan.views or (View(),)
        adversarial = images.clone()
        averaged = views[0].random  # then each step takes as many passes as there are draws
        searches = [
            Expected(self.threat, view) if averaged else Viewed(self._search(number == 0), view)
            for number, view in enumerate(views)
        ]
        everywhere = 1 if averaged else len(views)
        attacks = [*searches, *([] if averaged else self._further(views[0]))]
        for number, attack in enumerate(attacks):
            if number == everywhere:
                adversarial = self._reverted(adversarial, batch.fork(len(attacks)))
            distance = size(adversarial - images, self.norm)
            withstands = (distance == 0) | (distance > self.threat.eps + TOLERANCE)
            rows = (withstands | (number < everywhere)).nonzero().squeeze(1)
            if not len(rows):
                break
            part = batch.fork(number).select(rows)
            adversarial[rows] = self._nearer(part.images, adversarial[rows], part.attacked(attack))
        return adversarial

    def _without_gradient(self, batch: Batch) -> Tensor:
        """Return images found without any gradient of the model, the cheapest attacks first.

        Random search and steps along estimated gradients look for an image within eps. The search
        by decisions begins there, or anywhere if they find none, and comes nearer.
        """
        adversarial = batch.images.clone()
        steps = Viewed(PGD(self.threat, steps=STEPS, loss=margin), self.plan.views[0])
        for number, attack in enumerate((self._squares, steps)):
            rows = (~changed(adversarial, batch.images)).nonzero().squeeze(1)
            if len(rows):
                adversarial[rows] = batch.fork(number).select(rows).attacked(attack)
        fooled = changed(adversarial, batch.images)
        for inside in (True, False):
            rows = (fooled == inside).nonzero().squeeze(1)
            if len(rows):
                part = batch.fork(2).select(rows)
                candidates = part.attacked(self._decisions, adversarial[rows] if inside else None)
                adversarial[rows] = self._nearer(part.images, adversarial[rows], candidates)
        return self._reverted(adversarial, batch.fork(3))

    def _reverted(self, adversarial: Tensor, batch: Batch) -> Tensor:
        """Return the images with pixels reverted that need not change, where this can help."""
        steps = self.norm == "l2" and self.plan.look is not None and self.plan.look.shows("steps")
        return reverted("l2", adversarial, batch) if steps else adversarial

    def _search(self, first: bool) -> MinLinf | MinL2:
        steps, restarts = (240, (4, 40)) if first else (100, (1, 30))
        return SEARCHES[self.norm](self.norm, steps, *restarts, until=self.until)

    def _further(self, view: View) -> list[Viewed | Square | HopSkipJump]:
        """Return the attacks on images that withstand the search, the cheapest first."""
        return [Viewed(APGDT(self.threat, steps=50), view), self._squares, self._decisions]

    @property
    def scaled(self) -> list[str]:
        """Queries that remain after `share`, for a report."""
        return [
            f"{self._squares.queries:,} of {QUERIES:,} queries of random search",
            f"{self._decisions.queries:,} of {DECISIONS:,} decisions",
        ]

    @property
    def _squares(self) -> Square:
        queries = min(QUERIES, max(FEWEST_QUERIES, round(self.share * QUERIES)))
        return Square(self.threat, queries=queries)

    @property
    def _decisions(self) -> HopSkipJump:
        queries = min(DECISIONS, max(FEWEST_DECISIONS, round(self.share * DECISIONS)))
        return HopSkipJump(self.norm, queries=queries)

    def _nearer(self, images: Tensor, adversarial: Tensor, candidates: Tensor) -> Tensor:
        """Return `candidates` where they fool and are nearer, elsewhere `adversarial`."""
        new, old = size(candidates - images, self.norm), size(adversarial - images, self.norm)
        nearer = (new > 0) & ((old == 0) | (new < old))
        return torch.where(column(nearer), candidates, adversarial)
