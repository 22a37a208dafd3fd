"""Attacks in one gradient step: fast, and the first that masked gradients mislead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.core.base import BoundedAttack, from_zero
from scotoma.attacks.core.losses import cross_entropy, least_likely
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class FGSM(BoundedAttack):
    """The fast gradient sign method: one step to the edge of the ball.

    Goodfellow et al. 2015, section 4. The stepped image is returned whether it fools or not.

    Args:
        threat: the ball, L-inf or L2.
        loss: the loss to ascend.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> FGSM("linf:0.2")(nn.Flatten(), images, labels)  # the brighter pixel is the class
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "fgsm"
    norms: ClassVar = ("linf", "l2")
    loss: Loss = cross_entropy

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        gradient = Oracle(model, labels).value_and_grad(images, self.loss).gradient
        return self.threat.project(images + self.threat.steepest(gradient), images)


@dataclass(frozen=True)
class StepLL(FGSM):
    """One step towards the class that the model finds least likely.

    Kurakin et al. 2017, section 2. The stepped image is returned whether it fools or not.

    Args:
        threat: the ball, L-inf or L2.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> StepLL("linf:0.2")(nn.Flatten(), images, labels)
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "step-ll"
    loss: Loss = least_likely


@dataclass(frozen=True)
class RandFGSM(BoundedAttack):
    """R+FGSM: a random step of alpha, then a gradient step of eps - alpha.

    Tramer et al. 2018, eq. 5. The random step leaves the neighbourhood in which a masked gradient
    misleads. The stepped image is returned whether it fools or not.

    Args:
        threat: the ball, L-inf or L2.
        alpha: length of the random step as a share of eps; the paper's is 1/2.
        loss: the loss to ascend.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> RandFGSM("linf:0.2")(nn.Flatten(), images, labels).sub(images).abs().max() <= 0.20001
    tensor(True)
    """

    id: ClassVar[str] = "rand-fgsm"
    norms: ClassVar = ("linf", "l2")
    alpha: float = from_zero(0.5)
    loss: Loss = cross_entropy

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        noise = random.normal(images)
        start = (images + self.alpha * self.threat.steepest(noise)).clamp_(0, 1)
        gradient = Oracle(model, labels).value_and_grad(start, self.loss).gradient
        return self.threat.project(
            start + (1 - self.alpha) * self.threat.steepest(gradient), images
        )


@dataclass(frozen=True)
class RandStepLL(RandFGSM):
    """R+Step-LL: `RandFGSM` towards the least likely class (Tramer et al. 2018, section 4.1).

    Args:
        threat: the ball, L-inf or L2.
        alpha: length of the random step as a share of eps; the paper's is 1/2.

    >>> RandStepLL("linf:0.2").alpha
    0.5
    """

    id: ClassVar[str] = "rand-step-ll"
    loss: Loss = least_likely
