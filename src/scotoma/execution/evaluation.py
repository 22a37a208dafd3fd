"""Attacks on one batch: each is run, and what it returns is evaluated again outside the attack."""

from __future__ import annotations

import polars as pl
import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import Counted
from scotoma.execution.batching import Attack, Executor, Transform
from scotoma.execution.fingerprint import attack_id, name
from scotoma.execution.records import EXAMPLE, example_column, measure, verified_logits
from scotoma.models.classifier import Classifier
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness


def attack_batch(
    executor: Executor, attack: Attack, transform: Transform | None, indices: Tensor
) -> pl.DataFrame:
    """Attack the images that the model classifies correctly and return the records of all."""
    model, device = executor.model, executor.device
    images, labels = executor.test_images(indices, transform)
    logits = finite_logits(verified_logits(model, images), indices, executor.claim.model)
    correct = (logits.argmax(1) == labels).nonzero().squeeze(1)
    counted = Counted(model, len(correct), device, executor.reduced)
    adversarial = images.clone()
    if len(correct):
        random = Randomness(
            executor.seed, indices.to(device)[correct], f"{attack_id(attack)} {name(transform)}"
        )
        adversarial[correct] = _run(attack, counted, images[correct], labels[correct], random)
    forwards, backwards = torch.zeros_like(labels), torch.zeros_like(labels)
    forwards[correct], backwards[correct] = counted.forwards, counted.backwards
    undefined = torch.zeros_like(labels, dtype=torch.bool)
    undefined[correct] = counted.undefined.isnan()
    passes = forwards, backwards
    # fresh draws of a randomised model would call images correct that were not attacked
    return measure(model, indices, images, labels, adversarial, passes, logits, undefined)


def craft_batch(
    executor: Executor, attack: Attack, module: nn.Module, reduced: bool, indices: Tensor
) -> pl.DataFrame:
    """Attack all images on a source model; the images are returned without an evaluation."""
    images, labels = executor.test_images(indices)
    counted = Counted(module, len(indices), executor.device, reduced)
    random = Randomness(
        executor.seed, indices.to(executor.device), f"{attack_id(attack)} {name(None)}"
    )
    adversarial = _run(attack, counted, images.clone(), labels, random).float()
    columns = {"index": indices, "forwards": counted.forwards, "backwards": counted.backwards}
    frame = pl.DataFrame({column: values.cpu().numpy() for column, values in columns.items()})
    return frame.with_columns(example_column(adversarial))


def transfer_batch(
    executor: Executor, module: nn.Module, crafted: pl.DataFrame, clean: Tensor, rows: Tensor
) -> pl.DataFrame:
    """Return the records of these rows of `crafted` (see `craft_batch`) on a target model.

    `clean` are its float32 logits of the original images, a row for each of `crafted`.
    """
    selected = crafted[rows.numpy()]
    needed = ("index", "forwards", "backwards", EXAMPLE)
    column = {key: torch.from_numpy(selected[key].to_numpy(writable=True)) for key in needed}
    images, labels = executor.test_images(column["index"])
    adversarial = executor.place(column[EXAMPLE].view_as(images))
    passes = column["forwards"], column["backwards"]
    records = measure(module, column["index"], images, labels, adversarial, passes, clean[rows])
    return records.drop(EXAMPLE)


def finite_logits(logits: Tensor, indices: Tensor, model: Classifier) -> Tensor:
    """Return the logits of these test images. Raises `InputError` if some are not finite."""
    finite = logits.isfinite().all(1)
    if not finite.all():
        first = int(indices[int(finite.logical_not().nonzero()[0])])
        raise InputError(
            f"model {model.name} returns NaN or infinite logits for test image {first}"
        )
    return logits


def _run(
    attack: Attack, model: Counted, images: Tensor, labels: Tensor, random: Randomness
) -> Tensor:
    """Return the adversarial images. Raises `InputError` if the attack returns anything else."""
    shape = tuple(images.shape)
    adversarial = attack(model, images, labels, generator=random)
    if not isinstance(adversarial, Tensor) or adversarial.shape != shape:
        is_tensor = isinstance(adversarial, Tensor)
        kind = tuple(adversarial.shape) if is_tensor else type(adversarial).__name__
        raise InputError(f"attack {attack_id(attack)} returned {kind} for images of shape {shape}")
    return adversarial.detach().to(images)
