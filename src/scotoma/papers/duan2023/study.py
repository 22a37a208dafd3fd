"""Models of one network, trained in L-inf at growing size: the sweeps of three data sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

from scotoma.attribution.colour import COLOURS
from scotoma.attribution.noise import TYPES
from scotoma.attribution.ranking import ORDERS
from scotoma.metrics.inequality import CONVENTIONS
from scotoma.papers.checks import verdict
from scotoma.papers.duan2023 import claims, published
from scotoma.papers.duan2023.claims import squares
from scotoma.papers.duan2023.examination import Measurements, Models, measure
from scotoma.papers.duan2023.pictures import pictures
from scotoma.papers.figures import Drawing, curve
from scotoma.papers.item import Comparison, Context, cells, flat, lines, listed, ours, row
from scotoma.reference import SEEDED, recipe_of
from scotoma.results.finding import Finding, Row
from scotoma.threat import Threat
from scotoma.utils.stats import Rate, mean, median, rate

COMPARED = ("importance", "random")
"""Orders in which a claim compares values or places."""
REGIONAL = [*product(["regional"], CONVENTIONS)]
KEYS = ("noise", "type", "k", "squares", "colour", "order", "convention")


class Study(Comparison):
    """Models by the size trained for, natural training first, and the paper's claims about them."""

    printed: tuple[str, str] | None = None
    """Data and network of `published.GINI`, if ours are the same data and sizes."""
    notes: tuple[str, ...] = ()
    """Sentences on the published numbers."""

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = measure(context, self.trainings)
        covers = {(_setting(s), colour): v for (s, colour), v in published.OCCLUSION.items()}
        return self.finding(
            lines(models, self._rows),
            claims.of_sweep(models),
            _headline(models),
            *how(context, models),
            *self.notes,
            numbers={"n": len(models["natural"])},
            summary=lines(models, lambda eps, each: cells(model=eps, **summary(each))),
            tables={
                "odds": lines(models, _odds),
                "occlusion": lines(models, _occlusion),
                "published_gini": _published_rows(("data", "network", "over"), published.GINI),
                "published_occlusion": _published_rows(("squares", "colour"), covers),
            },
            figures=[*_curves(models), *pictures(models)],
        )

    def _rows(self, eps: str, each: Measurements) -> list[Row]:
        keys: Row = {"trained for": eps, **dict.fromkeys(KEYS)}
        rows = [row(keys, "clean accuracy, all test images", each.accuracy)]
        for over, convention in [*product(["global"], CONVENTIONS[:2]), *REGIONAL]:
            cell, fits = {"convention": convention}, published.FITS[over] == convention
            printed = self._published(eps, over) if fits else None
            gini = mean(each.gini(over, convention))
            rows.append(row(keys | cell, f"{over} Gini", gini, printed))
        for noise in each.examination.noises:
            for kind, order, k in product(noise.types, noise.orders, each.counts):
                cell = {"noise": noise.noise, "type": kind, "k": k, "order": order}
                errors = rate(each.noise(kind, order, k, noise.noise))
                rows.append(row(keys | cell, "error under noise", errors))
        for (number, setting), colour, order in _covers(each):
            cell = {"squares": _setting(setting), "colour": colour, "order": order}
            errors = rate(each.occlusion(number, colour, order))
            rows.append(row(keys | cell, "error under occlusion", errors))
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
        results = self.each(context, measure)
        checks = {seed: claims.of_sweep(models) for seed, models in results.items()}
        pairs = flat(results)
        pooled = [{check.outcome for check in same} for same in zip(*checks.values(), strict=True)]
        alike = sum(len(outcomes) == 1 for outcomes in pooled)
        mixed = sum({"agrees", "contradicts"} <= outcomes for outcomes in pooled)
        verdicts = {seed: verdict(of_seed) for seed, of_seed in checks.items()}
        return self.finding(
            lines(pairs, self._rows),
            [
                replace(check, cells={"seed": seed} | check.cells)
                for seed, of_seed in checks.items()
                for check in of_seed
            ],
            f"In sum: {listed(verdicts, '{}')}. {alike} of {len(pooled)} comparisons have the same "
            f"outcome for all seeds, and {mixed} agree for one and contradict for another.",
            *how(context, next(iter(results.values()))),
            numbers={"comparisons": len(pooled), "alike": alike, "turned": mixed},
            summary=lines(pairs, lambda key, m: cells(model=", ".join(key), **summary(m))),
        )

    @staticmethod
    def _rows(key: tuple[str, str], each: Measurements) -> list[Row]:
        keys: Row = dict(zip(("seed", "trained for"), key, strict=True))
        regional = mean(each.gini("regional", published.FITS["regional"]))
        return ours(keys, {"global Gini": mean(each.gini()), "regional Gini": regional})


