"""Adversarial images on disk are exact to the bit, and small."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

from scotoma.results.examples import (
    EXAMPLE,
    ROUNDING,
    as_bytes,
    decode,
    encode,
    pack,
    spread,
    squeeze,
    unpack,
)

DRAW = np.random.default_rng(0)
IMAGES = DRAW.random((40, 64), np.float32)
IMAGES[:, :20], IMAGES[:, 20:30] = 0, 1


def bits(images: np.ndarray) -> list:
    return images.view(np.uint32).tolist()


@pytest.mark.parametrize("size", [1e-9, 1e-3, 0.1, 1.0])
def test_images_are_exact_to_the_bit(size):
    change = size * (2 * DRAW.random(IMAGES.shape) - 1)
    adversarial = (IMAGES + change.astype(np.float32)).clip(0, 1).astype(np.float32)
    adversarial[:, :4] = [1e-40, -0.0, 1e-20, np.nextafter(np.float32(1), np.float32(0))]
    assert bits(decode(*encode(adversarial, IMAGES), IMAGES)) == bits(adversarial)


def test_what_is_no_image_is_exact_too():
    odd = IMAGES.copy()
    odd[:, :5] = [np.nan, np.inf, -np.inf, -5.0, 3e38]
    assert bits(decode(*encode(odd, IMAGES), IMAGES)) == bits(odd)


def test_rounding_of_the_attacked_images_stays_rounding():
    adversarial = (IMAGES + np.float32(0.1)).clip(0, 1)
    rounded = IMAGES * np.float32(1 + 1e-6)
    assert abs(decode(*encode(adversarial, IMAGES), rounded) - adversarial).max() < 1e-5


def test_a_table_keeps_its_failures_and_is_smaller():
    signs = np.where(DRAW.random(IMAGES.shape) < 0.5, -1, 1).astype(np.float32)
    adversarial = (IMAGES + np.float32(0.1) * signs).clip(0, 1)
    kind = pl.Array(pl.Float32, IMAGES.shape[1])
    table = pl.DataFrame({"index": range(len(IMAGES))}).with_columns(
        pl.when(pl.col("index") % 3 > 0).then(pl.Series(EXAMPLE, adversarial, dtype=kind))
    )
    packed = pack(table, IMAGES)
    stored = packed.filter(pl.col(EXAMPLE).is_not_null())
    assert packed[EXAMPLE].is_null().to_list() == [row % 3 == 0 for row in range(len(IMAGES))]
    back = unpack(stored, IMAGES[stored["index"].to_numpy()])
    assert back[EXAMPLE].dtype == kind
    assert bits(back[EXAMPLE].to_numpy()) == bits(adversarial[stored["index"].to_numpy()])

    def size(frame: pl.DataFrame) -> int:
        content = io.BytesIO()
        frame.write_parquet(content, compression="zstd")
        return content.tell()

    assert size(packed) < 0.8 * size(table)


def test_images_that_are_smaller_as_they_are_stay():
    noise = DRAW.random(IMAGES.shape, np.float32)
    kind = pl.Array(pl.Float32, IMAGES.shape[1])
    table = pl.DataFrame({EXAMPLE: pl.Series(np.full_like(noise, 0.5), dtype=kind)})
    packed = pack(table, noise)
    assert packed[ROUNDING].null_count() == len(table)
    assert unpack(packed, noise).equals(table)
    with pytest.raises(ValueError, match="reshape"):
        unpack(packed, noise[:, 1:])


@pytest.mark.parametrize("distinct", [1, 3, 255, 256, 700, 3000])
def test_bytes_are_exact_for_any_number_of_values(distinct):
    values = DRAW.standard_normal(distinct).astype(np.float32)
    values[:1] = -0.0
    values[1:3] = [np.nan, np.inf][: max(0, distinct - 1)]
    sample = values[np.r_[np.arange(distinct), DRAW.integers(0, distinct, 2000)]]
    assert bits(spread(squeeze(sample))) == bits(sample)
    assert spread(squeeze(sample[:0])).shape == (0,)
    with pytest.raises(ValueError, match="buffer"):
        spread(squeeze(sample)[:-1])


def photographs(n: int, side: int) -> np.ndarray:
    """Smooth images of 256 levels, flat."""
    noise = DRAW.random((n, 3, side + 12, side + 12))
    for axis in (2, 3):
        noise = np.mean([np.roll(noise, i, axis) for i in range(12)], axis=0)
    levels = ((noise - noise.min()) / np.ptp(noise) * 255).round()
    return (levels[..., :side, :side].reshape(n, -1) / 255).astype(np.float32)


def test_attacks_on_photographs_take_an_eighth_of_their_images():
    images = photographs(4, 96)
    eps = np.float32(8 / 255)
    signs = np.where(DRAW.random(images.shape) < 0.5, -eps, eps).astype(np.float32)
    adversarial = (images + signs).clip(0, 1)
    kind = pl.Array(pl.Float32, images.shape[1])
    table = pl.DataFrame({"index": range(4), EXAMPLE: pl.Series(adversarial, dtype=kind)})
    packed = pack(table, images)
    assert packed.schema[EXAMPLE] == pl.Binary
    assert bits(unpack(packed, images)[EXAMPLE].to_numpy()) == bits(adversarial)
    content = io.BytesIO()
    packed.write_parquet(content, compression="zstd", compression_level=9)
    assert content.tell() < 0.1 * adversarial.nbytes
    with pytest.raises(ValueError, match="reshape"):
        unpack(packed, images[:, 1:])


def test_tables_of_both_kinds_can_be_joined():
    kind = pl.Array(pl.Float32, IMAGES.shape[1])
    table = pl.DataFrame({EXAMPLE: pl.Series(IMAGES[:3], dtype=kind)}).with_columns(
        pl.when(pl.int_range(3) < 2).then(EXAMPLE).alias(EXAMPLE),
        pl.lit(None, pl.Array(pl.Int32, 64)).alias(ROUNDING),
    )
    joined = pl.concat([as_bytes(table), as_bytes(as_bytes(table))])
    assert joined[EXAMPLE].null_count() == 2
    back = unpack(joined.drop_nulls(EXAMPLE), IMAGES[[0, 1, 0, 1]])
    assert bits(back[EXAMPLE].to_numpy()) == bits(IMAGES[[0, 1, 0, 1]])
