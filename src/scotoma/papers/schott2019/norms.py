"""Six models in three norms: distances and accuracies, and the lower bound estimated for ABS."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from scotoma.certificates.synthesis import lower_bounds
from scotoma.claim import Threat
from scotoma.execution.records import is_correct
from scotoma.execution.run import Run
from scotoma.models.synthesis import TOGETHER, inside
from scotoma.papers.checks import Check
from scotoma.papers.figures import bars, curve
from scotoma.papers.item import Comparison, Context, agreement, cells, lines, ours, row
from scotoma.papers.schott2019 import MODELS, authors, drawn, published
from scotoma.probes.norms import figures as drawing
from scotoma.probes.norms import probe
from scotoma.probes.norms.analysis import MISLED, NormAnalysis, Tried
from scotoma.probes.norms.figures import amount
from scotoma.probes.norms.gradients import Gradients
from scotoma.results.finding import Boxes, Figure, Finding, Gallery, Row
from scotoma.utils.stats import Rate, finite, mean, median, rate
from scotoma.utils.text import norm_name

QUERIES = 2000
"""Queries of decision-based attacks for an image."""
FEWER = 250
"""Queries on analysis by synthesis, each forward pass of which is a search."""
SCORED = 8
"""Images attacked by scores: a gradient takes 1,568 forward passes."""
POINTS = 40
FAR = {"l0": 50.0, "l2": 4.0, "linf": 0.5}
"""Largest distance of the curves."""
SHOWN = 4
RULE = "the 95% interval of the share of images on which it is so lies above a half"
BOUNDED, TRAINED = "ABS", "Madry et al."
LINE = "ABS, estimated lower bound"
ENDS = ("published_low", "published_high")


@dataclass(frozen=True)
class Measured:
    """A model's measurements by norm, on images that are the same for all models."""

    run: Run
    readings: dict[str, NormAnalysis]
    gradients: Gradients
    queries: int
    own: dict[str, tuple[Tried, ...]] = field(default_factory=dict)
    """the authors' own attacks by norm, if they were run; their distances count"""
    scored: dict[str, tuple[Tried, ...]] = field(default_factory=dict)
    """the same by scores, on fewer images"""

    @property
    def correct(self) -> np.ndarray:
        """Which images are classified correctly before any attack, bool (n,)."""
        return next(iter(self.readings.values())).correct

    @property
    def index(self) -> np.ndarray:
        """Numbers of the test images, (n,)."""
        return self.readings["l2"].tried[0].records["index"].to_numpy()


Models = dict[str, Measured]
"""Measurements by the paper's names of the models."""


def measure(context: Context, model: str) -> Measured:
    """Attack a reference model with everything that the norms probe tries."""
    run = drawn(context, model)
    queries = FEWER if inside(run.claim.model.module) is not None else QUERIES
    norms = probe.Norms(bounds=tuple(published.BOUNDS.values()), queries=queries)
    readings, gradients = norms.readings(run.claim, run)
    return Measured(run, readings, gradients, queries)


def measure_with_authors(context: Context, model: str) -> Measured:
    """Attack a model with the authors' own attacks too, on a few images by its scores alone."""
    each, source = measure(context, model), context.model(authors.SUBSTITUTE)
    own = {norm: authors.tried(each.run, norm, each.gradients, source) for norm in authors.FARTHEST}
    scored = {"l2": authors.scored(drawn(context, model, SCORED), "l2")}
    more = {norm: authors.joined(each.readings[norm], tried) for norm, tried in own.items()}
    return replace(each, readings=each.readings | more, own=own, scored=scored)


def further(claim: str, norm: str, model: str, other: str, models: Models) -> Check:
    """Check that a model's distances are larger on most images on which the two differ."""
    a, b = (models[name].readings[norm].nearest for name in (model, other))
    return _mostly(claim, norm, model, other, rate(np.greater(a, b)[a != b]))


def _mostly(claim: str, norm: str, model: str, against: str | None, share: Rate) -> Check:
    line = cells(norm=norm, model=model, against=against, share=share, n=share.n)
    return Check(claim, line, bool(share.low > MISLED), bool(share.high < MISLED))


