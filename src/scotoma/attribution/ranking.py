"""The order of the values of an image: most important first, least important first, or random."""

from __future__ import annotations

import torch
from torch import Tensor

from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness
from scotoma.utils.registry import nearest

ORDERS = ("importance", "random", "reverse")
"""Largest signed score first; random order, the matched control; smallest first."""


def ranking(scores: Tensor, order: str, random: Randomness) -> Tensor:
    """Return the values of each image in an order, as indices int64 (n, p).

    Ties are in random order, not in that of the rows of the image: a constant map gives
    "importance" the order that "random" draws. "reverse" is "importance" backwards if both get
    equal random numbers.

    Args:
        scores: signed importance of the p values of each image, (n, p).
        order: one of `ORDERS`.
        random: random numbers, from which one draw is taken.
    """
    order = known(order, ORDERS, "order")
    shuffled = random.uniform(scores).argsort(dim=1, stable=True)
    if order == "random":
        return shuffled
    descending = scores.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    ranked = shuffled.gather(1, descending)
    return ranked if order == "importance" else ranked.flip(1)


def places(ranked: Tensor) -> Tensor:
    """Return the place of each value in a `ranking`, from 0 to p - 1, int64 (n, p)."""
    numbers = torch.arange(ranked.shape[1], device=ranked.device).expand_as(ranked)
    return torch.empty_like(ranked).scatter_(1, ranked, numbers)


def by_pixel(attribution: Tensor) -> Tensor:
    """Return the sum over channels for each pixel, (n, h w); it ranks as the mean does."""
    return attribution.sum(1).flatten(1)


def check(images: Tensor, attribution: Tensor) -> None:
    """Raise `InputError` unless there is one finite attribution for each value of the images."""
    if attribution.shape != images.shape:
        raise InputError(
            f"attribution of shape {tuple(attribution.shape)} for images of {tuple(images.shape)}; "
            "want one number for each value"
        )
    if not bool(attribution.isfinite().all()):
        raise InputError(
            "attribution is NaN or infinite somewhere; check the gradients that it is made of"
        )


def known(name: str, names: tuple[str, ...], what: str) -> str:
    """Return the name if it is one of `names`; else raise `InputError` with the nearest."""
    if name not in names:
        raise InputError(f"unknown {what} {name!r}; {nearest(name, list(names))}")
    return name
