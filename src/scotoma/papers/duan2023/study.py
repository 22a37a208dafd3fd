"""Models of one network, trained in L-inf at growing size: the sweeps of three data sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from itertools import product

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.attribution.ranking import ORDERS
from scotoma.claim import Threat
from scotoma.metrics.inequality import CONVENTIONS
from scotoma.papers.checks import verdict
from scotoma.papers.duan2023 import claims, published
from scotoma.papers.duan2023.claims import squares
from scotoma.papers.duan2023.examination import Measured, Models, measure
from scotoma.papers.duan2023.pictures import pictures
from scotoma.papers.figures import curve
from scotoma.papers.item import Comparison, Context, agreement, cells, lines, ours, row
from scotoma.reference import SEEDED, recipe_of
from scotoma.results.finding import Curve, Finding, Row
from scotoma.utils.stats import Rate, mean, median, rate

COMPARED = ("importance", "random")
"""Orders in which a claim compares values or places."""
KEYS = ("noise", "type", "k", "squares", "colour", "order", "convention")


class Study(Comparison):
    """Models by the size trained for, natural training first, and the paper's claims about them."""

    printed: tuple[str, str] | None = None
    """Data and network of `published.GINI`, if ours are the same data and sizes."""
    note = (
        "The paper's own numbers are of other networks on ImageNet and CIFAR-10; they have tables "
        "of their own."
    )

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = measure(context, self.trainings)
        checks, (arrays, galleries) = claims.of_sweep(models), pictures(models)
        rows, ends = lines(models, self._rows), {end: models[end] for end in claims.ends(models)}
        covers = {(_setting(at), colour): v for (at, colour), v in published.OCCLUSION.items()}
        finding = self.finding(
            checks,
            _headline(models),
            *how(context, models),
            self.note,
            numbers={"n": len(next(iter(models.values()))), **agreement(rows)},
            summary=lines(models, lambda eps, each: cells(model=eps, **summary(each))),
            tables={
                "gini": lines(models, _gini),
                **{f"noise_{kind}": lines(ends, partial(_noise, kind=kind)) for kind in TYPES},
                "odds": lines(models, _odds),
                "occlusion": lines(models, _occlusion),
                **{f"occlusion_{i}": lines(models, partial(_by_size, number=i)) for i in range(2)},
                "lorenz": lines(models, _lorenz),
                "published_gini": _printed(("data", "network", "over"), published.GINI),
                "published_occlusion": _printed(("squares", "colour"), covers),
            },
            figures=(*_figures(models), *galleries),
            images=arrays,
        )
        return rows, finding

    def _rows(self, eps: str, each: Measured) -> list[Row]:
        keys: Row = {"trained for": eps, **dict.fromkeys(KEYS)}
        rows = [row(keys, "clean accuracy, all test images", each.accuracy)]
        for over, used in {"global": CONVENTIONS[:2], "regional": CONVENTIONS}.items():
            for convention in used:
                gini, which = mean(each.gini(over, convention)), {"convention": convention}
                fits = published.FITS[over] == convention
                printed = self._published(eps, over) if fits else None
                rows.append(row(keys | which, f"{over} Gini", gini, printed))
        for made in each.examination.noises:
            for kind, order, k in product(made.types, made.orders, each.counts):
                which = {"noise": made.noise, "type": kind, "k": k, "order": order}
                errors = rate(each.noise(kind, order, k, made.noise))
                rows.append(row(keys | which, "error under noise", errors))
        for number, colour, order in product(range(len(each.settings)), COLOURS, ORDERS):
            which = {"squares": _setting(each.settings[number]), "colour": colour, "order": order}
            errors = rate(each.occlusion(number, colour, order))
            rows.append(row(keys | which, "error under occlusion", errors))
        return rows

    def _published(self, eps: str, over: str) -> float | None:
        if self.printed is None or eps not in published.EPS:
            return None
        return published.GINI[(*self.printed, over)][list(published.EPS).index(eps)]


class Digits(Study):
    """The embedded digits, 8x8: every claim in minutes, on far smaller images than the paper's."""

    title = "Inequality of attribution on the embedded digits, by size of L-inf training"
    source = "Duan et al. 2023, Tables 1 and 2 and Figures 2 to 4, on other data"
    trainings = {"natural": "digits-natural"} | {f"0.{i}": f"digits-pgd-0{i}" for i in (1, 2, 3)}


