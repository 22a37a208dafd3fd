"""Table 1, with a divergence that is known."""

from __future__ import annotations

import pytest
import torch

from scotoma.papers.zhang2019 import published, tables
from scotoma.papers.zhang2019.tables import BEYOND, DIVERGENCE, Table1
from scotoma.results.finding import Finding


class Known:
    """In place of the divergence probe, which takes minutes."""

    def __init__(self, points: int | None):
        assert points is None, "the paper measured all images"

    def finding(self, claim, run, settings) -> Finding:
        values = {
            "kl": 0.3,
            "kl_low": 0.2,
            "kl_high": 0.4,
            "auc": 0.5,
            "auc_low": 0.45,
            "auc_high": 0.55,
        }
        return Finding("divergence", "", "holds", "", "", numbers=values)


class DigitsTable1(Table1):
    """A row of Table 1 for the digits."""

    models = ("digits-pgd",)


def test_a_row_of_table_1(context, digits, monkeypatch):
    monkeypatch.setattr(tables, "Divergence", Known)
    monkeypatch.setitem(published.TABLE1, "digits", (0.25, 0.1, 0.9))
    with context() as here:
        rows, finding = DigitsTable1().measure(here)
        model = here.model("digits-pgd").module
        linf = here.run("digits-pgd").records["linf"].to_numpy()
    by = {each["measure"]: each for each in rows}
    assert set(by) == {DIVERGENCE, "success", "accuracy", *BEYOND}
    assert (by[DIVERGENCE]["ours"], by[DIVERGENCE]["low"], by[DIVERGENCE]["high"]) == (
        0.3,
        0.2,
        0.4,
    )
    assert [by[measure]["published"] for measure in (DIVERGENCE, "success", "accuracy")] == [
        0.25,
        0.1,
        0.9,
    ]
    assert {by[measure]["published"] for measure in BEYOND} == {None}
    assert by["k-NN K-L divergence"]["ours"] is None, "what the probe cannot tell is null"
    with torch.no_grad():
        right = (
            model(digits.test.images(torch.arange(len(digits.test)))).argmax(1)
            == digits.test.labels
        )
    assert by["accuracy"]["ours"] == pytest.approx(right.float().mean().item(), abs=1e-5)
    assert by["success"]["ours"] == pytest.approx((linf <= 0.1 + 1e-6).mean(), abs=1e-5)
    assert by["success"]["n"] == len(linf) == here.limit
    assert finding.numbers["published"] == 3
    assert finding.tables["data"][0]["published_accuracy"] == 0.9
