"""Adversarial images on disk are exact to the bit, and small."""

from __future__ import annotations

import io

import numpy as np
import polars as pl
import pytest

from scotoma.results.examples import EXAMPLE, ROUNDING, decode, encode, pack, unpack

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
    moved = IMAGES * np.float32(1 + 1e-6)
    assert abs(decode(*encode(adversarial, IMAGES), moved) - adversarial).max() < 1e-5


def test_a_table_keeps_its_failures_and_is_smaller():
    signs = np.where(DRAW.random(IMAGES.shape) < 0.5, -1, 1).astype(np.float32)
    adversarial = (IMAGES + np.float32(0.1) * signs).clip(0, 1)
    kind = pl.Array(pl.Float32, IMAGES.shape[1])
    table = pl.DataFrame({"index": range(len(IMAGES))}).with_columns(
        pl.when(pl.col("index") % 3 > 0).then(pl.Series(EXAMPLE, adversarial, dtype=kind))
    )
    packed = pack(table, IMAGES)
    known = packed.filter(pl.col(EXAMPLE).is_not_null())
    assert packed[EXAMPLE].is_null().to_list() == [row % 3 == 0 for row in range(len(IMAGES))]
    back = unpack(known, IMAGES[known["index"].to_numpy()])
    assert back[EXAMPLE].dtype == kind
    assert bits(back[EXAMPLE].to_numpy()) == bits(adversarial[known["index"].to_numpy()])

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
