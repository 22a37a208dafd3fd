"""The voting folded Gaussian attack: one pixel after the other (Cesaire et al. 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.batch import Batch
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import soft_margin
from scotoma.attacks.core.oracle import Loss, Oracle
from scotoma.attacks.refine import take_back
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness


@dataclass(frozen=True)
class VFGA(MinimumNormAttack):
    """Changes the most promising pixel by the best of several random amounts, until one fools.

    Cesaire et al. 2021, "Stochastic sparse adversarial attacks" (VFGA). A pixel's promise is its
    gradient times its distance to the edge of the box, summed over channels. The `pixels` of
    largest promise are each tried with `samples` amounts, absolute values of Gaussian numbers whose
    variance is that distance, clipped to the box, and here also with the whole distance. The trial
    of largest margin counts; then another pixel is changed.

    Four differences: a soft margin replaces the label's probability, whose gradient vanishes where
    the model is sure; pixels compete over both directions; a pixel is all its channels; at the end
    pixels that are not needed are reverted as in `Pointwise`.

    Args:
        norm: "l0".
        samples: random amounts for each pixel.
        pixels: pixels tried at once.
        softness: softness of the margin (`soft_margin`).
        limit: maximum number of changed pixels; None means all.
        refine: whether to revert pixels at the end.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> VFGA("l0")(nn.Flatten(), images, labels)  # one pixel changes
    tensor([[[[0.0000, 0.4000]]]])
    """

    id: ClassVar[str] = "vfga"
    norms: ClassVar = ("l0",)
    samples: int = 10
    pixels: int = 2
    softness: float = 0.3
    limit: int | None = None
    refine: bool = True

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial = images.clone()
        loss = soft_margin(self.softness)
        changed = torch.zeros_like(images[:, 0])
        state = _State(Oracle(model, labels), random, images.contiguous(), changed)
        state.drop(state.oracle.fooled(images))
        area = state.changed[:1].numel()
        for _ in range(area if self.limit is None else min(self.limit, area)):
            if not len(state):
                break
            gradient = state.oracle.value_and_grad(state.x, loss).gradient
            rise = gradient.clone().gt_(0).sub_(state.x)  # to 1 or to 0, whatever the loss gains by
            promise = rise.mul_(gradient).sum(1)
            promise = promise.mul_(1 - state.changed).sub_(state.changed).flatten(1)
            promises, pixels = promise.topk(min(self.pixels, area), dim=1)
            going = promises[:, 0] > 0  # else nothing is left, or there is no gradient
            state.drop(~going)
            if not len(state):
                break
            state.finish(
                self._change(state, gradient[going], pixels[going], loss), state.x, adversarial
            )
        if self.refine:
            take_back(adversarial, Batch(model, images, labels, random.fork(0)))
        return adversarial

    def _change(self, state: _State, gradient: Tensor, pixels: Tensor, loss: Loss) -> Tensor:
        """Change one of `pixels`, (n, k), of each image. Return where that fools."""
        n, k = pixels.shape
        channels = state.x.shape[1]
        at = pixels[:, None].expand(-1, channels, -1)  # (n, c, k)
        old, slope = state.x.flatten(2).gather(2, at), gradient.flatten(2).gather(2, at)
        room = torch.where(slope > 0, 1 - old, old)
        draws = state.random.normal(state.x.new_empty(n, self.samples, channels, k)).abs_()
        amounts = torch.cat([room.sqrt()[:, None] * draws, room[:, None]], 1).minimum(room[:, None])
        new = old[:, None] + amounts * slope.sign()[:, None]  # (n, samples + 1, c, k)
        new = new.permute(0, 1, 3, 2).flatten(1, 2).clamp_(0, 1)  # (n, trials, c)
        pixel = pixels.repeat(1, self.samples + 1)

        gain = torch.empty(pixel.shape, device=old.device)
        wins = torch.empty_like(gain, dtype=torch.bool)
        trials = pixel.shape[1]
        most = max(1, batch_size(old.device, state.x[0].numel()) // trials)
        for rows in torch.arange(n, device=old.device).split(most):
            copies = state.x[rows].repeat_interleave(trials, 0)
            x = _with_pixels(copies, pixel[rows].flatten(), new[rows].flatten(0, 1))
            oracle = state.oracle.select(rows.repeat_interleave(trials))
            logits = oracle.logits(x)
            gain[rows] = loss(logits, oracle.labels).view(-1, trials)
            wins[rows] = fooled(logits, oracle.labels).view(-1, trials)
        vote = gain.masked_fill(gain.isnan(), -torch.inf).masked_fill(wins, torch.inf).argmax(1)
        row = torch.arange(n, device=old.device)
        state.x = _with_pixels(state.x.clone(), pixel[row, vote], new[row, vote])
        changed = state.changed.flatten(1).scatter(1, pixel[row, vote][:, None], 1)
        state.changed = changed.view_as(state.changed)
        return wins[row, vote]


def _with_pixels(images: Tensor, pixel: Tensor, values: Tensor) -> Tensor:
    """Set each image's pixel (n,) to values (n, c), in place."""
    flat = images.view(len(images), images.shape[1], -1)
    flat.scatter_(2, pixel[:, None, None].expand(-1, flat.shape[1], 1), values[:, :, None])
    return images


@dataclass
class _State(Active):
    random: Randomness
    x: Tensor
    changed: Tensor
    """1 where a pixel was changed, else 0; (n, h, w)"""
