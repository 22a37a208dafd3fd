"""How sure a model is of noise, and what it takes for a class when it climbs there from noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.attacks.core.gradient import with_gradient
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.distal import Distal, Posterior
from scotoma.execution.fingerprint import describe
from scotoma.execution.run import Run
from scotoma.execution.sampling import UNIT, shuffled
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.binarise import Binarise
from scotoma.models.synthesis import EXPLAINED, SHARPNESSES, AnalysisBySynthesis
from scotoma.papers.item import Context
from scotoma.utils.random import Randomness

NOISE = 100
"""Images of noise, and of the test set beside them."""
CALIBRATED = 1000
"""Further test images, by which posteriors are calibrated."""
CLIMB = Distal(steps=100, rate=0.2)
"""From noise to the farthest corner of the box is about 16 in L2, and the moves grow to 4."""


@dataclass(frozen=True)
class Sureness:
    """What was found of a model; probabilities are the posterior's unless said otherwise.

    Args:
        posterior: calibrated.
        test: the largest probability of each test image, (n,).
        noise: of each image of noise, (n,).
        softmax: of the same noise, by the softmax of the logits.
        confidence: of each target on the image that was climbed to, (classes,).
        steps: that it took, infinite where the model is not sure of it.
        images: those images as the model sees them, binarised perhaps, (classes, c, h, w).
        distances: of these from the nearest training image, L2, (classes,).
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
        """Of which images climbed to the model is sure, bool (classes,)."""
        return np.isfinite(self.steps)


def sureness(context: Context, model: str) -> Sureness:
    """Look at a reference model; what was found before is read."""
    run = context.run(model)
    order = shuffled(len(run.claim.data.test), run.seed)
    n = min(context.limit or NOISE, NOISE, len(order) // 2)
    kept, fitted = order[:n], order[n : n + CALIBRATED]
    posterior = _posterior(run, fitted)
    test = _logits(run.subset(kept), "test images", run.claim.data.test.images(kept))
    noise = _logits(run, f"{n} images of noise", uniform(run, n, "noise"))
    climbed = _climbed(
        run, Distal(CLIMB.confidence, CLIMB.steps, CLIMB.rate, CLIMB.momentum, posterior)
    )
    confidence = posterior(_tensor(climbed["logits"])).diagonal().numpy()
    return Sureness(
        posterior,
        _surest(posterior, test),
        _surest(posterior, noise),
        _surest(Posterior(), noise),
        confidence,
        np.where(confidence >= CLIMB.confidence, climbed["steps"].to_numpy(), np.inf),
        climbed["seen"].to_numpy().reshape(-1, *run.claim.data.shape),
        climbed["distance"].to_numpy(),
    )


def uniform(run: Run, n: int, purpose: str) -> Tensor:
    """Images of uniform noise (n, c, h, w), the same for every model of the data and, the first of them, for any n."""
    rows = torch.arange(n)
    return Randomness(run.seed, rows, f"schott2019 {purpose}").uniform(
        torch.empty(n, *run.claim.data.shape)
    )


def calibrated(logits: Tensor, labels: Tensor) -> Posterior:
    """The posterior of a model with these logits of images (n, classes), as analysis by synthesis fits its own.

    The sharpness is the one by which the labels are likeliest; the floor outweighs the image's own class where that is
    explained worst.
    """
    likelihoods = [F.cross_entropy(sharpness * logits, labels) for sharpness in SHARPNESSES]
    sharpness = float(SHARPNESSES[int(torch.stack(likelihoods).argmin())])
    return Posterior(
        sharpness, float((sharpness * logits.gather(1, labels[:, None])).quantile(EXPLAINED))
    )


def _posterior(run: Run, fitted: Tensor) -> Posterior:
    """The model's own where it has one."""
    if isinstance(run.model, AnalysisBySynthesis):
        return Posterior(1.0, float(run.model.floor))
    split = run.claim.data.test
    return calibrated(
        _logits(run.subset(fitted), "calibration", split.images(fitted)), split.labels[fitted]
    )


def _logits(run: Run, what: str, images: Tensor) -> Tensor:
    """Of images that `what` and the run's seed and indices decide, float32 (n, classes)."""

    def compute() -> pl.DataFrame:
        with torch.no_grad():
            told = torch.cat(
                [run.model(part.to(run.device)).float().cpu() for part in images.split(UNIT)]
            )
        return pl.DataFrame({"logits": _column(told)})

    return _tensor(
        run.table("schott2019 logits", {"of": what, "seed": run.seed}, compute)["logits"]
    )


def _climbed(run: Run, attack: Distal) -> pl.DataFrame:
    """One image a class, by number: the `steps` to it, its `logits`, what is `seen` of it (flat) and that one's `distance`."""
    binarise = next((part for part in run.model.modules() if isinstance(part, Binarise)), None)
    gradient = "bpda" if binarise else "exact"

    def compute() -> pl.DataFrame:
        classes = len(run.claim.data.classes)
        targets = torch.arange(classes, device=run.device)
        counted = Counted(run.model, classes, run.device)
        start = uniform(run, classes, "start").to(run.device)
        images = with_gradient(attack, gradient)(counted, start, targets)
        with torch.no_grad():
            logits = run.model(images).float().cpu()
            seen = (binarise(images) if binarise else images).flatten(1).cpu()
        return pl.DataFrame(
            {
                "steps": (counted.forwards - 1)
                .cpu()
                .numpy(),  # the first pass is at the noise itself
                "logits": _column(logits),
                "seen": _column(seen),
                "distance": _from_data(run, seen),
            }
        )

    config = {"attack": describe(attack), "gradient": gradient, "seed": run.seed}
    return run.table("schott2019 distal", config, compute)


def _from_data(run: Run, images: Tensor) -> np.ndarray:
    train = run.claim.data.train
    assert train is not None, "what a reference model was trained on"
    known = train.images(torch.arange(len(train))).flatten(1)
    return nearest_distance(known.numpy(), images.numpy(), k=1)


def _surest(posterior: Posterior, logits: Tensor) -> np.ndarray:
    return posterior(logits).amax(1).numpy()


def _column(rows: Tensor) -> pl.Series:
    return pl.Series(rows.numpy(), dtype=pl.Array(pl.Float32, rows.shape[1]))


def _tensor(column: pl.Series) -> Tensor:
    return torch.from_numpy(column.to_numpy(writable=True))
