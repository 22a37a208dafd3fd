"""Recipes without adversarial images: clean images, generative models, nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.data.dataset import Split
from scotoma.models.flow import Flow
from scotoma.models.nearest_neighbour import NearestNeighbour
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

CALIBRATED = 500
"""Training images on which the posterior is calibrated."""
UNKNOWN = 0.1
"""Fraction of images without their label, from which a flow that guides its samples learns."""


@dataclass(frozen=True)
class Natural:
    """Training on clean images, the control for every defence.

    Args:
        threat: used by the training log only.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    >>> recipe, images, labels = Natural(Threat("linf", 0.1)), torch.rand(2, 1, 4, 4), [0, 2]
    >>> recipe(model, images, torch.tensor(labels), 0.5, torch.Generator()).shape
    torch.Size([])
    """

    claim: ClassVar = "linf:0.1"
    threat: Threat

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        return F.cross_entropy(model(images).float(), labels)


@dataclass(frozen=True)
class Synthesis:
    """Training each class's autoencoder on its own images: |x - G(z)|^2 + beta KL.

    z is drawn around the encoder's mean. Up to a factor this is the evidence bound with a Gaussian
    likelihood (Schott et al. 2019, eq. 5, and the authors' code). No image is perturbed.

    Args:
        threat: used by the training log only.
        beta: weight of the divergence from the latent's prior.

    >>> Synthesis(Threat("l2", 1.5)).arch
    'abs'
    """

    arch: ClassVar = "abs"
    claim: ClassVar = "l2:1.5"
    rate: ClassVar = 3e-3
    balanced: ClassVar = True
    evaluated: ClassVar = 100
    threat: Threat
    beta: float = 1.0

    def finish(self, model: Module, split: Split) -> None:
        """Calibrate the posterior on the first `CALIBRATED` training images."""
        assert isinstance(model, AnalysisBySynthesis)
        rows = torch.arange(min(CALIBRATED, len(split)))
        device = model.floor.device
        model.calibrate(split.images(rows).to(device), split.labels[rows].to(device))

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        if not isinstance(model, AnalysisBySynthesis):
            raise InputError(
                "recipe abs trains arch=abs or arch=binary-abs, with a generative model a class"
            )
        classes = model.vaes.classes
        turns = images.contiguous().view(-1, classes, *images.shape[1:])
        made, mean, log_variance = model.vaes(model.binarise(turns), generator)
        missed = (model.binarise(turns) - made).square().sum()
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        return (missed + self.beta * divergence) / len(images)


@dataclass(frozen=True)
class FlowMatching:
    """Training of a velocity field on straight paths from noise to images of their class.

    At a random time t the point is (1 - t) noise + t image, on [-1, 1], and the velocity there is
    image - noise. No image is perturbed. A field that guides its samples learns from one image in
    ten without its label.

    Args:
        threat: used by the training log only.

    Source: Lipman et al. 2023, section 4.1, with no noise left at t = 1; Ho and Salimans 2022,
    algorithm 1.

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
        if model.guidance > 1:
            unknown = torch.rand(len(labels), generator=generator, device=labels.device) < UNKNOWN
            labels = labels.masked_fill(unknown, model.classes)
        ends = 2 * images - 1
        points = torch.lerp(noise, ends, time.view(-1, 1, 1, 1))
        return (model.velocity(points, time, labels) - (ends - noise)).square().mean()


@dataclass(frozen=True)
class NearestNeighbourTraining:
    """Storing all training images in the model (Schott et al. 2019, section 5).

    Args:
        threat: used by the training log only.

    >>> NearestNeighbourTraining(Threat("l2", 1.5)).arch
    'nearest-neighbour'
    """

    arch: ClassVar = "nearest-neighbour"
    claim: ClassVar = "l2:1.5"
    evaluated: ClassVar = 1000
    threat: Threat

    def fit(self, model: Module, split: Split) -> None:
        """Store all images of the split in the model."""
        if not isinstance(model, NearestNeighbour):
            raise InputError("recipe nearest-neighbour trains arch=nearest-neighbour only")
        model.remember(split)

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        raise InputError("recipe nearest-neighbour has no steps")
