"""Backward pass differentiable approximation: gradients through steps (Athalye et al. 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scotoma.attacks.core.base import Wrapped
from scotoma.attacks.core.oracle import PerImage, answer
from scotoma.utils.random import Randomness

STAIRS = {"round", "floor", "ceil", "trunc", "fix", "sign", "heaviside"}
"""Functions that get the gradient of the identity."""
QUOTIENTS = {"floor_divide", "floordiv"}
"""Functions that get the gradient of the quotient, and `div` where it rounds."""
RISING = {"gt", "ge", "greater", "greater_equal"}
FALLING = {"lt", "le", "less", "less_equal"}
"""Comparisons whose 0 and 1 change with the difference of their operands."""
NOT, AND, OR = (
    {f"logical_{word}", f"bitwise_{word}", operator}
    for word, operator in (("not", "invert"), ("and", "and"), ("or", "or"))
)
CASTS = {"to", "to_copy", "type", "type_as", "float", "double", "half", "bfloat16"} | {
    *("int", "long", "short", "char", "byte")
}
SHAPES = {
    *("view", "reshape", "flatten", "squeeze", "unsqueeze", "expand", "expand_as"),
    *("permute", "transpose", "movedim", "getitem"),
    *("clone", "contiguous", "repeat", "cat", "stack", "sum"),
}
ARITHMETIC = {
    *("add", "sub", "mul", "div", "radd", "rsub", "rmul", "rdiv", "truediv", "rtruediv"),
    *("neg", "clamp", "clip"),
}
"""Functions of integers or booleans that are differentiated as functions of real numbers."""


@dataclass(frozen=True)
class BPDA(Wrapped):
    """An attack on a model whose steps get a gradient; the model's outputs stay bit for bit.

    Athalye et al. 2018, "Obfuscated gradients give a false sense of security", section 4.1, with
    the identity as the approximation (straight-through, Bengio et al. 2013). It replaces the
    gradients of rounding, sign, integer conversions, and comparisons whose result is used as a
    number, a factor or a choice, if the model uses PyTorch functions (not TorchScript). Gradients
    of a model without steps do not change. A comparison in a term with an exact gradient, as in
    x * (x > 0), adds a wrong one.

    Returns what the attack returns.

    Args:
        attack: any attack that follows gradients.

    >>> from scotoma.attacks.pgd import PGD
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> BPDA(PGD("linf:0.2", steps=5))(nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "bpda"

    def wrap(self, model: nn.Module, images: Tensor, random: Randomness) -> nn.Module:
        reduced = isinstance(model, PerImage) and model.reduced
        return _Sloped(model, len(images), images.device, reduced)


class _Sloped(PerImage):
    """The model, with gradients for its steps."""

    def forward(self, images: Tensor) -> Tensor:
        owners = self.whose(images)
        if not (torch.is_grad_enabled() and images.requires_grad):
            return answer(self.model, images, owners)
        with StraightThrough():
            return answer(self.model, images, owners)


class StraightThrough(TorchFunctionMode):
    """Gives steps a gradient.

    A tensor of integers or booleans, which autograd cannot follow, gets a `shadow`: real numbers of
    equal value with a gradient. Real results computed from it have that gradient.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # an exported program's names have a suffix
        name = getattr(func, "__name__", "").partition(".")[0]
        if not args or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if name == "__setitem__" and _is_mask(*args):
            self._in_place(Tensor.masked_fill_, "masked_fill", args, kwargs)
            return None
        if name.endswith("_") and not name.endswith("__"):
            return self._in_place(func, name[:-1], args, kwargs)
        return _sloped(func, name.strip("_"), args, kwargs)

    @staticmethod
    def _in_place(func: Any, name: str, args: tuple, kwargs: dict) -> Any:
        if name in STAIRS and follows(args[0]):
            # changes the values, and autograd does not see it
            func(args[0].detach(), *args[1:], **kwargs)
            return args[0]
        if name in ARITHMETIC | {"masked_fill"} and any(map(has_shadow, args)):
            before = args[0].clone()  # what autograd needs of it is about to change
            if has_shadow(args[0]):
                before.shadow = args[0].shadow
            result = _sloped(getattr(Tensor, name), name, (before, *args[1:]), kwargs)
            if has_shadow(result):
                args[0].shadow = result.shadow
            return args[0].copy_(result)
        return func(*args, **kwargs)


def _sloped(func: Any, name: str, args: tuple, kwargs: dict) -> Any:
    """Return a function's result; a step's result with a gradient or a shadow."""
    if name in STAIRS and follows(args[0]):
        return straight(func(args[0].detach(), *args[1:], **kwargs), args[0])
    if (name in QUOTIENTS or kwargs.get("rounding_mode")) and any(map(follows, args)):
        return straight(func(*args, **kwargs), args[0] / args[1])
    result = func(*args, **kwargs)
    if not isinstance(result, Tensor):
        return result
    if name in RISING | FALLING:
        left, right = map(lit, (*args, *kwargs.values()))
        if follows(left) or follows(right):
            return _shadowed(result, -1 * right + left if name in RISING else -1 * left + right)
    elif (
        name in CASTS
        and follows(args[0])
        and not result.is_floating_point()
        and result.dtype != torch.bool
    ):
        return _shadowed(result, args[0])
    elif name in ("where", "masked_fill"):
        return _chosen(result, name, args, kwargs)
    elif slope := _slope(func, name, args, kwargs):
        attach = straight if result.is_floating_point() else _shadowed
        return attach(result, slope())
    return result


def _slope(func: Any, name: str, args: tuple, kwargs: dict) -> Callable[[], Tensor] | None:
    """Return the tensor whose gradient a function of shadows gets, or None."""
    if name in ARITHMETIC and any(map(has_shadow, args)):
        return lambda: func(*map(lit, args), **kwargs)
    if (
        name in AND | OR
        and any(map(has_shadow, args))
        and all(value.dtype == torch.bool for value in args)
    ):
        left, right = map(lit, args)
        return lambda: left * right if name in AND else left + right - left * right
    first = args[0] if isinstance(args[0], tuple | list) else args[:1]
    if not any(map(has_shadow, first)):
        return None
    if name in CASTS:
        return lambda: first[0].shadow
    if name in NOT and first[0].dtype == torch.bool:
        return lambda: 1 - first[0].shadow
    if name in SHAPES and not any(
        isinstance(value, torch.dtype) for value in (*args, *kwargs.values())
    ):
        real = lit(args[0]) if isinstance(args[0], Tensor) else [lit(value) for value in args[0]]
        return lambda: func(real, *args[1:], **kwargs)
    return None


def _chosen(result: Tensor, name: str, args: tuple, kwargs: dict) -> Tensor:
    """Return `where` or `masked_fill` with the gradients of the choice and of the values."""
    first, second, third = (
        *args,
        *(kwargs[key] for key in ("condition", "mask", "input", "other", "value") if key in kwargs),
    )
    if name == "masked_fill":
        condition, yes, no = second, third, first
    elif first.dtype == torch.bool:
        condition, yes, no = first, second, third
    else:  # the method of a tensor
        condition, yes, no = second, first, third
    if not has_shadow(condition):
        return result
    slope = condition.shadow * (_number(yes, condition.shadow) - _number(no, condition.shadow))
    if not result.is_floating_point():
        return _shadowed(result, slope)
    return Passing.apply(result, slope.to(result.dtype), None)  # type: ignore[return-value]


class Passing(torch.autograd.Function):
    """The values of one tensor, with its gradient and that of another times a factor."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Tensor, factor: Tensor | None) -> Tensor:
        ctx.factor = factor
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        scaled = gradient[0] if ctx.factor is None else gradient[0] * ctx.factor
        return gradient[0], scaled, None


def straight(values: Tensor, slope: Tensor) -> Tensor:
    """Return the values of one tensor with the gradient of another."""
    slope = slope.to(values.dtype).expand_as(values)
    return Passing.apply(values.detach(), slope, None)  # type: ignore[return-value]


def _shadowed(result: Tensor, slope: Tensor) -> Tensor:
    result.shadow = straight(result.to(slope.dtype), slope)  # type: ignore[attr-defined]
    return result


def follows(value: Any) -> bool:
    """Return whether autograd follows the tensor."""
    return isinstance(value, Tensor) and value.requires_grad


def has_shadow(value: Any) -> bool:
    return hasattr(value, "shadow")


def _is_mask(tensor: Tensor, index: Any, value: Any) -> bool:
    """Return whether one number is written where a comparison holds."""
    return (
        has_shadow(index)
        and index.dtype == torch.bool
        and index.shape == tensor.shape
        and not isinstance(value, Tensor)
    )


def lit(value: Any) -> Any:
    return getattr(value, "shadow", value)


def _number(value: Any, like: Tensor) -> Any:
    return value.detach().to(like) if isinstance(value, Tensor) else value
