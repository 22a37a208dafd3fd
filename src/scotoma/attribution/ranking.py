"""Which parts of an image come first: the most important, the least important, or any."""

from __future__ import annotations

import torch
from torch import Tensor

from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.registry import nearest

ORDERS = ("importance", "random", "reverse")
"""Largest signed score first; any first, which is the matched control; smallest first."""


def ranking(scores: Tensor, order: str, random: Randomness) -> Tensor:
    """The parts of each image in that order, int64 (n, p).

    Scores that tie stand in random order, not in that of the image's rows: a map that says nothing, such as one of zeros, gives
    "importance" the order that "random" draws. "reverse" is "importance" backwards if both are given the same numbers.

    Args:
        scores: signed importance of the p parts of each image, (n, p).
        order: one of `ORDERS`.
        random: one draw is taken.
    """
    order = known(order, ORDERS, "order")
    shuffled = random.uniform(scores).argsort(dim=1, stable=True)
    if order == "random":
        return shuffled
    ranked = shuffled.gather(
        1, scores.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    )
    return ranked if order == "importance" else ranked.flip(1)


def places(ranked: Tensor) -> Tensor:
    """The place of each part in a `ranking`, from 0 on, int64 (n, p): the first k parts are those whose place is below k."""
    numbers = torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
    return torch.empty_like(ranked).scatter_(1, ranked, numbers)


def by_pixel(attribution: Tensor) -> Tensor:
    """Attribution of each pixel, (n, h w): the sum over its channels, which ranks as their mean does."""
    return attribution.sum(1).flatten(1)


def check(images: Tensor, attribution: Tensor) -> None:
    """Raises `InputError` unless there is one finite attribution for each value of the images."""
    if attribution.shape != images.shape:
        raise InputError(
            f"attribution of shape {tuple(attribution.shape)} for images of {tuple(images.shape)}; want one number for each value"
        )
    if not bool(attribution.isfinite().all()):
        raise InputError(
            "attribution is NaN or infinite somewhere and ranks nothing; check the gradients that it is made of"
        )


def known(name: str, names: tuple[str, ...], what: str) -> str:
    """The name, if it is one of `names`; else raises `InputError` with the nearest."""
    if name not in names:
        raise InputError(f"unknown {what} {name!r}; {nearest(name, list(names))}")
    return name
