"""The audit's default: several attacks in turn, the best result an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.apgd import APGDT
from scotoma.attacks.core.base import BoundedAttack
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import select
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.square import Square
from scotoma.claim import TOLERANCE, Threat
from scotoma.utils.random import Randomness

SEARCHES: dict[str, type[MinLinf] | type[MinL2]] = {"linf": MinLinf, "l2": MinL2}
"""The minimum-norm search in each norm."""

NEAR = 1.05
"""Of the images that the minimum-norm search leaves standing at a size, targeted APGD and square broke only some whose smallest
perturbation was within this factor of it (see docs/log.md); they are not spent on those farther out."""


@dataclass(frozen=True)
class Strong(BoundedAttack):
    """Minimum-norm search on every image, then attacks at eps on those that barely stand; the best result an image.

    `min-linf` or `min-l2` comes first and gives every image's smallest perturbation. Targeted APGD works on the images that
    barely stand. In L-inf, random search over squares comes last and starts from the smallest perturbation, shortened to eps: it
    crosses the flat steps that training at a large eps leaves (on PGD-trained MNIST models it finds what no gradient does).

    Args:
        threat: its norm, L-inf or L2, is minimised; images that stand at its eps, but would fall a little beyond it or nowhere,
            are attacked further.
        until: a smaller size that matters as much as eps: images are attacked further at both, and those whose perturbation
            is smaller than this are left; 0 finds each image's smallest.
    """

    id: ClassVar[str] = "strong"
    norms: ClassVar = ("linf", "l2")
    until: float = 0.0

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        """The closest adversarial images found, (n, c, h, w); unchanged where there is none or the model is wrong already."""
        adversarial = self._search(model, images, labels, generator=random.fork(0))
        sizes = [self.threat.eps]
        if 0 < self.until < self.threat.eps:
            sizes.append(self.until)
        balls = [Threat(self.norm, eps) for eps in sizes]
        attacks = [attack for ball in balls for attack in self._further(ball)]
        for number, (attack, from_nearest) in enumerate(attacks, start=1):
            eps = attack.threat.eps
            distance = size(adversarial - images, self.norm)
            barely = (distance > eps + TOLERANCE) & (distance < NEAR * eps)
            rows = ((distance == 0) | barely).nonzero().squeeze(1)
            if not len(rows):
                continue
            inside = attack(
                select(model, rows),
                images[rows],
                labels[rows],
                start=adversarial[rows] if from_nearest else None,
                generator=random.fork(number).select(rows),
            )
            fooled = (inside != images[rows]).flatten(1).any(1)
            adversarial[rows[fooled]] = inside[fooled]
        return adversarial

    @property
    def _search(self) -> MinLinf | MinL2:
        restarts = {"linf": (4, 40), "l2": (2, 55)}[self.norm]
        return SEARCHES[self.norm](self.norm, 240, *restarts, until=self.until)

    @staticmethod
    def _further(ball: Threat) -> list[tuple[BoundedAttack, bool]]:
        """Return the attacks inside a ball, and whether each starts from the nearest so far."""
        targeted = (APGDT(ball, steps=50), False)
        return [targeted, (Square(ball, queries=2000), True)] if ball.norm == "linf" else [targeted]
