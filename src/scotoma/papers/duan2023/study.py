"""The paper's comparison on any data: models of one network, trained in L-inf at growing size."""

from __future__ import annotations

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.attribution.ranking import ORDERS
from scotoma.claim import Threat
from scotoma.metrics.inequality import CONVENTIONS
from scotoma.papers.duan2023 import claims, published
from scotoma.papers.duan2023.checks import RULE
from scotoma.papers.duan2023.figures import figures
from scotoma.papers.duan2023.measured import Found, Measured, measure
from scotoma.papers.duan2023.pictures import pictures
from scotoma.papers.item import SUMMARY, Context, agreement, row
from scotoma.probes.base import columns
from scotoma.reference import recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.utils.stats import mean, median, rate

COMPARED = ("importance", "random")


class Study:
    """A sweep, and what the paper claims of it."""

    title: str
    source: str
    sweep: dict[str, str]
    """The reference model by the size that it was trained for, as in "8/255": natural training first, the largest last."""
    published: tuple[str, str] | None = None
    """The paper's data and network of `papers.duan2023.GINI`, where ours are the same data and the same sizes."""

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.sweep.values())

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        with context.progress.bar(self.title, 1) as advance:
            found = measure(context, self.sweep)
            advance(1)
        rows = [line for eps, each in found.items() for line in self._rows(eps, each)]
        checks = claims.of_sweep(found)
        arrays, galleries = pictures(found)
        held, inside = sum(check.holds for check in checks), (*agreement(rows).values(), 0, 0)[:2]
        compared = (
            dict(zip(("published_inside", "published"), inside, strict=True)) if inside[1] else {}
        )
        return rows, Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if held == len(checks) else "differs",
            rule=f"reproduced if every line of the table of checks holds: {RULE}; else differs",
            headline=self._headline(found) + claims.outcome(checks),
            numbers={
                "n": len(next(iter(found.values()))),
                "checks": len(checks),
                "checks_held": held,
                "checks_contrary": sum(check.contrary for check in checks),
                **compared,
            },
            tables={
                SUMMARY: [summary({"model": eps}, each) for eps, each in found.items()],
                "checks": [check.row for check in checks],
                "gini": [line for eps, each in found.items() for line in _gini(eps, each)],
                **{
                    f"noise_{kind}": [line for each in _ends(found) for line in _noise(*each, kind)]
                    for kind in TYPES
                },
                "occlusion": [
                    line for eps, each in found.items() for line in _occlusion(eps, each)
                ],
                **{
                    f"occlusion_{number}": [
                        line for eps, each in found.items() for line in _by_size(eps, each, number)
                    ]
                    for number in range(2)
                },
                "lorenz": [line for eps, each in found.items() for line in _lorenz(eps, each)],
                "published_gini": published_gini(),
                "published_occlusion": published_occlusion(),
            },
            figures=(*figures(found), *galleries),
            notes=(*how(context, found), *self._notes(found)),
            images=arrays,
        )

    def _rows(self, eps: str, each: Measured) -> list[Row]:
        keys: Row = {
            "trained for": eps,
            **dict.fromkeys(("noise", "type", "k", "squares", "colour", "order", "convention")),
        }
        rows = [row(keys, "clean accuracy, all test images", each.accuracy)]
        for over, used in {"global": CONVENTIONS[:2], "regional": CONVENTIONS}.items():
            for convention in used:
                printed = self._published(eps, over) if published.FITS[over] == convention else None
                rows.append(
                    row(
                        keys | {"convention": convention},
                        f"{over} Gini",
                        mean(each.gini(over, convention)),
                        printed,
                    )
                )
        for made in each.examination.noises:
            for kind in made.types:
                for order in made.orders:
                    for k in each.counts:
                        which = {"noise": made.noise, "type": kind, "k": k, "order": order}
                        errors = each.noise(kind, order, k, made.noise)
                        rows.append(row(keys | which, "error under noise", rate(errors)))
        for number, (regions, radius) in enumerate(each.settings):
            for colour in COLOURS:
                for order in ORDERS:
                    which = {
                        "squares": f"{regions} of radius {radius}",
                        "colour": colour,
                        "order": order,
                    }
                    errors = rate(each.occlusion(number, colour, order))
                    rows.append(row(keys | which, "error under occlusion", errors))
        return rows

    def _published(self, eps: str, over: str) -> float | None:
        if self.published is None or eps not in published.EPS:
            return None
        return published.GINI[(*self.published, over)][list(published.EPS).index(eps)]

    def _headline(self, found: Found) -> str:
        last, robust = _ends(found)[-1]
        ginis = ", ".join(f"{eps} {mean(each.gini()).value:.2f}" for eps, each in found.items())
        noise = " and ".join(
            f"{robust.noise(kind).mean():.1%} of type {kind} (at random {robust.noise(kind, 'random').mean():.1%})"
            for kind in TYPES
        )
        return (
            f"Mean global Gini coefficient of attribution by the size trained for: {ginis}. Noise on the {robust.middle} most "
            f"important values makes the model of {last} wrong on {noise}. "
        )

    def _notes(self, found: Found) -> tuple[str, ...]:
        return (
            "The paper's own figures are of other networks on ImageNet and CIFAR-10; they stand in tables of their own.",
        )


