"""Flow matching: a generator of images of each class, for the probe of generated images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.claim import Threat
from scotoma.models.flow import Flow
from scotoma.utils.errors import InputError


@dataclass(frozen=True)
class FlowMatching:
    """Training of a velocity field on straight paths from noise to images of their class.

    At a random time t the point is (1 - t) noise + t image, on [-1, 1], and the velocity there is
    image - noise. No image is perturbed.

    Args:
        threat: used by the training log only.

    Source:
        Lipman et al. 2023, section 4.1, with no noise left at t = 1.

    >>> FlowMatching(Threat("linf", 0.1)).arch
    'flow'
    """

    arch: ClassVar = "flow"
    claim: ClassVar = "linf:0.1"
    rate: ClassVar = 2e-3
    evaluated: ClassVar = 50
    threat: Threat

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        if not isinstance(model, Flow):
            raise InputError("recipe generator trains arch=flow, which generates images")
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        time = torch.rand(len(images), generator=generator, device=images.device)
        ends = 2 * images - 1
        points = torch.lerp(noise, ends, time.view(-1, 1, 1, 1))
        return (model.velocity(points, time, labels) - (ends - noise)).square().mean()
