"""A small paper of two items, from the command line to its files."""

from __future__ import annotations

import json
import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from scotoma.execution import evaluation
from scotoma.execution.run import Run
from scotoma.papers import ITEMS, item_names
from scotoma.papers.item import Context, agreement, number, row
from scotoma.papers.running import reproduce, side_by_side
from scotoma.probes.base import Settings
from scotoma.report.text import columns
from scotoma.results.finding import Finding
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, rate

COLUMNS = ["data", "eps", "measure", "ours", "low", "high", "n", "published"]


class Robust:
    """Success of an attack on digits."""

    title = "Table 7: robust digits"
    source = "Nobody 2030, Table 7"
    models = ("digits-pgd",)

    def measure(self, context: Context):
        run = context.run("digits-pgd")
        attack = Settings(context.attack or "fmn-linf").make_attack(run.claim.threat)
        records = run.subset(run.correct_indices(context.limit or 50)).attack(attack)
        fell = (records["linf"] <= 0.1).to_numpy()
        rows = [
            row({"data": "digits", "eps": 0.1}, "success", rate(fell), 0.125),
            row({"data": "digits", "eps": None}, "smallest", Rate(np.inf, np.nan, np.nan, 1)),
        ]
        return rows, Finding(
            "",
            self.title,
            "differs",
            "differs by design",
            "It differs.",
            tables={"more": [{"a": 1}]},
        )


class Plain(Robust):
    """The same once more."""

    title = "Figure 1: plain digits"


@pytest.fixture
def tiny(monkeypatch, models):
    """The paper "tiny2030" with the items "table7" and "figure1"."""
    module = ModuleType("scotoma.papers.tiny2030")
    module.Robust, module.Plain = Robust, Plain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for name, kind in {"tiny2030/table7": "Robust", "tiny2030/figure1": "Plain"}.items():
        monkeypatch.setitem(ITEMS.entries, name, f"papers.tiny2030:{kind}")
    return models


def test_an_item_writes_rows_and_a_report(tmp_path, tiny):
    out = tmp_path / "out"
    (done,) = reproduce(
        "tiny2030/table7", out, limit=30, models=tiny, command="scotoma reproduce tiny2030/table7"
    )
    held = json.loads(
        (out / "reproduction.json").read_text(),
        parse_constant=lambda text: pytest.fail(f"{text} in JSON"),
    )
    assert list(held) == ["paper", "item", "rows"]
    assert (held["paper"], held["item"]) == ("tiny2030", "table7")
    assert [list(each) for each in held["rows"]] == [COLUMNS, COLUMNS]
    success, smallest = held["rows"]
    assert success["low"] <= success["ours"] <= success["high"]
    assert (success["n"], success["published"]) == (30, 0.125)
    assert smallest["ours"] is None
    assert smallest["published"] is None
    assert held["rows"] == done.rows
    page = (out / "report.html").read_text()
    for says in (
        "Table 7: robust digits",
        "Nobody 2030",
        "differs by design",
        "0.125",
        "Repeat this reproduction",
        "Ours beside the paper",
    ):
        assert says in page
    assert re.search(r"<title>Reproduction: Table 7: robust digits</title>", page)
    assert [path.name for path in (out / "runs").iterdir()] == ["digits-pgd"]


def test_a_paper_writes_a_folder_an_item_and_shares_the_work(tmp_path, tiny, monkeypatch):
    asked = []
    attack = evaluation.attack_batch
    monkeypatch.setattr(
        evaluation, "attack_batch", lambda self, *args: asked.append(1) or attack(self, *args)
    )
    out = tmp_path / "out"
    done = reproduce("tiny2030", out, limit=30, models=tiny)
    assert [each.name for each in done] == ["tiny2030/table7", "tiny2030/figure1"]
    assert len(asked) == 1
    for item in ("table7", "figure1"):
        assert json.loads((out / item / "reproduction.json").read_text())["item"] == item
        assert (out / item / "report.html").exists()
    index = (out / "report.html").read_text()
    assert "Table 7: robust digits" in index
    assert "Figure 1: plain digits" in index
    assert "2 items: 2 differs." in index
    assert not (out / "reproduction.json").exists()