class Mnist(Study):
    """MNIST."""

    title = "Inequality of attribution on MNIST, by size of L-inf training"
    source = Digits.source
    trainings = {"natural": "mnist-small-natural"} | {
        f"0.{i}": f"mnist-small-pgd-0{i}" for i in (1, 2, 3)
    }


class MnistBelowNoise(Study):
    """MNIST at sizes far below that of the noise, as they are on ImageNet."""

    title = "Inequality of attribution on MNIST, by sizes of training far below the noise"
    source = Digits.source
    trainings = {"natural": "mnist-brief-natural"} | {
        f"0.0{i}": f"mnist-brief-pgd-00{i}" for i in (2, 5)
    }


class Cifar(Study):
    """CIFAR-10, the smaller of the paper's data sets."""

    title = "Inequality of attribution on CIFAR-10, by size of L-inf training"
    source = "Duan et al. 2023, Table 1 (CIFAR-10, ResNet-18), Table 2 and Figures 2 to 4"
    trainings = {"natural": "cifar-natural"} | {f"{i}/255": f"cifar-pgd-{i}" for i in (1, 2, 4)}
    trainings |= {"8/255": "cifar-robust"}
    printed = ("CIFAR-10", "ResNet-18")
    notes = (
        "Published Gini coefficients are those of a ResNet-18, beside the convention that they fit "
        "(our inference); the paper's errors are of ResNet-50 on ImageNet.",
    )


def how(context: Context, models: Models) -> tuple[str, ...]:
    """Return sentences on how every item of the paper was measured."""
    each = next(iter(models.values()))
    setup, plans = each.examination, {m.model: recipe_of(m.model) for m in models.values()}
    texts = {name: f"{p.recipe}, {p.schedule.epochs} epochs" for name, p in plans.items()}
    return (
        f"{len(each):,} test images that all of the models classify correctly, the first of a "
        f"random order (seed {context.seed}). The baseline of attribution is the training images' "
        f"mean of each channel ({', '.join(f'{value:.3g}' for value in setup.fill)}), as in the "
        "paper; counts of values and radii of squares are the paper's, scaled.",
        f"{setup.noises[0].draws} draws of Gaussian noise, one of uniform noise and "
        f"{setup.centres} of random places; where draws are averaged, the intervals of errors are "
        "a little too wide. A search tries many covers of an image; its error is that of the worst "
        "one.",
        f"Training: {listed(texts, '{}')}.",
    )


def summary(each: Measurements) -> Row:
    """Return a model's cells: errors at the middle count, and under the larger black squares."""
    last = len(each.settings) - 1
    regional = mean(each.gini("regional", published.FITS["regional"]))
    over = {"squares": "importance", "random_squares": "random"}
    covered = {name: rate(each.occlusion(last, "black", order)) for name, order in over.items()}
    ginis = {"gini": mean(each.gini()), "regional": regional}
    return cells(accuracy=each.accuracy, **ginis, **noised(each), **covered, n=len(each))


def noised(each: Measurements) -> dict[str, Rate]:
    """Return errors under noise on the middle count of important and random values, by type."""
    orders = {"noise": "importance", "random": "random"}
    by_order = product(TYPES, orders.items())
    return {f"{column}_{kind}": rate(each.noise(kind, order)) for kind, (column, order) in by_order}


def size(eps: str) -> float:
    """Return the size that a model was trained for; 0 for natural training."""
    return 0.0 if eps == "natural" else Threat.parse(f"linf:{eps}").eps


def _published_rows(names: tuple[str, ...], table: Mapping[tuple, tuple[float, ...]]) -> list[Row]:
    """Return a published table by size: a line for each key, whose parts are named."""
    columns = (*names, *published.EPS)
    return [dict(zip(columns, (*key, *line), strict=True)) for key, line in table.items()]


def _setting(setting: tuple[int, int]) -> str:
    return f"{setting[0]} of radius {setting[1]}"


