"""Names of classes beside their numbers below the images of a report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from scotoma.results.finding import Figure, Finding, Gallery

CLASS = re.compile(r"^\d+(?=$|, test image)|(?<=\bclassified as )\d+\b")
"""The number of a class in a caption: a label that begins it, or an answer."""


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

    def renamed(shown: Figure) -> Figure:
        if not isinstance(shown, Gallery):
            return shown
        lines = [
            [CLASS.sub(lambda number: named.get(number[0], number[0]), each) for each in line]
            for line in shown.captions
        ]
        return replace(shown, captions=lines)

    return replace(finding, figures=tuple(map(renamed, finding.figures)))
