"""The page of the report."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scotoma.report import figures, svg, text
from scotoma.report.templates import render
from scotoma.results.finding import Figure, Finding, Gallery
from scotoma.results.stated import spoken
from scotoma.results.summary import summarise
from scotoma.threat import Threat
from scotoma.utils.text import humanise, norm_name

FOLDED_ROWS = 12
"""Most rows of a table that is not folded on screen."""

SHOWN_ABOVE = ("errors", "notes", "command")
"""Keys of the provenance that are not in its list at the end."""
VERDICTS = (
    *("holds", "weak", "broken", "agrees", "undecided", "contradicts", "differs"),
    "not applicable",
)

WORDS = {
    "audit": {"title": "Robustness audit", "each": "probe", "terms": ""},
    "reproduction": {
        "title": "Reproduction",
        "each": "item",
        "terms": "“Reproduced”: the result agrees with the paper. “Differs”: it does not.",
    },
    "comparison": {
        "title": "Comparison",
        "each": "question",
        "terms": (
            "“Differs”: the images show a difference beyond chance. “Undecided”: they do not, "
            "which is no proof that there is none."
        ),
    },
}
"""For each kind of page its title, what a finding is called, and what its own verdicts mean."""


@dataclass(frozen=True)
class Drawing:
    """A numbered figure of the page; `columns` is 0 unless it is a gallery with captions."""

    number: int
    element: Markup
    caption: str
    columns: int


@dataclass(frozen=True)
class Section:
    """A finding in the page, with names and numbers as text."""

    finding: Finding
    numbers: list[text.Entry]
    drawings: list[Drawing]
    tables: list[tuple[str, int, list[text.Column]]]

    @property
    def anchor(self) -> str:
        return f"probe-{self.finding.probe}"


def write_report(
    folder: Path, claim: dict[str, Any], findings: list[Finding], provenance: dict[str, Any]
) -> Path:
    """Write `folder/report.html`, one self-contained file, and every figure beside it.

    Each figure is also `folder/figures/<probe>-<name>.svg`, and its numbers (a table, or
    the captions of a gallery) are in the `.csv` of that name. Equal findings give equal bytes.

    Args:
        folder: created if it is missing.
        claim, findings: as in `Report`.
        provenance: how the audit was made. The page opens with its `errors` (a list of sentences),
            `notes` become warnings below them, `command` a block to copy; other keys are listed,
            nested ones too.

    Returns:
        The path of the page.

    Raises:
        KeyError: a figure names a table, a column or an array that is missing.
    """
    threat = Threat(**claim["threat"])
    stated = [f"{spoken(name)} of {share:.1%}" for name, share in claim.get("stated", {}).items()]
    return _write_page(
        folder,
        "audit",
        findings,
        provenance,
        about=f"{claim['model']} on {claim['data']}",
        claim=claim,
        norm=norm_name(threat.norm),
        size=threat.size,
        stated=" and ".join(stated),
        summary=summarise(findings),
    )


def write_findings(
    folder: Path,
    kind: str,
    about: str,
    lead: str,
    findings: list[Finding],
    provenance: dict[str, Any],
) -> Path:
    """Write the page of findings that are not of one claim, see `write_report`.

    Args:
        folder, findings, provenance: as in `write_report`.
        kind: "reproduction" of a paper's items, or "comparison" of audits.
        about: what is reproduced or compared, the title.
        lead: a sentence below the title.
    """
    return _write_page(folder, kind, findings, provenance, about=about, claim=None, lead=lead)


def _write_page(
    folder: Path, kind: str, findings: list[Finding], provenance: dict[str, Any], **front: Any
) -> Path:
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    sections, drawn = [], 0
    for finding in findings:
        sections.append(_section(folder / "figures", finding, drawn))
        drawn += len(finding.figures)
    counts = Counter(finding.verdict for finding in findings)
    rest = {key: value for key, value in provenance.items() if key not in SHOWN_ABOVE}
    page = render(
        "template.html.j2",
        **front,
        **WORDS[kind],
        whole=kind,
        sections=sections,
        tally=[(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]],
        errors=provenance.get("errors", []),
        notes=provenance.get("notes", []),
        command=provenance.get("command"),
        provenance=text.definitions(rest),
        folded_rows=FOLDED_ROWS,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _section(folder: Path, finding: Finding, drawn: int) -> Section:
    drawings = []
    for i, figure in enumerate(finding.figures, start=1):
        stem = f"{finding.probe}-{figure.name}"
        document = figures.draw(figure, finding)
        (folder / f"{stem}.svg").write_text(document, encoding="utf-8")
        _write_csv(folder / f"{stem}.csv", figure, finding)
        element = Markup(svg.for_page(document, f"{stem}"))  # The drawing escapes its own text.
        columns = len(figure.columns) if isinstance(figure, Gallery) and figure.captions else 0
        drawings.append(Drawing(drawn + i, element, figure.caption, columns))
    tables = [
        (humanise(name), len(rows), text.columns(rows))
        for name, rows in finding.tables.items()
        if rows
    ]
    return Section(finding, text.key_numbers(finding.numbers), drawings, tables)


def _write_csv(path: Path, figure: Figure, finding: Finding) -> None:
    if isinstance(figure, Gallery):
        names, rows = figure.columns, figure.captions
    else:
        table = finding.tables[figure.table]
        names = list(dict.fromkeys(name for row in table for name in row))
        rows = [[row.get(name) for name in names] for row in table]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([names, *rows])
