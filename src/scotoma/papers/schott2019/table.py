"""The table of six models in three norms: median distances and accuracies over all attacks, and over each."""

from __future__ import annotations

import numpy as np

from scotoma.models.synthesis import inside
from scotoma.papers.item import SUMMARY, Context, agreement, row
from scotoma.papers.schott2019 import claims, published
from scotoma.papers.schott2019.examples import examples
from scotoma.papers.schott2019.measured import Measured, measure
from scotoma.papers.schott2019.study import Study
from scotoma.probes.base import columns
from scotoma.probes.norms.analysis import Reading
from scotoma.probes.norms.figures import amount
from scotoma.results.finding import Bars, Curve, Figure, Finding, Row
from scotoma.utils.stats import finite, median, rate
from scotoma.utils.text import norm_name

POINTS = 40
FAR = {"l0": 50.0, "l2": 4.0, "linf": 0.5}
"""How far the curves reach."""

Found = dict[str, Measured]
"""By the paper's names of the models."""


class Norms(Study):
    """Six models of MNIST, three norms, attacks of every kind, the minimum over them image by image."""

    title = "Six models of MNIST in three norms"
    source = "Schott et al. 2019, section 6"

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        found = self.of_each(context, measure)
        rows = [line for model, each in found.items() for line in _rows(model, each)]
        checks = claims.checks(found)
        held = sum(check.holds for check in checks)
        inside, printed = (*agreement(rows).values(), 0, 0)[:2]
        shown, galleries = examples(found)
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if held == len(checks) else "differs",
            rule=f"reproduced if every line of the table of checks holds: {claims.RULE}; else differs",
            headline=_headline(found, held, len(checks)),
            numbers={
                "n": len(found["ABS"].right),
                "checks": len(checks),
                "checks_held": held,
                "published": printed,
                "published_inside": inside,
            },
            tables={
                SUMMARY: [_summary(model, each) for model, each in found.items()],
                "checks": [check.row for check in checks],
                "attacks": [
                    line for model, each in found.items() for line in _attacks(model, each)
                ],
                **{
                    f"medians_{norm}": [
                        _medians(model, each, norm) for model, each in found.items()
                    ]
                    for norm in published.BOUNDS
                },
                **{f"curve_{norm}": _curve(found, norm) for norm in published.BOUNDS},
            },
            figures=(
                *(figure for norm in published.BOUNDS for figure in _figures(norm)),
                *galleries,
            ),
            notes=_notes(context, found),
            images=shown,
        )


def _rows(model: str, each: Measured) -> list[Row]:
    """A model's figures over all attacks, beside the paper's."""
    rows = [row({"model": model, "norm": None}, "clean accuracy", rate(each.right))]
    for norm, read in each.readings.items():
        printed, keys = published.CURVES[norm][model], {"model": model, "norm": norm}
        rows.append(row(keys, "median distance", median(read.nearest), printed.median))
        rows.append(
            row(keys, f"accuracy at {amount(read.bound)}", read.accuracy(), printed.accuracy)
        )
    return rows


def _summary(model: str, each: Measured) -> Row:
    """A model in a line."""
    line: Row = {"model": model, "clean": finite(rate(each.right).value)}
    for norm, read in each.readings.items():
        printed = published.CURVES[norm][model]
        line |= {
            f"median_{norm}": finite(read.median),
            f"median_{norm}_published": printed.median,
            f"accuracy_{norm}": finite(read.accuracy().value),
            f"accuracy_{norm}_published": printed.accuracy,
        }
    return line | {"n": len(each.right)}


def _attacks(model: str, each: Measured) -> list[Row]:
    """A row an attack: its own median and accuracy, and the share of the broken images whose smallest distance it found first."""
    rows = []
    for norm, read in each.readings.items():
        for number, (tried, distances) in enumerate(zip(read.tried, read.distances, strict=True)):
            keys = {
                "model": model,
                "norm": norm,
                "attack": tried.name,
                "kind": tried.kind,
                "gradient": tried.gradient,
            }
            measured = {
                "median": finite(median(distances).value),
                **columns("accuracy", read.accuracy(distances)),
                "found_minimum": finite((read.finder == number).sum() / read.broken.sum())
                if read.broken.any()
                else None,
                "n": len(distances),
            }
            rows.append(keys | measured)
    return rows


def _medians(model: str, each: Measured, norm: str) -> Row:
    ours = median(each.readings[norm].nearest)
    printed = published.CURVES[norm][model].median
    return {
        "model": model,
        **columns("median", ours),
        "published": printed,
        "published_low": None,
        "published_high": None,
    }


def _curve(found: Found, norm: str) -> list[Row]:
    sizes = np.linspace(0, FAR[norm], POINTS + 1)
    return [
        {
            "model": model,
            "distance": finite(size),
            **columns("accuracy", each.readings[norm].accuracy(size=float(size))),
        }
        for model, each in found.items()
        for size in (np.unique(sizes.round()) if norm == "l0" else sizes)
    ]


def _figures(norm: str) -> tuple[Figure, Figure]:
    name, bound = norm_name(norm), published.BOUNDS[norm]
    distance = "changed pixels" if norm == "l0" else f"{name} distance"
    curve = Curve(
        f"curve_{norm}",
        f"Share of test images that are classified correctly and stay so under every perturbation found, against its {name} size.",
        table=f"curve_{norm}",
        x="distance",
        y="accuracy",
        group="model",
        x_label=distance,
        y_label="accuracy",
        marks={"bound": bound.eps},
    )
    bars = Bars(
        f"medians_{norm}",
        f"Median {name} distance of the nearest adversarial image, over all attacks, with 95% intervals, beside the published one.",
        table=f"medians_{norm}",
        label="model",
        series={
            "ours": ("median", "median_low", "median_high"),
            "published": ("published", "published_low", "published_high"),
        },
        y_label=f"median: {distance}",
        rates=False,
    )
    return curve, bars


def _headline(found: Found, held: int, of: int) -> str:
    def told(norm: str) -> str:
        return ", ".join(f"{model} {_size(each.readings[norm])}" for model, each in found.items())

    return (
        f"Median distances over all attacks: in L2 {told('l2')}; in L-inf {told('linf')}; in pixels {told('l0')}. "
        f"{held} of {of} comparisons are as in the paper."
    )


def _size(read: Reading) -> str:
    return f"{read.median:.3g}" if np.isfinite(read.median) else "not reached"


def _notes(context: Context, found: Found) -> tuple[str, ...]:
    n = len(found["ABS"].right)
    slow = [model for model, each in found.items() if inside(each.run.claim.model.module)]
    queries = {each.queries for each in found.values()}
    told = " and ".join(
        f"{each:,} for {', '.join(model for model in found if found[model].queries == each)}"
        for each in sorted(queries)
    )
    notes = [
        f"{n:,} test images drawn at random (seed {context.seed}), the same for every model. The distance of an image is the "
        "smallest over the attacks of a norm: 0 where the model is wrong already, infinite where none broke it. Accuracies are "
        "shares of all images.",
        f"Decision-based attacks that are told when to stop had so many queries an image: {told.rstrip('.')}.",
        "The published figures are those of the authors' curves, over their own attacks: ours are stronger in part, so that "
        "smaller distances than theirs are no sign of another model. `attacks` says which attack found how many of the minima.",
    ]
    notes += [
        f"{model}: {each.gradients.why}; attacks were given {each.gradients.name}."
        for model, each in found.items()
        if each.gradients.why
    ]
    if slow:
        notes.append(
            f"{' and '.join(slow)}: trained by this project on images as they are, where the authors zoom, shear and bend some."
        )
    return tuple(notes)
