"""Gradients from logits alone, by finite differences, for models without a useful gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.base import Wrapped
from scotoma.attacks.core.oracle import PerImage, answer
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

DRAWN = 32
"""Random directions of an image that are drawn and evaluated at once."""

STEP = 0.1
"""Distance of the two points of a difference from the image, in each value."""
STREAM = -1
"""Stream of random numbers for the directions; attacks number theirs from 0."""


@dataclass(frozen=True)
class Estimated(Wrapped):
    """An attack whose gradients are estimated from logits: the model is a black box to it.

    By default it differs along every value of an image (Schott et al. 2019, section 5, "GE"): 2
    forward passes a value, exact where the logits are linear between the two points. With
    `directions` it uses random corners of a cube (simultaneous perturbation, Spall 1992; Uesato et
    al. 2018): 2 forward passes a direction, unbiased and noisy.

    Points lie on both sides, `step` away or at the edge of [0, 1], and the difference is divided by
    their distance. Images whose loss has no slope by the logits cost nothing. All passes are in
    float32. Returns what the attack returns.

    Args:
        attack: any attack that follows gradients.
        step: distance in each value that is changed, in (0, 1].
        directions: number of random directions; None means every value in turn.

    >>> from scotoma.attacks.single_step import FGSM
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Estimated(FGSM("linf:0.2"))(nn.Flatten(), images, labels)
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "estimate"
    step: float = STEP
    directions: int | None = None

    def __post_init__(self):
        if not 0 < self.step <= 1:
            raise InputError(
                f"step {self.step:g} of an estimated gradient: want a number in (0, 1]"
            )
        if self.directions is not None and self.directions < 1:
            raise InputError(
                f"{self.directions} directions for an estimated gradient: want at least 1"
            )

    def wrap(self, model: nn.Module, images: Tensor, random: Randomness) -> nn.Module:
        stream = random.fork(STREAM)
        return Estimating(model, len(images), images.device, self.step, self.directions, stream)


class Estimating(PerImage):
    """The model's own logits, with estimated gradients."""

    def __init__(
        self,
        model: nn.Module,
        size: int,
        device: torch.device,
        step: float,
        directions: int | None,
        random: Randomness,
    ):
        super().__init__(model, size, device)
        self.step = step
        self.directions = directions
        self.random = random
        self.counts = torch.zeros(size, dtype=torch.int64, device=device)
        """how many gradients of each image were estimated: each draws directions of its own"""

    def forward(self, images: Tensor) -> Tensor:
        return _Logits.apply(images, self, self.whose(images))  # type: ignore[return-value]

    @torch.no_grad()
    def slope(self, images: Tensor, owners: Tensor, by_logits: Tensor) -> Tensor:
        """Return the gradient by the images (n, c, h, w) of a loss whose gradient by the logits is
        `by_logits` (n, classes)."""
        gradient = torch.zeros_like(images, memory_format=torch.contiguous_format)
        sloped = (by_logits != 0).any(1).nonzero().squeeze(1)
        for at, direction in self._directions(images, owners, sloped):
            x, move = images[at], self.step * direction
            up, down = (x + move).clamp_(0, 1), (x - move).clamp_(0, 1)
            logits = answer(self.model, torch.cat([up, down]), owners[at].repeat(2))
            rise = ((logits[: len(at)] - logits[len(at) :]).float() * by_logits[at]).sum(1)
            share = torch.where(direction != 0, rise[:, None, None, None] / (up - down), 0)
            gradient.index_add_(0, at, share)
        return gradient.div_(self.directions or 1)

    def _directions(
        self, images: Tensor, owners: Tensor, sloped: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield blocks of directions (m, c, h, w) with the indices, int64 (m,), of their images in
        `sloped`."""
        values = images[0].numel()
        most = batch_size(images.device, values)
        if self.directions is None:
            for pair in torch.arange(len(sloped) * values, device=images.device).split(most // 2):
                unit = torch.zeros((len(pair), values), device=images.device)
                unit.scatter_(1, (pair % values)[:, None], 1)
                yield sloped[pair // values], unit.view(-1, *images.shape[1:])
            return
        for block in sloped.split(max(1, most // (2 * min(DRAWN, self.directions)))):
            for random, at in self._streams(block, owners):
                for first in range(0, self.directions, DRAWN):
                    count = min(DRAWN, self.directions - first)
                    chance = random.uniform(images.new_empty(len(at), count, *images.shape[1:]))
                    signs = (chance < 0.5).float().mul_(2).sub_(1)
                    yield at.repeat_interleave(count), signs.flatten(0, 1)

    def _streams(self, at: Tensor, owners: Tensor) -> Iterator[tuple[Randomness, Tensor]]:
        """Yield the random numbers of the images `at`, grouped by how many gradients were estimated
        before (mostly one group)."""
        before = self.counts[owners[at]]
        self.counts[owners[at]] = before + 1
        for number in before.unique().tolist():
            group = at[before == number]
            yield self.random.select(owners[group]).fork(number), group


class _Logits(torch.autograd.Function):
    """The model's forward pass, with finite differences as its backward pass."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, model: Estimating, owners: Tensor) -> Tensor:
        ctx.save_for_backward(images, owners)
        ctx.model = model
        return answer(model.model, images, owners).float()

    @staticmethod
    def backward(ctx: Any, *by_logits: Tensor) -> tuple[Tensor, None, None]:
        images, owners = ctx.saved_tensors
        return ctx.model.slope(images, owners, by_logits[0]), None, None
