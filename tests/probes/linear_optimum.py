"""The smallest perturbation of a linear model, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import GUARD
from scotoma.attacks.core.oracle import Counted
from scotoma.probes.base import Settings
from scotoma.threat import Threat

OVERSHOOT = 1e-4


def optimum(
    model: nn.Sequential, images: Tensor, labels: Tensor, norm: str = "linf"
) -> tuple[Tensor, Tensor]:
    """Return the least distance (n,) that fools a linear model by twice the overshoot, and class j.

    It is the least over j of margin_j / |w_j - w_label|, in L1 for L-inf distances and in L2 for
    L2 distances. The box is far away.
    """
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    logits = model(images)
    slope = (layer.weight[None] - layer.weight[labels][:, None]).norm(
        p=1 if norm == "linf" else 2, dim=2
    )
    guard = 2 * GUARD * logits.abs().amax(1, keepdim=True)
    distance = (logits.gather(1, labels[:, None]) - logits + guard) / slope
    others = distance.scatter(1, labels[:, None], torch.inf)
    return others.clamp_min(0).min(1)  # type: ignore[return-value]


@dataclass(frozen=True)
class Exact:
    """The attack that goes there, and a little beyond."""

    norm: str = "linf"

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, generator=None) -> Tensor:
        assert isinstance(model, Counted)
        linear = model.model
        assert isinstance(linear, nn.Sequential)
        distance, target = optimum(linear, images, labels, self.norm)
        layer = linear[1]
        assert isinstance(layer, nn.Linear)
        slope = (layer.weight[target] - layer.weight[labels]).view_as(images)
        return images + (1 + OVERSHOOT) * distance[:, None, None, None] * Threat(
            self.norm, 1
        ).steepest(slope)


class ExactSettings(Settings):
    """Settings whose attack is `Exact`."""

    def make_attack(self, threat: Threat, until: float = 0.0) -> Exact:
        return Exact(threat.norm)
