"""Six models in three norms: distances and accuracies, and the lower bound estimated for ABS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from scotoma.certificates.synthesis import lower_bounds
from scotoma.execution.records import is_correct
from scotoma.execution.run import Run
from scotoma.models.synthesis import TOGETHER, inside
from scotoma.papers.checks import Check
from scotoma.papers.figures import Drawing, bars, curve, gallery
from scotoma.papers.item import Comparison, Context, cells, lines, listed, ours, row
from scotoma.papers.schott2019 import MODELS, authors, published
from scotoma.probes.norms import figures as drawing
from scotoma.probes.norms import probe
from scotoma.probes.norms.analysis import MISLED, AttackRecords, NormAnalysis
from scotoma.probes.norms.figures import amount
from scotoma.probes.norms.gradients import Gradients
from scotoma.probes.norms.report import attacks
from scotoma.results.finding import Boxes, Finding, Row
from scotoma.threat import Threat
from scotoma.utils.stats import Rate, finite, mean, median, rate
from scotoma.utils.text import norm_name

IMAGES = 1000
"""Test images that are attacked, as many as in the paper's curves."""
QUERIES, FEWER = 2000, 250
"""Queries of decision-based attacks for an image; fewer on analysis by synthesis, each forward pass
of which is a search."""
SCORED = 8
"""Images attacked by scores: a gradient takes 1,568 forward passes."""
POINTS, FAR = 40, {"l0": 50.0, "l2": 4.0, "linf": 0.5}
"""Points of the curves, and their largest distances."""
SHOWN = 4
RULE = "the 95% interval of the share of images on which it is so lies above a half"
BOUNDED, TRAINED = "ABS", "Madry et al."
LINE = "ABS, estimated lower bound"


@dataclass(frozen=True)
class Measurements:
    """A model's measurements by norm, on images that are the same for all models."""

    run: Run
    readings: dict[str, NormAnalysis]
    gradients: Gradients
    queries: int
    by_gradients: dict[str, tuple[AttackRecords, ...]] = field(default_factory=dict)
    """the authors' own attacks by norm, if they were run; their distances count"""
    by_scores: dict[str, tuple[AttackRecords, ...]] = field(default_factory=dict)
    """the same by scores, on fewer images"""

    @property
    def correct(self) -> np.ndarray:
        """Which images are classified correctly before any attack, bool (n,)."""
        return next(iter(self.readings.values())).correct

    @property
    def index(self) -> np.ndarray:
        """Numbers of the test images, (n,)."""
        return self.readings["l2"].attacks[0].records["index"].to_numpy()


Models = dict[str, Measurements]
"""Measurements by the paper's names of the models."""


def measure(context: Context, model: str) -> Measurements:
    """Attack a reference model with everything that the norms probe tries."""
    run = context.sample(model, IMAGES)
    queries = FEWER if inside(run.claim.model.module) is not None else QUERIES
    norms = probe.Norms(bounds=tuple(published.BOUNDS.values()), queries=queries)
    readings, gradients = norms.readings(run.claim, run)
    return Measurements(run, readings, gradients, queries)


def measure_with_authors(context: Context, model: str) -> Measurements:
    """Attack a model with the authors' own attacks too, on a few images by its scores alone."""
    each, source = measure(context, model), context.model(authors.SUBSTITUTE)
    gradient = {
        norm: authors.by_gradients(each.run, norm, each.gradients, source)
        for norm in authors.FARTHEST
    }
    scores = {"l2": authors.by_scores(context.sample(model, SCORED, SCORED), "l2")}
    more = {norm: authors.extended(each.readings[norm], own) for norm, own in gradient.items()}
    return replace(each, readings=each.readings | more, by_gradients=gradient, by_scores=scores)


def further(claim: str, norm: str, model: str, other: str, models: Models) -> Check:
    """Check that a model's distances are larger on most images on which the two differ."""
    a, b = (models[name].readings[norm].nearest for name in (model, other))
    return _mostly(claim, norm, model, other, rate(np.greater(a, b)[a != b]))


