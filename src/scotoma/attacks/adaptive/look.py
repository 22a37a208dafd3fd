"""A look at a model before it is attacked: is its gradient one that an attack can follow?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from scotoma.attacks.adaptive.opened import OSCILLATING, custom_functions, margin_gradient
from scotoma.attacks.adaptive.views import root
from scotoma.attacks.bpda import FALLING, QUOTIENTS, RISING, STAIRS
from scotoma.attacks.core.batch import Batch
from scotoma.attacks.core.losses import fooled, margin
from scotoma.attacks.pgd import PGD
from scotoma.attacks.square import Square
from scotoma.models.classifier import is_randomised
from scotoma.threat import Threat
from scotoma.utils.logits import magnitude

IMAGES = 24
"""Images that are looked at; a share of them is an estimate."""
SAME = 1e-4
"""Share of the largest logit by which two evaluations may differ through rounding."""
TINY, SMALL = 1e-4, 1e-3
"""Changes of a value: the first below any step of a quantiser, the second where a gradient still
predicts the change of the logits of a piecewise linear network."""
FAITHFUL = 0.2, 2.0
"""The change as a share of the predicted one. Where the maxima of pooling are nearly tied, the
gradient follows one branch and promises up to three times the change (docs/log.md)."""
TOLERATED = 0.1
"""Share of images on which a defect may show."""
FEWEST = 3
"""Images on which it must show, or all if there are fewer: single images prove nothing."""
QUERIES, STEPS = 60, 10
"""Queries of random search, and steps of PGD, that are compared."""
GATES = {
    "round to steps": STAIRS | QUOTIENTS,
    "compare": RISING | FALLING,
    "choose one class": {"argmax", "one_hot"},
    "oscillate": OSCILLATING,
    "cut the gradient": {"detach", "set_grad_enabled"},
    "have dead zones": {"hardshrink", "softshrink", "threshold"},
}
"""What functions that hide gradients do, and their names."""
DEFECTS = {
    "missing": "the gradient is cut",
    "random": "answers are random",
    "batch": "answers depend on the other images of a batch",
    "steps": "answers change in steps",
    "zero": "gradients are 0",
    "unfaithful": "gradients do not predict the change that a small step makes",
    "hidden": "random search finds what gradients do not",
}
"""Fields of `Look` that speak against the gradient, and what reports call them."""


@dataclass(frozen=True)
class Look:
    """Measurements on `images` images; shares are of these images.

    Args:
        images: number of images.
        random: share whose logits differ between two passes.
        batch: share whose logits depend on the other images of the batch.
        missing: whether the logits do not depend on the images in a differentiable way.
        zero: share whose gradient is exactly 0 or not finite.
        steps: share whose logits do not change with a tiny change of the image.
        unfaithful: share where a small step along the gradient does not change the margin as the
            gradient predicts.
        hidden: share that a short random search fools and a short gradient attack does not.
        gates: what functions of the model do that hides gradients, see `GATES`.
    """

    images: int
    random: float = 0.0
    batch: float = 0.0
    missing: bool = False
    zero: float = 0.0
    steps: float = 0.0
    unfaithful: float = 0.0
    hidden: float = 0.0
    gates: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing speaks against the gradient."""
        return not self.gates and not any(map(self.shows, DEFECTS))

    def shows(self, defect: str) -> bool:
        """Return whether a defect of `DEFECTS` shows on more images than chance explains.

        >>> Look(24, zero=2 / 24).shows("zero"), Look(24, zero=3 / 24).shows("zero")
        (False, True)
        """
        share = float(getattr(self, defect))
        return share > TOLERATED and round(share * self.images) >= min(FEWEST, self.images)


def look(batch: Batch, threat: Threat) -> Look:
    """Look at a model on a few correctly classified images, in about 100 passes an image.

    `threat` is that of the two attacks that are compared.
    """
    model, images = batch.model, batch.images
    with torch.no_grad():
        logits, repeated = model(images).float(), model(images).float()
        # a randomised model may give equal logits on these few images
        changing = _differ(logits, repeated) | is_randomised(root(model))
        alone = torch.cat([model(part).float() for part in images.split(max(1, len(images) // 2))])
        together = _differ(logits, alone) & ~changing
        tiny = TINY * batch.random.fork(0).uniform(images).round().mul(2).sub(1)
        nudged = model((images + tiny).clamp(0, 1)).float()
        steps = (nudged == logits).all(1)
    gradient, gates = _gradient(batch)
    if gradient is None:
        measures: dict[str, Any] = {"missing": True, "zero": 1.0}
    else:
        sizes = gradient.flatten(1).abs().sum(1)
        zero = (sizes == 0) | ~sizes.isfinite()
        measures = {"zero": _share(zero)}
        if not bool(changing.any()):
            unfaithful = _unfaithful(batch, gradient.nan_to_num(0, 0, 0), logits)
            measures["unfaithful"] = _share(unfaithful & ~zero)
    return Look(
        len(images),
        random=_share(changing),
        batch=_share(together),
        steps=_share(steps),
        gates=gates,
        hidden=_hidden(batch, threat),
        **measures,
    )


def _gradient(batch: Batch) -> tuple[Tensor | None, tuple[str, ...]]:
    """Return the margin's gradient, None if there is none, and the gates of the model."""
    leaf, names = batch.images.detach().clone().requires_grad_(), _Names()
    with torch.enable_grad(), names:
        logits = batch.model(leaf).float()
    custom = any(True for _ in custom_functions(logits))
    effects = [effect for effect, functions in GATES.items() if functions & names.functions]
    gates = (*effects, *(["have gradients of their own"] if custom else []))
    return margin_gradient(logits, batch.labels, leaf), gates


class _Names(TorchFunctionMode):
    """Notes the functions whose arguments depend on the images."""

    def __init__(self):
        super().__init__()
        self.functions: set[str] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        name = getattr(func, "__name__", "").partition(".")[0].strip("_")
        if (name == "set_grad_enabled" and args and args[0] is False) or any(
            isinstance(value, Tensor) and value.requires_grad for value in args
        ):
            self.functions.add(name)
        return func(*args, **(kwargs or {}))


def _unfaithful(batch: Batch, gradient: Tensor, logits: Tensor) -> Tensor:
    """Return where a small step along the gradient's signs changes the margin otherwise."""
    step = SMALL * gradient.sign()
    images, labels = batch.images, batch.labels
    after = (images + step).clamp(0, 1)
    predicted = (gradient * (after - images)).flatten(1).sum(1)
    with torch.no_grad():
        change = margin(batch.model(after).float(), labels) - margin(logits, labels)
    noise = SAME * magnitude(logits)
    least, most = FAITHFUL
    return (change < least * predicted - noise) | (change > most * predicted + noise)


def _hidden(batch: Batch, threat: Threat) -> float:
    """Return the share that random search alone fools."""
    followed = batch.fork(1).attacked(PGD(threat, steps=STEPS, loss=margin))
    searched = batch.fork(2).attacked(Square(threat, queries=QUERIES))
    with torch.no_grad():
        by_search, by_gradient = (
            fooled(batch.model(each).float(), batch.labels) for each in (searched, followed)
        )
    return _share(by_search & ~by_gradient)


def _differ(first: Tensor, second: Tensor) -> Tensor:
    bound = SAME * magnitude(first)[:, None]
    return ((first - second).abs() > bound).any(1)


def _share(mask: Tensor) -> float:
    return float(mask.float().mean())
