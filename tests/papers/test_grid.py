"""Tables 2 and 3: the rule on the paper's own numbers and near them; measurement on digits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scotoma.papers.item import Context
from scotoma.papers.zhang2019 import published
from scotoma.papers.zhang2019.published import Cell
from scotoma.papers.zhang2019.tables import Attacked, Grid, Table2, Table3, disorder, printed_rate
from scotoma.transforms.scale_shift import ScaleShift


def as_published(table: tuple[Cell, ...], eps: float) -> list[Attacked]:
    """A measurement that gives the paper's figures."""
    return [
        Attacked(
            cell,
            eps,
            printed_rate(cell.accuracy),
            printed_rate(cell.success),
            printed_rate(cell.success if cell.scaled is None else cell.scaled),
        )
        for cell in table
    ]


@pytest.mark.parametrize(
    ("item", "eps"), [(Table2(), 0.3), (Table3(), 0.1)], ids=["table2", "table3"]
)
def test_the_papers_own_figures_are_a_reproduction(item, eps):
    cells = as_published(item.cells, eps)
    assert item.missing(cells) == []
    assert disorder(cells) == []


@pytest.mark.parametrize(
    ("cell", "changes", "says"),
    [
        (0, {"accuracy": 0.974}, "accuracy at (1, 0) is 97.4%, not 97.5%"),
        (2, {"success": 0.84}, "success at (0.9, 0.05) is 84.0%, not 85.0%"),
        (3, {"success": 0.80}, "success at (0.8, 0) is 80.0%"),
        (6, {"success": 0.985}, "success at (0.7, 0.15) is 98.5%, not 99.0%"),
    ],
)
def test_each_bound_of_table_2(cell, changes, says):
    cells = as_published(published.TABLE2, 0.3)
    cells[cell] = replace(
        cells[cell], **{name: printed_rate(value) for name, value in changes.items()}
    )
    assert [text for text in Table2().missing(cells) if says in text]


def test_table_3_wants_a_fivefold_rise_and_the_accuracy_kept():
    cells = as_published(published.TABLE3, 0.1)
    cells[4] = replace(cells[4], success=printed_rate(0.31))
    assert len(Table3().missing(cells)) == 1
    cells[3] = replace(cells[3], accuracy=printed_rate(0.85))
    assert len(Table3().missing(cells)) == 2


def test_order_matters_only_where_the_published_intervals_are_apart():
    cells = as_published(published.TABLE2, 0.3)
    # 82.45% at (0.7, 0) and 82.5% at (0.9, 0.05) are one image apart
    cells[5] = replace(cells[5], scaled=printed_rate(0.90))
    assert disorder(cells) == []
    cells[3] = replace(cells[3], scaled=printed_rate(0.91))
    assert disorder(cells) == [
        "success at alpha·eps is higher at (0.8, 0) than at (0.9, 0.05), in the paper lower",
        "success at alpha·eps is higher at (0.8, 0) than at (0.7, 0), in the paper lower",
    ]


class Digits(Grid):
    """Two cells on digits, with figures that nobody published."""

    title = "Table 0"
    models = ("digits-pgd",)
    cells = (Cell(1.0, 0.0, 0.9, 0.5, None), Cell(0.9, 0.05, 0.9, 0.6, 0.55))
    expected = "nothing"

    def missing(self, cells):
        return []


def test_rows_are_what_the_moved_images_give(context, digits):
    with context() as here:
        rows, finding = Digits().measure(here, "table0")
        model = here.model("digits-pgd").module
        # in order: accuracy and success at eps of the first cell; accuracy, success at eps and at
        # alpha·eps of the second
        assert [(each["beta"], each["measure"], each["threshold"]) for each in rows] == [
            (0, "accuracy", None),
            (0, "success", 0.1),
            (0.05, "accuracy", None),
            (0.05, "success", 0.1),
            (0.05, "success", 0.09),
        ]
        everything = digits.test.images(torch.arange(len(digits.test)))
        for each, images in zip(
            rows[::2], (everything, ScaleShift(0.9, 0.05)(everything)), strict=False
        ):
            with torch.no_grad():
                right = model(images).argmax(1) == digits.test.labels
            assert each["ours"] == pytest.approx(right.float().mean().item(), abs=1e-5)
            assert each["n"] == len(digits.test)
        run = here.run("digits-pgd")
        transform = ScaleShift(0.9, 0.05)
        chosen = run.correct_indices(here.limit, transform)
        assert len(chosen) == here.limit == rows[3]["n"]
        records = run.records.filter(transform=str(repr(transform)))
        assert sorted(records["index"]) == chosen.tolist()
        assert rows[4]["ours"] == pytest.approx((records["linf"] <= 0.09 + 1e-6).mean(), abs=1e-5)  # type: ignore[arg-type]
        assert rows[3]["ours"] >= rows[4]["ours"]
    assert finding.verdict == "reproduced"
    assert finding.tables["grid"][1]["published_success_alpha_eps"] == 0.55
    assert finding.numbers["attacked"] == here.limit


def test_fewer_images_are_among_the_more_and_are_right(context, digits):
    with context() as here:
        run = here.run("digits-pgd")
        few, many = (run.correct_indices(n) for n in (10, 30))
        assert set(few.tolist()) < set(many.tolist())
        told = run.predictions()
        wrong = set(told.filter(told["prediction"] != told["label"])["index"])
        everyone = run.correct_indices(10**6)
        assert len(everyone) == len(digits.test) - len(wrong)
        assert not wrong & set(everyone.tolist())


class BlindMnist(Table2):
    """The corners of Table 2 that a quick look wants."""

    cells = tuple(
        cell for cell in published.TABLE2 if (cell.alpha, cell.beta) in ((1.0, 0.0), (0.8, 0.1))
    )


@pytest.mark.slow
def test_the_blind_spot_of_mnist(tmp_path, mnist):
    with Context(tmp_path / "runs", attack="min-linf", limit=10) as here:
        rows, finding = BlindMnist().measure(here, "table2")
    rates = {(each["alpha"], each["measure"], each["threshold"]): each["ours"] for each in rows}
    assert rates[1.0, "success", 0.3] < 0.3
    assert rates[0.8, "success", 0.24] > 0.8
    assert rates[0.8, "accuracy", None] > 0.975
    assert {each["n"] for each in rows} == {10, 10_000}
    assert finding.verdict == "reproduced"