def _mostly(claim: str, norm: str, model: str, against: str | None, share: Rate) -> Check:
    line = cells(norm=norm, model=model, against=against, share=share, n=share.n)
    return Check(claim, line, bool(share.low > MISLED), bool(share.high < MISLED))


def compare(models: Models) -> Iterator[Check]:
    """Check the paper's claims: a generative model is most robust, and training in one norm
    carries over to no other."""
    for norm, best in {"l2": "ABS", "l0": "ABS", "linf": "Binary ABS"}.items():
        claim = f"{best} is more robust than models that do not generate"
        for other in models if best in models else ():
            if "ABS" not in other:
                yield further(claim, norm, best, other, models)
    claim = "PGD training in L-inf lets fewer pixels fool a model than natural training"
    yield further(claim, "l0", "CNN", TRAINED, models)
    claim = "decision-based attacks come clearly nearer than {} after PGD training"
    trained = models[TRAINED]
    for norm in ("l2", "l0"):
        if (nearer := trained.readings[norm].decision_nearer) is not None:
            yield _mostly(claim.format("gradient-based ones"), norm, TRAINED, None, nearer)
    for kind, records in {"gradients": trained.by_gradients, "scores": trained.by_scores}.items():
        if records:
            gradient_based = tuple(e for e in records["l2"] if e.gradient != authors.TRANSFERRED)
            nearer = authors.decisions_nearer(trained.readings["l2"], gradient_based)
            text = claim.format(f"the authors' attacks by {kind} (FGSM, BIM, DeepFool)")
            yield _mostly(text, "l2", TRAINED, None, nearer)


class Norms(Comparison):
    """Six models of MNIST, three norms, attacks of every kind, the minimum over them by image."""

    title = "Six models of MNIST in three norms"
    source = "Schott et al. 2019, section 6"
    trainings = MODELS
    attacked = staticmethod(measure)

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = self.each(context, self.attacked)
        scores = lines(models, _scores)
        return self.finding(
            lines(models, _rows),
            compare(models),
            f"Median distances over all attacks: in L2 {_medians(models, 'l2')}; in L-inf "
            f"{_medians(models, 'linf')}; in pixels {_medians(models, 'l0')}.",
            *_notes(context, models),
            rule=RULE,
            numbers={"n": len(models[TRAINED].correct)},
            summary=lines(models, _summary),
            tables={"attacks": lines(models, _attacks)} | ({"scores": scores} if scores else {}),
            figures=[
                *(each for norm in published.BOUNDS for each in _figures(models, norm)),
                *examples(models),
            ],
        )


class FastNorms(Norms):
    """The four models whose passes are quick: more images in the same time."""

    title = "Four models of MNIST in three norms"
    trainings = {name: model for name, model in MODELS.items() if "ABS" not in name}


class AuthorsNorms(Norms):
    """Networks before and after PGD training, with the authors' own attacks."""

    title = "A naturally trained and a PGD-trained network, with the authors' attacks"
    trainings = {name: MODELS[name] for name in ("CNN", TRAINED)}
    attacked = staticmethod(measure_with_authors)


def _rows(model: str, each: Measurements) -> list[Row]:
    """Return a model's numbers over all attacks, beside the paper's."""
    rows = [row({"model": model, "norm": None}, "clean accuracy", rate(each.correct))]
    for norm, reading in each.readings.items():
        paper, at_bound = published.CURVES[norm][model], f"accuracy at {amount(reading.bound)}"
        measures = {"median distance": median(reading.nearest), at_bound: reading.accuracy()}
        published_values = {"median distance": paper.median, at_bound: paper.accuracy}
        rows += ours({"model": model, "norm": norm}, measures, published_values)
    return rows


def _summary(model: str, each: Measurements) -> Row:
    line: Row = {"model": model, "clean": finite(rate(each.correct).value)}
    for norm, reading in each.readings.items():
        paper = published.CURVES[norm][model]
        line[f"median_{norm}"] = finite(reading.median)
        line[f"median_{norm}_published"] = paper.median
        line[f"accuracy_{norm}"] = finite(reading.accuracy().value)
        line[f"accuracy_{norm}_published"] = paper.accuracy
    return line | {"n": len(each.correct)}