def test_the_same_command_goes_on_where_it_was_stopped(tmp_path, tiny, monkeypatch):
    out = tmp_path / "out"
    write, stopped = Run.predictions, []

    def stop(self, transform=None):
        stopped.append(write(self, transform))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "predictions", stop)
        with pytest.raises(KeyboardInterrupt):
            reproduce("tiny2030/table7", out, limit=30, models=tiny)
    reproduce("tiny2030/table7", out, limit=30, models=tiny)
    first = (out / "reproduction.json").read_bytes()
    monkeypatch.setattr(
        "scotoma.execution.evaluation.attack_batch", lambda *args: pytest.fail("attacked again")
    )
    reproduce("tiny2030/table7", out, limit=30, models=tiny)
    assert (out / "reproduction.json").read_bytes() == first


def test_without_a_folder_items_lie_side_by_side(tmp_path, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (alone,) = reproduce("tiny2030/figure1", limit=20, models=tiny)
    assert str(alone.folder) == "runs/tiny2030/figure1"
    monkeypatch.setattr(
        "scotoma.execution.evaluation.attack_batch", lambda *args: pytest.fail("attacked again")
    )
    assert [str(each.folder) for each in reproduce("tiny2030", limit=20, models=tiny)] == [
        "runs/tiny2030/table7",
        "runs/tiny2030/figure1",
    ]


def test_show_prints_ours_beside_the_published_figures(tmp_path, tiny, capsys):
    (done,) = reproduce("tiny2030/table7", tmp_path / "out", limit=30, models=tiny)
    done.show()
    printed = capsys.readouterr().out
    for says in ("Table 7: robust digits", "0.125", "differs: It differs.", "report.html"):
        assert says in printed.replace("\n", "")


def test_what_cannot_be_used_is_told_before_anything_is_written(tmp_path, tiny):
    out = tmp_path / "out"
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("tiny2030/table8", {}, "did you mean 'tiny2030/table7'"),
        ("tiny2031", {}, "did you mean 'tiny2030'"),
        ("tiny2030/table7", {"limit": 0}, "at least one image"),
        ("tiny2030/table7", {"attack": "fmn-lin"}, "did you mean 'fmn-linf'"),
    ]
    for name, changes, says in cases:
        with pytest.raises(InputError, match=says):
            reproduce(name, out, models=tiny, **changes)
        assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").write_text("chapter 1")
    with pytest.raises(InputError, match="not a reproduction"):
        reproduce("tiny2030/table7", out, models=tiny)
    assert [path.name for path in out.iterdir()] == ["thesis.tex"]


def test_names_of_items():
    assert item_names("zhang2019/table2") == ["zhang2019/table2"]
    assert len(item_names("zhang2019")) == len(
        [name for name in ITEMS if name.startswith("zhang2019/")]
    )
    with pytest.raises(InputError):
        item_names("zhang")


def test_agreement_counts_published_figures_inside_our_intervals():
    inside, outside = Rate(0.5, 0.4, 0.6, 100), Rate(0.1, 0.05, 0.2, 100)
    rows = [
        row({}, "a", inside, 0.6),
        row({}, "a", outside, 0.3),
        row({}, "a", inside),
        row({}, "a", number({}, "kl", 5), 0.5),
    ]
    assert agreement(rows) == {"published_inside": 1, "published": 2}
    assert rows[3]["ours"] is None


def test_a_table_that_is_too_wide_is_told_in_several_that_begin_with_the_same_column():
    rows = [
        {"model": f"model {i}", **{f"measure_{j}": i + j / 7 for j in range(6)}} for i in range(3)
    ]
    every = columns(rows)
    assert side_by_side(every, 200) == [every]
    parts = side_by_side(every, 40)
    assert len(parts) > 2
    assert all(part[0] == every[0] and len(part) > 1 for part in parts)
    assert [column for part in parts for column in part[1:]] == every[1:]
    assert side_by_side(every, 1) == [[every[0], column] for column in every[1:]]
    assert side_by_side(every[:1], 10) == [every[:1]]
