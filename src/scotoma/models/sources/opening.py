"""What a user may say about a model beside its name, and what every source needs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from torch import nn

from scotoma.data.dataset import Dataset
from scotoma.models.checkpoint import fit_weights, read_weights
from scotoma.utils.errors import InputError, reason

Outputs = Literal["logits", "probabilities"]
Range = tuple[float, float]
"""The values of black and of white pixels."""


@dataclass(frozen=True)
class Opening:
    """How a model is opened, as the arguments of `load_model` say.

    >>> Opening.of(value_range="0:255").range
    (0.0, 255.0)
    """

    weights: Path | None = None
    trust: bool = False
    data: Dataset | None = None
    range: Range | None = None
    outputs: Outputs | None = None

    @classmethod
    def of(
        cls,
        weights: str | Path | None = None,
        trust: bool = False,
        data: Dataset | None = None,
        value_range: str | Range | None = None,
        outputs: str | None = None,
    ) -> Self:
        """Check what a user says.

        Raises:
            InputError: the range or the kind of outputs is not one.
        """
        if outputs not in (None, "logits", "probabilities"):
            raise InputError(f"outputs={outputs}: want logits or probabilities")
        path = None if weights is None else Path(weights).expanduser()
        pixels = value_range and _range(value_range)
        return cls(path, trust, data, pixels, outputs)  # type: ignore[arg-type]

    def only(self, spec: str, *allowed: str) -> None:
        """Raise `InputError` if the user says something that means nothing for this source."""
        if self.weights is not None and "weights" not in allowed:
            raise InputError(
                f"{spec}: contains its weights; weights=FILE goes with file.py:FUNCTION"
            )
        limits = self.range and ":".join(f"{each:g}" for each in self.range)
        for name, option, value in (
            ("range", "value_range", limits),
            ("outputs", "outputs", self.outputs),
        ):
            if value is not None and name not in allowed:
                raise InputError(
                    f"{spec}: {option}={value} is not for it; {option} goes with onnx:FILE, "
                    "maite:MODULE:OBJECT and Python callables"
                )

    def fill(self, module: nn.Module) -> None:
        """Load the weights that the user gives, if any, into a module."""
        if self.weights is not None:
            fit_weights(module, read_weights(self.weights, self.trust), self.weights)


def _range(text: str | Range) -> Range:
    parts = text.split(":") if isinstance(text, str) else text
    with contextlib.suppress(ValueError):
        low, high = map(float, parts)
        if low < high:
            return low, high
    given = text if isinstance(text, str) else ":".join(map(str, text))
    raise InputError(f"value_range={given}: want LOW:HIGH, such as 0:255 or -1:1")


@contextlib.contextmanager
def one_line(spec: str) -> Iterator[None]:
    """Turn errors of a library while it opens a model into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of many libraries and the network
        raise InputError(f"{spec}: cannot be opened ({reason(error)})") from None
