"""How unequally evidence is distributed over an image: Gini coefficient, Lorenz curve and others.

A map gives each sub-pixel a signed importance; a measure of inequality needs amounts of at least 0.
The paper (Duan et al. 2023), its code and its published numbers convert one to the other in
different ways, so a number means something only with its convention:

* "absolute", |a|: evidence for and against the label alike; the paper's text. A global Gini
  coefficient of normal noise is 0.41.
* "positive", max(a, 0), then summed by region: evidence for the label; the published code. Normal
  noise has 0.71.
* "net", summed by region, then max(sum, 0): regions whose evidence is for the label on balance; it
  fits the published regional numbers. It equals "positive" for single sub-pixels.

Every measure takes amounts (n, m) of n images or maps (n, c, h, w), which become amounts by
`amounts`, and returns float64 numbers, one or several for each image. Amounts that are all 0 count
as equal: their Gini coefficient is 0. An image with a value that is not finite gets NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scotoma.utils.errors import InputError

CONVENTIONS = ("absolute", "positive", "net")
POINTS = 101
"""Points of a Lorenz curve: one for each per cent."""
SORTED_AT_ONCE = 2**22
"""Amounts that are sorted at once."""


def gini(values: Tensor, convention: str = "absolute") -> Tensor:
    """Return the Gini coefficient of each map: 0 where evidence is equal, near 1 in one place.

    The coefficient is (m + 1 - 2 sum of (m + 1 - i) v_i / sum of v_i) / m over the ascending
    amounts v_1 to v_m; it is 1 - 1/m where one amount has all.

    Args:
        values: maps (n, c, h, w) of either sign, measured over all c h w sub-pixels; or amounts
            (n, m) of at least 0.
        convention: how maps become amounts: "absolute", "positive" or "net" (see the module).

    Returns:
        float64 (n,) in [0, 1].

    Raises:
        InputError: amounts below 0, another shape or another convention.

    Source: Duan et al. 2023.

    >>> maps = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[1.0, 1.0], [-1.0, 1.0]]]])
    >>> gini(maps).tolist()
    [0.75, 0.0]
    """
    return _measure(values, _gini, convention)


def regional_gini(maps: Tensor, convention: str = "absolute", block: int | None = None) -> Tensor:
    """Return the Gini coefficient over the regions of each map (n, c, h, w), float64 (n,).

    Args:
        maps: maps of either sign.
        convention: see `gini`.
        block: side of a region in pixels, see `amounts`; None means `default_block`.

    >>> maps = torch.zeros(1, 1, 8, 8)
    >>> maps[..., :2, :2] = 1.0
    >>> round(regional_gini(maps, block=2).item(), 4)
    0.9375
    """
    block = default_block(*maps.shape[2:]) if block is None else block
    return gini(amounts(maps, convention, block))


def default_block(height: int, width: int) -> int:
    """Return the side of a region: the power of two nearest to the root of the smaller side.

    It is 16 for 224 pixels and 4 for 32, as in the paper; 4 for 28 and 2 for 8.
    """
    return 1 << ((min(height, width) - 1).bit_length() // 2)


def amounts(maps: Tensor, convention: str = "absolute", block: int | None = None) -> Tensor:
    """Return the amounts of at least 0, (n, m), that the measures are computed from.

    Args:
        maps: (n, c, h, w), of either sign.
        convention: "absolute", "positive" or "net" (see the module).
        block: None for each of the c h w sub-pixels, else regions of about `block` x `block` pixels
            over all channels. A side that is no multiple of the block is cut into
            round(side / block) equal parts, and a pixel that lies in two of them is shared by
            area: regions stay equally large and the evidence keeps its sum. 1 is pixels.

    Raises:
        InputError: an unknown convention, or a block below 1.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"convention {convention!r}: want {', '.join(CONVENTIONS)}")
    if block is not None and block < 1:
        raise InputError(f"block of {block} pixels: want at least 1")
    if block is not None and convention == "net":
        return _regions(maps, block).clamp_min(0)
    positive = maps.abs() if convention == "absolute" else maps.clamp_min(0)
    return positive.flatten(1) if block is None else _regions(positive, block)


def hoover(values: Tensor) -> Tensor:
    """Return the share of the total that would have to move until all amounts were equal.

    Args:
        values: amounts (n, m) or maps, see `gini`.

    Returns:
        float64 (n,), from 0 to 1 - 1/m.

    >>> hoover(torch.tensor([[0.0, 0.0, 3.0, 3.0]])).item()
    0.5
    """
    return _measure(values, lambda shares: (shares - 1 / shares.shape[1]).abs().sum(1) / 2)


