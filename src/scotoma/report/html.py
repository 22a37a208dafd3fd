"""The page of the report."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scotoma.claim import Threat
from scotoma.report import figures, svg, text
from scotoma.results.finding import Figure, Finding, Gallery, Row
from scotoma.results.stated import spoken
from scotoma.results.summary import summarise
from scotoma.utils.text import humanise, norm_name

FOLDED_ROWS = 12
"""Most rows of a table that is not folded on screen."""

SHOWN_ABOVE = ("errors", "notes", "command")
"""Keys of the provenance that are not in its list at the end."""
VERDICTS = (
    *("holds", "weak", "broken", "agrees", "undecided", "contradicts", "differs"),
    "not applicable",
)

REPRODUCED = "“Reproduced”: the result agrees with the paper. “Differs”: it does not."
"""What the verdicts of a paper's items mean."""


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
        claim: `{"model": str, "data": str, "threat": {"norm": str, "eps": float}, "n": int}`, where
            n is the number of audited images.
        findings: in the order of the page.
        provenance: how the audit was made. The page opens with its `errors` (a list of sentences),
            `notes` become warnings below them, `command` a block to copy; other keys are listed,
            nested ones too.

    Returns:
        The path of the page.

    Raises:
        KeyError: a figure names a table, a column or an array that is missing.
    """
    words = {
        "title": "Robustness audit",
        "about": f"{claim['model']} on {claim['data']}",
        "each": "probe",
        "whole": "audit",
    }
    claimed = {
        "claim": claim,
        "norm": norm_name(claim["threat"]["norm"]),
        "stated": " and ".join(
            f"{spoken(name)} of {share:.1%}" for name, share in claim.get("stated", {}).items()
        ),
        "size": _size(claim["threat"]),
        "summary": summarise(findings),
        "terms": "",
    }
    return _write_page(folder, findings, provenance, **words, **claimed)


def write_reproduction(
    folder: Path, title: str, lead: str, findings: list[Finding], provenance: dict[str, Any]
) -> Path:
    """Write the page of a paper's reproduced items, and the figures beside it.

    Args:
        folder: created if it is missing.
        title: what is reproduced.
        lead: a sentence below the title.
        findings: one for each item, in the order of the page.
        provenance: see `write_report`.
    """
    words = {"title": "Reproduction", "about": title, "each": "item", "whole": "reproduction"}
    return _write_page(
        folder, findings, provenance, **words, claim=None, lead=lead, terms=REPRODUCED
    )


def write_comparison(
    folder: Path, title: str, lead: str, findings: list[Finding], provenance: dict[str, Any]
) -> Path:
    """Write the page of a comparison of audits, and the figures beside it; see `write_report`.

    Args:
        folder: created if it is missing.
        title: what is compared.
        lead: a sentence below the title.
        findings: in the order of the page.
        provenance: see `write_report`.
    """
    words = {"title": "Comparison", "about": title, "each": "question", "whole": "comparison"}
    terms = (
        "“Differs”: the images show a difference beyond chance. “Undecided”: they do not, which is "
        "no proof that there is none."
    )
    return _write_page(folder, findings, provenance, **words, claim=None, lead=lead, terms=terms)


def _write_page(
    folder: Path, findings: list[Finding], provenance: dict[str, Any], **front: Any
) -> Path:
    folder = Path(folder)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    sections, drawn = [], 0
    for finding in findings:
        sections.append(_section(folder / "figures", finding, drawn))
        drawn += len(finding.figures)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("template.html.j2").render(
        **front,
        sections=sections,
        tally=_tally(findings),
        errors=provenance.get("errors", []),
        notes=provenance.get("notes", []),
        command=provenance.get("command"),
        provenance=text.definitions(
            {key: value for key, value in provenance.items() if key not in SHOWN_ABOVE}
        ),
        folded_rows=FOLDED_ROWS,
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _size(threat: dict[str, Any]) -> str:
    """Return the size as text, such as 8/255."""
    return str(Threat(threat["norm"], threat["eps"])).partition(":")[2]


def _tally(findings: list[Finding]) -> list[tuple[str, int]]:
    counts = Counter(finding.verdict for finding in findings)
    return [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]]


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
        rows: list[Row] = [
            dict(zip(figure.columns, captions, strict=True)) for captions in figure.captions
        ]
        names = figure.columns
    else:
        rows = finding.tables[figure.table]
        names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([row.get(name) for name in names] for row in rows)
