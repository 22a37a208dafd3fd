"""What the training log says of a model after each epoch, and the watch for catastrophic overfitting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scotoma.attacks.core.losses import margin
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM
from scotoma.claim import Threat
from scotoma.data.dataset import Split
from scotoma.metrics.linearity import loss_linearity
from scotoma.training.parallel import ALONE, Team
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness
from scotoma.utils.stats import finite

IMAGES = 1000
STEPS = 20
LINEARITY_IMAGES = 250


@dataclass(frozen=True)
class Evaluation:
    """Measured in float32 on the first `images` test images, of each its share; None is what was not measured.

    The loss ratio and the cosine of the single-step and the iterated perturbation (Tramer et al. 2018, section 4.1) are measured
    on the first `LINEARITY_IMAGES`; a single step that falls behind is the first sign of a masked gradient.
    """

    accuracy: float
    robust_accuracy: float | None
    """under PGD with `STEPS` steps"""
    single_step_accuracy: float | None
    """under FGSM"""
    loss_ratio: float | None
    cosine: float | None


@dataclass(frozen=True)
class Epoch(Evaluation):
    """One line of the training log."""

    epoch: int
    loss: float
    """mean of the recipe's loss over the epoch"""
    overfitting: str | None = None
    """a sentence where it has set in, see `overfitting`"""


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
    """Put the model into eval mode and measure it; a random state is neither used nor changed.

    Unless it is `attacked`, the accuracy on clean images is all. The processes of a `team` take turns with the images, and each
    returns what was measured on all of them.
    """
    model.eval()
    attacks = (PGD(threat, steps=STEPS), FGSM(threat)) if attacked else ()
    rows = torch.arange(min(images, len(split)))
    stood = torch.zeros(1 + len(attacks), dtype=torch.int64, device=device)
    for part in rows[team.rank :: team.world].split(batch_size(device, math.prod(split.shape))):
        batch, labels = _read(split, part, device)
        random = Randomness(0, part.to(device))
        seen = [batch, *(attack(model, batch, labels, generator=random) for attack in attacks)]
        with torch.no_grad():
            right = torch.stack([margin(model(each).float(), labels) < 0 for each in seen])
        stood += (right & right[0]).sum(1)
    accuracy, *robust = (team.total(stood) / len(rows)).tolist()
    if not attacked:
        return Evaluation(accuracy, None, None, None, None)
    steps = torch.zeros(2, dtype=torch.float64)
    if team.leads:  # its figures are of all of these images together
        found = loss_linearity(model, *_read(split, rows[:LINEARITY_IMAGES], device), threat)
        steps[0], steps[1] = found.ratio.value, found.mean_cosine.value
    ratio, cosine = team.total(steps).tolist()
    return Evaluation(accuracy, *robust, loss_ratio=finite(ratio), cosine=finite(cosine))


def _read(split: Split, rows: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    return split.images(rows).to(device, memory_format=torch.channels_last), split.labels[rows].to(
        device
    )


def overfitting(history: Sequence[Evaluation], last: Evaluation) -> str | None:
    """A sentence on catastrophic overfitting after the epochs in `history`, None where there is none (Wong et al. 2020, section 5).

    That is named which loses more than half of its best robust accuracy, and at least 10 points, while it withstands a single
    step no less often than its best did an iterated attack.
    """
    if last.robust_accuracy is None or last.single_step_accuracy is None:
        return None
    best = max((each.robust_accuracy or 0.0 for each in history), default=0.0)
    fallen = last.robust_accuracy < min(best / 2, best - 0.1)
    if not fallen or last.single_step_accuracy < best:
        return None
    return (
        f"catastrophic overfitting: accuracy under PGD-{STEPS} fell from {best:.1%} to {last.robust_accuracy:.1%}, and is "
        f"{last.single_step_accuracy:.1%} under a single step"
    )
