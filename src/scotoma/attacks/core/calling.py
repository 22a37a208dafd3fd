"""What a call of an attack prepares and checks: model, images and the first logits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import PerImage
from scotoma.models.modes import evaluating
from scotoma.utils.errors import InputError, reason
from scotoma.utils.inference import ordinary, ordinary_module, outside_inference_mode

OUTSIDE = 1e-4
"""How far rounding may take pixels out of [0, 1]."""
_calling: ContextVar[bool] = ContextVar("calling", default=False)
"""Whether an attack is running, so that the attacks that it calls check nothing again."""


def checked(images: Tensor, labels: Tensor) -> Tensor:
    """Return the labels as int64, if images and labels can be attacked.

    Raises:
        InputError: images or labels are no tensors, images are not float32, pixels lie outside
            [0, 1], or labels are not one class number an image.
    """
    for name, tensor in (("images", images), ("labels", labels)):
        if not isinstance(tensor, Tensor):
            kind = type(tensor).__name__
            maker = "torch.from_numpy" if kind == "ndarray" else "torch.tensor"
            raise InputError(f"{name}: want a tensor, not {kind}; write {maker}({name})")
    if not images.is_floating_point():
        raise InputError(
            f"images: want floats in [0, 1], not {_dtype(images)}; write images.float() / 255 if "
            "white is 255"
        )
    if images.dtype != torch.float32:
        raise InputError(
            f"images are {_dtype(images)}, but attacks compute in float32: write images.float() "
            "and model.float()"
        )
    n = len(images)
    if labels.is_floating_point() or labels.is_complex() or labels.shape != (n,):
        raise InputError(
            f"labels: want the class number of each of the {n} images, int64 ({n},), "
            f"not {_dtype(labels)} {tuple(labels.shape)}"
        )
    if images.numel():
        low, high = images.aminmax()
        if not (low >= -OUTSIDE and high <= 1 + OUTSIDE):
            raise InputError(
                f"images: pixels reach from {low:.3g} to {high:.3g}; attacks want them in [0, 1] "
                "and the normalisation inside the model, as in nn.Sequential(normalise, model)"
            )
    return labels.long()


@contextlib.contextmanager
def prepared(
    network: nn.Module, images: Tensor, labels: Tensor, start: Tensor | None
) -> Iterator[tuple[nn.Module, Tensor, Tensor, Tensor | None]]:
    """Prepare what an attack is called with: outside inference mode, the model in eval mode.

    The first logits are checked as they come, which takes no pass of its own. What a run or another
    attack has prepared already is left as it is.

    Raises:
        InputError: the model fails on the images, does not return finite logits (n, classes), or
            has no output for a label.
    """
    if isinstance(network, PerImage) or _calling.get():
        yield network, images, labels, start
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(outside_inference_mode())
        network, labels = ordinary_module(network), ordinary(labels)
        images = ordinary(images.detach())
        start = None if start is None else ordinary(start.detach())
        stack.enter_context(evaluating(network))
        stack.enter_context(_first_checked(network, images, labels))
        token = _calling.set(True)
        try:
            yield network, images, labels, start
        except InputError:
            raise
        except Exception as error:  # the user's model may raise anything
            if (explanation := _explained(error, network, images)) is None:
                raise
            raise explanation from error
        finally:
            _calling.reset(token)


@contextlib.contextmanager
def _first_checked(network: nn.Module, images: Tensor, labels: Tensor) -> Iterator[None]:
    """Check the first logits that the model returns inside the context."""
    if isinstance(network, torch.jit.ScriptModule):  # has no hooks
        with torch.no_grad():
            _check(_answer(network, images), len(images), labels)
        yield
        return
    handles: list[torch.utils.hooks.RemovableHandle] = []

    def look(_: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        if handles:  # a copy of the module keeps the hook
            _check(outputs, len(inputs[0]) if inputs else len(images), labels)
            handles.pop().remove()

    handles.append(network.register_forward_hook(look))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        handles.clear()


def _check(outputs: Any, n: int, labels: Tensor) -> None:
    """Raise `InputError` unless these are logits of n images with an output for each label."""
    if not isinstance(outputs, Tensor):
        hint = ""
        if isinstance(outputs, tuple | list):
            hint = "; if the first are the logits: lambda images: model(images)[0]"
        raise InputError(
            f"model: returns {type(outputs).__name__}, want a tensor of logits (n, classes){hint}"
        )
    if outputs.ndim != 2 or len(outputs) != n:
        raise InputError(
            f"model: returns {_dtype(outputs)} {tuple(outputs.shape)} for {n} images, "
            f"want logits ({n}, classes)"
        )
    if not outputs.isfinite().all():
        raise InputError("model: returns NaN or infinite logits; check weights and pixel scale")
    classes = outputs.shape[1]
    if labels.numel():
        low, high = (int(each) for each in labels.aminmax())
        if low < 0 or high >= classes:
            raise InputError(
                f"labels: reach from {low} to {high}, but the model has {classes} outputs; "
                f"want class numbers from 0 to {classes - 1}"
            )


def _explained(error: Exception, network: nn.Module, images: Tensor) -> InputError | None:
    """Return what is wrong if the model fails on the images outside the attack too."""
    if isinstance(error, torch.OutOfMemoryError):
        return None
    if "Inference tensors" in str(error):
        return InputError(
            "model: its weights were made under torch.inference_mode(), so nothing has a gradient; "
            "build or load the model outside of it"
        )
    try:
        with torch.no_grad():
            _answer(network, images)
    except InputError as explanation:
        return explanation
    return None


def _answer(network: nn.Module, images: Tensor) -> Any:
    """Return what the model returns. Raises `InputError` if it fails."""
    try:
        return network(images)
    except InputError:
        raise
    except Exception as error:  # the user's model may raise anything
        types = {_dtype(each) for each in network.parameters() if each.is_floating_point()}
        other_types = types - {_dtype(images)}
        hint = f"; its weights are {min(other_types)}: write model.float()" if other_types else ""
        raise InputError(
            f"model: cannot take images {_dtype(images)} {tuple(images.shape)}: "
            f"{reason(error)}{hint}"
        ) from error


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