def _attacks(model: str, each: Measurements) -> list[Row]:
    by_norm = (attacks(reading) for reading in each.readings.values())
    return [{"model": model} | line | {"n": len(each.correct)} for rows in by_norm for line in rows]


def _scores(model: str, each: Measurements) -> list[Row]:
    """Return medians of the authors' attacks by scores and by gradients, on the same images."""
    rows = []
    for norm, by_scores in each.by_scores.items():
        index = by_scores[0].records.select("index")
        for attack in (*each.by_gradients[norm], *by_scores):
            records = index.join(attack.records, on="index", maintain_order="left")
            distances = median(np.where(is_correct(records), records[norm].to_numpy(), 0.0))
            line = {"model": model, "norm": norm, "attack": attack.name}
            rows.append(cells(**line, median=distances, n=len(index)))
    return rows


def _figures(models: Models, norm: str) -> Iterator[Drawing]:
    """Draw accuracy against distance, and the median distances beside the published ones."""
    distance = "changed pixels" if norm == "l0" else f"{norm_name(norm)} distance"
    sizes = np.linspace(0, FAR[norm], POINTS + 1)
    accuracies, medians = [], []
    for model, each in models.items():
        reading, paper = each.readings[norm], published.CURVES[norm][model]
        published_cells = {"published": paper.median, "published_low": None, "published_high": None}
        medians.append(cells(model=model, median=median(reading.nearest), **published_cells))
        for size in (np.unique(sizes.round()) if norm == "l0" else sizes).tolist():
            line = cells(model=model, distance=finite(size), accuracy=reading.accuracy(size=size))
            accuracies.append(line)
    caption, columns = "Accuracy under all attacks", ("distance", "accuracy", "model")
    options = {"interval": False, "marks": {"bound": published.BOUNDS[norm].eps}}
    yield curve(f"curve_{norm}", caption, accuracies, columns, (distance, "accuracy"), **options)
    caption, series = "Median over all attacks", {"ours": "median", "published": "published"}
    yield bars(f"medians_{norm}", caption, series, f"median: {distance}", medians, rates=False)


def examples(models: Models) -> Iterator[Drawing]:
    """Draw nearest adversarial images by norm: a line for each image, a column for each model.

    Every model classifies the images correctly and is fooled on them in every norm. They are
    spread evenly over the mean rank of their distances.
    """
    rows, first = _example_rows(models), next(iter(models.values()))
    index = first.index[rows]
    originals = first.run.claim.data.test.images(torch.from_numpy(index)).numpy()
    titles = [f"test image {number}" for number in index.tolist()]
    for norm in first.readings if len(rows) else ():
        columns = {"original": (originals, titles)}
        for model, each in models.items():
            reading = each.readings[norm]
            nearest = drawing.images(each.run, {norm: reading}, rows)[:, 1]
            columns[model] = nearest, [_caption(reading, line) for line in rows.tolist()]
        caption = f"The nearest adversarial images in {norm_name(norm)} over all attacks."
        yield gallery(f"examples_{norm}", caption, columns)


def _example_rows(models: Models) -> np.ndarray:
    readings = [reading for each in models.values() for reading in each.readings.values()]
    fooled = np.flatnonzero(np.all([reading.fooled for reading in readings], axis=0))
    if not len(fooled):
        return fooled
    ranks = [reading.nearest[fooled].argsort().argsort() for reading in readings]
    hardness = np.mean(ranks, axis=0)
    ranked = fooled[np.argsort(hardness, kind="stable")]
    positions = np.linspace(0, len(ranked) - 1, min(SHOWN, len(ranked)) + 2)
    return ranked[positions.round().astype(int)[1:-1]]


def _caption(reading: NormAnalysis, index: int) -> str:
    prediction, attack = reading.example(index)
    size = amount(Threat(reading.bound.norm, float(reading.nearest[index])))
    return f"{prediction}, {size}, {attack}"


