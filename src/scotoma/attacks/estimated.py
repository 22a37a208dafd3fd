"""Gradients from logits alone, by finite differences: a stand-in where a model has no gradient or a misleading one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.oracle import PerImage, answer
from scotoma.attacks.core.wrapper import Wrapped
from scotoma.utils.device import batch_size
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

DRAWN = 32
"""Random directions of an image that are drawn, and asked about, at once."""

STREAM = -1
"""The part of an attack's random numbers that its estimated gradients draw from; attacks number theirs from 0."""


@dataclass(frozen=True)
class Estimated(Wrapped):
    """An attack whose gradients are estimated from logits: it cannot tell the model from a black box.

    By default along every value of an image (Schott et al. 2019, section 5, "GE"), which costs 2 forward passes a value and is
    exact where the logits are linear between the two points. With `directions`, along random corners of a cube instead
    (simultaneous perturbation, Spall 1992; Uesato et al. 2018): 2 forward passes a direction, right on average, and noisy.

    Points are asked on both sides, `step` away or where the box [0, 1] ends, and the difference is divided by how far they are
    apart. An image whose loss has no slope by the logits costs nothing. All passes are in float32.

    Args:
        attack: any attack that follows gradients.
        step: how far the points lie from the image in each value that is changed, in (0, 1].
        directions: how many random directions; None means every value in turn.
    """

    id: ClassVar[str] = "estimate"
    step: float = 0.1
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
        return _Estimating(model, len(images), images.device, self.step, self.directions, stream)


class _Estimating(PerImage):
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
        self.drawn = torch.zeros(size, dtype=torch.int64, device=device)
        """how many gradients of each image were estimated: each draws directions of its own"""

    def forward(self, images: Tensor) -> Tensor:
        return _Logits.apply(images, self, self.whose(images))  # type: ignore[return-value]

    @torch.no_grad()
    def slope(self, images: Tensor, owners: Tensor, by_logits: Tensor) -> Tensor:
        """The gradient by the images (n, c, h, w) of a loss whose gradient by the logits is `by_logits` (n, classes)."""
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
        """Blocks of directions (m, c, h, w) and, int64 (m,), of which of the images; of all images in `sloped`."""
        values = images[0].numel()
        most = batch_size(images.device, values)
        if self.directions is None:
            for pair in torch.arange(len(sloped) * values, device=images.device).split(most // 2):
                one = torch.zeros((len(pair), values), device=images.device)
                one.scatter_(1, (pair % values)[:, None], 1)
                yield sloped[pair // values], one.view(-1, *images.shape[1:])
            return
        for part in sloped.split(max(1, most // (2 * min(DRAWN, self.directions)))):
            for random, at in self._streams(part, owners):
                for first in range(0, self.directions, DRAWN):
                    count = min(DRAWN, self.directions - first)
                    chance = random.uniform(images.new_empty(len(at), count, *images.shape[1:]))
                    yield (
                        at.repeat_interleave(count),
                        (chance < 0.5).float().mul_(2).sub_(1).flatten(0, 1),
                    )

    def _streams(self, at: Tensor, owners: Tensor) -> Iterator[tuple[Randomness, Tensor]]:
        """The random numbers of the images `at`, grouped by how many gradients were estimated before; most often one group."""
        before = self.drawn[owners[at]]
        self.drawn[owners[at]] = before + 1
        for number in before.unique().tolist():
            group = at[before == number]
            yield self.random.select(owners[group]).fork(number), group


class _Logits(torch.autograd.Function):
    """Forward the model, backward finite differences of it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, model: _Estimating, owners: Tensor) -> Tensor:
        ctx.save_for_backward(images, owners)
        ctx.model = model
        return answer(model.model, images, owners).float()

    @staticmethod
    def backward(ctx: Any, *by_logits: Tensor) -> tuple[Tensor, None, None]:
        images, owners = ctx.saved_tensors
        return ctx.model.slope(images, owners, by_logits[0]), None, None
