"""Compare finished audits, and publish the comparison."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scotoma.data.dataset import Dataset
from scotoma.report.html import write_findings
from scotoma.report.text import columns
from scotoma.results import comparison
from scotoma.results.audited import audited_data
from scotoma.results.comparison.audits import read_audits
from scotoma.results.comparison.sides import every_image
from scotoma.results.finding import Finding, Row
from scotoma.results.report import public
from scotoma.utils.errors import InputError
from scotoma.utils.files import write_json, write_whole
from scotoma.utils.text import NONE, counted, norm_name, scalar

RESULT = "comparison.json"
PIPED = 120
"""Width of the text where there is no terminal."""


@dataclass(frozen=True)
class Comparison:
    """Audits compared image by image; `comparison["robustness"]` is one of the findings.

    Args:
        folder: with report.html, comparison.json and images.csv.
        findings: one a question.
        notes: what has to be known before the numbers are read.

    >>> found = Finding("robustness", "Which?", "undecided", "a rule", "No difference.")
    >>> Comparison(Path("runs/compare"), [found], [])["robustness"].headline
    'No difference.'
    """

    folder: Path
    findings: list[Finding]
    notes: list[str]

    def __getitem__(self, probe: str) -> Finding:
        for finding in self.findings:
            if finding.probe == probe:
                return finding
        names = ", ".join(finding.probe for finding in self.findings)
        raise KeyError(f"no finding {probe!r}; there are: {names}")

    @property
    def html(self) -> Path:
        """Path of the report for people."""
        return self.folder / "report.html"

    def show(self) -> None:
        """Print rates, differences and verdicts, and the path of the report."""
        from rich.console import Console

        console = Console() if sys.stdout.isatty() else Console(width=PIPED)
        for note in self.notes:
            console.print(f"[yellow]note[/] {note}", soft_wrap=True)
        tables, n = self["robustness"].tables, self["robustness"].numbers["n"]
        _print(console, f"rates on the same {counted(n, 'image')}", _rates(tables["rates"]))
        _print(console, "differences, with 95% intervals", _differences(tables))
        _print(console, "verdicts", tables["verdicts"])
        for finding in self.findings:
            console.print(f"[bold]{finding.probe}[/]: {finding.headline}", soft_wrap=True)
        console.print(f"report: {self.html}", soft_wrap=True)


def compare(
    *runs: str | Path,
    out: str | Path = "runs/compare",
    data: Dataset | str | None = None,
    command: str | None = None,
) -> Comparison:
    """Compare finished audits of the same data and threat, from their folders alone.

    Args:
        runs: at least two run folders.
        out: folder to write report.html, comparison.json and images.csv into.
        data: the audited data, so that the report can show the images themselves; a name is one
            that `load_data` reads.
        command: command that the report prints for repeating it; None prints this call.

    Raises:
        InputError: a folder holds no finished audit, the audits have nothing in common that could
            be paired, or `out` holds something else. Nothing has been written.

    >>> compare("runs/mine")
    Traceback (most recent call last):
    scotoma.utils.errors.InputError: a comparison needs the folders of at least two audits
    """
    audits, folder = read_audits(runs), Path(out).expanduser()
    if folder.exists() and not (folder / RESULT).exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty and not a comparison; choose another out=FOLDER")
    loaded = audited_data(runs[0], data) if isinstance(data, str) else data
    findings, notes = comparison.findings(audits, loaded), comparison.notes(audits)
    provenance = {
        "errors": [f"{audit.name}: {error}" for audit in audits for error in audit.report.errors],
        "notes": notes,
        "command": command or _call(runs, out),
        "audits": {audit.name: _origin(audit.report.provenance) for audit in audits},
    }
    title = f"{', '.join(audits.names[:-1])} and {audits.names[-1]}"
    lead = (
        f"{len(audits)} audits of {audits.data} under {norm_name(audits.threat.norm)} "
        f"perturbations of size up to {audits.threat.size}, compared on the "
        f"{counted(audits.n, 'test image')} that all of them attacked."
    )
    write_whole(folder / "images.csv", every_image(audits).write_csv().encode())
    write_findings(folder, "comparison", title, lead, findings, provenance)
    content = {
        "data": audits.data,
        "threat": str(audits.threat),
        "n": audits.n,
        "audits": {audit.name: str(audit.report.folder) for audit in audits},
        "notes": notes,
        "findings": [public(finding) for finding in findings],
    }
    write_json(folder / RESULT, content)
    return Comparison(folder, findings, notes)


def _origin(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return what identifies an audit: hash of the model, settings, versions and digest."""
    found = {
        "model": provenance.get("model", {}).get("sha256"),
        **{key: provenance.get(key) for key in ("command", "seed", "attack", "gradient")},
        "scotoma": provenance.get("versions", {}).get("scotoma"),
        **{key: provenance.get(key) for key in ("started", "digest")},
    }
    return {key: value for key, value in found.items() if value is not None}


def _call(runs: Sequence[str | Path], out: str | Path) -> str:
    return f"scotoma.compare({', '.join(repr(str(run)) for run in runs)}, out={str(out)!r})"


def _rates(rows: Sequence[Row]) -> list[Row]:
    """Return the rates of the audits as text for the terminal."""
    shown = []
    for row in rows:
        row = {key: value for key, value in row.items() if key not in ("n", "audited")}
        for name in ("accuracy", "robust_accuracy"):
            low, high = (100 * row.pop(f"{name}_{end}") for end in ("low", "high"))
            row[name] = f"{row[name]:.1%} ({low:.1f}–{high:.1f}%)"
        shown.append(row)
    return shown


def _differences(tables: dict[str, list[Row]]) -> list[Row]:
    """Return the differences of rates and medians as text for the terminal."""
    rows: list[Row] = []
    for row in tables["differences"]:
        value, low, high = (100 * row[f"difference{end}"] for end in ("", "_low", "_high"))
        gap = f"{value:+.1f} points ({low:+.1f} to {high:+.1f})".replace("-", "−")
        rows.append({**row, "difference": gap})
    for row in tables["medians"]:
        gap = [scalar(row[f"difference{end}"]) for end in ("", "_low", "_high")]
        measure = f"median {norm_name(row['norm'])}"
        gap = f"{gap[0]} ({gap[1]} to {gap[2]})" if NONE not in gap else gap[0]
        rows.append({**row, "measure": measure, "difference": gap, "corrected_p": None})
    return [
        {
            "measure": row["measure"],
            "of": f"{row['first']} less {row['second']}",
            "difference": row["difference"],
            "corrected_p": _p(row["corrected_p"]),
            "ahead": row["ahead"],
        }
        for row in rows
    ]


def _p(value: float | None) -> str:
    return NONE if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _print(console: Any, name: str, rows: Sequence[Row]) -> None:
    """Print a table of a finding."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    style: Any = {"title_justify": "left", "title_style": "bold", "box": SIMPLE_HEAD}
    table = Table(title=name, pad_edge=False, **style)
    shown = columns(rows)
    for column in shown:
        table.add_column(column.heading, justify="right" if column.numeric else "left")
    for cells in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*cells)
    console.print(table)
