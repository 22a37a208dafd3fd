"""Random numbers that belong to an image, not to its place in a batch.

An attack draws from a `Randomness` that knows which image each row is. Each number is a hash of
(seed, image, draw, pixel), so that any split of the images over batches, processes or restarts
gives every image the same numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_MASK = {bits: (1 << (64 - bits)) - 1 for bits in (27, 30, 31)}
_GOLDEN, _MIX1, _MIX2 = (
    n - (1 << 64) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


@contextmanager
def own_numbers(seed: int | None = None) -> Iterator[None]:
    """Keep torch's global random numbers as they were, whatever is drawn inside, on any device.

    Args:
        seed: seed of the numbers inside; None continues with those of the caller.

    >>> with own_numbers(0):
    ...     first = torch.rand(2)
    >>> with own_numbers(0):
    ...     bool((torch.rand(2) == first).all())
    True
    """
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        if seed is not None:
            torch.manual_seed(seed)
        yield


class Randomness:
    """A stream of random numbers for each image.

    Args:
        seed: the run's seed.
        indices: int64 (n,), which image of the data set each row is.
        purpose: what the numbers are for, so that two attacks with one seed do not share them.

    >>> images = torch.zeros(3, 1, 2, 2)
    >>> two = Randomness(0, torch.tensor([5, 7])).uniform(images[:2])
    >>> bool((Randomness(0, torch.tensor([7])).uniform(images[:1])[0] == two[1]).all())
    True
    """

    def __init__(self, seed: int, indices: Tensor, purpose: str = ""):
        digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8]
        self._keys = _hash(indices.to(torch.int64) + int.from_bytes(digest, "big", signed=True))
        self._draws = 0

    @classmethod
    def default(cls, images: Tensor) -> Randomness:
        """Return the streams of seed 0 with rows numbered from 0, an attack's default."""
        return cls(0, torch.arange(len(images), device=images.device))

    def select(self, keep: Tensor) -> Randomness:
        """Return the streams of the rows in `keep`, a mask or indices, in their current state."""
        selected = object.__new__(Randomness)
        selected._keys, selected._draws = self._keys[keep], self._draws
        return selected

    def fork(self, number: int) -> Randomness:
        """Return separate streams for part `number` of an attack, whatever was drawn before."""
        forked = object.__new__(Randomness)
        forked._keys, forked._draws = _hash(self._keys ^ _hash(torch.tensor(number))), 0
        return forked

    def forks(self, numbers: list[int]) -> Randomness:
        """Return the streams of `fork(number)` for each number, one after the other."""
        forked = object.__new__(Randomness)
        keys = [self.fork(number)._keys for number in numbers]
        forked._keys, forked._draws = torch.cat([self._keys[:0], *keys]), 0
        return forked

    def uniform(self, like: Tensor) -> Tensor:
        """Draw float32 numbers in [0, 1) of the shape of `like` (n, ...)."""
        self._draws += 1
        rows = _hash(self._keys + self._draws)
        pixels = torch.arange(like.shape[1:].numel(), device=like.device)
        bits = _hash(rows[:, None] + pixels * _GOLDEN)
        return (bits >> 40).bitwise_and_(0xFFFFFF).float().div_(1 << 24).view(like.shape)

    def normal(self, like: Tensor) -> Tensor:
        """Draw standard normal numbers of the shape of `like` (Box-Muller)."""
        radius = (-2 * torch.log1p(-self.uniform(like))).sqrt_()
        return radius * torch.cos(2 * math.pi * self.uniform(like))


def _hash(x: Tensor) -> Tensor:
    """Apply splitmix64's finaliser (Steele et al. 2014) to int64; masks make shifts logical."""
    for bits, factor in ((30, _MIX1), (27, _MIX2)):
        x = _folded(x, bits).mul_(factor)
    return _folded(x, 31)


def _folded(x: Tensor, bits: int) -> Tensor:
    """Return x ^ (x >> bits) of unsigned numbers, in one new tensor."""
    return (x >> bits).bitwise_and_(_MASK[bits]).bitwise_xor_(x)
