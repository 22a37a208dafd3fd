"""The report of an audit: its findings, records and ledger, and their files in the run folder."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from scotoma.results.finding import Figure, Finding
from scotoma.results.ledger import Ledger
from scotoma.results.summary import summarise
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.files import read_json, write_json, write_whole

SCHEMA = 1
RECORDS, LEDGER = "records.parquet", "ledger.parquet"
FIGURES = {kind.__name__: kind for kind in get_args(Figure)}


@dataclass(frozen=True)
class Report:
    """The findings of an audit; `report["norms"]` is the `Finding` of the norms probe.

    Args:
        folder: the run folder.
        claim: `{"model": str, "data": str, "threat": {"norm": str, "eps": float}, "n": int}`, where
            n is the number of audited images.
        findings: one finding a probe, in the order of the report.
        provenance: seed, versions, hashes and settings of the audit.

    >>> finding = Finding("norms", "Does it?", "holds", "a rule", "It does.", {"n": 3})
    >>> report = Report(Path("runs/mine"), {}, [finding], {})
    >>> report["norms"].headline, report["norms"].numbers
    ('It does.', {'n': 3})
    """

    folder: Path
    claim: dict[str, Any]
    findings: list[Finding]
    provenance: dict[str, Any]

    def __getitem__(self, probe: str) -> Finding:
        for finding in self.findings:
            if finding.probe == probe:
                return finding
        names = ", ".join(finding.probe for finding in self.findings)
        raise KeyError(f"no finding of probe {probe!r}; there are: {names}")

    @property
    def summary(self) -> str:
        """One sentence on all findings: what holds, what breaks, and the worst number."""
        return summarise(self.findings)

    @property
    def errors(self) -> list[str]:
        """Probes that failed and evidence that contradicts itself, in sentences."""
        return self.provenance.get("errors", [])

    @property
    def html(self) -> Path:
        """Path of the report for people."""
        return self.folder / "report.html"

    @property
    def records(self) -> pl.DataFrame:
        """All records of the run, see `Run.records`."""
        return pl.read_parquet(self.folder / RECORDS)

    @property
    def ledger(self) -> Ledger:
        """The records joined by image: the smallest perturbation that any attack gave."""
        return Ledger(pl.read_parquet(self.folder / LEDGER))

    def show(self) -> None:
        """Print the summary, the verdicts and the path of the report."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        colours = {"holds": "green", "weak": "yellow", "broken": "red", "undecided": "yellow"}
        table = Table(
            title=describe_claim(self.claim),
            title_justify="left",
            title_style="bold",
            show_lines=True,
        )
        for heading in ("probe", "verdict", "result"):
            table.add_column(heading)
        for finding in self.findings:
            colour = colours.get(finding.verdict, "dim")
            verdict = f"[{colour}]{finding.verdict}[/]"
            table.add_row(finding.probe, verdict, finding.headline)
        console = Console()
        for error in self.errors:
            console.print(f"[bold red]error[/] {escape(error)}", soft_wrap=True)
        console.print(self.summary, soft_wrap=True)
        console.print(table)
        for note in self.provenance["notes"]:
            console.print(f"[yellow]note[/] {note}", soft_wrap=True)
        console.print(f"report: {self.html}", soft_wrap=True)


def save_finding(folder: Path, finding: Finding) -> None:
    """Write a finding with its figures and images, so that the report can be drawn again."""
    images = {key: np.ascontiguousarray(array) for key, array in finding.images.items()}
    write_whole(folder / "findings" / f"{finding.probe}.safetensors", save(images))
    plain = asdict(replace(finding, images={}, figures=()))
    plain["figures"] = [{"kind": type(each).__name__, **asdict(each)} for each in finding.figures]
    write_json(folder / "findings" / f"{finding.probe}.json", plain)


def read_finding(folder: Path, probe: str) -> Finding:
    """Read a finding that `save_finding` wrote."""
    plain = read_json(folder / "findings" / f"{probe}.json")
    figures = tuple(FIGURES[figure.pop("kind")](**figure) for figure in plain.pop("figures"))
    path = folder / "findings" / f"{probe}.safetensors"
    try:
        images = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the audit again") from None
    worst = plain.get("worst") and tuple(plain["worst"])
    typed = {"figures": figures, "images": images, "notes": tuple(plain["notes"]), "worst": worst}
    return Finding(**plain | typed)


def public(finding: Finding) -> dict[str, Any]:
    """Return the part of a finding that other tools read."""
    return {
        key: getattr(finding, key)
        for key in ("probe", "verdict", "rule", "headline", "numbers", "tables")
    }


def digest(entries: list[dict[str, Any]]) -> str:
    """Return a hash of `public` findings: two machines that agree print the same one."""
    text = json.dumps(entries, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_report(folder: Path) -> Report:
    """Read the report of a finished run. Raises `InputError` if the folder has none."""
    content = read_json(folder / "findings.json")
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise InputError(
            f"{folder / 'findings.json'}: schema {schema!r}, this version reads {SCHEMA}"
        )
    findings = [read_finding(folder, entry["probe"]) for entry in content["findings"]]
    for finding, entry in zip(findings, content["findings"], strict=True):
        if public(finding) == entry:
            continue
        if digest(content["findings"]) != content["provenance"].get("digest"):
            raise InputError(
                f"{folder / 'findings.json'}: is not what the audit wrote, its digest differs; run "
                "the same audit again, which writes it anew"
            )
        raise InputError(
            f"{folder}: the {finding.probe} probe was run again, but that audit was stopped; "
            "finish it first"
        )
    return Report(folder, content["claim"], findings, content["provenance"])


def describe_claim(claim: dict[str, Any]) -> str:
    """The claim in a line."""
    threat, n = Threat(**claim["threat"]), claim["n"]
    return f"{claim['model']} on {claim['data']} under {threat}, {n} test image{'s' * (n != 1)}"