class Seeds(Comparison):
    """The claims on the digits by the seed of the training."""

    title = "Inequality of attribution on the embedded digits, by seed of the training"
    source = Digits.source
    trainings = {
        f"seed {seed}": {eps: f"{model}{end}" for eps, model in Digits.trainings.items()}
        for seed, end in SEEDED.items()
    }
    """Reference models by seed and size."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        measured = self.each(context, measure)
        each = {seed: claims.of_sweep(models) for seed, models in measured.items()}
        every = {(seed, eps): m for seed, of in measured.items() for eps, m in of.items()}
        checks = [
            replace(check, cells={"seed": seed} | check.cells)
            for seed, of in each.items()
            for check in of
        ]
        together = [{check.outcome for check in same} for same in zip(*each.values(), strict=True)]
        alike = sum(len(outcomes) == 1 for outcomes in together)
        turned = sum({"agrees", "contradicts"} <= outcomes for outcomes in together)
        sums = ", ".join(f"{seed} {verdict(of)}" for seed, of in each.items())
        return lines(every, self._rows), self.finding(
            checks,
            f"In sum: {sums}. {alike} of {len(together)} comparisons have the same outcome for "
            f"all seeds, and {turned} agree for one and contradict for another.",
            *how(context, next(iter(measured.values()))),
            numbers={"comparisons": len(together), "alike": alike, "turned": turned},
            summary=lines(every, lambda at, m: cells(model=", ".join(at), **summary(m))),
        )

    @staticmethod
    def _rows(at: tuple[str, str], each: Measured) -> list[Row]:
        keys: Row = dict(zip(("seed", "trained for"), at, strict=True))
        regional = mean(each.gini("regional", published.FITS["regional"]))
        return ours(keys, {"global Gini": mean(each.gini()), "regional Gini": regional})


class Mnist(Study):
    """MNIST."""

    title = "Inequality of attribution on MNIST, by size of L-inf training"
    source = Digits.source
    trainings = {"natural": "mnist-small-natural"}
    trainings |= {f"0.{i}": f"mnist-small-pgd-0{i}" for i in (1, 2, 3)}


class MnistBelowNoise(Study):
    """MNIST at sizes far below that of the noise, as they are on ImageNet."""

    title = "Inequality of attribution on MNIST, by sizes of training far below the noise"
    source = Digits.source
    trainings = {"natural": "mnist-brief-natural"}
    trainings |= {f"0.0{i}": f"mnist-brief-pgd-00{i}" for i in (2, 5)}


class Cifar(Study):
    """CIFAR-10, the smaller of the paper's data sets."""

    title = "Inequality of attribution on CIFAR-10, by size of L-inf training"
    source = "Duan et al. 2023, Table 1 (CIFAR-10, ResNet-18), Table 2 and Figures 2 to 4"
    trainings = {"natural": "cifar-natural"} | {f"{i}/255": f"cifar-pgd-{i}" for i in (1, 2, 4)}
    trainings |= {"8/255": "cifar-robust"}
    printed = ("CIFAR-10", "ResNet-18")
    note = (
        "Published Gini coefficients are those of a ResNet-18, ours of a smaller residual network. "
        "They are beside the convention that they fit: absolute values for global ones, sums by "
        "region above 0 for regional ones (our inference). The paper's errors are of ResNet-50 on "
        "ImageNet and have a table of their own."
    )


def how(context: Context, models: Models) -> tuple[str, ...]:
    """Return sentences on how every item of the paper was measured."""
    each = next(iter(models.values()))
    fill, gaussian = each.examination.fill, each.examination.noises[0]
    levels = ", ".join(f"{value:.3g}" for value in (fill if isinstance(fill, tuple) else ()))
    trained = {e.model: recipe_of(e.model) for e in models.values()}
    ways = (f"{name} {way.recipe}, {way.schedule.epochs} epochs" for name, way in trained.items())
    return (
        f"{len(each):,} test images that all of the models classify correctly, the first of a "
        f"random order (seed {context.seed}). Attribution is of the true class, with the training "
        f"images' mean of each channel ({levels}) as baseline, which is the paper's zero of "
        "standardised images. With black as baseline, dark images would look unequal to any model.",
        f"Noise is the paper's Gaussian noise on standardised images ({gaussian.draws} draws, with "
        "other random values in each) and the authors' uniform noise (one draw). Counts and radii "
        "are the paper's for 224x224 pixels, scaled. Black is an image's darkest value, white its "
        "brightest, gray the channels' mean.",
        "Each search for squares is compared with the same search over random places "
        f"({each.examination.centres} draws), which overlap less and so cover more. A search tries "
        "many covers of an image; its error is that of the worst one.",
        "Errors have 95% Wilson intervals over images, which are a little too wide where draws are "
        'averaged. Gini coefficients: "absolute" is of absolute values, "positive" of values above '
        '0, "net" of sums by region above 0.',
        f"Training: {', '.join(ways)}.",
    )


def summary(each: Measured) -> Row:
    """Return a model's cells: errors at the middle count, and under the larger black squares."""
    last = len(each.settings) - 1
    regional = mean(each.gini("regional", published.FITS["regional"]))
    over = {"squares": "importance", "random_squares": "random"}
    covered = {name: rate(each.occlusion(last, "black", order)) for name, order in over.items()}
    ginis = {"gini": mean(each.gini()), "regional": regional}
    return cells(accuracy=each.accuracy, **ginis, **noised(each), **covered, n=len(each))


def noised(each: Measured) -> dict[str, Rate]:
    """Return errors under noise on the middle count of important and random values, by type."""
    orders = {"noise": "importance", "random": "random"}
    named = product(TYPES, orders.items())
    return {f"{column}_{kind}": rate(each.noise(kind, order)) for kind, (column, order) in named}


