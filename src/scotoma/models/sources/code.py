"""Models that a function of the user returns, and any other callable in Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from scotoma.models.black_box import Function
from scotoma.models.classifier import Classifier
from scotoma.models.hashing import callable_hash
from scotoma.models.sources.opening import Opening
from scotoma.models.user_code import build


def code(spec: str, opening: Opening) -> Classifier:
    """file.py:FUNCTION or package.module:FUNCTION that returns a module, or any callable."""
    model, name = build(spec)
    return in_memory(model, opening, name)


def in_memory(
    model: nn.Module | Callable[..., Any], opening: Opening, name: str | None = None
) -> Classifier:
    """Return the classifier of a module, or of a callable from images to logits.

    A callable gets float32 images (n, c, h, w) in [0, 1], or in `opening.range`, on the CPU, and
    returns a tensor or array (n, classes). Where what it returns has no gradient by the images, it
    is a black box.

    Args:
        name: its name (default: that of the class or function).
    """
    if isinstance(model, nn.Module):
        opening.only(name or type(model).__name__, "weights")
        opening.fill(model)
        return Classifier.of(model, name)
    name = str(name or getattr(model, "__name__", type(model).__name__))
    opening.only(name, "range", "outputs")
    function = Function(model, opening.range or (0.0, 1.0), opening.outputs)
    function.content = callable_hash(model)
    return Classifier.of(function, name)
