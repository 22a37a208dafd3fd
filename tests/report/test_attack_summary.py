"""The lines that `scotoma attack` prints."""

import polars as pl

from scotoma.report.summary import summarise
from scotoma.threat import Threat


def test_passes_are_those_of_attacked_images():
    records = pl.DataFrame(
        {
            "label": [0, 0, 0, 0],
            "prediction": [0, 1, 1, 1],
            "success": [True, False, False, False],
            "linf": [0.05, 0.0, 0.0, 0.0],
            "forwards": [2, 0, 0, 0],
            "backwards": [1, 0, 0, 0],
        }
    )
    lines = list(summarise(records, Threat("linf", 0.1)))
    assert lines[-1] == "passes an attacked image: 2 forward, 1 backward"
    assert lines[1].startswith("attack success at linf:0.1: 100.0%")
    errors = list(summarise(records.tail(3), Threat("linf", 0.1)))
    assert errors[-1] == "passes an attacked image: 0 forward, 0 backward"
