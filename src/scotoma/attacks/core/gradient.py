"""The source of an attack's gradients: the model, finite differences, or BPDA."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from scotoma.attacks import follows_gradients
from scotoma.attacks.bpda import BPDA
from scotoma.attacks.estimated import Estimated
from scotoma.models.black_box import is_black_box
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

GRADIENTS: dict[str, Callable[[Any], Callable[..., Tensor]]] = {
    "exact": lambda attack: attack,
    "estimate": Estimated,
    "bpda": BPDA,
}
FALLBACKS = ("estimate", "bpda")
"""Gradients that a module may declare, the one that serves every model first."""
MANY_VALUES, DIRECTIONS = 512, 64
"""Values of an image from which gradients of a black box are estimated along random directions."""


def with_gradient(attack: Callable[..., Tensor], gradient: str) -> Callable[..., Tensor]:
    """Return the attack with gradients "exact", "estimate" (`Estimated`) or "bpda" (`BPDA`).

    Raises:
        InputError: the name is unknown, or the attack follows no gradients.
    """
    if gradient not in GRADIENTS:
        raise InputError(f"gradient={gradient}: unknown; {nearest(gradient, list(GRADIENTS))}")
    if gradient != "exact" and not follows_gradients(attack):
        name = getattr(attack, "id", type(attack).__name__)
        raise InputError(
            f"attack {name} follows no gradients of the model; omit gradient={gradient}"
        )
    return GRADIENTS[gradient](attack)


def declared_gradient(model: nn.Module) -> str:
    """Return the gradients that attacks on this model need, as its modules declare; else "exact".

    A module class without a useful gradient declares `gradient: ClassVar = "bpda"`, as `Binarise`
    does, or "estimate" if no slope can replace it. This holds for every model that contains it.
    """
    modules = (module for module in model.modules() if isinstance(module, nn.Module))
    declared = {getattr(type(module), "gradient", None) for module in modules}
    return next((fallback for fallback in FALLBACKS if fallback in declared), "exact")


def estimated_directions(model: nn.Module, shape: Sequence[int]) -> int | None:
    """Return the number of random directions of an estimated gradient; None means every value."""
    return DIRECTIONS if math.prod(shape) > MANY_VALUES and is_black_box(model) else None


def suited(
    attack: Callable[..., Tensor], model: nn.Module, shape: Sequence[int], gradient: str | None
) -> tuple[Callable[..., Tensor], str]:
    """Return the attack with gradients that the model has, and the name of these gradients.

    Args:
        attack: any attack; `strong`, which chooses its gradients itself, is returned unchanged
            unless `gradient` says otherwise.
        model: the model that is attacked.
        shape: shape of an image.
        gradient: a name of `GRADIENTS`; None means what the model declares.

    Raises:
        InputError: as `with_gradient`; or exact gradients are asked of a black box.
    """
    name = getattr(attack, "id", type(attack).__name__)
    adapts = name == "strong"
    if gradient is None:
        gradient = declared_gradient(model)
        if adapts or gradient == "exact" or not follows_gradients(attack):
            return attack, "exact"
        directions = estimated_directions(model, shape)
        if gradient == "estimate" and directions:
            return Estimated(attack, directions=directions), gradient
    misled = gradient in ("exact", "bpda") and not adapts and follows_gradients(attack)
    if misled and is_black_box(model):
        raise InputError(
            f"gradient={gradient}: the model is a black box, whose gradient attack {name} "
            "cannot follow; omit it, or write gradient=estimate"
        )
    return with_gradient(attack, gradient), gradient
