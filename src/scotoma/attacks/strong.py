"""The audit's default: several attacks in turn, the best result an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.apgd import APGDT
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
class Strong:
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
    threat: Threat
    until: float = 0.0

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        """The closest adversarial images found, (n, c, h, w); unchanged where there is none or the model is wrong already."""
        random = generator or Randomness.default(images)
        found = self._search(model, images, labels, random.fork(0))
        sizes = (
            (self.threat.eps, self.until)
            if 0 < self.until < self.threat.eps
            else (self.threat.eps,)
        )
        balls = [Threat(self.threat.norm, eps) for eps in sizes]
        attacks = [attack for ball in balls for attack in self._further(ball)]
        for number, attack in enumerate(attacks, start=1):
            self._improve(attack, model, images, labels, found, random.fork(number))
        return found

    @property
    def _search(self) -> MinLinf | MinL2:
        restarts = {"linf": (4, 40), "l2": (2, 55)}[self.threat.norm]
        return SEARCHES[self.threat.norm](self.threat, 240, *restarts, until=self.until)

    @staticmethod
    def _further(ball: Threat) -> tuple[APGDT | Square, ...]:
        targeted = APGDT(ball, steps=50)
        return (targeted, Square(ball, queries=2000)) if ball.norm == "linf" else (targeted,)

    @staticmethod
    def _improve(
        attack: APGDT | Square,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        found: Tensor,
        random: Randomness,
    ) -> None:
        """Attack what has no adversarial image within the attack's eps, but one a little farther or none; `found` keeps it."""
        eps = attack.threat.eps
        distance = size(found - images, attack.threat.norm)
        stands = (
            ((distance == 0) | ((distance > eps + TOLERANCE) & (distance < NEAR * eps)))
            .nonzero()
            .squeeze(1)
        )
        if not len(stands):
            return
        part = select(model, stands), images[stands], labels[stands]
        if isinstance(attack, Square):
            inside = attack.search(*part, found[stands], random.select(stands))
        else:
            inside = attack(*part, random.select(stands))
        fell = (inside != images[stands]).flatten(1).any(1)
        found[stands[fell]] = inside[fell]