def size(eps: str) -> float:
    """Return the size that a model was trained for; 0 for natural training."""
    return 0.0 if eps == "natural" else Threat.parse(f"linf:{eps}").eps


def _printed(names: tuple[str, ...], table: Mapping[tuple, tuple[float, ...]]) -> list[Row]:
    """Return a published table by size: a line for each key, whose parts are named."""
    columns = (*names, *published.EPS)
    return [dict(zip(columns, (*at, *line), strict=True)) for at, line in table.items()]


def _setting(setting: tuple[int, int]) -> str:
    return f"{setting[0]} of radius {setting[1]}"


def _headline(models: Models) -> str:
    last, robust = list(models.items())[-1]
    ginis = ", ".join(f"{eps} {mean(each.gini()).value:.2f}" for eps, each in models.items())
    errors = {kind: [robust.noise(kind, order).mean() for order in COMPARED] for kind in TYPES}
    noise = (f"{a:.1%} with type {kind} (at random {b:.1%})" for kind, (a, b) in errors.items())
    return (
        f"Mean global Gini coefficient of attribution by the size trained for: {ginis}. Errors of "
        f"the model of {last} under noise on the {robust.middle} most important values: "
        f"{' and '.join(noise)}."
    )


def _gini(eps: str, each: Measured) -> list[Row]:
    shown = [*product(["global"], CONVENTIONS[:2]), *product(["regional"], CONVENTIONS)]
    if each.run.claim.data.shape[0] > 1:  # with one channel, pixels are sub-pixels
        shown += product(["pixels"], CONVENTIONS[::2])
    values = {(*at, ", ".join(at)): each.gini(*at) for at in shown}
    hoover = ("global", "absolute, Hoover index", "Hoover index, global, absolute")
    keys = {"trained_for": eps, "eps": size(eps)}
    return [
        cells(**keys, over=over, convention=named, line=line, gini=mean(of_each), n=len(each))
        for (over, named, line), of_each in (values | {hoover: each.column("hoover")}).items()
    ]


def _noise(eps: str, each: Measured, kind: str) -> list[Row]:
    return [
        cells(model=f"{eps}, {order}", k=k, error=rate(each.noise(kind, order, k)), n=len(each))
        for order, k in product(ORDERS, each.counts)
    ]


def _odds(eps: str, each: Measured) -> list[Row]:
    """Return odds ratios of errors under noise on important and on random values."""
    made = []
    for kind, k in product(TYPES, each.counts):
        ratio = claims.odds_ratio(each.noise(kind, k=k), each.noise(kind, "random", k))
        line = {"trained_for": eps, "type": kind, "k": k}
        made.append(cells(**line, odds_ratio=ratio, n=len(each)))
    return made


def _occlusion(eps: str, each: Measured) -> list[Row]:
    return [
        cells(trained_for=eps, squares=_setting(setting), colour=colour, order=order)
        | cells(error=rate(each.occlusion(number, colour, order)))
        | cells(median_covered=median(each.occlusion(number, colour, order, "covered")))
        | {"n": len(each)}
        for (number, setting), colour, order in product(enumerate(each.settings), COLOURS, ORDERS)
    ]


def _by_size(eps: str, each: Measured, number: int) -> list[Row]:
    errors = {(c, order): each.occlusion(number, c, order) for order in COMPARED for c in COLOURS}
    return [cells(line=", ".join(at), eps=size(eps), error=rate(e)) for at, e in errors.items()]


def _lorenz(eps: str, each: Measured) -> list[Row]:
    shares = each.column("lorenz").mean(0)
    return [
        {"trained_for": eps, "values": step / (len(shares) - 1), "evidence": round(float(share), 6)}
        for step, share in enumerate(shares)
    ]


def _figures(models: Models) -> list[Curve]:
    (first, last), each = claims.ends(models), next(iter(models.values()))
    eps = "eps of training"
    gini = (
        "Mean Gini coefficient of attribution against the size of the perturbations trained for, "
        "by what it is taken over and by convention, with 95% intervals. 0 is natural training."
    )
    lorenz = (
        "Mean Lorenz curves: the share of all evidence, by absolute value, that the least "
        "important values have together."
    )
    axes = ("share of the values, least important first", "share of the evidence")
    figures = [
        curve("gini", gini, "eps", "gini", "line", (eps, "Gini coefficient")),
        curve("lorenz", lorenz, "values", "evidence", "trained_for", axes, interval=False),
    ]
    for kind in TYPES:
        caption = (
            f"Error under Gaussian noise of type {kind} against the number of noised values, for "
            f"the models of {first} and {last}: the most important values, random ones, and the "
            "least important."
        )
        axes = (f"noised values, of {each.values}", "error")
        figures.append(curve(f"noise_{kind}", caption, "k", "error", "model", axes))
    for number, setting in enumerate(each.settings):
        caption = (
            f"Error under {squares(*setting)} over important and over random places, against the "
            "size trained for."
        )
        name = f"occlusion_{number}"
        figures.append(curve(name, caption, "eps", "error", "line", (eps, "error")))
    return figures
