"""Where an attack's gradients come from: the model, differences of its logits, or slopes in the place of its steps."""

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
"""What a module may declare, the one that serves every model first."""


def with_gradient(attack: Callable[..., Tensor], gradient: str) -> Callable[..., Tensor]:
    """The attack with the gradients of that name: "exact", "estimate" (`Estimated`) or "bpda" (`BPDA`).

    Raises `InputError` for another name, and where the attack follows no gradients of the model (`follows_gradients`).
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
    """The gradients that attacks on this model need, by its own word: "exact" where it says nothing.

    A class of modules whose outputs have no useful gradient says `gradient: ClassVar = "bpda"`, as `Binarise` does, or "estimate"
    where no slope can stand in for what it does; it speaks for every model that it is part of.
    """
    said = {
        getattr(type(part), "gradient", None)
        for part in model.modules()
        if isinstance(part, nn.Module)
    }
    return next((fallback for fallback in FALLBACKS if fallback in said), "exact")
