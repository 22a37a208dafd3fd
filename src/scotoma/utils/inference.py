"""Leaving `torch.inference_mode`, where nothing has a gradient, for work that needs gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from scotoma.utils.errors import InputError


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave inference mode for `torch.no_grad`; a context manager and a decorator.

    >>> with torch.inference_mode(), outside_inference_mode():
    ...     torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    (False, False)
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield


def ordinary(tensor: Tensor) -> Tensor:
    """Return the tensor, or a clone that gradients can be taken of; call it outside the mode.

    >>> with torch.inference_mode():
    ...     made = torch.ones(2)
    >>> made.is_inference(), ordinary(made).is_inference()
    (True, False)
    """
    return tensor.clone() if tensor.is_inference() else tensor


def ordinary_module(module: nn.Module) -> nn.Module:
    """Return the module, or a copy if its weights were made in inference mode.

    Raises:
        InputError: the module cannot be copied.

    >>> with torch.inference_mode():
    ...     made = nn.Linear(2, 2)
    >>> made.weight.is_inference(), ordinary_module(made).weight.is_inference()
    (True, False)
    """
    if not any(each.is_inference() for each in chain(module.parameters(), module.buffers())):
        return module
    try:
        return copy.deepcopy(module)
    except Exception:  # the user's module may raise anything
        raise InputError(
            "the weights of the model were made under torch.inference_mode() and cannot be copied; "
            "build or load the model outside of it"
        ) from None
