"""Views: other gradients of the same model, for models whose own gradients mislead."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.adaptive.opened import Opened, Reach, margin_gradient, open_custom, skipping
from scotoma.attacks.bpda import StraightThrough, straight
from scotoma.attacks.core.base import Wrapped
from scotoma.attacks.core.oracle import Counted, PerImage, answer
from scotoma.attacks.estimated import STEP, Estimating
from scotoma.models.classifier import votes
from scotoma.utils.random import Randomness

LOOKED_AT = 16
"""Images on which the reach of gates is measured."""
ACCURATE = 0.5
"""Accuracy from which a module inside a model counts as a classifier."""
STREAM = -2
"""Stream of random numbers for the draws; attacks number theirs from 0."""


@dataclass(frozen=True)
class View:
    """How gradients are obtained; the outputs are always the model's own.

    Args:
        steps: "exact"; "straight" through steps (BPDA); "open", also through dead zones, masks,
            saturation and cut graphs; "skip", also around modules from images to images; "inner",
            the gradient of the classifiers inside the model, as if the rest were the identity;
            "estimate", from differences of answers.
        draws: number of passes whose gradients are averaged, or of directions of an estimate.
        sigma: standard deviation of normal noise on the image in each of these passes, antithetic.
        reach: the size of the threat in each value, over which gates are measured.
        random: whether the output is a vote of the draws, for a randomised model.
        inner: names of the classifiers inside.

    >>> str(View("straight", draws=8, sigma=0.05))
    'straight-through gradients, mean of 8 draws with noise 0.05'
    """

    steps: str = "exact"
    draws: int = 1
    sigma: float = 0.0
    reach: float = 0.0
    random: bool = False
    inner: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = {
            "exact": "the exact gradient",
            "straight": "straight-through gradients",
            "open": "gradients through open gates",
            "skip": "gradients around modules that change the image",
            "inner": "gradients of the classifier inside the model",
            "estimate": "gradients estimated from answers",
        }[self.steps]
        if self.steps == "estimate":
            return f"{text} along {self.draws} directions"
        if self.draws > 1:
            text += f", mean of {self.draws} draws"
        return text + (f" with noise {self.sigma:.3g}" if self.sigma else "")

    def wrap(self, model: nn.Module, images: Tensor, random: Randomness) -> nn.Module:
        """Return the model with these gradients, for attacks on `images`."""
        stream = random.fork(STREAM)
        if self.steps == "estimate":
            few = self.draws if self.draws < images[:1].numel() else None  # else every value
            return Estimating(model, len(images), images.device, STEP, few, stream)
        viewed = _Model(model, len(images), images.device, self, stream)
        if self.steps in ("open", "skip") and len(images):
            viewed.look_around(images)
        return viewed


@dataclass(frozen=True)
class Viewed(Wrapped):
    """An attack that sees a model's gradients through a `View`; returns what the attack returns."""

    id: ClassVar[str] = "viewed"
    view: View = View()

    def wrap(self, model: nn.Module, images: Tensor, random: Randomness) -> nn.Module:
        return self.view.wrap(model, images, random)


