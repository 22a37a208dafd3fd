"""Names of classes beside their numbers below the images of a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from scotoma.results.finding import Figure, Finding, Gallery

CLASS = re.compile(r"^\d+(?=$|, test image)|(?<=\bclassified as )\d+\b")
"""The number of a class in a caption: a label that begins it, or an answer."""
JUDGED = re.compile(r"for \d+; judged \d")
"""Beginning of a caption all of whose numbers are classes."""


def with_class_names(finding: Finding, classes: Sequence[str]) -> Finding:
    """Return a finding whose captions name the classes behind their numbers.

    Args:
        finding: of a probe, with numbers for classes.
        classes: names by number; classes that are named by their numbers stay as they are.

    >>> captions = [["0, test image 7", "classified as 1, L-inf 0.031"]]
    >>> shown = Gallery("pairs", "Images.", "pairs", ["original", "adversarial"], captions)
    >>> finding = Finding("p", "Why?", "holds", "Always.", "So.", figures=(shown,))
    >>> with_class_names(finding, ["cat", "dog"]).figures[0].captions
    [['0 (cat), test image 7', 'classified as 1 (dog), L-inf 0.031']]
    """
    named = {str(n): f"{n} ({name})" for n, name in enumerate(classes) if name != str(n)}

    def naming(caption: str) -> str:
        numbers = r"\d+" if JUDGED.match(caption) else CLASS
        return re.sub(numbers, lambda number: named.get(number[0], number[0]), caption)

    def renamed(shown: Figure) -> Figure:
        if not isinstance(shown, Gallery):
            return shown
        return replace(shown, captions=[[naming(each) for each in line] for line in shown.captions])

    return replace(finding, figures=tuple(map(renamed, finding.figures)))
