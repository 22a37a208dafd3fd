"""What people answer: the page, the CSV and its faults, and the finding."""

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scotoma.report.judging import page
from scotoma.results.finding import Finding
from scotoma.results.judging import (
    Answers,
    class_names,
    items,
    judgement,
    kappa,
    read_answers,
    run_key,
)
from scotoma.results.report import Report
from scotoma.utils.errors import InputError

CLASSES = ["a", "b", "</script>", "d"]


@pytest.fixture
def report() -> Report:
    """A run with 30 images of five kinds."""
    kinds = ["test", "wrong label", "valid", "searched", "rejected"] * 6
    rows = [
        {"kind": kind, "label": n % 4, "class": CLASSES[n % 4], "valid": kind in ("test", "valid")}
        for n, kind in enumerate(kinds)
    ]
    images = np.random.default_rng(0).random((30, 1, 4, 4), np.float32)
    finding = Finding(
        "generated", "?", "holds", "", "", tables={"judged": rows}, images={"judged": images}
    )
    return Report(Path("run"), {}, [finding], {})


def answered(report: Report, wrong: Collection[str] = (), unsure: Collection[str] = ()):
    """Answers of a person who sees the label but for some kinds of images."""
    classes = {
        item.id: None if item.kind in unsure else (item.label + (item.kind in wrong)) % 4
        for item in items(report)
    }
    return Answers("me", classes)


def test_images_are_shown_in_an_order_that_tells_nothing(report):
    shown = items(report)
    kinds = [item.kind for item in shown]
    assert sorted(kinds) == sorted(row["kind"] for row in report.findings[0].tables["judged"])
    assert kinds != sorted(kinds)
    assert [item.id for item in items(report)] == [item.id for item in shown]
    assert class_names(report) == CLASSES
    with pytest.raises(InputError, match="no images to judge"):
        items(replace(report, findings=[]))


def test_the_page_needs_nothing_but_itself_and_does_not_tell_the_labels(report):
    html = page(items(report), run_key(report.findings), CLASSES, "Images")
    assert not re.search(r"https?://|src=\"(?!data:)|@import|<link", html)
    match = re.search(r'id="content">(.*?)</script>', html, re.DOTALL)
    assert match
    content = json.loads(match[1])
    assert len(content["items"]) == 30
    assert content["classes"] == CLASSES
    assert all(set(item) == {"id", "image"} for item in content["items"])


@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no Chromium")
def test_the_script_of_the_page_writes_what_is_read(report, tmp_path):
    """Answer by button and by key, go back once, print the CSV into the page; then another."""
    html = page(items(report), run_key(report.findings), CLASSES, "Images")
    script = """<script>
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
document.querySelectorAll("#choices button")[2].click();
press("3"); press("9"); press(" "); press("1"); press("ArrowLeft"); press("0");
const out = document.createElement("pre");
out.id = "out"; out.textContent = toCsv() + document.getElementById("count").textContent;
document.body.append(out);
let asked = 0;
window.confirm = () => { asked += 1; return false; };
const another = () => document.getElementById("next").click();
another();
save(); another(); another();
press("1");
document.body.append(`[asked ${asked}, ${document.getElementById("count").textContent}]`);
</script></html>"""
    path = tmp_path / "judge.html"
    path.write_text(html.replace("</html>", script))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    own = f"--user-data-dir={tmp_path / 'profile'}"  # beside another Chromium
    command += [own, f"file://{path}"]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120)
    match = re.search(r'<pre id="out">(.*?)</pre>', dom.stdout, re.DOTALL)
    assert match
    *lines, count = match[1].split("\n")
    assert count == "person 1: 4 of 30 answered"
    assert "[asked 1, person 2: 1 of 30 answered]" in dom.stdout
    answers = tmp_path / "answers.csv"
    answers.write_text("\n".join(lines))
    order = [item.id for item in items(report)]
    read_back = read_answers(answers, report, 4)
    assert read_back.classes == dict(zip(order, [2, 3, None, 0], strict=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "7"}, "line 2: answer '7'; want a class from 0 to 3"),
        ({"answer": ""}, "line 2: answer ''"),
        ({"id": "zz"}, "line 2: unknown image 'zz'"),
        ({"run": "other"}, "line 2: answers to run other; this run is"),
        (None, "line 3: a second answer"),
    ],
)
def test_a_wrong_line_is_named(report, tmp_path, change, message):
    line = {
        "run": run_key(report.findings),
        "id": items(report)[0].id,
        "answer": "1",
        "seconds": "2",
    }
    lines = [line, line] if change is None else [line | change]
    path = tmp_path / "answers.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(line))
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(InputError, match=re.escape(message)):
        read_answers(path, report, 4)


def test_files_that_are_no_answers(report, tmp_path):
    path = tmp_path / "answers.csv"
    with pytest.raises(InputError, match="cannot be read"):
        read_answers(path, report, 4)
    path.write_text("run,id\nx,y\n")
    with pytest.raises(InputError, match="no column 'answer'"):
        read_answers(path, report, 4)
    path.write_text("")
    with pytest.raises(InputError, match="has no answers"):
        read_answers(path, report, 4)


def test_a_person_who_sees_what_the_oracle_accepts(report):
    finding = judgement(items(report), [answered(report, {"wrong label"}, {"rejected"})])
    assert finding.numbers["controls_right"] == 1
    assert finding.numbers["agreement_accepted"] == 1
    assert finding.numbers["agreement_rejected"] == 0
    rows = {row["images"]: row for row in finding.tables["people"]}
    assert rows["rejected by the oracle"]["cannot_tell"] == 6
    assert finding.verdict == "weak", "12 images are too few for an interval above 80%"
    agrees = answered(report, {"wrong label"})
    one, many = judgement(items(report), [agrees]), judgement(items(report), [agrees] * 8)
    assert one.numbers["agreement_accepted_low"] == many.numbers["agreement_accepted_low"]
    assert many.verdict == "weak", "more people do not make 12 images more"
    assert many.headline.startswith("8 people judged 30 images (240 answers)")


def test_a_person_who_fails_the_controls_decides_nothing(report):
    finding = judgement(items(report), [answered(report, {"test"})] * 3)
    assert finding.numbers["controls_right"] == 0
    assert finding.verdict == "undecided"
    unread = {"valid", "searched", "wrong label"}
    assert judgement(items(report), [answered(report, unread)] * 3).verdict == "broken"


def test_kappa_of_chance_and_of_agreement():
    """Cohen's kappa of the table 20, 5, 10, 15: 0.4."""
    first = np.array([1] * 25 + [0] * 25)
    second = np.array([1] * 20 + [0] * 5 + [1] * 10 + [0] * 15)
    estimate = kappa(first, second)
    assert estimate.value == pytest.approx(0.4)
    assert estimate.low < 0.4 < estimate.high
    assert kappa(first, first).value == 1
    assert np.isnan(kappa(np.ones(3), np.ones(3)).value)
