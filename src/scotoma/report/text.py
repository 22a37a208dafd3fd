"""Tables, key numbers and provenance as text for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scotoma.results.finding import Row
from scotoma.utils.text import NONE, humanise, scalar

DECIMALS = 4
INTERVAL_DECIMALS = 3
LONGEST = 40
"""Most characters of a name or list that is shown among key numbers."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@dataclass(frozen=True)
class Column:
    """A table's column as text; numbers have equal decimals, so that they align on the right."""

    heading: str
    cells: list[str]
    numeric: bool


def columns(rows: Sequence[Row]) -> list[Column]:
    """Return a table's columns in order of appearance, `x_low` and `x_high` as interval of `x`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    ranged = {name for name in names if {f"{name}_low", f"{name}_high"} <= set(names)}
    folded = {f"{name}_{end}" for name in ranged for end in ("low", "high")}
    made = {name: _column(name, [row.get(name) for row in rows]) for name in names}
    for name in ranged:
        together = [row.get(end) for end in (name, f"{name}_low", f"{name}_high") for row in rows]
        column = _column(name, together, INTERVAL_DECIMALS, rounded=True)
        value, low, high = (
            column.cells[part * len(rows) : (part + 1) * len(rows)] for part in range(3)
        )
        cells = [
            f"{v} ({a}–{b})" if NONE not in (a, b) else v
            for v, a, b in zip(value, low, high, strict=True)
        ]
        made[name] = Column(column.heading, cells, column.numeric)
    return [made[name] for name in names if name not in folded]


def _column(name: str, values: list[Any], most: int = DECIMALS, rounded: bool = False) -> Column:
    present = [value for value in values if value is not None]
    numeric = bool(present) and all(_is_number(value) for value in present)
    return Column(
        humanise(name),
        aligned(values, most, rounded) if numeric else [_cell(value) for value in values],
        numeric,
    )


def aligned(
    values: Sequence[float | None], most: int = DECIMALS, rounded: bool = False
) -> list[str]:
    """Return numbers with the decimals of the longest one, at most `most`.

    If one needs a power of ten, all stay as they are, or are `rounded` to the largest one's need.

    >>> aligned([0.5, 0.25]), aligned([2000, 150]), aligned([2000, 10_000])
    (['0.50', '0.25'], ['2000', '150'], ['2,000', '10,000'])
    """
    texts = list(map(scalar, values))
    if any("∞" in text for text in texts):
        return texts
    if all(isinstance(value, int | None) for value in values):
        if any("," in text for text in texts):  # then 2,000 above 10,000, not 2000
            return [NONE if v is None else f"{v:,}".replace("-", "−") for v in values]
        return texts
    largest = max(abs(value) for value in values if value is not None)
    if any("×" in text for text in texts) and not (rounded and 10**-most <= largest < 1e6):
        return texts
    decimals = min(
        most, max(most if "×" in text else len(text.partition(".")[2]) for text in texts)
    )
    return [
        NONE if value is None else f"{value:,.{decimals}f}".replace("-", "−") for value in values
    ]


def _cell(value: Any) -> str:
    return ", ".join(map(scalar, value)) if isinstance(value, list | tuple) else scalar(value)


@dataclass(frozen=True)
class Entry:
    """A named value with its interval, or with the entries of a nested value."""

    name: str
    value: str = ""
    interval: str = ""
    entries: tuple[Entry, ...] = ()


def key_numbers(numbers: dict[str, Any]) -> list[Entry]:
    """Return numbers as text: nested ones flattened, `x_low` and `x_high` as interval of `x`.

    Long names and lists are left out: tables and the headline have them in words.

    >>> [entry.name for entry in key_numbers({"n": 50, "worst": "Composition" * 4})]
    ['n']
    """
    flat = {name: value for name, value in _flatten(numbers) if not _is_long(value)}
    entries = []
    for name, value in flat.items():
        stem, _, end = name.rpartition("_")
        if end in ("low", "high") and {stem, f"{stem}_low", f"{stem}_high"} <= flat.keys():
            continue
        ends = [flat.get(f"{name}_low"), flat.get(f"{name}_high")]
        if _is_number(value) and all(map(_is_number, ends)):
            text, low, high = aligned([value, *ends], INTERVAL_DECIMALS, True)
            entries.append(Entry(humanise(name), text, f"{low}–{high}"))
        else:
            entries.append(Entry(humanise(name), _cell(value)))
    return entries


def _is_long(value: Any) -> bool:
    return isinstance(value, list | str) and len(str(value)) > LONGEST


def _flatten(numbers: dict[str, Any], above: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in numbers.items():
        path = f"{above}, {name}" if above else str(name)
        flat += _flatten(value, path) if isinstance(value, dict) else [(path, value)]
    return flat


def definitions(values: dict[str, Any]) -> list[Entry]:
    """Return provenance as text, nested; whole numbers are plain, since a seed is no amount."""
    return [_definition(name, value) for name, value in values.items()]


def _definition(name: str, value: Any) -> Entry:
    if isinstance(value, dict):
        return Entry(humanise(name), entries=tuple(definitions(value)))
    plain = isinstance(value, int) and not isinstance(value, bool)
    return Entry(humanise(name), str(value) if plain else _cell(value))
