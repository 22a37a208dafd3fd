"""Distal adversarials: each model's confidence on noise, and on noise after gradient ascent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import polars as pl
import torch
from torch import Tensor

from scotoma.attacks.core.gradient import with_gradient
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.distal import Distal, Posterior
from scotoma.execution.fingerprint import describe
from scotoma.execution.run import Run
from scotoma.execution.sampling import UNIT, shuffled
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.layers import Binarise
from scotoma.models.synthesis import AnalysisBySynthesis, calibration
from scotoma.papers.checks import APART, Check, Interval, apart
from scotoma.papers.figures import Drawing, bars, gallery
from scotoma.papers.item import Comparison, Context, cells, lines, listed, ours
from scotoma.papers.schott2019 import MODELS
from scotoma.results.finding import Finding, Row
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Estimate, Rate, finite, median, rate

NOISE = 100
"""Images of noise, and of the test set beside them."""
CALIBRATED = 1000
"""Further test images, on which posteriors are calibrated."""
CLIMB = Distal(steps=100, rate=0.2)
"""The ascent; noise is at most about 16 in L2 from a corner of the box, and steps grow to 4."""
SURE = CLIMB.confidence
GREY = 0.5
"""Shade of the gallery where no image was reached."""


@dataclass(frozen=True)
class Sureness:
    """How sure a model is; probabilities are those of the posterior unless said otherwise.

    Args:
        posterior: calibrated.
        test: the largest probability of each test image, (n,).
        noise: the largest probability of each image of noise, (n,).
        softmax: the same by the softmax of the logits, (n,).
        confidence: probability of each target on the image of the ascent, (classes,).
        steps: steps of the ascent, infinite if the model is not sure of its image, (classes,).
        images: images of the ascent as the model sees them, (classes, c, h, w).
        distances: their L2 distances to the nearest training image, (classes,).
    """

    posterior: Posterior
    test: np.ndarray
    noise: np.ndarray
    softmax: np.ndarray
    confidence: np.ndarray
    steps: np.ndarray
    images: np.ndarray
    distances: np.ndarray

    @property
    def sure(self) -> np.ndarray:
        """Whether the model is sure of the image of each ascent, bool (classes,)."""
        return np.isfinite(self.steps)

    @property
    def of_noise(self) -> Rate:
        return rate(self.noise >= SURE)

    @property
    def distance(self) -> Estimate:
        """Median distance of the images that the model is sure of."""
        return median(self.distances[self.sure])


Models = dict[str, Sureness]
"""Measurements by the paper's names of the models."""