class _Model(PerImage):
    """The model's own outputs, with the gradients of a view."""

    def __init__(
        self, model: nn.Module, size: int, device: torch.device, view: View, random: Randomness
    ):
        reduced = isinstance(model, PerImage) and model.reduced
        super().__init__(model, size, device, reduced)
        self.view, self.random, self.reach = view, random, Reach()

    def look_around(self, images: Tensor) -> None:
        """Note how far the threat changes the operands of gates, on a few images."""
        few, owners = images[:LOOKED_AT], self.owners[:LOOKED_AT]
        corner = self.random.fork(0).select(owners).uniform(few).round().mul_(2).sub_(1)
        for number, move in enumerate((0.0, self.view.reach)):
            self.reach.passes = number
            leaf = (few + move * corner).clamp(0, 1).requires_grad_()
            with torch.enable_grad(), Opened(self.reach, recording=True):
                answer(self.model, leaf, owners)
        self.reach.before.clear()

    def forward(self, images: Tensor) -> Tensor:
        owners, view = self.whose(images), self.view
        if not (torch.is_grad_enabled() and images.requires_grad):
            if not view.random:
                return answer(self.model, images, owners)
            # one pass a draw, since some models draw once a batch
            return votes([answer(self.model, images, owners) for _ in range(view.draws)])
        if view.draws == 1 and not view.sigma and view.steps != "inner":
            return self._through(images, owners)
        if view.random:
            draws = [self._through(images, owners).float() for _ in range(view.draws)]
            mean = torch.stack([logits.log_softmax(1) for logits in draws]).mean(0)
            return straight(votes([logits.detach() for logits in draws]), mean)
        copies = images.repeat(view.draws, 1, 1, 1)
        if view.sigma:
            random = self.random.select(owners)
            half = [random.normal(images) for _ in range((view.draws + 1) // 2)]
            noise = torch.cat([*half, *(-each for each in half)])[: len(copies)]
            copies = (copies + view.sigma * noise).clamp(0, 1)
        slopes = self._through(copies, owners.repeat(view.draws))
        slopes = slopes.float().unflatten(0, (view.draws, -1))
        with torch.no_grad():
            values = answer(self.model, images.detach(), owners).float()
        outputs = straight(values, slopes.mean(0))
        if view.steps == "inner":
            outputs.guide = slopes.mean(0)  # type: ignore[attr-defined]
        return outputs

    def _through(self, images: Tensor, owners: Tensor) -> Tensor:
        steps = self.view.steps
        if steps == "inner":
            inner = [root(self.model).get_submodule(name) for name in self.view.inner]
            parts = torch.stack([_inside(self.model, each, images, owners) for each in inner])
            return parts.mean(0)
        if steps in ("exact", "straight"):
            with StraightThrough() if steps == "straight" else nullcontext():
                return answer(self.model, images, owners)
        opened = Opened(self.reach)
        logits = self._opened(opened, images, owners)
        if opened.chose:
            # all classes that were not chosen are equal; the scores behind the choice differ
            guide = self._opened(Opened(self.reach, soft=True), images, owners)
            logits.guide = guide  # type: ignore[attr-defined]
        return logits

    def _opened(self, opened: Opened, images: Tensor, owners: Tensor) -> Tensor:
        skips = self.view.steps == "skip"
        with skipping(self.model, images.shape) if skips else nullcontext(), opened:
            logits = answer(self.model, images, owners)
        open_custom(logits)
        return logits


def inner_classifiers(
    model: nn.Module, images: Tensor, labels: Tensor, classes: int
) -> tuple[str, ...]:
    """Return the names of outermost modules that classify these images correctly, with a gradient.

    A preprocessor, a purifier or a vote around a network leaves the network inside such a module.
    """
    names: list[str] = []
    for name, module in root(model).named_modules():
        outer = any(name.startswith(f"{outermost}.") for outermost in names)
        if not name or outer or isinstance(module, nn.ModuleList | nn.ModuleDict):
            continue
        leaf = images.detach().clone().requires_grad_()
        try:
            with torch.enable_grad():
                logits = module(leaf)
        except Exception:  # most modules take no images
            continue
        fits = isinstance(logits, Tensor) and logits.shape == (len(images), classes)
        if not fits or float((logits.argmax(1) == labels).float().mean()) < ACCURATE:
            continue
        gradient = margin_gradient(logits, labels, leaf)
        if gradient is not None and float(gradient.flatten(1).any(1).float().mean()) > 0.5:
            names.append(name)
    return tuple(names)


def _inside(model: nn.Module, module: nn.Module, images: Tensor, owners: Tensor) -> Tensor:
    """Return a module's outputs, counted if the model counts its passes."""
    while isinstance(model, PerImage):
        if isinstance(model, Counted):
            model.rows = owners
            return model.counted(images, module)
        owners, model = model.owners[owners], model.model
    return module(images)


def root(model: nn.Module) -> nn.Module:
    """Return the model itself, without what counts its passes or knows its images."""
    while isinstance(model, PerImage):
        model = model.model
    return model
