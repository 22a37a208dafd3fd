"""Eval mode for a while: a user's module comes back in the modes that it had."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any, TypeVar, cast

from torch import nn

F = TypeVar("F", bound=Callable[..., Any])


def set_eval(module: nn.Module) -> None:
    """Put a module into eval mode; an exported program keeps the mode of its export."""
    with suppress(NotImplementedError):
        module.eval()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode and restore the mode of each of its parts afterwards.

    >>> model = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with evaluating(model):
    ...     [part.training for part in model]
    [False, False]
    >>> [part.training for part in model]
    [True, False]
    """
    with _keeping_modes(module):
        if any(part.training for part in module.modules()):
            set_eval(module)
        yield


def leaving_the_model(function: F) -> F:
    """Decorate a function of a model so that it gives a module back as it was.

    Modes and weight gradients, which `freeze` changes, are those from before the call.
    """

    @wraps(function)
    def wrapped(*values: Any, **options: Any) -> Any:
        model = values[0] if values else options.get("model")
        if not isinstance(model, nn.Module):
            return function(*values, **options)
        follow = [(weight, weight.requires_grad) for weight in model.parameters()]
        try:
            with _keeping_modes(model):
                return function(*values, **options)
        finally:
            for weight, follows in follow:
                weight.requires_grad_(follows)

    return cast("F", wrapped)


@contextmanager
def _keeping_modes(module: nn.Module) -> Iterator[None]:
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
