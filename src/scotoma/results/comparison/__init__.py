"""Finished audits of the same data and threat, compared image by image from their folders alone."""

from __future__ import annotations

from scotoma.data.dataset import Dataset
from scotoma.results.comparison import rates, scope, sides
from scotoma.results.comparison.audits import Audits
from scotoma.results.finding import Finding
from scotoma.utils.text import counted


def findings(audits: Audits, data: Dataset | None = None) -> list[Finding]:
    """Return the findings; those on transforms and norms only if all audits measured them."""
    further = (scope.after_transforms(audits), scope.other_norms(audits))
    return [rates.describe(audits), sides.describe(audits, data), *filter(None, further)]


def notes(audits: Audits) -> list[str]:
    """Return the notes to read before the numbers of a comparison."""
    texts = []
    if any(audit.audited != audits.n for audit in audits):
        counts = ", ".join(f"{audit.name} {audit.audited:,}" for audit in audits)
        texts.append(
            f"Compared on the {counted(audits.n, 'image')} that all audited; audited: {counts}."
        )
    if not audits.same_attacks():
        counts = ", ".join(f"{each.name} {len(each.attacks.get('none', ()))}" for each in audits)
        texts.append(
            f"The audits ran different attacks on the test images ({counts}): one that tried more "
            "can only show less robustness. One without the attacks of the other is not called "
            "ahead of it, unless it ran `strong`. Run the same probes with the same attack to "
            "compare models alone."
        )
    texts += [
        f"{first.name} and {second.name} are audits of one model (sha256 "
        f"{str(first.model_sha256)[:12]}): what differs is what was tried, and neither is called "
        "ahead."
        for first, second in audits.same_models()
    ]
    texts += [
        f"{audit.name}: something hides the gradient and no attack of its audit got around it, so "
        "its robust accuracy was not measured. It is not called ahead of any other."
        for audit in audits
        if audit.hidden
    ]
    versions = {
        audit.report.provenance.get("versions", {}).get("scotoma", "unknown") for audit in audits
    }
    if len(versions) > 1:
        texts.append(f"The audits were made by different versions: {', '.join(sorted(versions))}.")
    for audit in audits:
        texts += [f"{audit.name}: {note}" for note in audit.report.provenance.get("notes", ())]
    return texts
