"""An audit on one printed page, laid out like a test report."""

from __future__ import annotations

from scotoma.report import templates
from scotoma.results.comparison.audits import Audit
from scotoma.results.exports.summary import Summary


def render(audit: Audit, laboratory: str | None = None, probes: tuple[str, ...] = ()) -> str:
    """Return a page that prints on one A4 sheet.

    Args:
        laboratory: its name; None leaves a line to fill in, as for the signature.
        probes: names of all probes, to name those that did not run.

    Source:
        The layout follows clause 7.8 of ISO/IEC 17025:2017.
    """
    summary = Summary.of(audit, probes)
    return templates.render(
        "one_page.html.j2", summary=summary, laboratory=laboratory, name=audit.name
    )
