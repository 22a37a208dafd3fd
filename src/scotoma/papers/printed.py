"""Numbers that papers print, as text that can be compared with the page."""

from __future__ import annotations


def rates(*percent: float) -> tuple[float, ...]:
    """Return percentages as rates in [0, 1].

    >>> rates(60.2, 100)
    (0.602, 1.0)
    """
    return tuple(round(value / 100, 6) for value in percent)


def table(text: str) -> dict[str, tuple[float, ...]]:
    """Read lines of a name, a colon and numbers.

    >>> table('''
    ... Binary ABS: 0.77 4 10.67
    ... ABS:        0.69 4 8.333
    ... ''')["ABS"]
    (0.69, 4.0, 8.333)
    """
    lines = (line.partition(":") for line in text.strip().splitlines())
    return {name.strip(): tuple(map(float, numbers.split())) for name, _, numbers in lines}
