"""The audit's default: several attacks in turn, the best result an image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from scotoma.attacks.apgd import APGDT
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.oracle import narrow
from scotoma.claim import TOLERANCE, Threat
from scotoma.randomness import Randomness


@dataclass(frozen=True)
class Strong:
    """Minimum-norm search on every image, then targeted APGD at eps on those that still stand; the better result an image.

    Args:
        threat: its norm is minimised; images that still stand at its eps are attacked further.
        until: images whose perturbation is smaller than this are not worked on further; 0 finds each image's smallest.
    """

    threat: Threat
    until: float = 0.0

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None) -> Tensor:
        """The closest adversarial images found, (n, c, h, w); unchanged where there is none or the model is wrong already."""
        random = generator or Randomness.default(images)
        search = MinLinf(self.threat, steps=60, restarts=9, restart_steps=20, until=self.until)
        found = search(model, images, labels, random)
        distance = (found - images).flatten(1).abs().amax(1)
        stands = ((distance == 0) | (distance > self.threat.eps + TOLERANCE)).nonzero().squeeze(1)
        if len(stands):
            inside = APGDT(self.threat, steps=50)(narrow(model, stands), images[stands], labels[stands], random.narrow(stands))
            fell = (inside != images[stands]).flatten(1).any(1)
            found[stands[fell]] = inside[fell]
        return found
