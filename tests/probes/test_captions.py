"""Captions of every probe name the classes of data whose classes have names."""

from __future__ import annotations

import re
from dataclasses import replace

import scotoma
from scotoma.results.finding import Gallery

NAMES = tuple(f"kind {letter}" for letter in "abcdefghij")
PROBES = ["robustness", "blindspots", "norms", "inequality", "transfer"]
CLASS = re.compile(r"^(\d+)(?=,|$| \()|classified as (\d+)")
"""A label that begins a caption, or a prediction."""


def test_every_probe_names_classes_in_captions(linear, digits):
    data = replace(digits, classes=NAMES)
    report = scotoma.audit(linear, data, "linf:0.1", probes=PROBES, attack="pgd", limit=20)
    for probe in PROBES:
        galleries = [each for each in report[probe].figures if isinstance(each, Gallery)]
        captions = [text for each in galleries for line in each.captions for text in line]
        numbers = [match for text in captions for match in CLASS.finditer(text)]
        assert numbers, f"{probe}: no caption with a class in {captions}"
        for match in numbers:
            name = NAMES[int(match[1] or match[2])]
            assert match.string[match.end() :].startswith(f" ({name})"), match.string


def test_a_prediction_beyond_the_classes_of_the_data_is_shown(linear, digits):
    """The data has the digits 0 and 1 alone, the model ten classes."""
    rows = (digits.test.labels < 2).nonzero().squeeze(1)
    data = digits.test.images(rows), digits.test.labels[rows]
    report = scotoma.audit(linear, data, "linf:0.3", probes=["robustness"], attack="pgd")
    assert not report.errors
    gallery = report["robustness"].figures[-1]
    assert isinstance(gallery, Gallery)
    predictions = [int(text.split()[2]) for _, text, _ in gallery.captions]
    assert max(predictions) > 1
