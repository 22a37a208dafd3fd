"""Where a run computes: device, batches that fit into memory, and repeatable random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from scotoma.claim import Claim
from scotoma.data.dataset import Split
from scotoma.models.classifier import Classifier
from scotoma.utils.device import batch_size, default_device, keep_memory, pays_in_bf16
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Advance, unseen
from scotoma.utils.random import own_numbers
from scotoma.utils.threads import keep_to_usable_cores, warn_of_spinning

Attack = Callable[..., Tensor]
Transform = Callable[[Tensor], Tensor]
T = TypeVar("T")

LOOKED_AT = 4
"""Test images on which bf16 is tried."""


class Executor:
    """A claim's model and images on the device, in batches of at most `batch_size` images.

    Args:
        claim: the model, already checked (`Classifier.checked`), and its data.
        seed: seed of the random numbers that a randomised model draws.
    """

    def __init__(self, claim: Claim, seed: int):
        keep_memory()
        keep_to_usable_cores()
        warn_of_spinning()
        self.claim = claim
        self.seed = seed
        self.device = default_device()
        self.batch_size = batch_size(self.device, math.prod(claim.data.shape))
        self.layout = torch.channels_last
        self.model = self.module(claim.model)
        self.reduced = self.pays_in_bf16(self.model)

    def module(self, model: Classifier) -> nn.Module:
        """Return the network of `model`, moved to the device."""
        module = self._laid_out(model.module.to(self.device))
        if self.layout == torch.channels_last and not self._fits(module):
            self.layout = torch.contiguous_format
            module = self._laid_out(module)
        return module

    def _laid_out(self, module: nn.Module) -> nn.Module:
        return module.to(memory_format=self.layout)  # type: ignore[call-overload]

    @torch.no_grad()
    def _fits(self, module: nn.Module) -> bool:
        """Return whether a network takes the layout: one that flattens with `view` may not."""
        images = self.claim.data.test.images(torch.arange(min(2, len(self.claim.data.test))))
        try:
            with self.seeded():
                module(self.place(images))
        except RuntimeError as error:
            return "view size is not compatible" not in str(error)
        return True

    def place(self, images: Tensor) -> Tensor:
        """Return `images` on the device."""
        return images.to(self.device, memory_format=self.layout)

    def test_images(
        self, indices: Tensor, transform: Transform | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return these test images after `transform`, and their labels, on the device."""
        split = self.claim.data.test
        images = split.images(indices)
        images = transform(images) if transform else images
        return self.place(images), split.labels[indices].to(self.device)

    def pays_in_bf16(self, module: nn.Module) -> bool:
        """Return whether attacks on `module` should search in bf16."""
        few = torch.arange(min(LOOKED_AT, len(self.claim.data.test)))
        with self.seeded():
            return pays_in_bf16(module, self.test_images(few)[0])

    def map_batches(
        self,
        indices: Tensor,
        work: Callable[[Tensor], T],
        advance: Advance = unseen,
        reads: Split | None = None,
    ) -> list[T]:
        """Return the results of `work` on batches of `indices` of about equal size.

        If memory runs out, this batch and all later ones are halved.

        Args:
            advance: called with the number of images after each batch.
            reads: the split whose images `work` reads; the next batch is decoded meanwhile.
        """
        results, start = [], 0
        expect = getattr(reads, "expect", None)
        while start < len(indices):
            batch = self._next(indices, start)
            if expect is not None:
                expect(batch)
                if len(after := self._next(indices, start + len(batch))):
                    expect(after)
            try:
                results.append(work(batch))
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    name = self.claim.data.name
                    raise InputError(
                        f"one image of {name} does not fit into the memory of {self.device}"
                    ) from None
                self.batch_size = -(-len(batch) // 2)
                continue
            start += len(batch)
            advance(len(batch))
        return results

    def _next(self, indices: Tensor, start: int) -> Tensor:
        """Return the batch that begins at `start`, of a size that leaves equal ones."""
        remaining = len(indices) - start
        batches = -(-remaining // self.batch_size)
        return indices[start : start + (-(-remaining // batches) if batches else 0)]

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Let a randomised model draw the same numbers each time the same work is done.

        The caller's random state is restored afterwards.
        """
        with own_numbers(self.seed):
            yield


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises a plain RuntimeError if a CPU's memory runs out
    text = str(error)
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "allocate memory" in text or "not enough memory" in text
    )
