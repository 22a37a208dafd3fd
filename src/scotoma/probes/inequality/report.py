"""The finding of the inequality probe."""

from __future__ import annotations

from typing import Any

import numpy as np

from scotoma.attribution.ranking import ORDERS
from scotoma.claim import Claim
from scotoma.execution.fingerprint import name
from scotoma.execution.run import Run
from scotoma.probes.base import OF_CORRECT, columns, correct, worst_rate
from scotoma.probes.inequality.analysis import GINIS, Cell, ModelAnalysis
from scotoma.probes.inequality.figures import (
    GalleryImages,
    colour_of,
    error_rows,
    figures,
    lorenz_rows,
)
from scotoma.probes.inequality.measurements import PAPER_SIDE
from scotoma.probes.inequality.reference import ReferenceChoice
from scotoma.probes.inequality.verdict import Limits
from scotoma.results.finding import Finding, Row, Verdict
from scotoma.results.ledger import Ledger
from scotoma.utils.stats import Estimate, Rate, finite, mean, spearman
from scotoma.utils.text import norm_name

INCOMPLETE = 0.1


def describe(
    question: str,
    limits: Limits,
    run: Run,
    readings: list[ModelAnalysis],
    galleries: GalleryImages,
    choice: ReferenceChoice,
    omitted: int,
    ledger: Ledger,
) -> Finding:
    """Return the finding.

    Args:
        question: the probe's question.
        limits: the thresholds of the verdict.
        run: the audit's run.
        readings: results of the audited model and, if there is one, the reference, on the same
            images.
        galleries: images of the galleries.
        choice: the reference.
        omitted: number of images whose maps are zero or not finite.
        ledger: has the smallest perturbation of each image.
    """
    audited, claim = readings[0], run.claim
    smallest = ledger.on(audited.table["index"].to_numpy()).rows()[claim.threat.norm].to_numpy()
    worst = limits.strongest(audited.cells)
    correlation = spearman(audited["gini"], smallest, run.seed)
    verdict = limits.verdict(audited.cells)
    return Finding(
        probe="inequality",
        question=question,
        verdict=verdict,
        rule=limits.rule,
        headline=_headline(verdict, readings, worst),
        numbers=_numbers(claim, readings, worst, correlation)
        | {"reference": name(choice.model) if choice.model else None},
        tables={
            "gini": [row for reading in readings for row in _ginis(reading)],
            "noise": [row for reading in readings for row in _noise(reading)],
            "occlusion": [row for reading in readings for row in _occlusion(reading)],
            "gaps": [row for reading in readings for row in _gaps(reading)],
            "shares": [row for reading in readings for row in _shares(reading)],
            "concentration": [_concentration(reading) for reading in readings],
            "deletion": [row for reading in readings for row in _deletion(reading)],
            **{f"error_{kind}": error_rows(readings, kind) for kind in ("I", "II")},
            "lorenz": lorenz_rows(readings),
        },
        figures=figures(readings, galleries),
        notes=_notes(claim, readings, correlation, choice.why, omitted),
        images=galleries.images,
        worst=worst_rate(
            worst.error("importance"),
            f"{OF_CORRECT} are misclassified after a change of {worst.reach:,} "
            f"{'values' if worst.attack == 'noise' else 'pixels'}",
        ),
    )


def place(cell: Cell, values: int, pixels: int) -> str:
    """Return what changes at the most important places, as the beginning of a sentence."""
    if cell.attack == "occlusion":
        return (
            f"Covering the most important regions, at most {cell.reach:,} of {pixels:,} pixels, "
            f"with {colour_of(cell)}"
        )
    which = "most important value" if cell.size == 1 else f"{cell.size:,} most important values"
    return f"Noise {'added to' if cell.kind == 'I' else 'in place of'} the {which} of {values:,}"


