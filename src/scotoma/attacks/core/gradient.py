"""The source of an attack's gradients: the model, finite differences, or BPDA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from scotoma.attacks import follows_gradients
from scotoma.attacks.bpda import BPDA
from scotoma.attacks.estimated import Estimated
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

GRADIENTS: dict[str, Callable[[Any], Callable[..., Tensor]]] = {
    "exact": lambda attack: attack,
    "estimate": Estimated,
    "bpda": BPDA,
}
FALLBACKS = ("estimate", "bpda")
"""Gradients that a module may declare, the one that serves every model first."""


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
    parts = (part for part in model.modules() if isinstance(part, nn.Module))
    said = {getattr(type(part), "gradient", None) for part in parts}
    return next((fallback for fallback in FALLBACKS if fallback in said), "exact")
