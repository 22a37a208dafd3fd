"""Publish an audit: findings.json for other tools, and the page for people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scotoma.report.html import write_report
from scotoma.results.finding import Finding
from scotoma.results.report import SCHEMA, Report, digest, public, read_report
from scotoma.utils.files import write_json


def publish(
    folder: Path, claim: dict[str, Any], findings: list[Finding], provenance: dict[str, Any]
) -> Report:
    """Write findings.json and the report of findings that `save_finding` has kept in `folder`.

    Args:
        folder: the run folder.
        claim, findings: as in `Report`.
        provenance: how the findings were made; their digest is added.
    """
    entries = [public(finding) for finding in findings]
    content = {
        "schema": SCHEMA,
        "claim": claim,
        "findings": entries,
        "provenance": {**provenance, "digest": digest(entries)},
    }
    write_json(folder / "findings.json", content)
    return draw(folder)


def draw(folder: Path) -> Report:
    """Draw the report of a finished run again. Raises `InputError` if the folder has none."""
    report = read_report(folder)
    write_report(folder, report.claim, report.findings, report.provenance)
    return report