def compare(models: Models) -> list[Check]:
    """Return the paper's claims: a generative model is most robust, and training in one norm
    carries over to no other."""
    claim, checks = "{} is more robust than models that do not generate", []
    others = [name for name in models if "ABS" not in name]
    for norm, best in {"l2": "ABS", "l0": "ABS", "linf": "Binary ABS"}.items():
        if best in models:
            checks += [further(claim.format(best), norm, best, other, models) for other in others]
    claim = "PGD training in L-inf lets fewer pixels fool a model than natural training"
    checks.append(further(claim, "l0", "CNN", TRAINED, models))
    claim = "decision-based attacks come clearly nearer than {} after PGD training"
    trained = models[TRAINED]
    for norm in ("l2", "l0"):
        nearer = trained.readings[norm].decision_nearer
        if nearer is not None:
            checks.append(_mostly(claim.format("gradient-based ones"), norm, TRAINED, None, nearer))
    for by, tried in {"gradients": trained.own, "scores": trained.scored}.items():
        if tried:
            which = [e for e in tried["l2"] if e.gradient != authors.TRANSFERRED]
            nearer = authors.decisions_nearer(trained.readings["l2"], tuple(which))
            said = claim.format(f"the authors' attacks by {by} (FGSM, BIM, DeepFool)")
            checks.append(_mostly(said, "l2", TRAINED, None, nearer))
    return checks


class Norms(Comparison):
    """Six models of MNIST, three norms, attacks of every kind, the minimum over them by image."""

    title = "Six models of MNIST in three norms"
    source = "Schott et al. 2019, section 6"
    trainings = MODELS
    attacked = staticmethod(measure)

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = self.each(context, self.attacked)
        rows, (arrays, galleries) = lines(models, _rows), examples(models)
        figures = [figure for norm in published.BOUNDS for figure in _figures(norm)]
        tables = {"attacks": lines(models, _attacks)}
        if any(each.scored for each in models.values()):
            tables["scores"] = lines(models, _scores)
        for norm in published.BOUNDS:
            tables[f"medians_{norm}"] = lines(models, partial(_medians, norm=norm))
            tables[f"curve_{norm}"] = lines(models, partial(_curve, norm=norm))
        finding = self.finding(
            compare(models),
            f"Median distances over all attacks: in L2 {_sizes(models, 'l2')}; in L-inf "
            f"{_sizes(models, 'linf')}; in pixels {_sizes(models, 'l0')}.",
            *_notes(context, models),
            rule=RULE,
            numbers={"n": len(models[TRAINED].correct), **agreement(rows)},
            summary=lines(models, _summary),
            tables=tables,
            figures=(*figures, *galleries),
            images=arrays,
        )
        return rows, finding


class FastNorms(Norms):
    """The four models whose passes are quick: more images in the same time."""

    title = "Four models of MNIST in three norms"
    trainings = {name: model for name, model in MODELS.items() if "ABS" not in name}


class AuthorsNorms(Norms):
    """Networks before and after PGD training, with the authors' own attacks."""

    title = "A naturally trained and a PGD-trained network, with the authors' attacks"
    trainings = {name: MODELS[name] for name in ("CNN", TRAINED)}
    attacked = staticmethod(measure_with_authors)


def _rows(model: str, each: Measured) -> list[Row]:
    """Return a model's numbers over all attacks, beside the paper's."""
    rows = [row({"model": model, "norm": None}, "clean accuracy", rate(each.correct))]
    for norm, read in each.readings.items():
        printed, keys = published.CURVES[norm][model], {"model": model, "norm": norm}
        at = f"accuracy at {amount(read.bound)}"
        rows.append(row(keys, "median distance", median(read.nearest), printed.median))
        rows.append(row(keys, at, read.accuracy(), printed.accuracy))
    return rows


def _summary(model: str, each: Measured) -> Row:
    line: Row = {"model": model, "clean": finite(rate(each.correct).value)}
    for norm, read in each.readings.items():
        printed = published.CURVES[norm][model]
        for name, value in {"median": read.median, "accuracy": read.accuracy().value}.items():
            line |= {f"{name}_{norm}": finite(value)}
            line |= {f"{name}_{norm}_published": getattr(printed, name)}
    return line | {"n": len(each.correct)}


def _attacks(model: str, each: Measured) -> list[Row]:
    """Return each attack's median, accuracy, and share of the smallest distances."""
    return [
        cells(
            model=model,
            norm=norm,
            attack=tried.name,
            kind=tried.kind,
            gradient=tried.gradient,
            median=finite(median(distances).value),
            accuracy=read.accuracy(distances),
            found_minimum=finite(rate(read.finder[read.broken] == number).value),
            n=len(distances),
        )
        for norm, read in each.readings.items()
        for number, (tried, distances) in enumerate(zip(read.tried, read.distances, strict=True))
    ]


