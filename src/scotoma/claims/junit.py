"""The gate as a JUnit XML file and as a summary in Markdown, as continuous integration shows it."""

from __future__ import annotations

from xml.etree import ElementTree

from scotoma.claims.gate import Gate

SIGNS = {"passed": "✅", "failed": "❌", "undecided": "❔"}


def junit(gate: Gate) -> bytes:
    """Return a test suite with one case a rule; undecided rules are skipped cases.

    Source:
        The XML that JUnit's Ant task writes, as Jenkins, GitLab and GitHub's reporters read it.
    """
    decisions = gate.decisions
    contradictions = gate.report.errors
    count = {
        "tests": len(decisions) + len(contradictions),
        "failures": sum(each.result == "failed" for each in decisions),
        "errors": len(contradictions),
        "skipped": sum(each.result == "undecided" for each in decisions),
    }
    seconds = str(gate.report.provenance.get("seconds", 0))
    attributes = {"name": "scotoma gate", **{key: str(value) for key, value in count.items()}}
    root = ElementTree.Element("testsuites", attributes)
    suite = ElementTree.SubElement(root, "testsuite", attributes | {"time": seconds})
    for decision in decisions:
        case = ElementTree.SubElement(
            suite, "testcase", name=str(decision.rule), classname=gate.title
        )
        if decision.result != "passed":
            kind = {"failed": "failure", "undecided": "skipped"}[decision.result]
            ElementTree.SubElement(case, kind, message=decision.reason)
        ElementTree.SubElement(case, "system-out").text = decision.reason
    for contradiction in contradictions:
        case = ElementTree.SubElement(suite, "testcase", name="evidence", classname=gate.title)
        ElementTree.SubElement(case, "error", message=contradiction)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def markdown(gate: Gate) -> str:
    """Return a heading, a table of rules and the summary of the audit, as GitHub shows them."""
    lines = [
        f"### {SIGNS[gate.result]} Scotoma gate: {gate.result}",
        "",
        gate.title,
        "",
        "| rule | result | why |",
        "| --- | --- | --- |",
    ]
    for each in gate.decisions:
        rule, why = (text.replace("|", "\\|") for text in (str(each.rule), each.reason))
        lines.append(f"| `{rule}` | {SIGNS[each.result]} {each.result} | {why} |")
    lines += ["", *(f"**Error:** {error}\n" for error in gate.report.errors), gate.report.summary]
    return "\n".join(lines) + "\n"
