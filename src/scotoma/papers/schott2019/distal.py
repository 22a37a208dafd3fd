"""Distal adversarials: how sure each model is of noise, and of what it climbs to from there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scotoma.papers.item import SUMMARY, Context, Measured, row
from scotoma.papers.schott2019.study import Study
from scotoma.papers.schott2019.sureness import CALIBRATED, CLIMB, Sureness, sureness
from scotoma.probes.base import columns
from scotoma.results.finding import Bars, Finding, Gallery, Row
from scotoma.utils.stats import Median, Rate, finite, median, rate

SURE = CLIMB.confidence
GREY = 0.5
"""What stands in the gallery where no image was found."""
QUANTILES = (0.05, 0.5, 0.95)
PAIRS = (("ABS", "CNN"), ("Binary ABS", "Binary CNN"))
"""Of models that see the same image, with a generative model of the classes and without."""

Found = dict[str, Sureness]
"""By the name of the model in the paper."""


class DistalImages(Study):
    """Noise as a digit: what each of the six models is sure of, far from all data."""

    title = "Distal adversarials: what the models are sure of, far from all digits"
    source = "Schott et al. 2019, section 6"

    def measure(self, context: Context, name: str) -> tuple[list[Row], Finding]:
        found = self.of_each(context, sureness)
        checks = self.checks(found)
        held = sum(check["holds"] for check in checks)
        return [line for paper, each in found.items() for line in _rows(paper, each)], Finding(
            probe=name,
            question=self.title,
            verdict="reproduced" if held == len(checks) else "differs",
            rule=(
                "reproduced if ABS is sure of a smaller share of noise than the CNN, and Binary ABS than the Binary CNN, and if "
                "the distal images of each lie nearer to the training images than those of that CNN, all with 95% intervals that "
                f"do not meet; else differs. Sure is a probability of {SURE:g} or more. An ABS model without distal images is "
                "counted as having none far from the data"
            ),
            headline=(
                f"Share of uniform noise that a model is sure of: {_each(found, lambda each: f'{_of_noise(each).value:.0%}')}. "
                f"Targets reached from noise in {CLIMB.steps} steps: "
                f"{_each(found, lambda each: f'{each.sure.sum()} of {len(each.sure)}')}. "
                f"{held} of {len(checks)} comparisons are as the paper has it{_failing(checks)}."
            ),
            numbers={"n": len(found["ABS"].noise), "checks": len(checks), "checks_held": held},
            tables={
                SUMMARY: [_summary(paper, each) for paper, each in found.items()],
                "checks": checks,
                "noise": [_quantiles(paper, each) for paper, each in found.items()],
                "distal": [
                    line
                    for paper, each in found.items()
                    for line in _images(context, self.standing[paper], paper, each)
                ],
            },
            figures=(_bars(), _gallery(context, self.standing, found)),
            notes=_notes(context, found),
            images={"distal": _tiles(found)},
        )

    @staticmethod
    def checks(found: Found) -> list[Row]:
        """What the paper says of analysis by synthesis, as comparisons of two values whose intervals must not meet."""
        lines = []
        for generative, plain in PAIRS:
            low, high = (_of_noise(found[paper]) for paper in (generative, plain))
            near, far = (_distance(found[paper]) for paper in (generative, plain))
            lines += [
                _check(
                    f"sure of noise: {generative} below {plain}",
                    low,
                    high,
                    bool(low.high < high.low),
                ),
                _check(
                    f"distance of distal images: {generative} below {plain}",
                    near,
                    far,
                    not near.n or near.high < far.low,
                ),
            ]
        return lines


def _check(what: str, low: Measured, high: Measured, holds: bool) -> Row:
    return {
        "check": what,
        **columns("lower", low),  # type: ignore[arg-type]
        **columns("higher", high),  # type: ignore[arg-type]
        "n": low.n,
        "holds": holds,
    }


def _of_noise(each: Sureness) -> Rate:
    return rate(each.noise >= SURE)


def _distance(each: Sureness) -> Median:
    """Of the images that the model is sure of."""
    return median(each.distances[each.sure])


def _rows(paper: str, each: Sureness) -> list[Row]:
    measures: dict[str, Measured] = {
        "sure of test images": rate(each.test >= SURE),
        "sure of noise": _of_noise(each),
        "sure of noise, by the softmax": rate(each.softmax >= SURE),
        "largest probability of noise, median": median(each.noise),
        "targets reached from noise": rate(each.sure),
        "steps to a target, median": median(each.steps),
        "final confidence, median": median(each.confidence),
        "L2 from distal to training image, median": _distance(each),
    }
    return [row({"model": paper}, measure, ours) for measure, ours in measures.items()]


def _summary(paper: str, each: Sureness) -> Row:
    """Shares that it is sure of; median steps, mean final confidence, and median L2 from distal to training image."""
    return {
        "model": paper,
        **columns("sure_of_test", rate(each.test >= SURE)),
        **columns("sure_of_noise", _of_noise(each)),
        **columns("by_softmax", rate(each.softmax >= SURE)),
        **columns("targets", rate(each.sure)),
        "steps": finite(median(each.steps).value),
        "confidence": finite(each.confidence.mean()),
        "distance": finite(_distance(each).value),
    }


def _quantiles(paper: str, each: Sureness) -> Row:
    """Of the largest probability of an image of noise, and the posterior by which it is told."""
    known = {"posterior": each.noise, "softmax": each.softmax}
    shown = {
        f"{kind}_{q:.0%}": finite(np.quantile(values, q))
        for kind, values in known.items()
        for q in QUANTILES
    }
    return {
        "model": paper,
        "n": len(each.noise),
        **shown,
        "sharpness": each.posterior.sharpness,
        "floor": each.posterior.floor,
    }


def _images(context: Context, model: str, paper: str, each: Sureness) -> list[Row]:
    """One image a target."""
    found = zip(
        context.data(model).classes,
        each.sure,
        each.confidence,
        each.steps,
        each.distances,
        strict=True,
    )
    return [
        {
            "model": paper,
            "target": target,
            "reached": bool(sure),
            "confidence": finite(confidence),
            "steps": finite(steps),
            "distance_to_data": finite(distance),
        }
        for target, sure, confidence, steps, distance in found
    ]


def _bars() -> Bars:
    series = {
        "noise, calibrated": "sure_of_noise",
        "noise, softmax of the logits": "by_softmax",
        "test images, calibrated": "sure_of_test",
        "distal images, calibrated": "targets",
    }
    return Bars(
        "sure",
        f"Share of images that a model gives a class with probability {SURE:g} or more, with 95% intervals: of uniform noise as it "
        "is, of test images for comparison, and of the targets that gradient ascent from noise reaches.",
        table=SUMMARY,
        label="model",
        series={
            label: (column, f"{column}_low", f"{column}_high") for label, column in series.items()
        },
        y_label="share that it is sure of",
    )


def _tiles(found: Found) -> np.ndarray:
    """A row a target, a column a model."""
    tiles = [np.where(each.sure[:, None, None, None], each.images, GREY) for each in found.values()]
    return np.stack(tiles, axis=1).astype(np.float32)


def _gallery(context: Context, standing: dict[str, str], found: Found) -> Gallery:
    classes = context.data(standing["ABS"]).classes

    def caption(each: Sureness, target: int) -> str:
        if not each.sure[target]:
            return f"{classes[target]}: none, {each.confidence[target]:.2f}"
        return f"{classes[target]} at {each.confidence[target]:.2f}, {_counted(each.steps[target])}"

    return Gallery(
        "distal",
        f"The first image on the way from noise that the model is sure ({SURE:g}) shows the class, as the model sees it: binarised "
        f"for the binary models. Grey where {CLIMB.steps} steps did not lead to one, with the confidence that was reached.",
        images="distal",
        columns=list(found),
        captions=[
            [caption(each, target) for each in found.values()] for target in range(len(classes))
        ],
    )


def _counted(steps: float) -> str:
    return f"{steps:.0f} step{'' if steps == 1 else 's'}"


def _notes(context: Context, found: Found) -> tuple[str, ...]:
    any_ = next(iter(found.values()))
    return (
        f"{len(any_.noise)} images of uniform noise and as many test images, the same for every model (seed {context.seed}), with "
        f"95% Wilson intervals; from {len(any_.sure)} further images of noise to one target each, with intervals between order "
        "statistics of medians. The paper prints no numbers.",
        "Probabilities have a floor, as the paper's: p is e^(sharpness l) + e^floor over its sum, of logits l. ABS models have a "
        f"posterior of their own; those of the others are fitted by the same rule, on up to {CALIBRATED:,} other test images. The "
        "authors' constants ([authors' code]) belong to the logits of their networks and are not used here. Beside it stands "
        "the softmax of the logits as they are, which is what a user of these models sees.",
        f"Gradient ascent on the calibrated probability, at most {CLIMB.steps} steps of length {CLIMB.rate:g} in L2 before "
        f"momentum of {CLIMB.momentum:g}; the authors take up to 10,000 with finite differences ([authors' code]). The gradients "
        "of binary models pass their threshold as if it were the identity (BPDA); those of ABS models hold the latents. That a "
        "target was not reached shows only that this search did not find it.",
        "Distances are L2 from a distal image, as the model sees it, to the nearest training image. The nearest neighbour is led "
        "straight to one.",
    )


def _each(found: Found, said: Callable[[Sureness], str]) -> str:
    return ", ".join(f"{paper} {said(each)}" for paper, each in found.items())


def _failing(checks: list[Row]) -> str:
    """What does not hold, as the end of a sentence."""
    said = "; ".join(check["check"] for check in checks if not check["holds"])
    return said and f"; not so, or not beyond noise: {said}"
