"""The audit attack on a model whose gradient does not lead it: other views, then no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.adaptive.expected import Expected
from scotoma.attacks.adaptive.plan import CLEAN, Plan
from scotoma.attacks.adaptive.views import View, Viewed
from scotoma.attacks.apgd import APGDT
from scotoma.attacks.core.base import BoundedAttack
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import select
from scotoma.attacks.hop_skip_jump import HopSkipJump
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.square import Square
from scotoma.claim import TOLERANCE
from scotoma.utils.random import Randomness

QUERIES = 5000
"""Queries of random search on every image that withstands gradients, as in AutoAttack."""
DECISIONS = 1500
"""Queries of the search by decisions, the last on images that withstand everything else."""


@dataclass(frozen=True)
class Adapted(BoundedAttack):
    """Attacks by the views of a plan, then without gradients on every image that withstands eps.

    The closest fooling images are returned, also beyond eps; images without one are unchanged.

    Args:
        threat: L-inf or L2; its norm is minimised, its eps is where images are attacked further.
        until: a smaller size that matters as much as eps; 0 finds each image's smallest.
        plan: see `make_plan`; a plan without views follows the exact gradient.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Adapted("linf:0.2")(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "adapted"
    norms: ClassVar = ("linf", "l2")
    until: float = 0.0
    plan: Plan = CLEAN

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        views = self.plan.views or (View(),)
        best = images.clone()
        for number, view in enumerate(views):
            if view.random:
                search = Expected(self.threat, view)
            else:
                search = Viewed(self._search(first=number == 0), view)
            self._keep(best, images, search(model, images, labels, generator=random.fork(number)))
        if views[0].random:
            return best
        for number, attack in enumerate(self._further(views[0]), start=len(views)):
            distance = size(best - images, self.norm)
            rows = ((distance == 0) | (distance > self.threat.eps + TOLERANCE)).nonzero().squeeze(1)
            if not len(rows):
                return best
            found = attack(
                select(model, rows),
                images[rows],
                labels[rows],
                generator=random.fork(number).select(rows),
            )
            part = best[rows]
            self._keep(part, images[rows], found)
            best[rows] = part
        return best

    def _search(self, first: bool) -> MinLinf | MinL2:
        steps, restarts = (240, (4, 40)) if first else (100, (1, 30))
        kind = {"linf": MinLinf, "l2": MinL2}[self.norm]
        return kind(self.norm, steps, *restarts, until=self.until)

    def _further(self, view: View) -> list[Viewed | Square | HopSkipJump]:
        """Return the attacks on images that withstand the search, the cheapest first."""
        return [
            Viewed(APGDT(self.threat, steps=50), view),
            Square(self.threat, queries=QUERIES),
            HopSkipJump(self.norm, queries=DECISIONS),
        ]

    def _keep(self, best: Tensor, images: Tensor, found: Tensor) -> None:
        """Replace the rows of `best` for which `found` is another image that is nearer."""
        new, old = size(found - images, self.norm), size(best - images, self.norm)
        nearer = (new > 0) & ((old == 0) | (new < old))
        best[nearer] = found[nearer]
