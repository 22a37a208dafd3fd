"""How unequally evidence is shared out over an image: Gini coefficient, Lorenz curve and their kin (Duan et al. 2023).

A map says how much each sub-pixel counts, with a sign; a measure of inequality wants amounts that are not negative. The paper, its
code and its published numbers do not agree on the way from one to the other, so a number means nothing without its convention:

* "absolute", |a|: evidence for and against the label alike; the paper's text. A global Gini of normal noise is 0.41.
* "positive", max(a, 0), then summed by region: evidence for the label; the published code. Of normal noise 0.71.
* "net", summed by region, then max(sum, 0): regions whose evidence is for the label on balance; the one that published regional
  numbers fit. The same as "positive" for single sub-pixels, which have nothing to balance.

Every measure takes amounts (n, m) of n images and gives float64 numbers, one or several an image. Amounts that are all 0 count as
equal: their Gini coefficient is 0. An image with a value that is not finite gets NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scotoma.utils.errors import InputError

CONVENTIONS = ("absolute", "positive", "net")
POINTS = 101
"""Of a Lorenz curve: one for each per cent."""
HELD = 2**22
"""Amounts that are sorted at once."""


def global_gini(maps: Tensor, convention: str = "absolute") -> Tensor:
    """The Gini coefficient over all sub-pixels (c h w values) of each map (n, c, h, w), float64 (n,)."""
    return gini(amounts(maps, convention))


def regional_gini(maps: Tensor, convention: str = "absolute", block: int | None = None) -> Tensor:
    """The Gini coefficient over the regions of each map (n, c, h, w), float64 (n,); `block` as in `amounts`, None means
    `default_block`."""
    return gini(
        amounts(maps, convention, default_block(*maps.shape[2:]) if block is None else block)
    )


def default_block(height: int, width: int) -> int:
    """The side of a region in pixels: the power of two nearest to the root of the smaller side. 16 for 224 and 4 for 32, as in the
    paper; 4 for 28, 2 for 8."""
    return 1 << ((min(height, width) - 1).bit_length() // 2)


def amounts(maps: Tensor, convention: str = "absolute", block: int | None = None) -> Tensor:
    """What the measures below are taken of: amounts of at least 0, (n, m).

    Args:
        maps: (n, c, h, w), of either sign.
        convention: "absolute", "positive" or "net", see above.
        block: None for each of the c h w sub-pixels, else regions of about `block` x `block` pixels over all channels. A side that
            is no multiple of the block is cut into round(side / block) equal parts, and a pixel that lies in two of them is shared
            out by area: regions stay equally large and no evidence is lost or made up. 1 is pixels.

    Raises:
        InputError: an unknown convention, or a block below 1.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"convention {convention!r}: want {', '.join(CONVENTIONS)}")
    if block is None:
        return (maps.abs() if convention == "absolute" else maps.clamp_min(0)).flatten(1)
    if block < 1:
        raise InputError(f"block of {block} pixels: want at least 1")
    if convention == "net":
        return _regions(maps, block).clamp_min(0)
    return _regions(maps.abs() if convention == "absolute" else maps.clamp_min(0), block)


def gini(values: Tensor) -> Tensor:
    """(1/m) (m + 1 - 2 sum of (m + 1 - i) v_i / sum of v_i) over ascending v_1 to v_m, float64 (n,).

    0 where all amounts are equal, 1 - 1/m where one has all.
    """
    return _measured(values, _gini)


def hoover(values: Tensor) -> Tensor:
    """What share would have to change hands until all amounts were equal, float64 (n,); from 0 to 1 - 1/m."""
    return _measured(values, lambda shares: (shares - 1 / shares.shape[1]).abs().sum(1) / 2)


def herfindahl(values: Tensor) -> Tensor:
    """Sum of squared shares (Herfindahl-Hirschman), float64 (n,); from 1/m to 1. Its inverse is how many equal amounts would be as
    concentrated."""
    return _measured(values, lambda shares: shares.square().sum(1))


def lorenz(values: Tensor, points: int = POINTS) -> Tensor:
    """The Lorenz curve of each image, float64 (n, points): at j / (points - 1) the share that so large a part of the amounts, the
    smallest first, has together. Linear between amounts, from 0 to 1; curves of images are averaged point by point."""
    if points < 2:
        raise InputError(f"{points} points of a Lorenz curve: want at least 2")
    return _measured(values, lambda shares: _lorenz(shares, points))


def top_share(values: Tensor, counts: Sequence[int]) -> Tensor:
    """What share the k largest amounts have together, float64 (n, len(counts)), for each k in `counts`; 1 for k of m or more."""
    if min(counts, default=0) < 0:
        raise InputError(f"top {min(counts)} amounts: want at least 0")
    return _measured(values, lambda shares: _top_share(shares, counts))


def _gini(shares: Tensor) -> Tensor:
    m = shares.shape[1]
    below = torch.arange(m, 0, -1, dtype=shares.dtype, device=shares.device)
    return ((m + 1 - 2 * (shares.sort(1).values @ below)) / m).clamp(
        0, 1
    )  # rounding would leave it just below 0


def _lorenz(shares: Tensor, points: int) -> Tensor:
    m = shares.shape[1]
    curve = torch.nn.functional.pad(shares.sort(1).values.cumsum(1), (1, 0))
    place = torch.arange(points, dtype=shares.dtype, device=shares.device) * m / (points - 1)
    left = place.long().clamp_max(m - 1)
    return torch.lerp(curve[:, left], curve[:, left + 1], place - left)


def _top_share(shares: Tensor, counts: Sequence[int]) -> Tensor:
    m = shares.shape[1]
    largest = shares.topk(min(m, max(counts, default=0)), 1).values
    curve = torch.nn.functional.pad(largest.cumsum(1), (1, 0))
    return curve[:, [min(m, k) for k in counts]]


def _measured(values: Tensor, measure: Callable[[Tensor], Tensor]) -> Tensor:
    """A measure of float64 shares (n, m), of as many images at once as are sorted in bounded memory."""
    if values.ndim != 2 or not values.shape[1]:
        raise InputError(f"amounts of shape {tuple(values.shape)}: want (images, amounts)")
    return torch.cat(
        [measure(_shares(part)) for part in values.split(max(1, HELD // values.shape[1]))]
    )


def _shares(values: Tensor) -> Tensor:
    """Amounts over their sum; equal where all are 0, NaN where one is not finite."""
    if (values < 0).any():
        raise InputError("amounts below 0 have no inequality; take `amounts` of a map first")
    values = values.double()
    largest = values.amax(1, keepdim=True)
    scaled = torch.where(
        largest == 0, 1, values / largest
    )  # sums of the smallest and largest numbers stay finite
    return scaled / scaled.sum(1, keepdim=True)


def _regions(maps: Tensor, block: int) -> Tensor:
    """Sums over channels and regions, float64 (n, regions)."""
    rows, columns = (_parts(side, block).to(maps.device) for side in maps.shape[2:])
    return torch.einsum("ih,nhw,jw->nij", rows, maps.sum(1, dtype=torch.float64), columns).flatten(
        1
    )


def _parts(side: int, block: int) -> Tensor:
    """What share of each pixel of a side lies in each of its equal parts, float64 (parts, side)."""
    count = max(1, math.floor(side / block + 0.5))
    edges = torch.arange(count + 1, dtype=torch.float64) * side / count
    pixels = torch.arange(side, dtype=torch.float64)
    return (edges[1:, None].minimum(pixels + 1) - edges[:-1, None].maximum(pixels)).clamp_min(0)
