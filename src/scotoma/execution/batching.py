"""What the run works with: a device, batches that fit into its memory, and random numbers that return."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Claim
from scotoma.execution.fingerprint import name
from scotoma.models.classifier import Classifier
from scotoma.utils.device import batch_size, default_device, keep_memory, pays_in_bf16
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.threads import warn_of_spinning

Attack = Callable[..., Tensor]
T = TypeVar("T")


class Workbench:
    """Where the models of a claim's audit are asked: `device`, and the `batch_size` that fits there."""

    def __init__(self, claim: Claim, seed: int):
        keep_memory()
        warn_of_spinning()
        self.claim = claim
        self.seed = seed
        self.device = default_device()
        self.batch_size = batch_size(self.device, math.prod(claim.data.shape))

    def _module(self, model: Classifier) -> nn.Module:
        return model.module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _pays_in_bf16(self, module: nn.Module) -> bool:
        with self._seeded():
            return pays_in_bf16(module, self._place(self.claim.data.test.images(torch.arange(1))))

    def _place(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def _batches(
        self, indices: Tensor, work: Callable[[Tensor], T], advance: Callable[[int], None]
    ) -> list[T]:
        """The results of `work` on batches of equal size, halved from then on when memory runs out."""
        results, start = [], 0
        while start < len(indices):
            left = len(indices) - start
            batch = indices[start : start + -(-left // -(-left // self.batch_size))]
            try:
                results.append(work(batch))
            except (MemoryError, RuntimeError) as error:
                if not _is_lack_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise InputError(
                        f"one image of {self.claim.data.name} does not fit into the memory of {self.device}"
                    ) from None
                self.batch_size = -(-len(batch) // 2)
                continue
            start += len(batch)
            advance(len(batch))
        return results

    @contextmanager
    def _seeded(self) -> Iterator[None]:
        """A randomised model draws the same numbers whenever the same work is done; the caller's random state is kept."""
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self.seed)
            yield


def ask(
    attack: Attack, model: Counted, images: Tensor, labels: Tensor, random: Randomness
) -> Tensor:
    """What the attack makes of the images; `InputError` where it is no such images."""
    shape = tuple(images.shape)
    found = attack(model, images, labels, generator=random)
    if not isinstance(found, Tensor) or found.shape != shape:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"attack {name(attack)} returned {got} for images of shape {shape}")
    return found.detach().to(images)


def finite(logits: Tensor, indices: Tensor, model: Classifier) -> Tensor:
    """These logits of test images, if they are numbers."""
    if not logits.isfinite().all():
        first = indices[int(logits.isfinite().all(1).logical_not().nonzero()[0])]
        raise InputError(
            f"model {model.name} returns NaN or infinite logits for test image {int(first)}"
        )
    return logits


def _is_lack_of_memory(error: Exception) -> bool:
    """Python's, an accelerator's, or that of torch on a CPU, which is a plain RuntimeError."""
    kinds = (MemoryError, torch.OutOfMemoryError)
    return (
        isinstance(error, kinds)
        or "allocate memory" in str(error)
        or "not enough memory" in str(error)
    )
