"""Gradients through gates: as if each stood open as often as the threat can open it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scotoma.attacks.bpda import (
    CASTS,
    FALLING,
    NOT,
    RISING,
    SHAPES,
    Passing,
    StraightThrough,
    follows,
    lit,
    straight,
)
from scotoma.attacks.core.losses import margin

ZONES = {"hardshrink", "softshrink", "threshold", "clamp", "clip", "hardtanh", "relu6"}
"""Functions that are constant over a range of their input."""
SATURATING = {"softmax", "sigmoid", "tanh", "detach"}
"""Functions whose gradient vanishes, in float32 or always."""
OSCILLATING = {"sin", "cos", "tan", "remainder", "fmod", "frac"}
"""Functions whose slope at a point says nothing of a larger change."""


@dataclass
class Reach:
    """How far a change of the input changes the operand of each gate, in the order of the gates.

    Made by two passes with `recording`, on images and on changed images.
    """

    before: list[Tensor] = field(default_factory=list)
    moves: list[float] = field(default_factory=list)
    passes: int = 0

    def note(self, number: int, operand: Tensor) -> None:
        """Keep the operand of gate `number` in the first pass, and its change in the second."""
        if self.passes == 0:
            self.before.append(operand)
            return
        first = self.before[number] if number < len(self.before) else operand
        same_shape = first.shape == operand.shape
        change = float((operand - first).float().square().mean().sqrt()) if same_shape else math.nan
        self.moves.append(change)

    def __getitem__(self, number: int) -> float:
        """Return the root of the mean squared change, 0 if unknown."""
        change = self.moves[number] if number < len(self.moves) else 0.0
        return change if math.isfinite(change) else 0.0


class Opened(StraightThrough):
    """Lets gradients pass gates; results stay bit for bit.

    A gate lets only some values through: a dead zone around a constant, a mask of winners, an
    activation that saturates, the choice of one class, a detached tensor. Its gradient is 0 where
    it is shut, though a change within the threat would open it. Masks and choices by comparison
    get the share with which such a change would open them; oscillating functions get their slope
    over such a change instead of that at a point; other gates the gradient of the identity.

    Args:
        reach: the changes of the operands of gates.
        recording: whether this pass notes them instead of changing gradients.
        soft: whether the choice of a class gives log-probabilities instead, which changes results.
    """

    def __init__(self, reach: Reach, recording: bool = False, soft: bool = False):
        super().__init__()
        self.reach, self.recording, self.number = reach, recording, 0
        self.soft, self.chose = soft, False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").partition(".")[0].strip("_")
        if name == "set_grad_enabled" and args and args[0] is False:
            return None  # a part that cuts the graph
        if not args or not torch.is_grad_enabled():
            return super().__torch_function__(func, types, args, kwargs)
        if name in OSCILLATING and follows(args[0]):
            return self._secant(func, args, kwargs)
        if name == "one_hot" and hasattr(args[0], "chosen_from"):
            self.chose = True
            if self.soft:
                return args[0].chosen_from.log_softmax(-1)
        gate = _gate(name, args)
        if gate is not None:
            passing, openness = gate
            with torch.no_grad():
                result = func(*args, **kwargs)
            if isinstance(result, Tensor) and result.shape == passing.shape:
                return Passing.apply(result.to(passing.dtype), passing, openness)
        result = super().__torch_function__(func, types, args, kwargs)
        if isinstance(result, Tensor):
            self._remember(name, result, func, args, kwargs)
        return result

    def _next(self, operand: Tensor) -> float:
        number, self.number = self.number, self.number + 1
        if self.recording:
            self.reach.note(number, operand.detach())
        return self.reach[number]

    def _secant(self, func: Any, args: tuple, kwargs: dict) -> Tensor:
        first, *rest = args
        with torch.no_grad():
            result, half = func(first, *rest, **kwargs), self._next(first)
            if half == 0:
                slope = torch.ones_like(result)
            else:
                above, below = (func(first + move, *rest, **kwargs) for move in (half, -half))
                slope = (above - below) / (2 * half)
        return Passing.apply(result, first, slope)  # type: ignore[return-value]

    def _remember(self, name: str, result: Tensor, func: Any, args: tuple, kwargs: dict) -> None:
        """Attach to a result what later gates need of it."""
        first = args[0]
        if name == "argmax" and follows(first):
            result.chosen_from = first  # type: ignore[attr-defined]
        elif name in RISING | FALLING and result.dtype == torch.bool:
            left, right = map(lit, (*args, *kwargs.values()))
            with torch.no_grad():
                lead = left - right if name in RISING else right - left
                lead = lead * torch.ones(result.shape, device=result.device)
                width = self._next(lead)
                openness = torch.sigmoid(1.7 * lead / width) if width else result.float()
                result.openness = openness  # type: ignore[attr-defined]
        elif isinstance(first, Tensor) and hasattr(first, "openness"):
            with torch.no_grad():
                if name in NOT:
                    result.openness = 1 - first.openness  # type: ignore[attr-defined]
                elif name in CASTS:
                    result.openness = first.openness  # type: ignore[attr-defined]
                elif name in SHAPES:
                    before: Any = first
                    openness = func(before.openness, *args[1:], **kwargs)
                    result.openness = openness  # type: ignore[attr-defined]


def _gate(name: str, args: tuple) -> tuple[Tensor, Tensor | None] | None:
    """Return the tensor whose gradient passes, and the share of it (None is all); None: no gate."""
    first = args[0]
    if name in ZONES | SATURATING and follows(first):
        return first, None
    if name == "where" and len(args) == 3:
        condition = first if isinstance(first, Tensor) and first.dtype == torch.bool else args[1]
        yes, no = (value for value in args if value is not condition)
        openness = getattr(condition, "openness", None)
        if follows(yes) != follows(no) and openness is not None:
            return (yes, openness) if follows(yes) else (no, 1 - openness)
    if name in ("mul", "rmul") and len(args) == 2:
        masks = [hasattr(value, "openness") for value in args]
        if sum(masks) == 1:
            mask, other = args if masks[0] else args[::-1]
            return (other, mask.openness) if follows(other) else None
    if name == "one_hot" and hasattr(first, "chosen_from"):
        return first.chosen_from, None  # type: ignore[attr-defined]
    return None


@contextmanager
def skipping(model: nn.Module, shape: torch.Size) -> Iterator[None]:
    """Give modules that map images to images of one shape the gradient of the identity."""
    with ExitStack() as stack:
        for module in model.modules():
            if module is not model:
                stack.callback(module.register_forward_hook(_identity(shape)).remove)
        yield


def _identity(shape: torch.Size) -> Callable[..., Any]:
    def hook(_module: nn.Module, inputs: tuple, output: Any) -> Any:
        if not (inputs and isinstance(output, Tensor) and follows(inputs[0])):
            return None
        same_shape = output.shape[1:] == inputs[0].shape[1:] == shape[1:]
        return straight(output, inputs[0]) if same_shape else None

    return hook


@torch.enable_grad()
def margin_gradient(logits: Tensor, labels: Tensor, images: Tensor) -> Tensor | None:
    """Return the margin's gradient by the images, (n, c, h, w), None if there is none."""
    if not logits.requires_grad:
        return None
    total = margin(logits.float(), labels).sum()
    return torch.autograd.grad(total, images, allow_unused=True)[0]


def open_custom(logits: Tensor) -> None:
    """Let custom autograd functions with gradient 0 pass on the gradient that they receive."""
    for node in custom_functions(logits):
        if not type(node).__name__.startswith("Passing"):  # but our own
            node.register_hook(_passed_on)


def custom_functions(logits: Tensor) -> Iterator[Any]:
    """Yield the nodes of the graph whose backward pass is written in Python."""
    visited, stack = set(), [logits.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            yield node
        stack += [after for after, _ in node.next_functions]


def _passed_on(inward: tuple, outward: tuple) -> tuple | None:
    """Return the gradients of a node, each that is 0 replaced by the gradient it got."""
    if len(outward) != 1 or outward[0] is None:
        return None
    return tuple(
        outward[0]
        if grad is not None and grad.shape == outward[0].shape and not bool(grad.any())
        else grad
        for grad in inward
    )