def _medians(models: Models, norm: str) -> str:
    values = {model: each.readings[norm].median for model, each in models.items()}
    return listed(
        {m: f"{v:.3g}" if np.isfinite(v) else "not reached" for m, v in values.items()}, "{}"
    )


def _notes(context: Context, models: Models) -> Iterator[str]:
    queries = listed({model: each.queries for model, each in models.items()}, "{:,}")
    yield (
        f"{len(models[TRAINED].correct):,} test images drawn at random (seed {context.seed}), the "
        "same for every model. Accuracies are shares of all images. Queries of decision-based "
        f"attacks, where they can be set: {queries}. The published numbers are over the authors' "
        "attacks; some of ours are stronger."
    )
    if any(each.by_gradients for each in models.values()):
        yield (
            "Attacks named FGSM, BIM, DeepFool and MIM are the authors', at growing sizes and with "
            f"bisection: by the model's gradients, from {authors.SUBSTITUTE} "
            f"({authors.TRANSFERRED}), and by differences of its scores along every pixel "
            f"({authors.ESTIMATED}), these in L2 on at most {SCORED} images, not in the minima."
        )
    for model, each in models.items():
        if each.gradients.why:
            why, name = each.gradients.why, each.gradients.name
            yield f"{model}: {why}; attacks followed the gradient {name}."
        if inside(each.run.claim.model.module):
            yield f"{model}: trained on unchanged images; the authors zoom, shear and bend some."


class Bounds(Comparison):
    """Smallest L2 distances, and the lower bound that the generative model estimates."""

    title = "L2 distances of the nearest adversarial images, and the lower bound estimated for ABS"
    source = "Schott et al. 2019, sections 4 and 6"
    trainings = MODELS

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = self.each(context, measure)
        distances = {paper: each.readings["l2"].nearest for paper, each in models.items()}
        bounded, nearest = models[BOUNDED], distances[BOUNDED]
        correct, lower = bounded.correct, _lower(bounded)
        crossed, size = rate((nearest < lower)[correct]), mean(lower[correct])
        table = [
            {"model": line, "index": int(at), "distance": finite(value)}
            for line, values in (distances | {LINE: np.where(correct, lower, 0.0)}).items()
            for at, value in zip(bounded.index, values, strict=True)
        ]
        bound = {
            "mean L2 size": size,
            "median L2 size": median(lower[correct]),
            "images with an adversarial one below it": crossed,
        }
        rows = [
            row({"model": m}, "median L2 distance", median(each)) for m, each in distances.items()
        ]
        caption = (
            "Distance of the nearest adversarial image over all attacks, 0 if the model "
            "misclassifies the image itself; at the right, the lower bound estimated for ABS. "
            "Whiskers reach from the 5th to the 95th percentile."
        )
        below = finite(crossed.value) or 0
        claim = "no adversarial image of ABS lies nearer than its estimated lower bound"
        return self.finding(
            rows + ours({"model": LINE}, bound),
            [Check(claim, cells(crossed=crossed, n=crossed.n), crossed.value == 0, below > 0)],
            f"The lower bound estimated for ABS is {size.value:.2f} in L2 on average. The median "
            f"distance over all attacks is {median(nearest).value:.2f}, and {crossed.value:.1%} of "
            "the images that ABS classifies correctly have an adversarial image below the bound.",
            "The lower bound is an estimate and no certificate: it rests on the nearest image that "
            "each other class can generate, found by a search that may miss it.",
            rule="it has no counterexample, and contradicts if it has one",
            numbers={
                "n": len(correct),
                "mean_lower_bound": finite(size.value),
                "crossed": below,
            },
            figures=[
                (Boxes("boxes", caption, "distances", "model", "distance", "L2 distance"), table)
            ],
        )


def _lower(each: Measurements) -> np.ndarray:
    run, bounds = each.run, []
    images = run.claim.data.test.images(torch.tensor(each.index)).to(run.device)
    with run.progress.bar("lower bounds", len(images)) as advance:
        for batch in images.split(TOGETHER):
            bounds.append(lower_bounds(run.claim.model.module, batch).cpu())
            advance(len(batch))
    return torch.cat(bounds).numpy()
