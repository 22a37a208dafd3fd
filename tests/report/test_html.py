"""The page and the files beside it."""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from sample_findings import (
    CLAIM,
    PROVENANCE,
    blindspots,
    distance,
    findings,
    inequality,
    robustness,
)

from scotoma.report.html import FOLDED_ROWS, write_report
from scotoma.results.finding import Curve, Finding

FIGURES = [
    "blindspots-examples",
    "blindspots-moves",
    "distance-bins",
    "distance-points",
    "robustness-curve",
]
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of the page; fails on tags that do not match."""

    def __init__(self, source: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert not self._open, f"left open: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def count(self, tag: str) -> int:
        return Counter(name for name, _ in self.elements)[tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "audit"
    assert write_report(folder, CLAIM, findings(), PROVENANCE) == folder / "report.html"
    return folder


@pytest.fixture(scope="module")
def source(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def read(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_needs_nothing_else(source, page):
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in page.elements}
    references = [
        (name, value)
        for name, attributes in page.elements
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "data", "action")
    ]
    assert references
    assert all(
        (value or "").startswith(("#", "data:image/png;base64,")) for _, value in references
    ), references
    assert "@import" not in source
    assert not re.findall(r"url\((?!#)", source)


def test_links_and_labels_find_their_targets(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert [name for name, times in Counter(ids).items() if times > 1] == []
    wanted = {
        (attributes["href"] or "")[1:]
        for name, attributes in page.elements
        if name == "a" and "href" in attributes
    }
    wanted |= {
        attributes["aria-labelledby"] or ""
        for _, attributes in page.elements
        if "aria-labelledby" in attributes
    }
    assert {"probe-robustness", "probe-inequality", "verdicts"} <= wanted <= set(ids)


def test_the_claim_is_one_plain_sentence(page):
    claim = (
        "Claim: the model mnist-challenge classifies images of digits correctly under every "
        "L-inf perturbation of size up to 0.3. The audit used 500 test images."
    )
    assert claim in page.text


def test_a_size_in_grey_levels_is_written_as_such(tmp_path):
    claim = CLAIM | {"threat": {"norm": "linf", "eps": 8 / 255}, "n": 10000}
    text = Page(write_report(tmp_path, claim, [], {}).read_text(encoding="utf-8")).text
    assert "of size up to 8/255. The audit used 10,000 test images." in text
    assert "so few" not in text


def test_a_report_on_few_images_says_so(tmp_path):
    claim = CLAIM | {"threat": {"norm": "linf", "eps": 0.5 / 255}, "n": 8}
    text = Page(write_report(tmp_path, claim, [], {}).read_text(encoding="utf-8")).text
    assert "of size up to 0.5/255. The audit used 8 test images. With so few, the intervals" in text


def test_every_probe_says_its_verdict_in_words_twice_with_its_rule(page):
    assert "4 probes: 1 holds, 1 weak, 1 broken, 1 not applicable." in page.text
    for finding in findings():
        assert page.text.count(finding.question) == 2
        assert page.text.count(finding.headline) == 2
        assert finding.rule in page.text
        assert all(note in page.text for note in finding.notes)
    badges = Counter(
        attributes["class"]
        for _, attributes in page.elements
        if "badge" in (attributes.get("class") or "")
    )
    assert badges == {
        "badge holds": 2,
        "badge broken": 2,
        "badge weak": 2,
        "badge not-applicable": 2,
    }


def test_every_figure_is_in_the_page_with_its_caption(page):
    assert page.count("figure") == page.count("figcaption") == 5
    for number, figure in enumerate(
        (figure for finding in findings() for figure in finding.figures), start=1
    ):
        assert f"Figure {number}. {figure.caption}" in page.text


def test_long_tables_are_folded_and_none_is_cut(source, page):
    tables = [rows for finding in findings() for rows in finding.tables.values()]
    assert page.count("table") == len(tables)
    assert page.count("tr") == sum(len(rows) + 1 for rows in tables)
    folded = re.findall(r'<details class="table">\s*<summary>(\w+)', source)
    assert folded == ["Curve", "Points"]
    assert min(len(robustness().tables["curve"]), len(distance().tables["points"])) > FOLDED_ROWS


def test_numbers_are_set_for_people(page):
    for words in (
        "Robust accuracy0.892 0.862–0.916",
        "Forwards per image41,250",
        "p value3.2 × 10⁻⁹",
        "Worst move, alpha0.8",
        "Beyond–",
    ):
        assert words in page.text


def test_provenance_is_complete_and_its_warnings_come_first(page):
    assert page.text.index(PROVENANCE["notes"][0]) < page.text.index("Verdicts")
    assert f"Repeat this audit {PROVENANCE['command']}" in page.text
    for words in (
        "SHA-256" + "9f2c" * 16,
        "Train1297",
        "Seed20190",
        "Torch2.6.0",
        "Devicecpu",
        "Digest" + "77aa" * 16,
    ):
        assert words in page.text


def test_each_figure_is_a_drawing_and_its_data_beside_the_page(folder):
    names = sorted(path.name for path in (folder / "figures").iterdir())
    assert names == sorted(f"{name}.{kind}" for name in FIGURES for kind in ("csv", "svg"))
    assert all(
        (folder / "figures" / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
        for name in FIGURES
    )


def test_the_data_of_a_figure_are_its_table(folder):
    expected = robustness().tables["curve"]
    written = read(folder / "figures" / "robustness-curve.csv")
    assert [row["attack"] for row in written] == [row["attack"] for row in expected]
    assert [
        float(row["robust_accuracy"]) if row["robust_accuracy"] else None for row in written
    ] == [row["robust_accuracy"] for row in expected]
    points = read(folder / "figures" / "distance-points.csv")
    assert [row["index"] for row in points if row["linf"] == ""] == [
        str(row["index"]) for row in distance().tables["points"] if row["linf"] is None
    ]


def test_the_data_of_a_gallery_are_its_captions(folder):
    written = read(folder / "figures" / "blindspots-examples.csv")
    assert written[1] == {
        "original": "1, right",
        "moved": "1, right",
        "attacked": "read as 4, L-inf 0.240",
        "difference": "of both",
    }


def test_the_same_findings_give_the_same_bytes(folder, tmp_path):
    write_report(tmp_path, CLAIM, findings(), PROVENANCE)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        assert (tmp_path / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name


def test_everything_is_escaped(tmp_path):
    evil = "<script>alert('&')</script>"
    rows = [{evil: evil, "x": x, "y": 0.5} for x in (0, 1)] + [{evil: "other", "x": 0, "y": 0.1}]
    figure = Curve("curve", evil, "t", "x", "y", evil, evil, group=evil, marks={evil: 0.5})
    finding = Finding(
        "probe", evil, "weak", evil, evil, {evil: evil}, {"t": rows}, (figure,), (evil,)
    )
    claim = CLAIM | {"model": evil, "data": evil}
    path = write_report(
        tmp_path, claim, [finding], {"notes": [evil], "command": evil, evil: {evil: evil}}
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.count("script") == 0
    assert page.text.count("alert('&')") >= 15


def test_a_finding_without_figures_is_a_page_of_words(tmp_path):
    page = Page(write_report(tmp_path, CLAIM, [inequality()], {}).read_text(encoding="utf-8"))
    assert page.count("figure") == page.count("table") == 0
    assert inequality().headline in page.text
    assert "1 probe: 1 not applicable." in page.text
    assert "Read this first" not in page.text
    assert "Repeat this audit" not in page.text
    assert list((tmp_path / "figures").iterdir()) == []


def test_an_empty_table_is_drawn_as_such_and_not_listed(tmp_path):
    empty = replace(blindspots(), tables={"moves": []})
    page = Page(write_report(tmp_path, CLAIM, [empty], {}).read_text(encoding="utf-8"))
    assert "no data to draw" in page.text
    assert page.count("table") == 0
    assert page.count("figure") == 2