def herfindahl(values: Tensor) -> Tensor:
    """Return the sum of squared shares (Herfindahl-Hirschman index).

    Its inverse is the number of equal amounts that would be as concentrated.

    Args:
        values: amounts (n, m) or maps, see `gini`.

    Returns:
        float64 (n,), from 1/m to 1.

    >>> herfindahl(torch.tensor([[0.0, 0.0, 3.0, 3.0]])).item()
    0.5
    """
    return _measure(values, lambda shares: shares.square().sum(1))


def lorenz(values: Tensor, points: int = POINTS) -> Tensor:
    """Return the Lorenz curve of each image.

    The curve gives, at j / (points - 1), the share of the total that this fraction of the amounts,
    the smallest first, has together. It is linear between amounts and runs from 0 to 1. Average
    the curves of several images point by point.

    Args:
        values: amounts (n, m) or maps, see `gini`.
        points: points of the curve, at least 2.

    Returns:
        float64 (n, points).

    >>> lorenz(torch.tensor([[4.0, 0.0, 3.0, 1.0]]), points=5).tolist()
    [[0.0, 0.0, 0.125, 0.5, 1.0]]
    """
    if points < 2:
        raise InputError(f"{points} points of a Lorenz curve: want at least 2")
    return _measure(values, lambda shares: _lorenz(shares, points))


def top_share(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the share of the total that the k largest amounts have, for each k in `counts`.

    Args:
        values: amounts (n, m) or maps, see `gini`.
        counts: numbers k of at least 0; the share is 1 for k of m or more.

    Returns:
        float64 (n, len(counts)).

    >>> top_share(torch.tensor([[1.0, 5.0, 0.0, 2.0]]), [1, 2]).tolist()
    [[0.625, 0.875]]
    """
    if min(counts, default=0) < 0:
        raise InputError(f"top {min(counts)} amounts: want at least 0")
    return _measure(values, lambda shares: _top_share(shares, counts))


def _gini(shares: Tensor) -> Tensor:
    m = shares.shape[1]
    below = torch.arange(m, 0, -1, dtype=shares.dtype, device=shares.device)
    # without the clamp rounding can leave it just below 0
    return ((m + 1 - 2 * (shares.sort(1).values @ below)) / m).clamp(0, 1)


def _lorenz(shares: Tensor, points: int) -> Tensor:
    m = shares.shape[1]
    curve = torch.nn.functional.pad(shares.sort(1).values.cumsum(1), (1, 0))
    position = torch.arange(points, dtype=shares.dtype, device=shares.device) * m / (points - 1)
    index = position.long().clamp_max(m - 1)
    return torch.lerp(curve[:, index], curve[:, index + 1], position - index)


def _top_share(shares: Tensor, counts: Sequence[int]) -> Tensor:
    m = shares.shape[1]
    largest = shares.topk(min(m, max(counts, default=0)), 1).values
    curve = torch.nn.functional.pad(largest.cumsum(1), (1, 0))
    return curve[:, [min(m, k) for k in counts]]


def _measure(
    values: Tensor, measure: Callable[[Tensor], Tensor], convention: str = "absolute"
) -> Tensor:
    """Apply a measure to float64 shares (n, m), in batches that bound the memory of sorting."""
    if values.ndim == 4:
        values = amounts(values, convention)
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(
            f"amounts of shape {tuple(values.shape)}: want (images, amounts) or maps (n, c, h, w)"
        )
    batches = values.split(max(1, SORTED_AT_ONCE // values.shape[1]))
    return torch.cat([measure(_shares(batch)) for batch in batches])


def _shares(values: Tensor) -> Tensor:
    """Return amounts over their sum; equal where all are 0, NaN where one is not finite."""
    if (values < 0).any():
        raise InputError("amounts below 0 have no inequality; take `amounts` of a map first")
    values = values.double()
    largest = values.amax(1, keepdim=True)
    # Scaled first, so that sums of the smallest and of the largest numbers stay finite.
    scaled = torch.where(largest == 0, 1, values / largest)
    return scaled / scaled.sum(1, keepdim=True)


def _regions(maps: Tensor, block: int) -> Tensor:
    """Sum over channels and regions, float64 (n, regions)."""
    rows, columns = (_overlap(side, block).to(maps.device) for side in maps.shape[2:])
    sums = torch.einsum("ih,nhw,jw->nij", rows, maps.sum(1, dtype=torch.float64), columns)
    return sums.flatten(1)


def _overlap(side: int, block: int) -> Tensor:
    """Return the share of each pixel in each equal part of a side, float64 (parts, side)."""
    count = max(1, math.floor(side / block + 0.5))
    edges = torch.arange(count + 1, dtype=torch.float64) * side / count
    pixels = torch.arange(side, dtype=torch.float64)
    return (edges[1:, None].minimum(pixels + 1) - edges[:-1, None].maximum(pixels)).clamp_min(0)
