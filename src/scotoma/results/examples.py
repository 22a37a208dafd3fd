"""Adversarial images on disk: small and without loss, as differences from the attacked images.

Many attacks add few distinct values, which compress better than the sums.
"""

from __future__ import annotations

import numpy as np
import polars as pl

EXAMPLE = "adversarial"
"""Column of the adversarial image, flat; null where the attack failed."""
CODE = "difference"
"""Name of the code in the configuration of a work unit."""
TOP = np.uint32(0x80000000)


def encode(adversarial: np.ndarray, attacked: np.ndarray) -> list[bytes]:
    """Return each adversarial image as bytes: 8 a value, which the file then compresses.

    They are the differences in float32, and then the distances from the sum of attacked image and
    difference to the adversarial image, in units of the last place. The latter are almost all 0 and
    make the code exact.

    Args:
        adversarial, attacked: float32 (n, d).

    >>> images = np.array([[0.25, 1e-9]], np.float32)
    >>> decode(encode(images, np.ones_like(images)), np.ones_like(images)).tolist()
    [[0.25, 9.999999717180685e-10]]
    """
    with np.errstate(invalid="ignore"):  # an attack may return any value
        difference = adversarial - attacked
        left = _ordered(adversarial) - _ordered(attacked + difference)
    return [
        change.astype("<f4").tobytes() + rest.astype("<u4").tobytes()
        for change, rest in zip(difference, left, strict=True)
    ]


def decode(stored: list[bytes], attacked: np.ndarray) -> np.ndarray:
    """Return the adversarial images, float32 (n, d), bit by bit as they were encoded.

    If the attacked images differ in rounding from those at encoding, as after a transform on
    another machine, the result differs as little.

    Raises:
        ValueError: the bytes are not those of images of this size.
    """
    n, d = attacked.shape
    halves = np.frombuffer(b"".join(stored), "<u4").reshape(n, 2, d)
    difference, left = np.ascontiguousarray(halves[:, 0]).view(np.float32), halves[:, 1]
    with np.errstate(invalid="ignore"):
        return _from_ordered(_ordered(attacked + difference) + left)


def pack(table: pl.DataFrame, attacked: np.ndarray) -> pl.DataFrame:
    """Encode the column `EXAMPLE` of a table, an array of float32 or null a row."""
    known = table[EXAMPLE].is_not_null().to_numpy()
    stored: list[bytes | None] = [None] * len(table)
    if known.any():
        images = table[EXAMPLE].filter(pl.Series(known)).to_numpy()
        coded = encode(np.ascontiguousarray(images), attacked[known])
        for row, code in zip(np.flatnonzero(known), coded, strict=True):
            stored[row] = code
    return table.with_columns(pl.Series(EXAMPLE, stored, dtype=pl.Binary))


def unpack(table: pl.DataFrame, attacked: np.ndarray) -> pl.DataFrame:
    """Decode the column `EXAMPLE` of rows that have an image."""
    images = decode(table[EXAMPLE].to_list(), attacked)
    kind = pl.Array(pl.Float32, attacked.shape[1])
    return table.with_columns(pl.Series(EXAMPLE, images, dtype=kind))


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return the position of each float32 among all of them, uint32; differences wrap around."""
    bits = values.view(np.uint32)
    return np.where(bits & TOP, ~bits, bits | TOP)


def _from_ordered(positions: np.ndarray) -> np.ndarray:
    return np.where(positions & TOP, positions ^ TOP, ~positions).view(np.float32)
