"""Models that are no modules: callables, and programs of other libraries."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.utils.errors import InputError

RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))
"""Values of black and white that models take, the usual ones first."""
CLEARLY = 0.1
"""Share of the images by which one range must be ahead of the usual one."""
FEWEST = 3
"""Number of images by which it must be ahead."""


class Function(nn.Module):
    """A callable as a module, from images (n, c, h, w) in [0, 1] to what it returns.

    Args:
        call: from float32 images (n, c, h, w) on the CPU to a tensor or array (n, classes).
        range: the values that black and white have for it; None means that nobody said.
        outputs: "logits" or "probabilities"; None means that nobody said.
        asks: whether the user must say what answers do not tell; otherwise these are pixels in
            [0, 1] and logits.

    >>> Function(lambda x: x.flatten(1).numpy(), (0, 255))(torch.ones(1, 1, 1, 2)).tolist()
    [[255.0, 255.0]]
    """

    def __init__(
        self,
        call: Callable[[Tensor], Any],
        range: tuple[float, float] | None = (0.0, 1.0),
        outputs: str | None = None,
        asks: bool = False,
    ):
        super().__init__()
        self.call = call
        self.range = range
        self.outputs = outputs
        self.asks = asks
        self.content = ""
        """hash of the callable"""

    def forward(self, images: Tensor) -> Tensor:
        low, high = self.range or RANGES[0]
        values = images.cpu().contiguous()  # it may read the memory itself
        if (low, high) != (0.0, 1.0):
            values = low + (high - low) * values
        answer = self.call(values)
        if not isinstance(answer, Tensor):
            answer = torch.from_numpy(np.array(answer))
        return answer.to(images.device).float()

    def settled(self, range: tuple[float, float], outputs: str) -> Self:
        """Return the same callable with what was found out about it."""
        other = copy.copy(self)
        other.range, other.outputs = range, outputs
        return other

    def without_gradient(self) -> BlackBox:
        """Return the same callable as a black box."""
        other = BlackBox(self.call, self.range, self.outputs, self.asks)
        other.content = self.content
        return other.eval()

    def extra_repr(self) -> str:
        return f"range={self.range}, outputs={self.outputs}"


class BlackBox(Function):
    """A callable without gradients, to which attacks have no access but its answers."""

    gradient: ClassVar = "estimate"

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images)


def is_black_box(model: nn.Module) -> bool:
    """Return whether a model is a black box, or contains one."""
    return any(isinstance(part, BlackBox) for part in model.modules())


def settle(
    model: Function, name: str, images: Tensor, labels: Tensor
) -> tuple[Function, list[str]]:
    """Return a black box with range and outputs, inferred where they are not given, and notes.

    The range is the one of `RANGES` in which it classifies clearly more images correctly than in
    [0, 1]. Outputs are probabilities if they are not negative and add up to 1, and logits if some
    are negative.

    Args:
        model: the black box.
        name: its name, for messages.
        images: float32 (n, c, h, w) in [0, 1].
        labels: int64 (n,).

    Raises:
        InputError: the outputs do not tell.
    """
    notes = []
    limits = model.range
    if limits is None:
        correct = {each: _correct(model, each, images, labels) for each in RANGES}
        usual, best = RANGES[0], max(RANGES, key=lambda each: correct[each])
        lead = correct[best] - correct[usual]
        behind = correct[usual] - max(correct[each] for each in RANGES[1:])

        def counts(ranges: Iterable[tuple[float, float]]) -> str:
            return ", ".join(f"{correct[each]} in {_written(each)}" for each in ranges)

        if best != usual and lead >= max(FEWEST, CLEARLY * len(images)):
            limits = best
        elif not model.asks or behind >= FEWEST:
            limits = usual
        else:
            raise InputError(
                f"model {name} does not say which pixels it takes, nor do its answers tell (of "
                f"{len(images)} images it classifies correctly {counts(RANGES)}); add "
                "value_range=LOW:HIGH, such as 0:255"
            )
        if limits != usual or model.asks:
            alternatives = counts([each for each in RANGES if each != limits])
            notes.append(
                f"The model gets pixels in {_written(limits)}, because it classifies "
                f"{correct[limits]} of {len(images)} images correctly then ({alternatives})."
            )
    outputs = model.outputs
    if outputs != "logits":
        scores = _answers(model, limits, images)
        kind, low, high = kind_of_outputs(scores), float(scores.min()), float(scores.max())
        values = f"model {name} returns values from {low:.3g} to {high:.3g}"
        if outputs == "probabilities" and kind == "logits":
            raise InputError(f"{values}, which are no probabilities; say outputs=logits")
        outputs = outputs or kind or (None if model.asks else "logits")
        if outputs is None:
            raise InputError(
                f"{values} that are neither clearly logits nor clearly probabilities; add "
                "outputs=logits or outputs=probabilities"
            )
    return model.settled(limits, outputs), notes


def kind_of_outputs(outputs: Tensor) -> str | None:
    """Return "probabilities" or "logits"; None where outputs (n, classes) do not tell.

    >>> [kind_of_outputs(torch.tensor([row])) for row in ([0.2, 0.8], [-1.0, 3.0], [0.4, 0.3])]
    ['probabilities', 'logits', None]
    """
    total = outputs.sum(1)
    if bool(outputs.min() >= 0) and torch.allclose(total, torch.ones_like(total), atol=1e-3):
        return "probabilities"
    return "logits" if float(outputs.min()) < 0 or float(outputs.max()) > 1 else None


def _correct(model: Function, limits: tuple[float, float], images: Tensor, labels: Tensor) -> int:
    return int((_answers(model, limits, images).argmax(1) == labels).sum())


def _answers(model: Function, limits: tuple[float, float], images: Tensor) -> Tensor:
    before, model.range = model.range, limits
    try:
        with torch.no_grad():
            return model(images)
    finally:
        model.range = before


def _written(limits: tuple[float, float]) -> str:
    return f"[{limits[0]:g}, {limits[1]:g}]"
