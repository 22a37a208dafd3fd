"""Tables 2 and 3: the rule on the paper's own numbers and near them; measurement on digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from scotoma.papers.checks import Check
from scotoma.papers.item import Context
from scotoma.papers.zhang2019 import published
from scotoma.papers.zhang2019.published import Cell
from scotoma.papers.zhang2019.tables import Grid, GridCell, Table2, Table3, order, printed_rate
from scotoma.transforms.scale_shift import ScaleShift


def as_published(table: tuple[Cell, ...], eps: float) -> list[GridCell]:
    """A measurement that gives the paper's figures."""
    return [
        GridCell(
            cell,
            eps,
            correct(cell.accuracy),
            printed_rate(cell.success),
            printed_rate(cell.success if cell.scaled is None else cell.scaled),
        )
        for cell in table
    ]


def correct(share: float) -> np.ndarray:
    """10,000 test images, of which a share is classified correctly."""
    return np.arange(10_000) < share * 10_000


def outcomes(item: Grid, cells: list[GridCell]) -> dict[tuple[str, str], str]:
    """Outcomes that are not "agrees", by claim and place."""
    checks = [*item.checks(cells), *order(cells)]
    return {
        (check.claim, check.where): check.outcome for check in checks if check.outcome != "agrees"
    }


@pytest.mark.parametrize(
    ("item", "eps"), [(Table2(), 0.3), (Table3(), 0.1)], ids=["table2", "table3"]
)
def test_the_papers_own_figures_agree(item, eps):
    assert not outcomes(item, as_published(item.cells, eps))


@pytest.mark.parametrize(
    ("cell", "changes", "claim", "outcome"),
    [
        (0, {"correct": correct(0.974)}, "accuracy is at least 97.5%", "undecided"),
        (0, {"correct": correct(0.97)}, "accuracy is at least 97.5%", "contradicts"),
        (2, {"success": printed_rate(0.84)}, "success rate at eps is above 85%", "undecided"),
        (3, {"success": printed_rate(0.80)}, "success rate at eps is above 85%", "contradicts"),
        (6, {"success": printed_rate(0.985)}, "success rate at eps is above 99%", "contradicts"),
    ],
)
def test_each_bound_of_table_2(cell, changes, claim, outcome):
    cells = as_published(published.TABLE2, 0.3)
    cells[cell] = replace(cells[cell], **changes)
    found = {at: said for at, said in outcomes(Table2(), cells).items() if claim in at[0]}
    assert list(found.items()) == [((next(iter(found))[0], cells[cell].label), outcome)]


def test_table_3_wants_a_fivefold_rise_and_the_accuracy_kept():
    cells = as_published(published.TABLE3, 0.1)
    cells[4] = replace(cells[4], success=printed_rate(0.31), scaled=printed_rate(0.31))
    rise = next(check for check in Table3().checks(cells) if "five times" in check.claim)
    assert rise.outcome == "undecided", "0.31 is 4.8 times 0.064, with an interval around 5"
    assert rise.cells["value"] == pytest.approx(0.31 / 0.064, rel=0.01)
    cells[4] = replace(cells[4], success=printed_rate(0.2))
    assert [c.outcome for c in Table3().checks(cells) if "five" in c.claim] == ["contradicts"]
    cells[3] = replace(cells[3], correct=correct(0.84))
    kept = [check for check in Table3().checks(cells) if check.outcome == "contradicts"]
    assert [check.where for check in kept] == ["0.9, 0", "0.9, 0.05"]


def test_order_matters_only_where_the_published_intervals_are_apart():
    cells = as_published(published.TABLE2, 0.3)
    # 82.45% at (0.7, 0) and 82.5% at (0.9, 0.05) are one image apart
    cells[5] = replace(cells[5], scaled=printed_rate(0.90))
    assert not outcomes(Table2(), cells)
    cells[3] = replace(cells[3], scaled=printed_rate(0.895))
    claim = "success at alpha·eps has the published order"
    assert outcomes(Table2(), cells) == {
        (claim, "(0.8, 0) below (0.9, 0.05)"): "contradicts",
        (claim, "(0.8, 0) below (0.7, 0)"): "undecided",
    }


class Digits(Grid):
    """Two cells on digits, with figures that nobody published."""

    title = "Table 0"
    models = ("digits-pgd",)
    cells = (Cell(1.0, 0.0, 0.9, 0.5, None), Cell(0.9, 0.05, 0.9, 0.6, 0.55))

    def checks(self, cells):
        yield Check("nothing", {}, True)


def test_rows_are_what_the_moved_images_give(context, digits):
    with context() as here:
        rows, finding = Digits().measure(here)
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
        fooled = np.mean(records["linf"].to_numpy() <= 0.09 + 1e-6)
        assert rows[4]["ours"] == pytest.approx(fooled, abs=1e-5)
        assert rows[3]["ours"] >= rows[4]["ours"]
    assert next(line["outcome"] for line in finding.tables["checks"]) == "agrees"
    assert finding.numbers["checks"] == 2
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
        rows, finding = BlindMnist().measure(here)
    rates = {(each["alpha"], each["measure"], each["threshold"]): each["ours"] for each in rows}
    assert rates[1.0, "success", 0.3] < 0.3
    assert rates[0.8, "success", 0.24] > 0.8
    assert rates[0.8, "accuracy", None] > 0.975
    assert {each["n"] for each in rows} == {10, 10_000}
    assert finding.verdict == "agrees"