def _scores(model: str, each: Measured) -> list[Row]:
    """Return medians of the authors' attacks by scores and by gradients, on the same images."""
    rows = []
    for norm, tried in each.scored.items():
        index = tried[0].records.select("index")
        for by in (*each.own[norm], *tried):
            records = index.join(by.records, on="index", maintain_order="left")
            distances = np.where(is_correct(records), records[norm].to_numpy(), 0.0)
            line = cells(model=model, norm=norm, attack=by.name, median=median(distances))
            rows.append(line | {"n": len(distances)})
    return rows


def _medians(model: str, each: Measured, norm: str) -> Row:
    printed, none = published.CURVES[norm][model].median, dict.fromkeys(ENDS)
    return cells(model=model, median=median(each.readings[norm].nearest), published=printed, **none)


def _curve(model: str, each: Measured, norm: str) -> list[Row]:
    sizes, read = np.linspace(0, FAR[norm], POINTS + 1), each.readings[norm]
    return [
        cells(model=model, distance=finite(size), accuracy=read.accuracy(size=size))
        for size in (np.unique(sizes.round()) if norm == "l0" else sizes).tolist()
    ]


def _figures(norm: str) -> tuple[Figure, Figure]:
    name, bound = norm_name(norm), published.BOUNDS[norm]
    distance = "changed pixels" if norm == "l0" else f"{name} distance"
    falling = (
        "Share of test images that are classified correctly under every perturbation that an "
        f"attack made, against its {name} size."
    )
    medians = (
        f"Median {name} distance of the nearest adversarial image over all attacks, with 95% "
        "intervals, beside the published one."
    )
    series = {"ours": "median", "published": "published"}
    plain = {"interval": False, "marks": {"bound": bound.eps}}
    labels, table = (distance, "accuracy"), f"medians_{norm}"
    return (
        curve(f"curve_{norm}", falling, "distance", "accuracy", "model", labels, **plain),
        bars(table, medians, series, f"median: {distance}", table=table, rates=False),
    )


def _sizes(models: Models, norm: str) -> str:
    medians = {model: each.readings[norm].median for model, each in models.items()}
    said = (f"{m} {v:.3g}" if np.isfinite(v) else f"{m} not reached" for m, v in medians.items())
    return ", ".join(said)


def _notes(context: Context, models: Models) -> tuple[str, ...]:
    slow = [name for name, each in models.items() if inside(each.run.claim.model.module)]
    numbers = sorted({each.queries for each in models.values()})
    on = {n: ", ".join(m for m, each in models.items() if each.queries == n) for n in numbers}
    queries = " and ".join(f"{n:,} on {names}" for n, names in on.items())
    notes = [
        f"{len(models[TRAINED].correct):,} test images drawn at random (seed {context.seed}), the "
        "same for every model. The distance of an image is the smallest over the attacks of a "
        "norm: 0 if the model misclassifies the image itself, infinite if no attack succeeded. "
        "Accuracies are shares of all images.",
        f"Decision-based attacks whose number of queries can be set had {queries.rstrip('.')}, "
        "for each image.",
        "The published numbers are those of the authors' curves, over their own attacks. Some of "
        "ours are stronger, so a smaller distance than theirs does not mean that the model "
        "differs. The table of attacks says how many of the minima are each attack's.",
    ]
    if any(each.own for each in models.values()):
        notes.append(
            "Attacks named FGSM, BIM, DeepFool and MIM are the authors', at growing sizes and with "
            f"bisection: by the model's gradients, from {authors.SUBSTITUTE} "
            f"({authors.TRANSFERRED}), and by differences of its scores along every pixel "
            f"({authors.ESTIMATED}), these in L2 on at most {SCORED} images, not in the minima."
        )
    notes += [
        f"{model}: {each.gradients.why}; attacks followed the gradient {each.gradients.name}."
        for model, each in models.items()
        if each.gradients.why
    ]
    trained = "trained by this project on unchanged images; the authors zoom, shear and bend some."
    return tuple(notes + ([f"{' and '.join(slow)}: {trained}"] if slow else []))


