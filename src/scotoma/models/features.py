"""Features of images: what one layer of a model makes of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from scotoma.models.classifier import LogProbabilities, MeanOfDraws
from scotoma.models.error_summary import reason
from scotoma.utils.errors import InputError
from scotoma.utils.registry import nearest

PIXELS = "pixels"
LOGITS = "logits"
ELSE = f"use --layer {LOGITS}, --layer {PIXELS} or the name of another layer"


def features(classifier_module: nn.Module, images: Tensor, layer: str | None = None) -> Tensor:
    """Features of images, float32 (n, d), flattened.

    Args:
        classifier_module: the model, (n, c, h, w) to (n, classes); of a randomised model the mean over its draws is taken.
        images: (n, c, h, w) in [0, 1], on the model's device.
        layer: a name of `named_modules()`, whose output is read (the last one where it runs more than once); "pixels";
            "logits"; or None for the input of the last `nn.Linear` to run: the activations before the logits, which are h in
            Zhang et al. 2019, section 3.1.

    Raises:
        InputError: there is no such layer, it does not run, or its output has no row for each image.
    """
    if layer == PIXELS:
        return images.float().flatten(1)
    if layer == LOGITS:
        with torch.no_grad():
            return classifier_module(images).float().flatten(1)
    module, draws = _unwrap(classifier_module)
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
    """Which layer `features` reads for None, as "input of fc2".

    Args:
        module: the model.
        images: one or more, to see which `nn.Linear` runs last; without them it is taken to be the last one registered.

    Raises:
        InputError: the model has no `nn.Linear`, or none of them runs.
    """
    module, _ = _unwrap(module)
    if images is not None:
        return f"input of {_read(module, images, None)[0]}"
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    if not names:
        raise InputError(f"the model has no nn.Linear layer that can be looked into; {ELSE}")
    return f"input of {names[-1]}"


def _unwrap(module: nn.Module) -> tuple[nn.Module, int]:
    """The user's own module, and how many draws of it make an answer."""
    draws = 1
    while isinstance(module, LogProbabilities | MeanOfDraws):
        draws *= module.draws if isinstance(module, MeanOfDraws) else 1
        module = module.module
    return module, draws


def _read(module: nn.Module, images: Tensor, layer: str | None) -> tuple[str, Tensor]:
    """The layer's name and its features over one forward pass."""
    seen: dict[str, Any] = {}

    def see(name: str, value: Any) -> None:
        seen.clear()
        seen[name] = (
            value.clone() if isinstance(value, Tensor) else value
        )  # the next layer may work in place

    handles = []
    try:
        for name, part in module.named_modules():
            if layer is None and isinstance(part, nn.Linear):
                hook = partial(
                    lambda name, _, args, kwargs: see(name, next(iter((*args, *kwargs.values())))),
                    name,
                )
                handles.append(part.register_forward_pre_hook(hook, with_kwargs=True))
            elif layer is not None and name == layer:
                handles.append(_watch_output(part, partial(see, name)))
        with torch.no_grad():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    if not seen:
        what = (
            "no nn.Linear layer of the model runs"
            if layer is None
            else f"layer {layer!r} does not run"
        )
        raise InputError(f"{what} where it can be looked into; {ELSE}")
    ((name, value),) = seen.items()
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(images):
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"layer {name!r} gives {got} for {len(images)} images, not a row for each; {ELSE}"
        )
    return name or "the model", value.float().flatten(1)


def _watch_output(part: nn.Module, see: Callable[[Any], None]) -> RemovableHandle:
    try:
        return part.register_forward_hook(lambda _module, _args, output: see(output))
    except RuntimeError as error:  # TorchScript modules take no hooks
        raise InputError(f"the layer cannot be looked into ({reason(error)}); {ELSE}") from None
