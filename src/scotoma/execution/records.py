"""Records: what an attack achieved on each image, measured again outside the attack."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import GUARD, margin
from scotoma.claim import TOLERANCE

EXAMPLE = "adversarial"
"""The column with the adversarial image itself, flat float32; null where there is none."""


@torch.no_grad()
def verified_logits(model: nn.Module, images: Tensor) -> Tensor:
    """float32 logits (n, classes) that do not depend on the batch: an image whose two best classes are nearly tied, so that
    rounding could decide, is evaluated alone."""
    with (
        torch.autocast(images.device.type, enabled=False),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        logits = model(images).float()
        top = logits.topk(2, dim=1).values
        tied = (top[:, 0] - top[:, 1]) < 10 * GUARD * logits.abs().amax(1)
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
) -> pl.DataFrame:
    """One row an image. `clean` are the `verified_logits` of the images, where they are known.

    Columns: index, label, prediction, margin (of the label over the best other logit, before the attack),
    adversarial_prediction, success, l0, l1, l2, linf, forwards, backwards, adversarial.

    A success is an image that the model classified correctly, inside [0, 1], with another label than its own, by more than
    the rounding of another kernel or batch can undo. Distances are those of the success; infinite where the attack failed, 0
    where the model was wrong before it. l0 counts pixels, all channels of a pixel together.
    """
    clean = verified_logits(model, images) if clean is None else clean
    attacked = verified_logits(model, adversarial)
    correct = clean.argmax(1) == labels
    valid = ((adversarial >= 0) & (adversarial <= 1)).flatten(1).all(1)
    wrong = margin(attacked, labels) > GUARD / 2 * attacked.abs().amax(
        1
    )  # attacks keep the whole guard; false for NaN
    success = correct & valid & attacked.isfinite().all(1) & wrong
    delta = (adversarial - images).abs()
    moved = delta.amax(1).flatten(1) > TOLERANCE
    flat = delta.flatten(1)
    distances = {
        "l0": moved.sum(1).float(),
        "l1": flat.sum(1),
        "l2": flat.norm(dim=1),
        "linf": flat.amax(1),
    }
    missed = torch.where(correct, torch.inf, 0.0)
    columns = {
        "index": indices,
        "label": labels,
        "prediction": clean.argmax(1),
        "margin": -margin(clean, labels),
        "adversarial_prediction": attacked.argmax(1),
        "success": success,
        **{name: torch.where(success, value, missed) for name, value in distances.items()},
        "forwards": passes[0],
        "backwards": passes[1],
    }
    frame = pl.DataFrame({name: value.cpu().numpy() for name, value in columns.items()})
    examples = example_column(adversarial)
    return frame.with_columns(pl.when(pl.col("success")).then(examples).alias(EXAMPLE))


def example_column(images: Tensor) -> pl.Series:
    """Return images as the column `EXAMPLE`."""
    flat = images.flatten(1).cpu().numpy()
    return pl.Series(EXAMPLE, flat, dtype=pl.Array(pl.Float32, flat.shape[1]))


def correct(records: pl.DataFrame) -> pl.DataFrame:
    """The rows that the model classified correctly before the attack: rates are over these."""
    return records.filter(pl.col("prediction") == pl.col("label"))


def successes(records: pl.DataFrame, eps: float, norm: str) -> np.ndarray:
    """Which correctly classified images fall to a perturbation of size `eps`, bool."""
    return fallen(correct(records), eps, norm)


def fallen(records: pl.DataFrame, eps: float, norm: str) -> np.ndarray:
    """Which images fall to a perturbation of size `eps`, bool, one a row; none that the model had wrong before."""
    slack = TOLERANCE * max(1.0, eps)  # sums round in proportion to what they add
    return (records["success"] & (records[norm] <= eps + slack)).to_numpy()


def beyond(distances: np.ndarray, size: float) -> np.ndarray:
    """Which distances are larger than `size`, by more than rounding; at 0 all but 0 are."""
    return distances > size + (TOLERANCE * max(1.0, size) if size else 0.0)