def sureness(context: Context, model: str) -> Sureness:
    """Measure a reference model, or read what was measured before."""
    run = context.run(model)
    order, split = shuffled(len(run.claim.data.test), run.seed), run.claim.data.test
    n = min(context.limit or NOISE, NOISE, len(order) // 2)
    tested, calibrated = order[:n], order[n : n + CALIBRATED]
    posterior = _posterior(run, calibrated)
    test = _logits(run.subset(tested), "test images", split.images(tested))
    noise = _logits(run, f"{n} images of noise", uniform(run, n, "noise"))
    ascent = _ascend(run, replace(CLIMB, posterior=posterior))
    confidence = posterior(ascent["logits"].to_torch()).diagonal().numpy()
    surest = (
        each(logits).amax(1).numpy()
        for each, logits in ((posterior, test), (posterior, noise), (Posterior(), noise))
    )
    return Sureness(
        posterior,
        *surest,
        confidence=confidence,
        steps=np.where(confidence >= SURE, ascent["steps"].to_numpy(), np.inf),
        images=ascent["seen"].to_numpy().reshape(-1, *run.claim.data.shape),
        distances=ascent["distance"].to_numpy(),
    )


def uniform(run: Run, n: int, purpose: str) -> Tensor:
    """Return uniform noise (n, c, h, w), the same for every model; a larger n appends to it."""
    random = Randomness(run.seed, torch.arange(n), f"schott2019 {purpose}")
    return random.uniform(torch.empty(n, *run.claim.data.shape))


def _posterior(run: Run, indices: Tensor) -> Posterior:
    """Return the model's own posterior if it has one, or one fitted as analysis by synthesis is."""
    if isinstance(run.model, AnalysisBySynthesis):
        return Posterior(1.0, float(run.model.floor))
    split = run.claim.data.test
    logits = _logits(run.subset(indices), "calibration", split.images(indices))
    return Posterior(*map(float, calibration(logits, split.labels[indices])))


def _logits(run: Run, what: str, images: Tensor) -> Tensor:
    """Return float32 logits of images, which `what`, the run's seed and its indices determine."""

    def compute() -> pl.DataFrame:
        batches = images.split(UNIT)
        with torch.no_grad():
            logits = [run.model(batch.to(run.device)).float().cpu() for batch in batches]
        return pl.DataFrame({"logits": torch.cat(logits).numpy()})

    table = run.table("schott2019 logits", {"of": what, "seed": run.seed}, compute)
    return table["logits"].to_torch()


def _ascend(run: Run, attack: Distal) -> pl.DataFrame:
    """Climb to each class: `steps`, `logits`, the flat image `seen`, its `distance` to the data."""
    binarise = next((layer for layer in run.model.modules() if isinstance(layer, Binarise)), None)
    gradient, train = "bpda" if binarise else "exact", run.claim.data.train
    assert train is not None, "every reference model was trained"

    def compute() -> pl.DataFrame:
        classes = len(run.claim.data.classes)
        targets = torch.arange(classes, device=run.device)
        model = Counted(run.model, classes, run.device)
        start = uniform(run, classes, "start").to(run.device)
        images = with_gradient(attack, gradient)(model, start, targets)
        with torch.no_grad():
            logits = run.model(images).float().cpu()
            model_view = (binarise(images) if binarise else images).flatten(1).cpu()
        steps = (model.forwards - 1).cpu().numpy()  # the first pass evaluates the noise itself
        training = train.images(torch.arange(len(train))).flatten(1)
        distance = nearest_distance(training.numpy(), model_view.numpy(), k=1)
        rows = {"logits": logits.numpy(), "seen": model_view.numpy(), "distance": distance}
        return pl.DataFrame({"steps": steps, **rows})

    config = {"attack": describe(attack), "gradient": gradient, "seed": run.seed}
    return run.table("schott2019 distal", config, compute)


class DistalImages(Comparison):
    """Noise as a digit: what each of the six models is sure of, far from all data."""

    title = "Distal adversarials: what the models are sure of, far from all digits"
    source = "Schott et al. 2019, section 6"
    trainings = MODELS

    def measure(self, context: Context) -> tuple[list[Row], Finding]:
        models = self.each(context, sureness)
        classes = context.data(self.trainings["ABS"]).classes
        measures = {paper: _measures(each) for paper, each in models.items()}
        caption = f"Images to which a model gives a class with probability {SURE:g} or more"
        series = {
            "noise, calibrated": "sure_of_noise",
            "noise, softmax of the logits": "by_softmax",
            "test images, calibrated": "sure_of_test",
            "distal images, calibrated": "targets",
        }
        noise = {paper: f"{each.of_noise.value:.0%}" for paper, each in models.items()}
        reached = {paper: f"{e.sure.sum()} of {len(e.sure)}" for paper, e in models.items()}
        return self.finding(
            lines(measures, lambda paper, each: ours({"model": paper}, each)),
            self.checks(models),
            f"Share of uniform noise that a model is sure of: {listed(noise, '{}')}. Targets "
            f"reached from noise in {CLIMB.steps} steps: {listed(reached, '{}')}.",
            f"{len(models['ABS'].noise)} images of uniform noise and as many test images, the same "
            f"for every model (seed {context.seed}); another {len(classes)} images of noise, one "
            "for each target. The paper prints no numbers.",
            "As in the paper, probabilities have a floor. ABS models have their own posterior; "
            "those of the others are fitted by the same rule, on up to "
            f"{CALIBRATED:,} other test images. The softmax of the logits is what a user sees.",
            f"Gradient ascent on the calibrated probability takes at most {CLIMB.steps} steps of "
            f"length {CLIMB.rate:g} in L2 before momentum of {CLIMB.momentum:g}; the authors take "
            "up to 10,000 with finite differences. Gradients of binary models are BPDA's; those of "
            "ABS models keep the latents fixed. Another search may reach more targets.",
            rule=f"{APART}. Sure means a probability of at least {SURE:g}. An ABS model without "
            "distal images counts as having none far from the data",
            numbers={"n": len(models["ABS"].noise)},
            summary=lines(models, _summary),
            tables={
                "noise": lines(models, _quantiles),
                "distal": lines(models, partial(_images, classes)),
            },
            figures=[bars("sure", caption, series, "share"), _gallery(classes, models)],
        )

    @staticmethod
    def checks(models: Models) -> list[Check]:
        """Return the paper's claims on analysis by synthesis."""
        checks = []
        for name, against in {"ABS": "CNN", "Binary ABS": "Binary CNN"}.items():
            ours, other, below = models[name], models[against], f"{name} below {against}"
            checks.append(apart(f"sure of noise: {below}", ours.of_noise, other.of_noise))
            claim = f"distance of distal images: {below}"
            checks.append(apart(claim, ours.distance, other.distance))
        return checks


def _measures(each: Sureness) -> dict[str, Interval]:
    return {
        "sure of test images": rate(each.test >= SURE),
        "sure of noise": each.of_noise,
        "sure of noise, by the softmax": rate(each.softmax >= SURE),
        "largest probability of noise, median": median(each.noise),
        "targets reached from noise": rate(each.sure),
        "steps to a target, median": median(each.steps),
        "final confidence, median": median(each.confidence),
        "L2 from distal to training image, median": each.distance,
    }


def _summary(paper: str, each: Sureness) -> Row:
    """Return shares that the model is sure of, median steps, mean confidence, median distance."""
    return cells(
        model=paper,
        sure_of_test=rate(each.test >= SURE),
        sure_of_noise=each.of_noise,
        by_softmax=rate(each.softmax >= SURE),
        targets=rate(each.sure),
        steps=finite(median(each.steps).value),
        confidence=finite(each.confidence.mean()),
        distance=finite(each.distance.value),
    )


def _quantiles(paper: str, each: Sureness) -> Row:
    """Return quantiles of the largest probability of noise, and the posterior."""
    line: Row = {"model": paper, "n": len(each.noise)}
    for kind, values in {"posterior": each.noise, "softmax": each.softmax}.items():
        line |= {f"{kind}_{q:.0%}": finite(np.quantile(values, q)) for q in (0.05, 0.5, 0.95)}
    return line | {"sharpness": each.posterior.sharpness, "floor": each.posterior.floor}


def _images(classes: tuple[str, ...], paper: str, each: Sureness) -> list[Row]:
    """Return a line for each target."""
    return [
        {
            "model": paper,
            "target": target,
            "reached": bool(each.sure[number]),
            "confidence": finite(each.confidence[number]),
            "steps": finite(each.steps[number]),
            "distance_to_data": finite(each.distances[number]),
        }
        for number, target in enumerate(classes)
    ]


def _gallery(classes: tuple[str, ...], models: Models) -> Drawing:
    def column(each: Sureness) -> tuple[np.ndarray, list[str]]:
        texts = [
            f"{name} at {confidence:.2f}, {steps:.0f} step{'' if steps == 1 else 's'}"
            if np.isfinite(steps)
            else f"{name}: none, {confidence:.2f}"
            for name, confidence, steps in zip(classes, each.confidence, each.steps, strict=True)
        ]
        images = np.where(each.sure[:, None, None, None], each.images, GREY)
        return images.astype(np.float32), texts

    caption = (
        f"The first image on the path from noise that the model is sure ({SURE:g}) shows the "
        "class, as the model sees it. Grey, with the confidence reached, if there was none."
    )
    return gallery("distal", caption, {paper: column(each) for paper, each in models.items()})
