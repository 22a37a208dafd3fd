"""The training loop: a recipe returns the loss, the rest is the same for every defence."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from scotoma.data.dataset import Dataset
from scotoma.models import ARCHITECTURES
from scotoma.models.checkpoint import fit_weights, read_weights, save_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.threat import Threat
from scotoma.training import AUGMENTATIONS, resumption
from scotoma.training.augment import Augmentation
from scotoma.training.balance import balanced_order
from scotoma.training.evaluation import IMAGES, STEPS, Epoch, divergence, evaluate, overfitting
from scotoma.training.options import check, make, options_of
from scotoma.training.parallel import ALONE, Step, Team
from scotoma.training.recipe import Recipe
from scotoma.utils.device import autocast, default_device, keep_memory
from scotoma.utils.errors import InputError, reason
from scotoma.utils.files import write_whole
from scotoma.utils.registry import nearest
from scotoma.utils.text import norm_name
from scotoma.utils.threads import warn_of_spinning

ATTACKED = ("linf", "l2")
"""Norms of threats in which gradient steps are defined."""
LEAST_STEPS = 1500
"""Fewest steps of a default schedule."""
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.AdamW,
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


@dataclass(frozen=True)
class Schedule:
    """Length and learning rate of a training: a linear rise and a cosine fall to zero.

    Args:
        epochs: passes over the training split.
        batch: images a step.
        peak: the highest learning rate, reached after a tenth of the training.
        decay: weight decay, decoupled from the gradient in Adam.
        optimizer: "adam", or "sgd" with Nesterov momentum 0.9, for batch normalisation.

    >>> Schedule(peak=0.1).rate(0.1)
    0.1
    """

    epochs: int = 10
    batch: int = 128
    peak: float = 1e-3
    decay: float = 0.0
    optimizer: str = "adam"

    def __post_init__(self):
        if self.optimizer not in OPTIMIZERS:
            raise InputError(
                f"unknown optimizer {self.optimizer!r}; {nearest(self.optimizer, list(OPTIMIZERS))}"
            )

    @classmethod
    def for_images(
        cls,
        images: int,
        batch: int = 128,
        peak: float = 1e-3,
        decay: float = 0.0,
        optimizer: str = "adam",
    ) -> Schedule:
        """Return a schedule of ten epochs, or more for `LEAST_STEPS` steps on few images."""
        return cls(
            max(10, math.ceil(LEAST_STEPS * batch / max(images, 1))), batch, peak, decay, optimizer
        )

    def rate(self, progress: float) -> float:
        """Return the learning rate at `progress` in [0, 1]."""
        rise = 0.1
        if progress < rise:
            return self.peak * (0.1 + 0.9 * progress / rise)
        return self.peak * 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))


def train(
    recipe: str | Recipe,
    data: Dataset,
    arch: str | None,
    threat: Threat,
    out: Path,
    *,
    schedule: Schedule | None = None,
    seed: int = 0,
    half: bool = False,
    options: dict[str, Any] | None = None,
    augment: Sequence[str | Augmentation] = (),
    start: Classifier | None = None,
    step: Callable[[int], None] = lambda batches: None,
    log: Callable[[Epoch], None] = lambda epoch: None,
    done: Callable[[], None] | None = None,
    team: Team = ALONE,
) -> nn.Module:
    """Train a model and write it with its card; resume from `OUT.checkpoint` of the same training.

    Several processes train one model and each returns it; only the first reads and writes `out` and
    the files beside it. Batch normalisation sees a rank's share of the batch.

    Args:
        recipe: a name of `RECIPES`, or a recipe.
        data: data with a training split.
        arch: a name of `ARCHITECTURES`; None is that of `start`, or the recipe's default.
        threat: what a robust recipe defends against; the log's robust accuracy is inside it.
        out: the safetensors file to write; OUT.log.jsonl beside it has a line an epoch.
        schedule: length and learning rate.
        seed: seed of weights, order and random starts. It decides the weights, on one machine and
            with the same number of processes.
        half: store float16 weights; the card has the accuracies of the stored weights.
        options: hyper-parameters of a recipe given by name.
        augment: names of `AUGMENTATIONS`, or augmentations; applied to every batch in this order.
        start: a model to begin with, which is not changed; None begins with random weights.
        step: called with the number of batches that were just done.
        log: called after each epoch by the first process.
        done: called by the first process if `out` is this training, finished before, which is then
            returned; `out` of another training is an error. None trains again and replaces it.
        team: the processes that train together, see `joined`; each takes its share of a batch.

    Raises:
        InputError: an argument cannot be used, or the loss is no longer finite.
    """
    if data.train is None:
        raise InputError(f"data {data.name} has no training split to train on")
    if out.is_dir():
        raise InputError(f"{out}: is a folder; give the file to write")
    adversary = make(recipe, threat, options or {}) if isinstance(recipe, str) else recipe
    check(adversary)
    if threat.norm not in ATTACKED and not hasattr(adversary, "evaluated"):
        raise InputError(f"threat {threat}: training and its log attack in L-inf and L2 only")
    if threat.norm not in (norms := getattr(adversary, "norms", (threat.norm,))):
        named = recipe if isinstance(recipe, str) else type(recipe).__name__
        able = " and ".join(map(norm_name, norms))
        raise InputError(f"threat {threat}: recipe {named} trains in {able} only")
    schedule = schedule or Schedule(peak=getattr(adversary, "rate", Schedule.peak))
    if start is None:
        arch = arch or getattr(adversary, "arch", None)
    augmentations = [AUGMENTATIONS[name]() if isinstance(name, str) else name for name in augment]
    device = team.device or default_device()
    keep_memory()
    warn_of_spinning()
    torch.manual_seed(seed)
    model = _begin(arch, data, start).to(device)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if fit := getattr(adversary, "fit", None):
        fit(model, data.train)
        model.to(device)  # the images that it stores came from the CPU
        schedule = replace(schedule, epochs=0)
    weights = list(model.parameters()) or [torch.zeros(0)]  # an optimizer wants some
    kind = OPTIMIZERS[schedule.optimizer]
    optimizer = kind(weights, lr=schedule.peak, weight_decay=schedule.decay)
    identity = {
        "recipe": recipe if isinstance(recipe, str) else type(recipe).__name__,
        "options": options_of(adversary),
        "augment": [repr(augmentation) for augmentation in augmentations],
        "start": start and start.sha256,
        "arch": arch,
        "threat": str(threat),
        "data": data.name,
        "data_sha256": data.sha256,
        "schedule": asdict(schedule),
        "seed": seed,
    }
    checkpoint = out.with_name(out.name + ".checkpoint")
    team.agree(identity)
    content = team.broadcast(partial(resumption.content, checkpoint))
    if done is not None and content is None:
        card = team.broadcast(partial(resumption.card, out))
        if resumption.is_finished(card, identity | {"half": half}, out):
            if team.leads:
                fit_weights(model, read_weights(out), out)
                done()
            team.copy(model)
            return model
    history = resumption.resume(content, checkpoint, identity, model, optimizer)
    step_loss = team.parallel(Step(model, adversary), strays=start is not None)
    classes, balanced = len(data.classes), getattr(adversary, "balanced", False)
    size = batch_size(adversary, schedule, classes)
    batches = math.ceil(len(data.train) / size)
    tested = min(getattr(adversary, "evaluated", IMAGES), len(data.test))
    judge = partial(
        evaluate,
        model,
        data.test,
        threat,
        device,
        tested,
        attacked=not hasattr(adversary, "evaluated"),
        team=team,
    )
    total = batches * schedule.epochs
    step(batches * len(history))
    out.parent.mkdir(parents=True, exist_ok=True)
    for epoch in range(len(history), schedule.epochs):
        generator = torch.Generator().manual_seed(hash((seed, epoch)) & 0x7FFFFFFF)
        starts = torch.Generator(device).manual_seed(team.seed(seed, epoch, 1))
        if balanced:
            order = balanced_order(data.train.labels, classes, size, generator)
        else:
            order = torch.randperm(len(data.train), generator=generator)
        # for layers that draw random numbers: the same after a resumption
        torch.manual_seed(team.seed(seed, epoch, 2))
        model.train()
        losses = []
        for batch, whole in enumerate(order.split(size)):
            indices, share = team.share(whole, classes if balanced else 1)
            behind = epoch * batches + batch
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(behind / total)
            images = data.train.images(indices).to(device, memory_format=torch.channels_last)
            for augmentation in augmentations:
                images = augmentation(images, starts).contiguous(memory_format=torch.channels_last)
            labels = data.train.labels[indices].to(device)
            with autocast(device):
                loss = step_loss(images, labels, behind / total, starts) * share
            optimizer.zero_grad(set_to_none=True)
            (loss * team.world).backward()  # the mean over ranks is to be the sum
            optimizer.step()
            losses.append(loss.detach())
            step(1)
        means = team.total(torch.stack(losses))
        loss = float(means.mean())
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} in epoch {epoch + 1}: the training diverged; lower the "
                "learning rate"
            )
        team.average_statistics(model)
        measured = judge()
        first = history[0].first if history else float(means[0])
        history.append(
            Epoch(
                **asdict(measured),
                epoch=epoch + 1,
                loss=loss,
                overfitting=overfitting(history, measured),
                first=first,
                diverged=divergence(loss if first is None else first, loss),
            )
        )
        if team.leads:
            resumption.save(checkpoint, identity, model, optimizer, history)
            lines = "".join(json.dumps(asdict(line)) + "\n" for line in history)
            write_whole(out.with_name(out.name + ".log.jsonl"), lines.encode())
            log(history[-1])
    if team.leads and (finish := getattr(adversary, "finish", None)):
        finish(model.eval(), data.train)
    team.copy(model)
    if half:
        model.half().float()
    final = judge()
    if not team.leads:
        return model
    card = identity | {
        "shape": data.shape,
        "classes": classes,
        **asdict(final),
        **({"processes": team.world} if team.world > 1 else {}),
        "overfitting": next((line.overfitting for line in history if line.overfitting), None),
        "evaluated": f"first {tested} test images"
        + ("" if final.robust_accuracy is None else f"; robust under PGD-{STEPS}"),
    }
    try:
        save_checkpoint(out, model, card, torch.float16 if half else None)
    except SafetensorError as error:  # such as a full disk
        raise InputError(
            f"{out}: cannot be written ({reason(error)}); the same command continues from its "
            "checkpoint"
        ) from None
    checkpoint.unlink(missing_ok=True)
    return model


def batch_size(recipe: Any, schedule: Schedule, classes: int) -> int:
    """Return the images a step, a multiple of the number of classes for a balanced recipe."""
    if not getattr(recipe, "balanced", False):
        return schedule.batch
    if schedule.batch < classes:
        raise InputError(
            f"batch={schedule.batch}: every batch needs an image of each of the {classes} classes; "
            f"want {classes} or more"
        )
    return schedule.batch // classes * classes


def _begin(arch: str | None, data: Dataset, start: Classifier | None) -> nn.Module:
    """Return a model with random weights, or a trainable copy of `start`."""
    if start is None:
        if arch is None:
            raise InputError("arch=None: name the architecture to train; see `scotoma list models`")
        return ARCHITECTURES[arch](data.shape, len(data.classes))
    model = copy.deepcopy(start.module).requires_grad_(True)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InputError(f"model {start.name} has no weights to train")
    return model
