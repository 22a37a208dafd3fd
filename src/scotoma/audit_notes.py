"""What an audit says beside its findings: in notes, and as a doubt that withholds verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from scotoma.attacks import follows_gradients
from scotoma.attacks.core.losses import cross_entropy
from scotoma.claim import Claim
from scotoma.execution.effort import Effort
from scotoma.execution.records import correct, fallen, undefined
from scotoma.execution.run import Run
from scotoma.models.classifier import SATURATED
from scotoma.probes.base import Probe, Settings
from scotoma.results.finding import Finding
from scotoma.results.ledger import Ledger
from scotoma.results.report import read_report
from scotoma.utils.errors import InputError
from scotoma.utils.text import counted


def without_train(probes: Mapping[str, Probe], claim: Claim) -> list[str]:
    """Return a note on probes that do not apply without training images."""
    names = [name for name, probe in probes.items() if probe.compares_train]
    if claim.data.train is not None or not names:
        return []
    return [
        f"{claim.data.name} has no training images for {' and '.join(names)} to compare with; "
        "--train DATA gives them (train= in Python)."
    ]


def other_seed(folder: Path, seed: int) -> list[str]:
    """Return a note if the folder has the report of another seed, on which others may build."""
    try:
        earlier = read_report(folder).provenance.get("seed", seed)
    except (InputError, OSError):
        return []
    if earlier == seed:
        return []
    return [
        f"This report, of seed {seed}, replaces that of seed {earlier} in the same folder; the "
        "measurements of both stay."
    ]


def at_chance(records: pl.DataFrame) -> list[str]:
    """Return a note if the model classifies no more images correctly than a constant one would."""
    images = records.filter(transform="none").unique("index") if len(records) else records
    if not len(images):
        return []
    right = int((images["prediction"] == images["label"]).sum())
    if images["label"].n_unique() == 1 or right > max(images["label"].value_counts()["count"]):
        return []
    return [
        f"The model classifies {right} of {counted(len(images), 'image')} correctly, no more "
        "than if it always gave the same label: check its weights, the scale of its images and the "
        "order of its classes."
    ]


FEW = 0.01
"""Share of the correct images whose undefined logits leave the verdicts as they are."""


def undefined_near(run: Run, ledger: Ledger) -> tuple[str, list[str]]:
    """Return a doubt and notes if the model has no finite logits near images that withstand.

    NaN is larger than nothing, so that no attack succeeds there, whatever the model would do with
    such an image.
    """
    threat, rows = run.claim.threat, correct(ledger.rows())
    withstand = rows["index"].to_numpy()[~fallen(rows, threat.eps, threat.norm)]
    met = np.isin(withstand, undefined(run.records)).sum()
    if not met:
        return "", []
    said = (
        f"the model returns NaN or infinite logits on images that attacks tried, around {met:,} of "
        f"{counted(len(withstand), 'image')} that withstand them"
    )
    if met > FEW * len(rows):
        return said, []
    return "", [f"{said[0].upper()}{said[1:]}."]


def with_scaling_noted(
    findings: Sequence[Finding],
    effort: Effort,
    scaled: Mapping[str, list[str]],
    claim: Claim,
    settings: Settings,
) -> list[Finding]:
    """Say in each finding what was scaled to a slow model; of the audit attack in `robustness`."""
    if effort.whole:
        return list(findings)
    noted = []
    for finding, (name, said) in zip(findings, scaled.items(), strict=True):
        if name == "robustness":
            said = [*said, *getattr(settings.make_attack(claim.threat), "scaled", [])]
        if said and finding.verdict != "not applicable":
            finding = replace(finding, notes=(*finding.notes, effort.note(said)))
        noted.append(finding)
    return noted


def doubt_of(settings: Settings, claim: Claim, judged: bool) -> str:
    """Return why attacks that fail may be no evidence; "" if nothing is known.

    `strong` adapts to a model that hides its gradient; whether that helped says the masking probe,
    unless it is not among the probes, by which nothing is `judged`. Other attacks do not adapt.
    """
    attack, model = settings.make_attack(claim.threat), claim.model
    if settings.attack == "strong" and not judged:
        return "; ".join(settings.plan.mechanisms)
    if settings.attack == "strong" or settings.gradient != "exact" or not follows_gradients(attack):
        return ""
    if model.gradient != "yes":
        return f"the model's gradient is {model.gradient}"
    follows = settings.attack == "apgd-ce" or getattr(attack, "loss", None) is cross_entropy
    if follows and model.saturated > SATURATED:
        return f"the gradient of cross-entropy is 0 on {model.saturated:.0%} of the first images"
    return ""
