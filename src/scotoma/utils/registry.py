"""Tables of names: one line makes an attack, model, data set, recipe or probe known by name."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from typing import Any

from scotoma.utils.errors import InputError


def nearest(name: str, known: list[str]) -> str:
    """Return a hint for an unknown name: the closest known name, or all of them.

    >>> nearest("pdg", ["pgd", "fgsm"])
    "did you mean 'pgd'?"
    """
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"


class Table:
    """Names to objects, which are imported when first used, so that listing names costs nothing.

    `entries` maps a name to "module:attribute" below the scotoma package.

    >>> list(Table("norm", {"rate": "utils.stats:rate"}))
    ['rate']
    """

    def __init__(self, kind: str, entries: dict[str, str]):
        self.kind = kind
        self.entries = entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __contains__(self, name: str) -> bool:
        return name in self.entries

    def __getitem__(self, name: str) -> Any:
        """Return the object of that name.

        Raises:
            InputError: the name is unknown (the nearest is named), or its entry names no object.
        """
        if name not in self.entries:
            raise InputError(f"unknown {self.kind} {name!r}; {nearest(name, list(self.entries))}")
        module, attribute = self.entries[name].split(":")
        entry = f"the entry {self.entries[name]!r} of {self.kind} {name!r}"
        try:
            loaded = importlib.import_module(f"scotoma.{module}")
        except ModuleNotFoundError as error:
            if error.name != f"scotoma.{module}":
                raise
            raise InputError(f"{entry} names no module") from None
        if not hasattr(loaded, attribute):
            raise InputError(f"{entry}: the module has no {attribute!r}")
        return getattr(loaded, attribute)

    @property
    def attributes(self) -> list[str]:
        """Names of the objects themselves, such as "ScaleShift" for "scale-shift"."""
        return [entry.partition(":")[2] for entry in self.entries.values()]

    def attribute(self, name: str) -> Any:
        """Return the object with that name of its own, for `__getattr__` of a package."""
        for key, entry in self.entries.items():
            if entry.endswith(f":{name}"):
                return self[key]
        raise AttributeError(f"there is no {self.kind} {name!r}")

    def describe(self, name: str) -> str:
        """Return the first line of the object's docstring."""
        return (self[name].__doc__ or "").strip().partition("\n")[0]
