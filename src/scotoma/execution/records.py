"""Records: the result of an attack on each image, measured again outside the attack."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import GUARD, margin
from scotoma.models.classifier import DRAWS, TIE, is_randomised, votes
from scotoma.results.examples import EXAMPLE
from scotoma.threat import TOLERANCE
from scotoma.utils.logits import magnitude

UNDEFINED = -1
"""Recorded as prediction on an image for which the attack met undefined logits."""


@torch.no_grad()
def verified_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return float32 logits (n, classes) that do not depend on the batch.

    Images whose two best classes nearly tie, so that rounding could decide, are evaluated alone. A
    randomised model's logits are the logarithms of the shares of `DRAWS` fresh draws.
    """
    if is_randomised(model):
        return votes(model(images).float() for _ in range(DRAWS))
    with (
        torch.autocast(images.device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        logits = model(images).float()
        top = logits.topk(2, dim=1).values
        tied = (top[:, 0] - top[:, 1]) < 10 * GUARD * magnitude(logits)
        for row in tied.nonzero().squeeze(1).tolist():
            logits[row] = model(images[row : row + 1]).float()[0]
    return logits


def measure(
    model: nn.Module,
    indices: Tensor,
    images: Tensor,
    labels: Tensor,
    adversarial: Tensor,
    passes: tuple[Tensor, Tensor],
    clean: Tensor | None = None,
    undefined: Tensor | None = None,
) -> pl.DataFrame:
    """Return one row an image.

    Columns: index, label, prediction, margin (label minus best other logit, before the attack),
    adversarial_prediction, success, l0, l1, l2, linf, forwards, backwards, adversarial.

    A success is an image in [0, 1] with a wrong prediction whose original was classified correctly,
    by a margin that the rounding of another kernel or batch cannot undo. A randomised model is
    right, or wrong, if more than half of its draws are. Distances are infinite if
    the attack failed and 0 if the model was wrong before it. l0 counts pixels, all channels of one
    together. An adversarial prediction is `UNDEFINED` where the attack failed and some logits were
    not finite.

    Args:
        model: the attacked model.
        indices: int64 (n,).
        images: images before the attack, (n, c, h, w).
        labels: int64 (n,).
        adversarial: images after the attack, (n, c, h, w).
        passes: number of forward and of backward passes of each image.
        clean: the `verified_logits` of `images`, if known.
        undefined: whether the attack met logits that are not finite, bool (n,); None if unknown.
    """
    clean = verified_logits(model, images) if clean is None else clean
    attacked = verified_logits(model, adversarial)
    if is_randomised(model):
        clean, attacked = against_all_others(clean, labels), against_all_others(attacked, labels)
    correct = clean.argmax(1) == labels
    valid = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)
    # attacks keep the whole guard; false for NaN
    misclassified = margin(attacked, labels) > GUARD / 2 * magnitude(attacked)
    success = correct & valid & attacked.isfinite().all(1) & misclassified
    delta = (adversarial - images).abs()
    changed = delta.amax(1).flatten(1) > TOLERANCE
    flat = delta.flatten(1)
    distances = {
        # at least one where a change below the tolerance fools: on a tie of rounded values
        "l0": changed.sum(1).maximum(flat.any(1)).float(),
        "l1": flat.sum(1),
        "l2": flat.norm(dim=1),
        "linf": flat.amax(1),
    }
    missed = torch.where(correct, torch.inf, 0.0)
    not_finite = ~attacked.isfinite().all(1) | (False if undefined is None else undefined)
    columns = {
        "index": indices,
        "label": labels,
        "prediction": clean.argmax(1),
        "margin": -margin(clean, labels),
        "adversarial_prediction": attacked.argmax(1).masked_fill(not_finite & ~success, UNDEFINED),
        "success": success,
        **{name: torch.where(success, value, missed) for name, value in distances.items()},
        "forwards": passes[0],
        "backwards": passes[1],
    }
    frame = pl.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
    examples = example_column(adversarial)
    return frame.with_columns(pl.when(pl.col("success")).then(examples).alias(EXAMPLE))


def against_all_others(logits: Tensor, labels: Tensor) -> Tensor:
    """Return log shares (n, classes) in which the label loses unless more than half vote for it."""
    share = logits.gather(1, labels[:, None]).exp()
    least = torch.where(share > 0.5 + TIE, logits.gather(1, labels[:, None]), -torch.inf)
    bound = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    return logits.scatter(1, labels[:, None], torch.maximum(least, bound - 1))


def example_column(images: Tensor) -> pl.Series:
    """Return images as the column `EXAMPLE`."""
    flat = images.flatten(1).cpu().numpy()
    return pl.Series(EXAMPLE, flat, dtype=pl.Array(pl.Float32, flat.shape[1]))


def is_correct(records: pl.DataFrame) -> np.ndarray:
    """Return which rows are classified correctly before the attack, bool."""
    return (records["prediction"] == records["label"]).to_numpy()


def correct(records: pl.DataFrame) -> pl.DataFrame:
    """Return the rows classified correctly before the attack; rates are over these."""
    return records.filter(pl.col("prediction") == pl.col("label"))


def successes(records: pl.DataFrame, eps: float, norm: str) -> np.ndarray:
    """Return which correctly classified images a perturbation of size `eps` fools, bool."""
    return fallen(correct(records), eps, norm)


def undefined(records: pl.DataFrame) -> np.ndarray:
    """Return the test images on which some attack failed and met NaN or infinite logits, int64."""
    if not len(records):
        return np.zeros(0, np.int64)
    rows = records.filter(pl.col("adversarial_prediction") == UNDEFINED, transform="none")
    return rows["index"].unique().sort().to_numpy()


def fallen(records: pl.DataFrame, eps: float, norm: str) -> np.ndarray:
    """Return which rows a perturbation of size `eps` fools, bool; False for clean errors."""
    slack = TOLERANCE * max(1.0, eps)  # sums round in proportion to what they add
    return (records["success"] & (records[norm] <= eps + slack)).to_numpy()


def beyond(distances: np.ndarray, size: float) -> np.ndarray:
    """Return which distances exceed `size` by more than rounding; at size 0, all but 0."""
    return distances > size + (TOLERANCE * max(1.0, size) if size else 0.0)
