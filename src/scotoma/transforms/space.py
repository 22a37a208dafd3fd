"""The space of the parameters of several families of transforms, which a search walks through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from scotoma.transforms import TRANSFORMS
from scotoma.transforms.composition import Composition

ORDER = (
    "rotate",
    "translate",
    "blur",
    "gamma",
    "texture",
    "hue",
    "saturation",
    "brightness",
    "jpeg",
    "scale-shift",
)
"""Position first; contrast last, so that its factor is that of the budget."""
STILL = 0.02
"""Size of all parameters of a transform, in units of its range, below which it is left out."""
DIGITS = 3


@dataclass(frozen=True)
class Space:
    """Parameters of several families: a point of [-1, 1]^d is a composition, and 0 changes nothing.

    Args:
        families: names of `TRANSFORMS`; those without an `at` have no parameters to search.
        channels: of the images; families of colour are left out for grey images.

    >>> space = Space(("blur", "scale-shift"), channels=1)
    >>> space.dimensions, str(space.at([0.0, 0.4, 1.0]))
    (3, 'scale-shift with alpha 0.8, beta 0.1')
    """

    families: tuple[str, ...]
    channels: int

    @property
    def parts(self) -> list[str]:
        """The families that take part, in the order in which they are applied."""
        return [name for name in ORDER if name in self.families and self._fits(name)]

    def _fits(self, name: str) -> bool:
        return self.channels == 3 or not getattr(TRANSFORMS[name], "colour", False)

    @property
    def sizes(self) -> list[int]:
        """Number of parameters of each part."""
        return [TRANSFORMS[name].parameters for name in self.parts]

    @property
    def dimensions(self) -> int:
        return sum(self.sizes)

    def at(self, point: Sequence[float] | np.ndarray, keep: bool = False) -> Composition:
        """Return the composition at a point; `keep` keeps the parts that change almost nothing."""
        chosen = []
        for name, place in self._places().items():
            values = [round(float(value), DIGITS) for value in point[place]]
            if keep or max(map(abs, values)) >= STILL:
                chosen.append(TRANSFORMS[name].at(*values))
        return Composition(tuple(chosen))

    def place(self, family: str, values: Sequence[float]) -> np.ndarray:
        """Return the point where one family has these parameters and the others change nothing."""
        point = np.zeros(self.dimensions)
        point[self._places()[family]] = values
        return point

    def _places(self) -> dict[str, slice]:
        """Return where in a point the parameters of each part lie."""
        edges = pairwise(accumulate(self.sizes, initial=0))
        return {name: slice(*ends) for name, ends in zip(self.parts, edges, strict=True)}