def _headline(verdict: Verdict, readings: list[ModelAnalysis], worst: Cell) -> str:
    lead = {
        "broken": "A handful of pixels carries the prediction",
        "weak": "A few pixels carry more of the prediction than others",
        "undecided": (
            "Too few images to tell whether the most important pixels matter more than others"
        ),
        "holds": "No handful of pixels carries the prediction",
    }[verdict]
    plan, error, chance = readings[0].plan, worst.error("importance"), worst.error("random")
    change = place(worst, plan.values, plan.pixels)
    text = (
        f"{lead}. {change} makes the model wrong on {correct(error)}, at random places on "
        f"{chance.value:.1%}: a gap of {_points(worst.gap)}"
    )
    concentrated = f"The mean Gini coefficient of its evidence is {readings[0]['gini'].mean():.2f}"
    if len(readings) > 1:
        same = readings[1].like(worst)
        text += (
            f"; for the naturally trained reference {same.error('importance').value:.1%} and "
            f"{same.error('random').value:.1%}"
        )
        concentrated += f", that of the reference {readings[1]['gini'].mean():.2f}"
    return f"{text}. {concentrated}."


def _points(gap: Estimate) -> str:
    """Return a difference of rates for a sentence."""
    return f"{100 * gap.value:.1f} points ({100 * gap.low:.1f}–{100 * gap.high:.1f})".replace(
        "-", "−"
    )


def _numbers(
    claim: Claim, readings: list[ModelAnalysis], worst: Cell, correlation: Estimate
) -> dict[str, Any]:
    """Return the key numbers; without a reference its numbers are None."""
    audited, reference = readings[0], readings[1] if len(readings) > 1 else None
    numbers: dict[str, Any] = {}
    for measure in ("gini", "gini_regional"):
        own = audited[measure]
        other = reference[measure] if reference else np.zeros(0)
        numbers |= columns(measure, mean(own)) | columns(f"{measure}_reference", mean(other))
        numbers |= columns(f"{measure}_difference", mean(own - other) if reference else mean(other))
    same = reference.like(worst) if reference else None
    nothing = Rate(np.nan, np.nan, np.nan, 0)
    return numbers | {
        "strongest": _cell_name(worst, audited),
        **columns("error", worst.error("importance")),
        **columns("error_random", worst.error("random")),
        **columns("gap", worst.gap),
        **columns("error_reference", same.error("importance") if same else nothing),
        **columns("gap_reference", same.gap if same else Estimate(*nothing)),
        **columns(f"spearman_gini_{claim.threat.norm}", correlation),
        "completeness_error": finite(np.median(audited["incomplete"])),
        "n": len(audited.table),
    }


def _cell_name(cell: Cell, reading: ModelAnalysis) -> str:
    if cell.attack == "noise":
        return f"noise {cell.kind} on {cell.size} value{'' if cell.size == 1 else 's'}"
    regions, radius = reading.plan.occlusions[cell.size]
    return f"occlusion in {colour_of(cell)}, {regions} regions, radius {radius}"


def _ginis(reading: ModelAnalysis) -> list[Row]:
    block = reading.plan.block
    return [
        {
            "model": reading.name,
            "over": f"regions of {block}x{block} pixels" if over == "regional" else "values",
            "convention": convention,
            **columns("gini", mean(reading[name])),
            "n": len(reading.table),
        }
        for name, (_, over, convention) in ((n, each.split()) for n, each in GINIS.items())
    ]


def _noise(reading: ModelAnalysis) -> list[Row]:
    return [
        {
            "model": reading.name,
            "type": cell.kind,
            "order": order,
            "pixels": cell.size,
            "share": finite(cell.share),
            **columns("error", cell.error(order)),
            "n": len(reading.table),
        }
        for cell in reading.cells
        if cell.attack == "noise"
        for order in ORDERS
    ]


def _occlusion(reading: ModelAnalysis) -> list[Row]:
    """Return rows; `covered` is the mean over fooled images in pixels, `share` the most covered."""
    rows = []
    for cell in reading.cells:
        if cell.attack == "noise":
            continue
        regions, radius = reading.plan.occlusions[cell.size]
        for order in ORDERS:
            covered = reading.covered(order, cell.kind, cell.size)
            fooled = covered[np.isfinite(covered)]
            rows.append(
                {
                    "model": reading.name,
                    "colour": cell.kind,
                    "regions": regions,
                    "radius": radius,
                    "order": order,
                    "share": finite(cell.share),
                    **columns("error", cell.error(order)),
                    "covered": finite(fooled.mean()) if len(fooled) else None,
                    "n": len(covered),
                }
            )
    return rows


def _gaps(reading: ModelAnalysis) -> list[Row]:
    return [
        {
            "model": reading.name,
            "attack": _cell_name(cell, reading),
            "share": finite(cell.share),
            "error": finite(cell.error("importance").value),
            "error_random": finite(cell.error("random").value),
            **columns("gap", cell.gap),
            "in_verdict": cell.few and reading.name == "audited",
            "n": len(reading.table),
        }
        for cell in reading.cells
    ]


