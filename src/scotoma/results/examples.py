"""Adversarial images on disk, small and without loss: as they are, or as differences.

Attacks that change few values, or all by the same size, leave differences that compress better than
the images. After a transform the images compress better. A table keeps what is smaller.
"""

from __future__ import annotations

import io

import numpy as np
import polars as pl

EXAMPLE, ROUNDING = "adversarial", "rounding"
"""Columns of the image, flat float32, null where the attack failed; and of what rounding leaves,
null where the image is stored as it is."""
CODE = "smaller"
"""Name of the code in the configuration of a work unit."""
LEVEL = 9
"""Effort of the compression: higher levels take longer and save little."""
TOP = np.uint32(0x80000000)


def encode(adversarial: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return differences, and what their rounding leaves.

    The latter is the distance, in units of the last place, from the sum of attacked image and
    difference to the adversarial image. It is almost always 0 and makes the code exact.

    Args:
        adversarial, attacked: float32 (n, d).

    Returns:
        float32 and int32 (n, d).

    >>> images, white = np.array([[0.25, 1e-9]], np.float32), np.ones((1, 2), np.float32)
    >>> decode(*encode(images, white), white).tolist()
    [[0.25, 9.999999717180685e-10]]
    """
    with np.errstate(invalid="ignore"):  # an attack may return any value
        difference = adversarial - attacked
        left = _ordered(adversarial) - _ordered(attacked + difference)
    return difference, left.view(np.int32)


def decode(difference: np.ndarray, rounding: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """Return the adversarial images, float32 (n, d), bit by bit as they were encoded.

    If the attacked images differ in rounding from those at encoding, as after a transform on
    another machine, the result differs as little.
    """
    with np.errstate(invalid="ignore"):
        return _from_ordered(_ordered(attacked + difference) + rounding.view(np.uint32))


def pack(table: pl.DataFrame, attacked: np.ndarray) -> pl.DataFrame:
    """Store the images of a table, in the way that takes less space.

    Args:
        table: has a column `EXAMPLE`, which may be null.
        attacked: the images before the attack, float32 (n, d).
    """
    known = table[EXAMPLE].is_not_null()
    images, start = np.zeros_like(attacked), attacked[known.to_numpy()]
    images[known.to_numpy()] = table[EXAMPLE].filter(known).to_numpy().reshape(start.shape)
    difference, left = encode(images, attacked)
    plain = _columns(table, known, images, None)
    coded = _columns(table, known, difference, left)
    return min(plain, coded, key=lambda each: _size(each.select(EXAMPLE, ROUNDING)))


def unpack(table: pl.DataFrame, attacked: np.ndarray) -> pl.DataFrame:
    """Return a table of rows with an image, with the images as they were.

    Raises:
        ValueError: the images have another size.
    """
    images = table[EXAMPLE].to_numpy(writable=True).reshape(attacked.shape)
    coded = table[ROUNDING].is_not_null().to_numpy()
    if coded.any():
        left = np.ascontiguousarray(table[ROUNDING].filter(pl.Series(coded)).to_numpy())
        images[coded] = decode(images[coded], left, attacked[coded])
    kind = pl.Array(pl.Float32, attacked.shape[1])
    return table.drop(ROUNDING).with_columns(pl.Series(EXAMPLE, images, dtype=kind))


def _columns(
    table: pl.DataFrame, known: pl.Series, images: np.ndarray, left: np.ndarray | None
) -> pl.DataFrame:
    d = images.shape[1]
    kinds = {EXAMPLE: pl.Array(pl.Float32, d), ROUNDING: pl.Array(pl.Int32, d)}
    columns = []
    for (name, kind), values in zip(kinds.items(), (images, left), strict=True):
        stored = pl.lit(None, kind) if values is None else pl.Series(name, values, dtype=kind)
        columns.append(pl.when(known).then(stored).otherwise(pl.lit(None, kind)).alias(name))
    return table.with_columns(columns)


def _size(table: pl.DataFrame) -> int:
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd", compression_level=LEVEL)
    return content.tell()


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return the position of each float32 among all of them, uint32; differences wrap around."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits & TOP, ~bits, bits | TOP)


def _from_ordered(positions: np.ndarray) -> np.ndarray:
    return np.where(positions & TOP, positions ^ TOP, ~positions).view(np.float32)
