"""An audit on one printed page, laid out like a test report."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from scotoma.results.comparison.audits import Audit
from scotoma.results.exports.summary import Summary


def render(audit: Audit, laboratory: str | None = None, probes: tuple[str, ...] = ()) -> str:
    """Return a page that prints on one A4 sheet.

    Args:
        audit: a finished audit.
        laboratory: its name; None leaves a line to fill in, as for the signature.
        probes: names of all probes, to name those that did not run.

    Source:
        The layout follows clause 7.8 of ISO/IEC 17025:2017.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("one_page.html.j2")
    summary = Summary.of(audit, probes)
    return page.render(summary=summary, laboratory=laboratory, name=audit.name)