def _shares(reading: ModelAnalysis) -> list[Row]:
    """Return the share of the evidence that the most important values have."""
    return [
        {
            "model": reading.name,
            "values": count,
            "share": finite(count / reading.plan.values),
            **columns("evidence", mean(shares)),
        }
        for count, shares in zip(reading.plan.counts, reading["top"].T, strict=True)
    ]


def _concentration(reading: ModelAnalysis) -> Row:
    """Return Hoover's index and the number of effective values (Herfindahl)."""
    return {
        "model": reading.name,
        **columns("hoover", mean(reading["hoover"])),
        **columns("effective_values", mean(reading["effective"])),
        "values": reading.plan.values,
        "n": len(reading.table),
    }


def _deletion(reading: ModelAnalysis) -> list[Row]:
    return [
        {
            "model": reading.name,
            "order": order,
            **columns("deletion", mean(reading[f"deletion {order}"].astype(float))),
            **columns("insertion", mean(reading[f"insertion {order}"].astype(float))),
            "n": len(reading.table),
        }
        for order in ORDERS
    ]


def _notes(
    claim: Claim, readings: list[ModelAnalysis], correlation: Estimate, why: str, omitted: int
) -> tuple[str, ...]:
    audited, plan = readings[0], readings[0].plan
    mean_of = f"the {'training' if claim.data.train is not None else 'audited'} data"
    level, sd = (", ".join(f"{value:.3g}" for value in numbers) for numbers in (plan.mean, plan.sd))
    sizes = " and ".join(
        f"{regions} regions with radius {radius}" for regions, radius in plan.occlusions
    )
    both = " and the reference" if len(readings) > 1 else ""
    notes = [
        f"{why} Both use the same {len(audited.table)} images, which both classify correctly."
        if both
        else why,
        f"Maps are integrated gradients of the label's logit in {plan.steps} steps, from an image "
        f"of the mean of {mean_of}, {level}: zero in the space to which the paper's models "
        "normalise. With a black baseline, the colour of most pixels in drawings on black, the "
        "evidence of every model would look concentrated. The median difference between the sum of "
        f"a map and the gain of the logit is {np.median(audited['incomplete']):.1%} of the gain.",
        "A value is one channel of a pixel; the column pixels counts values. The Gini coefficient "
        "is 0 for equal values and near 1 if one value has all. Convention absolute takes |a|, "
        "positive max(a, 0), both before sums over regions; net takes max(sum, 0) after them. The "
        f"numbers are absolute over values, and net over regions of {plan.block}x{plan.block} "
        "pixels. Effective values: the number of equal values that are as concentrated.",
        f"Noise is standard normal in the normalised space (sd {sd}), {plan.draws} draws an image; "
        "added (type I) or in place of the values (type II), and clipped to [0, 1]. An error is "
        "the mean over draws and images, with Wilson's interval over images. The gap is paired by "
        "image, with the interval of Agresti and Min (2005).",
        f"Occlusions are those of the paper for images of {PAPER_SIDE} pixels a side, scaled to "
        f"these images: {sizes}. Each is a search with at most regions times radius tries, at "
        "important and at random places; covered is the mean number of pixels over the fooled "
        "images. The colour mean is that of the data, the paper's gray.",
        "Deletion and insertion are areas under the label's probability while pixels are replaced "
        "by the mean or put back: evidence in few pixels gives a small deletion and a large "
        "insertion compared with the random order.",
    ]
    if np.median(audited["incomplete"]) > INCOMPLETE:
        notes.append(
            "The maps do not explain the logits, as with gradients that mislead (see the masking "
            "probe): a small gap is then no evidence of evenly spread evidence."
        )
    if omitted:
        notes.append(
            f"{omitted} images were omitted because the map of the model{both} is zero or not "
            "finite."
        )
    if np.isfinite(correlation.value):
        notes.append(
            f"Spearman's correlation of an image's Gini coefficient with its smallest "
            f"{norm_name(claim.threat.norm)} perturbation is {correlation.value:.2f} (95% interval "
            f"{correlation.low:.2f} to {correlation.high:.2f}, n = {correlation.n})."
        )
    return tuple(notes)