def examples(models: Models) -> tuple[dict[str, np.ndarray], list[Gallery]]:
    """Return arrays and galleries by norm: a line for each image, a column for each model.

    The images are classified correctly and broken in every norm by every model. They are spread
    evenly over the mean rank of their distances.
    """
    rows = _chosen(models)
    if not len(rows):
        return {}, []
    first = next(iter(models.values()))
    index = first.index[rows]
    originals = first.run.claim.data.test.images(torch.from_numpy(index)).numpy()
    arrays, galleries = {}, []
    for norm in first.readings:
        name, captions = f"examples_{norm}", []
        reads = [(each.run, each.readings[norm]) for each in models.values()]
        shown = [drawing.images(run, {norm: read}, rows)[:, 1] for run, read in reads]
        for at, line in zip(index.tolist(), rows.tolist(), strict=True):
            captions.append([f"test image {at}"] + [_caption(read, line) for _, read in reads])
        arrays[name] = np.stack([originals, *shown], axis=1)
        caption = f"The nearest adversarial images in {norm_name(norm)} over all attacks."
        galleries.append(Gallery(name, caption, name, ["original", *models], captions))
    return arrays, galleries


def _chosen(models: Models) -> np.ndarray:
    reads = [read for each in models.values() for read in each.readings.values()]
    broken = np.flatnonzero(np.all([read.broken for read in reads], axis=0))
    if not len(broken):
        return broken
    hardness = np.mean([read.nearest[broken].argsort().argsort() for read in reads], axis=0)
    ordered = broken[np.argsort(hardness, kind="stable")]
    places = np.linspace(0, len(ordered) - 1, min(SHOWN, len(ordered)) + 2)
    return ordered[places.round().astype(int)[1:-1]]


def _caption(read: NormAnalysis, line: int) -> str:
    prediction, attack = read.example(line)
    size = amount(Threat(read.bound.norm, float(read.nearest[line])))
    return f"{prediction}, {size}, {attack}"


CLAIM = "no adversarial image of ABS lies nearer than its estimated lower bound"


class Bounds(Comparison):
    """Smallest L2 distances, and the lower bound that the generative model estimates."""

    title = "L2 distances of the nearest adversarial images, and the lower bound estimated for ABS"
    source = "Schott et al. 2019, sections 4 and 6"
    trainings = MODELS

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = self.each(context, measure)
        distances = {paper: each.readings["l2"].nearest for paper, each in models.items()}
        bounded = models[BOUNDED]
        index, correct, lower = bounded.index, bounded.correct, _lower(bounded)
        crossed = rate((distances[BOUNDED] < lower)[correct])
        size, every = mean(lower[correct]), distances | {LINE: np.where(correct, lower, 0.0)}
        table = [
            {"model": line, "index": int(at), "distance": finite(value)}
            for line, values in every.items()
            for at, value in zip(index, values, strict=True)
        ]
        measures = {"mean L2 size": size, "median L2 size": median(lower[correct])}
        measures |= {"images with an adversarial one below it": crossed}
        at = {model: {"median L2 distance": median(d)} for model, d in distances.items()}
        rows = lines(at | {LINE: measures}, lambda model, each: ours({"model": model}, each))
        share = f"{crossed.value:.1%}" if crossed.value else "none"
        caption = (
            "Distance of the nearest adversarial image over all attacks, 0 if the model "
            "misclassifies the image itself; at the right, the lower bound estimated for ABS. "
            "Whiskers reach from the 5th to the 95th percentile."
        )
        boxes = Boxes("boxes", caption, "distances", "model", "distance", "L2 distance")
        bound, below = finite(size.value), finite(crossed.value) or 0
        finding = self.finding(
            [Check(CLAIM, cells(crossed=crossed, n=crossed.n), crossed.value == 0, below > 0)],
            f"The lower bound estimated for ABS is {size.value:.2f} in L2 on average. The median "
            f"distance over all attacks is {median(distances[BOUNDED]).value:.2f}, and {share} of "
            "the images that ABS classifies correctly have an adversarial image below the bound.",
            "The lower bound is an estimate and no certificate: it rests on the nearest image that "
            "each other class can generate, the minimum of a function that is not convex, found by "
            "search. It is over the images that ABS classifies correctly.",
            rule="it has no counterexample, and contradicts if it has one",
            numbers={"n": len(index), "mean_lower_bound": bound, "crossed": below},
            tables={"distances": table},
            figures=(boxes,),
        )
        return rows, finding


def _lower(each: Measured) -> np.ndarray:
    run, bounds = each.run, []
    images = run.claim.data.test.images(torch.tensor(each.index)).to(run.device)
    with run.progress.bar("lower bounds", len(images)) as advance:
        for part in images.split(TOGETHER):
            bounds.append(lower_bounds(run.claim.model.module, part).cpu())
            advance(len(part))
    return torch.cat(bounds).numpy()