def _headline(models: Models) -> str:
    last, robust = list(models.items())[-1]
    ginis = {eps: mean(each.gini()) for eps, each in models.items()}
    errors = {
        f"type {kind}": [robust.noise(kind, order).mean() for order in COMPARED] for kind in TYPES
    }
    return (
        "Mean global Gini coefficient of attribution by the size trained for: "
        f"{listed(ginis, '{0.value:.2f}')}. Errors of the model of {last} under noise on the "
        f"{robust.middle} most important values (at random): "
        f"{listed(errors, '{0[0]:.1%} ({0[1]:.1%})')}."
    )


def _gini(eps: str, each: Measurements) -> list[Row]:
    conventions = [*product(["global"], CONVENTIONS[:2]), *REGIONAL]
    if each.run.claim.data.shape[0] > 1:  # with one channel, pixels are sub-pixels
        conventions += product(["pixels"], CONVENTIONS[::2])
    values = {(*choice, ", ".join(choice)): each.gini(*choice) for choice in conventions}
    hoover = ("global", "absolute, Hoover index", "Hoover index, global, absolute")
    keys = {"trained_for": eps, "eps": size(eps)}
    return [
        cells(**keys, over=over, convention=convention, line=line, gini=mean(of_each), n=len(each))
        for (over, convention, line), of_each in (values | {hoover: each.column("hoover")}).items()
    ]


def _odds(eps: str, each: Measurements) -> list[Row]:
    """Return odds ratios of errors under noise on important and on random values."""
    rows = []
    for kind, k in product(TYPES, each.counts):
        ratio = claims.odds_ratio(each.noise(kind, k=k), each.noise(kind, "random", k))
        line = {"trained_for": eps, "type": kind, "k": k}
        rows.append(cells(**line, odds_ratio=ratio, n=len(each)))
    return rows


def _covers(each: Measurements) -> Iterator[tuple[tuple[int, tuple[int, int]], str, str]]:
    """Return numbered settings, colours and orders of occlusion."""
    return product(enumerate(each.settings), COLOURS, ORDERS)


def _occlusion(eps: str, each: Measurements) -> list[Row]:
    return [
        cells(
            trained_for=eps,
            squares=_setting(setting),
            colour=colour,
            order=order,
            error=rate(each.occlusion(number, colour, order)),
            median_covered=median(each.occlusion(number, colour, order, "covered")),
            n=len(each),
        )
        for (number, setting), colour, order in _covers(each)
    ]


def _curves(models: Models) -> Iterator[Drawing]:
    each, trained = models["natural"], "eps of training (0: natural)"
    ginis, lorenz = lines(models, _gini), lines(models, _lorenz)
    caption = "Mean Gini coefficient, by what it is taken over and by convention"
    labels = (trained, "Gini coefficient")
    yield curve("gini", caption, ginis, ("eps", "gini", "line"), labels)
    caption = "Mean Lorenz curves of attribution, by absolute value"
    labels = ("share of the values, least important first", "share of the evidence")
    yield curve("lorenz", caption, lorenz, ("values", "evidence", "trained_for"), labels)
    ends = {end: models[end] for end in ("natural", list(models)[-1])}
    for kind in TYPES:
        noise = [
            cells(model=f"{eps}, {order}", k=k, error=rate(m.noise(kind, order, k)), n=len(m))
            for eps, m in ends.items()
            for order, k in product(ORDERS, m.counts)
        ]
        caption = f"Gaussian noise of type {kind}, for the models of {' and '.join(ends)}, by order"
        labels = (f"noised values, of {each.values}", "error")
        yield curve(f"noise_{kind}", caption, noise, ("k", "error", "model"), labels)
    for number, setting in enumerate(each.settings):
        cover = [
            cells(line=f"{c}, {order}", eps=size(eps), error=rate(m.occlusion(number, c, order)))
            for eps, m in models.items()
            for order, c in product(COMPARED, COLOURS)
        ]
        caption = f"{squares(*setting).capitalize()} over important and over random places"
        columns = ("eps", "error", "line")
        yield curve(f"occlusion_{number}", caption, cover, columns, (trained, "error"))


def _lorenz(eps: str, each: Measurements) -> list[Row]:
    shares = each.column("lorenz").mean(0)
    return [
        {"trained_for": eps, "values": step / (len(shares) - 1), "evidence": round(float(share), 6)}
        for step, share in enumerate(shares)
    ]
