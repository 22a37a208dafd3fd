"""Adversarial images on disk, small and without loss: as they are, or as differences.

Attacks that change few values, or all by the same size, leave differences that compress better than
the images. After a transform the images compress better. Large images are smaller still with one
byte for each value that is frequent in the image. A table keeps what is smallest.
"""

from __future__ import annotations

import io

import numpy as np
import polars as pl

EXAMPLE, ROUNDING = "adversarial", "rounding"
"""Columns of the image (flat float32 or bytes of `squeeze`, null where the attack failed) and of
the rounding error (null where the image is stored as it is)."""
CODE = "smaller"
"""Name of the code in the configuration of a work unit."""
FREQUENT = 255
"""Values of an image that have a byte of their own; the last byte is for all others."""
LARGE = 30_000
"""Values of an image for which a byte each is always smaller: 100x100 pixels in colour."""
LEVEL = 9
"""Effort of the compression: higher levels take longer and save little."""
TOP = np.uint32(0x80000000)


def encode(adversarial: np.ndarray, attacked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return differences, and their rounding errors.

    A rounding error is the distance, in units of the last place, from the sum of attacked image and
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
        rounding = _ordered(adversarial) - _ordered(attacked + difference)
    return difference, rounding.view(np.int32)


def decode(difference: np.ndarray, rounding: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """Return the adversarial images, float32 (n, d), bit by bit as they were encoded.

    If the attacked images differ in rounding from those at encoding, as after a transform on
    another machine, the result differs as little.
    """
    with np.errstate(invalid="ignore"):
        return _from_ordered(_ordered(attacked + difference) + rounding.view(np.uint32))


def pack(table: pl.DataFrame, attacked: np.ndarray) -> pl.DataFrame:
    """Encode the images of a table with the code that takes least space.

    Args:
        table: has a column `EXAMPLE`, which may be null.
        attacked: the images before the attack, float32 (n, d).
    """
    has_image = table[EXAMPLE].is_not_null()
    images, start = np.zeros_like(attacked), attacked[has_image.to_numpy()]
    images[has_image.to_numpy()] = table[EXAMPLE].filter(has_image).to_numpy().reshape(start.shape)
    if images.shape[1] < LARGE:
        codings = [code(table, has_image, images, attacked) for code in (_whole, _differences)]
        return min([each for coding in codings for each in (coding, as_bytes(coding))], key=_size)
    # large images are smallest as bytes, and one of them tells with which code: coding all twice
    # takes as long as some passes of a model
    first = has_image.arg_true().head(1).to_numpy()
    trial = table[first], has_image[first], images[first], attacked[first]
    code = min((_whole, _differences), key=lambda code: _size(as_bytes(code(*trial))))
    return as_bytes(code(table, has_image, images, attacked))


def _whole(
    table: pl.DataFrame, has_image: pl.Series, images: np.ndarray, attacked: np.ndarray
) -> pl.DataFrame:
    return _columns(table, has_image, images, None)


def _differences(
    table: pl.DataFrame, has_image: pl.Series, images: np.ndarray, attacked: np.ndarray
) -> pl.DataFrame:
    return _columns(table, has_image, *encode(images, attacked))


def as_bytes(table: pl.DataFrame) -> pl.DataFrame:
    """Return a stored table with every image as bytes, so that tables can be joined."""
    if table.schema[EXAMPLE] == pl.Binary:
        return table
    has_image = table[EXAMPLE].is_not_null().to_list()
    images = iter(table[EXAMPLE].drop_nulls().to_numpy())
    contents = [squeeze(next(images)) if present else None for present in has_image]
    return table.with_columns(pl.Series(EXAMPLE, contents, dtype=pl.Binary))


def squeeze(values: np.ndarray) -> bytes:
    """Return one byte for each value, followed by the rare values in full.

    Before them come d, the number of frequent values, and these values. Rare values are stored byte
    by byte: the first bytes of all, then the second bytes of all, and so on.

    Args:
        values: float32 (d,).

    >>> spread(squeeze(np.array([0.5, -0.0, 0.5], np.float32))).tolist()
    [0.5, -0.0, 0.5]
    """
    bits, rank_of_value, count = np.unique(
        np.ascontiguousarray(values).view(np.uint32), return_inverse=True, return_counts=True
    )
    order = np.argsort(-count, kind="stable")
    rank = np.empty(len(bits), np.int64)
    rank[order] = np.arange(len(bits))
    codes = rank[rank_of_value]
    rare = bits[rank_of_value[codes >= FREQUENT]].view(np.uint8).reshape(-1, 4)
    frequent = bits[order[:FREQUENT]]
    sizes = np.array([len(codes), len(frequent)], np.uint32)
    parts = (sizes, frequent, np.minimum(codes, FREQUENT).astype(np.uint8), rare.T)
    return b"".join(part.tobytes() for part in parts)


def spread(content: bytes) -> np.ndarray:
    """Return the values of `squeeze`, float32 (d,). Raises `ValueError` where bytes are missing."""
    d, count = map(int, np.frombuffer(content, np.uint32, 2))
    frequent = np.frombuffer(content, np.uint32, count, 8)
    codes = np.frombuffer(content, np.uint8, d, 8 + 4 * count)
    rare = codes == FREQUENT
    rare_bytes = np.frombuffer(content, np.uint8, 4 * int(rare.sum()), 8 + 4 * count + d)
    values = np.empty(d, np.uint32)
    values[~rare] = frequent[codes[~rare]]
    values[rare] = np.ascontiguousarray(rare_bytes.reshape(4, -1).T).view(np.uint32).ravel()
    return values.view(np.float32)


def unpack(table: pl.DataFrame, attacked: np.ndarray) -> pl.DataFrame:
    """Return a table of rows with an image, with the images as they were.

    Raises:
        ValueError: the images have another size.
    """
    if table.schema[EXAMPLE] == pl.Binary:
        arrays = [spread(content) for content in table[EXAMPLE]]
        images = np.array(arrays, np.float32).reshape(attacked.shape)
    else:
        images = table[EXAMPLE].to_numpy(writable=True).reshape(attacked.shape)
    coded = table[ROUNDING].is_not_null().to_numpy()
    if coded.any():
        rounding = np.ascontiguousarray(table[ROUNDING].filter(pl.Series(coded)).to_numpy())
        images[coded] = decode(images[coded], rounding, attacked[coded])
    kind = pl.Array(pl.Float32, attacked.shape[1])
    return table.drop(ROUNDING).with_columns(pl.Series(EXAMPLE, images, dtype=kind))


def _columns(
    table: pl.DataFrame, has_image: pl.Series, images: np.ndarray, rounding: np.ndarray | None
) -> pl.DataFrame:
    d = images.shape[1]
    kinds = {EXAMPLE: pl.Array(pl.Float32, d), ROUNDING: pl.Array(pl.Int32, d)}
    columns = []
    for (name, kind), values in zip(kinds.items(), (images, rounding), strict=True):
        column = pl.lit(None, kind) if values is None else pl.Series(name, values, dtype=kind)
        columns.append(pl.when(has_image).then(column).otherwise(pl.lit(None, kind)).alias(name))
    return table.with_columns(columns)


def _size(table: pl.DataFrame) -> int:
    content = io.BytesIO()
    table.select(EXAMPLE, ROUNDING).write_parquet(
        content, compression="zstd", compression_level=LEVEL
    )
    return content.tell()


def _ordered(values: np.ndarray) -> np.ndarray:
    """Return the position of each float32 among all of them, uint32; differences wrap around."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits & TOP, ~bits, bits | TOP)


def _from_ordered(positions: np.ndarray) -> np.ndarray:
    return np.where(positions & TOP, positions ^ TOP, ~positions).view(np.float32)
