"""Evaluation after each epoch for the training log, and detection of catastrophic overfitting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import margin
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM
from scotoma.data.dataset import Split
from scotoma.metrics.linearity import loss_linearity
from scotoma.threat import Threat
from scotoma.training.parallel import ALONE, Team
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness
from scotoma.utils.stats import finite

IMAGES = 1000
STEPS = 20
DIVERGED = 100.0
"""Factor of the first batch's loss, or of 1 if that is less, beyond which a loss has diverged."""
LINEARITY_IMAGES = 250


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in float32 on the first test images; None was not measured.

    The loss ratio and the cosine between single-step and iterated perturbation (Tramer et al. 2018,
    section 4.1) are measured on the first `LINEARITY_IMAGES`; a low ratio is the first sign of a
    masked gradient.
    """

    accuracy: float
    robust_accuracy: float | None
    """Accuracy under PGD with `STEPS` steps."""
    single_step_accuracy: float | None
    """Accuracy under FGSM."""
    loss_ratio: float | None
    cosine: float | None


@dataclass(frozen=True)
class Epoch(Evaluation):
    """One line of the training log."""

    epoch: int
    loss: float
    """Mean of the recipe's loss over the epoch."""
    overfitting: str | None = None
    """A sentence if it has begun, see `overfitting`."""
    first: float | None = None
    """The recipe's loss in the first batch of the training."""
    diverged: str | None = None
    """A sentence if the loss is far above that of the first batch, see `divergence`."""


def evaluate(
    model: nn.Module,
    split: Split,
    threat: Threat,
    device: torch.device,
    images: int = IMAGES,
    *,
    attacked: bool = True,
    team: Team = ALONE,
) -> Evaluation:
    """Put the model into eval mode and measure it; no global random state is used or changed.

    Args:
        model: on `device`.
        split: the test images, of which the first `images` are used.
        attacked: False measures the clean accuracy only.
        team: the processes that share the images; each returns the result of all.
    """
    model.eval()
    attacks = (PGD(threat, steps=STEPS), FGSM(threat)) if attacked else ()
    rows = torch.arange(min(images, len(split)))
    withstood = torch.zeros(1 + len(attacks), dtype=torch.int64, device=device)
    for part in rows[team.rank :: team.world].split(batch_size(device, math.prod(split.shape))):
        batch, labels = _read(split, part, device)
        random = Randomness(0, part.to(device))
        adversarial = [attack(model, batch, labels, generator=random) for attack in attacks]
        with torch.no_grad():
            margins = [margin(model(each).float(), labels) for each in (batch, *adversarial)]
        correct = torch.stack(margins) < 0
        withstood += (correct & correct[0]).sum(1)
    accuracy, *robust = (team.total(withstood) / len(rows)).tolist()
    if not attacked:
        return Evaluation(accuracy, None, None, None, None)
    steps = torch.zeros(2, dtype=torch.float64)
    if team.leads:  # these are statistics of all the images together
        linearity = loss_linearity(model, *_read(split, rows[:LINEARITY_IMAGES], device), threat)
        steps[0], steps[1] = linearity.ratio.value, linearity.mean_cosine.value
    ratio, cosine = team.total(steps).tolist()
    return Evaluation(accuracy, *robust, loss_ratio=finite(ratio), cosine=finite(cosine))


def divergence(first: float, loss: float) -> str | None:
    """Return a sentence if the mean loss of an epoch is far above that of the first batch.

    >>> divergence(2.3, 1.7e10)
    'the training diverged: the loss was 2.3 in the first batch and is 1.7e+10'
    >>> divergence(2.3, 2.5)
    """
    if loss <= DIVERGED * max(1.0, abs(first)):
        return None
    return f"the training diverged: the loss was {first:.3g} in the first batch and is {loss:.3g}"


def _read(split: Split, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    images = split.images(rows).to(device, memory_format=torch.channels_last)
    return images, split.labels[rows].to(device)


def overfitting(history: Sequence[Evaluation], last: Evaluation) -> str | None:
    """Return a sentence if `last` shows catastrophic overfitting, else None.

    It does if the accuracy under PGD is less than half of the best in `history`, and at least 10
    points less, while the accuracy under a single step is no less than that best (Wong et al. 2020,
    section 5).
    """
    if last.robust_accuracy is None or last.single_step_accuracy is None:
        return None
    best = max((each.robust_accuracy or 0.0 for each in history), default=0.0)
    lost = last.robust_accuracy < min(best / 2, best - 0.1)
    if not lost or last.single_step_accuracy < best:
        return None
    return (
        f"catastrophic overfitting: accuracy under PGD-{STEPS} fell from {best:.1%} to "
        f"{last.robust_accuracy:.1%}, and is {last.single_step_accuracy:.1%} under a single step"
    )