def how(context: Context, found: Found) -> tuple[str, ...]:
    """What holds for all items, in sentences for the report."""
    each = next(iter(found.values()))
    mean_, gaussian = each.examination.fill, each.examination.noises[0]
    levels = ", ".join(f"{value:.3g}" for value in (mean_ if isinstance(mean_, tuple) else ()))
    return (
        f"{len(each):,} test images that all of the models have right, the first of a random order (seed {context.seed}). "
        f"Attribution is that of the true class, against the training images' mean of each channel ({levels}), the paper's zero of "
        "standardised images: against black, dark images would look unequal to any model.",
        f"Noise is the paper's Gaussian one on standardised images ({gaussian.draws} draws, the random values drawn anew in each) "
        "and the authors' uniform one (one draw). Counts and radii are the paper's for 224x224 pixels, scaled; black is an image's "
        "darkest value, white its brightest, gray the channels' mean.",
        "Each search for squares is told beside the same search over random places "
        f"({each.examination.centres} draws): these overlap less and so cover more. A search tries many covers of an image; its "
        "error is that of the worst one.",
        'Errors have 95% Wilson intervals over images, a little too wide where draws are averaged. Gini coefficients: "absolute" '
        'is of sizes, "positive" of values above 0, "net" of sums by region above 0.',
        f"Trained: {trained(found)}.",
    )


def trained(found: Found) -> str:
    """How each model was trained, in a sentence."""
    ways = {each.model: recipe_of(each.model) for each in found.values()}
    return ", ".join(
        f"{name} {way.recipe}, {way.schedule.epochs} epochs" for name, way in ways.items()
    )


def summary(keys: Row, each: Measured) -> Row:
    """A model in a line: errors at the middle count, and under the larger setting of black squares."""
    last = len(each.settings) - 1
    line = keys | columns("accuracy", each.accuracy)
    line |= columns("gini", mean(each.gini())) | columns(
        "regional", mean(each.gini("regional", published.FITS["regional"]))
    )
    for kind in TYPES:
        for column, order in {f"noise_{kind}": "importance", f"random_{kind}": "random"}.items():
            line |= columns(column, rate(each.noise(kind, order)))
    for column, order in {"squares": "importance", "random_squares": "random"}.items():
        line |= columns(column, rate(each.occlusion(last, "black", order)))
    return line | {"n": len(each)}


def size(eps: str) -> float:
    """The number behind the name of a training: 0 for natural training."""
    return 0.0 if eps == "natural" else Threat.parse(f"linf:{eps}").eps


def published_gini() -> list[Row]:
    """Table 1 of the paper."""
    return [
        {
            "data": data,
            "network": network,
            "over": over,
            **dict(zip(published.EPS, values, strict=True)),
        }
        for (data, network, over), values in published.GINI.items()
    ]


def published_occlusion() -> list[Row]:
    """Table 2 of the paper."""
    return [
        {
            "squares": f"{regions} of radius {radius}",
            "colour": colour,
            **dict(zip(published.EPS, values, strict=True)),
        }
        for ((regions, radius), colour), values in published.OCCLUSION.items()
    ]


def _ends(found: Found) -> list[tuple[str, Measured]]:
    every = list(found.items())
    return [every[0], every[-1]]


def _gini(eps: str, each: Measured) -> list[Row]:
    taken = [("global", convention) for convention in CONVENTIONS[:2]] + [
        ("regional", convention) for convention in CONVENTIONS
    ]
    if each.run.claim.data.shape[0] > 1:  # else pixels are sub-pixels
        taken += [("pixels", convention) for convention in CONVENTIONS[::2]]
    return [
        {
            "trained_for": eps,
            "eps": size(eps),
            "over": over,
            "convention": convention,
            "line": f"{over}, {convention}",
            **columns("gini", mean(each.gini(over, convention))),
            "n": len(each),
        }
        for over, convention in taken
    ] + [
        {
            "trained_for": eps,
            "eps": size(eps),
            "over": "global",
            "convention": "absolute, Hoover index",
            "line": "Hoover index, global, absolute",
            **columns("gini", mean(each.frame["hoover"].to_numpy())),
            "n": len(each),
        }
    ]


def _noise(eps: str, each: Measured, kind: str) -> list[Row]:
    return [
        {
            "model": f"{eps}, {order}",
            "k": k,
            **columns("error", rate(each.noise(kind, order, k))),
            "n": len(each),
        }
        for order in ORDERS
        for k in each.counts
    ]


def _occlusion(eps: str, each: Measured) -> list[Row]:
    return [
        {
            "trained_for": eps,
            "squares": f"{regions} of radius {radius}",
            "colour": colour,
            "order": order,
            **columns("error", rate(each.occlusion(number, colour, order))),
            **columns("median_covered", median(each.occlusion(number, colour, order, "covered"))),
            "n": len(each),
        }
        for number, (regions, radius) in enumerate(each.settings)
        for colour in COLOURS
        for order in ORDERS
    ]


def _by_size(eps: str, each: Measured, number: int) -> list[Row]:
    return [
        {
            "line": f"{colour}, {order}",
            "eps": size(eps),
            **columns("error", rate(each.occlusion(number, colour, order))),
        }
        for order in COMPARED
        for colour in COLOURS
    ]


def _lorenz(eps: str, each: Measured) -> list[Row]:
    curve = each.frame["lorenz"].to_numpy().mean(0)
    return [
        {"trained_for": eps, "values": step / (len(curve) - 1), "evidence": round(float(share), 6)}
        for step, share in enumerate(curve)
    ]
