"""What transforms of one strength share: the range of it that is searched, and the sweep."""

from __future__ import annotations

from typing import ClassVar, Self


class Strength:
    """A transform whose first field is its strength.

    A search walks through the points of [-1, 1], where 0 changes nothing. `unit` is the strength at
    1, `two_sided` whether -1 is another one, and strengths are rounded to `digits`. `strengths` are
    those that `scotoma map` tries, of which only harmless ones count.
    """

    parameters: ClassVar = 1
    unit: ClassVar[float]
    two_sided: ClassVar = True
    digits: ClassVar = 4
    strengths: ClassVar[tuple[float, ...]]

    @property
    def point(self) -> tuple[float, ...]:
        """Where `at` gives this transform."""
        return (next(iter(vars(self).values())) / self.unit,)

    @classmethod
    def at(cls, size: float) -> Self:
        """Return the transform at a point of [-1, 1]."""
        size = size if cls.two_sided else abs(size)
        return cls(round(cls.unit * size, cls.digits))  # type: ignore[call-arg]

    @classmethod
    def sweep(cls) -> tuple[Self, ...]:
        """Return the transforms that `scotoma map` tries."""
        return tuple(map(cls, cls.strengths))  # type: ignore[arg-type]
