"""Features of images: the outputs of one layer of a model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from scotoma.models.classifier import is_randomised, own_module
from scotoma.utils.errors import InputError, reason
from scotoma.utils.registry import nearest

PIXELS = "pixels"
LOGITS = "logits"
DRAWS = 8
"""Draws over which features of a randomised model are averaged."""
ELSE = f"use layer={LOGITS}, layer={PIXELS} or the name of another layer"


def features(model: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Return features of images, float32 (n, d), flattened.

    Args:
        model: from images (n, c, h, w) to logits (n, classes); features of a randomised model are
            averaged over its draws.
        images: (n, c, h, w) in [0, 1], on the model's device.
        layer: a name of `named_modules()`, for its output (the last if it runs more than once);
            "pixels"; "logits"; or None for the input of the last `nn.Linear` that runs, which is h
            in Zhang et al. 2019, section 3.1.

    Raises:
        InputError: the layer does not exist, does not run, or its output has no row for each image.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> features(model, torch.rand(5, 1, 2, 2)).shape
    torch.Size([5, 3])
    """
    if layer == PIXELS:
        return images.float().flatten(1)
    if layer == LOGITS:
        with torch.no_grad():
            return model(images).float().flatten(1)
    module, draws = own_module(model), DRAWS if is_randomised(model) else 1
    if layer is not None:
        names = [name for name, _ in module.named_modules() if name]
        if layer not in names:
            raise InputError(
                f"the model has no layer {layer!r}; {nearest(layer, [*names, LOGITS, PIXELS])}"
            )
    total = sum(_read(module, images, layer)[1] for _ in range(draws))
    assert isinstance(total, Tensor)
    return total / draws if draws > 1 else total


def default_layer(module: nn.Module, images: Tensor | None = None) -> str:
    """Return the layer that `features` uses for None, as in "input of fc2".

    Args:
        module: the model.
        images: images that show which `nn.Linear` runs last (default: the last registered).

    Raises:
        InputError: the model has no `nn.Linear`, or none of them runs.
    """
    module = own_module(module)
    if images is not None:
        return f"input of {_read(module, images, None)[0]}"
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    if not names:
        raise InputError(f"the model has no nn.Linear layer with features; {ELSE}")
    return f"input of {names[-1]}"


def _read(module: nn.Module, images: Tensor, layer: str | None) -> tuple[str, Tensor]:
    """Return the layer's name and its features in one forward pass."""
    latest: dict[str, Any] = {}

    def keep(name: str, value: Any) -> None:
        latest.clear()
        # The next layer may work in place.
        latest[name] = value.clone() if isinstance(value, Tensor) else value

    def keep_input(name: str, _module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        keep(name, next(iter((*args, *kwargs.values()))))

    with ExitStack() as hooks, torch.no_grad():
        for name, part in module.named_modules():
            if layer is None and isinstance(part, nn.Linear):
                hook = partial(keep_input, name)
                hooks.enter_context(part.register_forward_pre_hook(hook, with_kwargs=True))
            elif layer is not None and name == layer:
                hooks.enter_context(_watch_output(part, partial(keep, name)))
        module(images)
    if not latest:
        nothing = f"layer {layer!r} does not run" if layer else "no nn.Linear layer runs"
        raise InputError(f"{nothing}, so it gives no features; {ELSE}")
    ((name, value),) = latest.items()
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(images):
        returned = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"layer {name!r} gives {returned} for {len(images)} images, not a row for each; {ELSE}"
        )
    return name or "the model", value.float().flatten(1)


def _watch_output(part: nn.Module, keep: Callable[[Any], None]) -> RemovableHandle:
    try:
        return part.register_forward_hook(lambda _module, _args, output: keep(output))
    except RuntimeError as error:  # TorchScript modules take no hooks
        raise InputError(f"the layer gives no features ({reason(error)}); {ELSE}") from None
