"""Folders of image files."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scotoma.data import load_data
from scotoma.utils.errors import InputError

RNG = np.random.default_rng(3)
GREY = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def only(root: Path) -> torch.Tensor:
    return load_data(f"folder:{root}").test.images(torch.tensor([0]))[0]


def test_classes_labels_and_pixels(tmp_path):
    save(tmp_path / "test/cat/b.png", GREY)
    save(tmp_path / "test/cat/a.BMP", 255 - GREY)
    save(tmp_path / "test/dog/c.png", GREY // 2)
    save(tmp_path / "train/ant/d.png", GREY)
    (tmp_path / "test/cat/notes.txt").write_text("not an image")
    (tmp_path / "test/cat/._b.png").write_bytes(b"what a Mac leaves behind")
    (tmp_path / "test/.cache").mkdir()
    data = load_data(f"folder:{tmp_path}")
    assert data.train is not None
    assert (data.classes, data.shape, len(data.test), len(data.train)) == (
        ("ant", "cat", "dog"),
        (1, 6, 5),
        3,
        1,
    )
    assert data.test.labels.tolist() == [1, 1, 2]
    images = data.test.images(torch.tensor([2, 0]))
    assert images.dtype == torch.float32
    assert torch.equal(
        images[:, 0], torch.from_numpy(np.stack([GREY // 2, 255 - GREY]).astype(np.float32) / 255)
    )


def test_colour_and_no_training_split(tmp_path):
    save(tmp_path / "test/0/a.png", COLOUR)
    data = load_data(f"folder:{tmp_path}")
    assert data.train is None
    assert torch.equal(
        only(tmp_path), torch.from_numpy(COLOUR.transpose(2, 0, 1).astype(np.float32) / 255)
    )


def test_grey_files_among_colour_become_colour(tmp_path):
    save(tmp_path / "test/0/a.png", GREY)
    save(tmp_path / "test/1/b.png", COLOUR)
    data = load_data(f"folder:{tmp_path}")
    assert data.shape == (3, 6, 5)
    assert torch.equal(
        only(tmp_path), torch.from_numpy(GREY.astype(np.float32) / 255).expand(3, 6, 5)
    )


def test_sixteen_bits_are_not_clipped(tmp_path):
    deep = RNG.integers(0, 65536, (6, 5), dtype=np.uint16)
    save(tmp_path / "test/0/a.png", deep)
    assert torch.allclose(only(tmp_path)[0], torch.from_numpy(deep / 65535).float())


def test_the_hash_follows_the_content(tmp_path):
    save(tmp_path / "test/0/a.bmp", GREY)
    before = load_data(f"folder:{tmp_path}").sha256
    assert load_data(f"folder:{tmp_path}").sha256 == before
    save(tmp_path / "test/0/a.bmp", 255 - GREY)  # a file of the same size
    assert load_data(f"folder:{tmp_path}").sha256 != before


def test_memory_holds_names_and_not_images(tmp_path):
    """An opened file costs its name and label; a scan has one batch in memory."""
    pixels = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    save(tmp_path / "test/0/a.bmp", pixels)
    for i in range(60):
        (tmp_path / f"test/0/image_{i:04d}.bmp").hardlink_to(tmp_path / "test/0/a.bmp")
    load_data(f"folder:{tmp_path}").test.images(torch.arange(4))  # what Pillow imports at first
    tracemalloc.start()
    data = load_data(f"folder:{tmp_path}")
    in_use, peak = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    for batch in torch.arange(61).split(4):
        data.test.images(batch)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert in_use < 60 * 200 + 20_000
    assert most < in_use + 3 * 4 * 4 * pixels.size < 60 * 4 * pixels.size
    assert peak < 60 * 4 * pixels.size  # how many files are in work depends on the threads


def test_mixed_sizes_are_refused_at_once(tmp_path):
    save(tmp_path / "test/0/a.png", GREY)
    save(tmp_path / "test/1/b.png", GREY.T.copy())
    with pytest.raises(InputError, match=r"b.png: is 6x5 pixels, .*a.png is 5x6"):
        load_data(f"folder:{tmp_path}")


def test_files_that_are_no_images_are_named(tmp_path):
    save(tmp_path / "test/0/a.png", GREY)
    (tmp_path / "test/0/b.png").write_text("not an image")
    with pytest.raises(InputError, match=r"b.png: cannot be read as an image"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "test/0/b.png").unlink()
    save(tmp_path / "test/0/b.tif", np.zeros((6, 5), np.int32))
    with pytest.raises(InputError, match=r"b.tif: .*8 or 16 bits"):
        load_data(f"folder:{tmp_path}")


def test_an_image_cut_short_is_named_when_it_is_read(tmp_path):
    large = RNG.integers(0, 256, (64, 64), dtype=np.uint8)
    save(tmp_path / "test/0/a.png", large)
    content = (tmp_path / "test/0/a.png").read_bytes()
    (tmp_path / "test/0/a.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"a.png: cannot be read as an image"):
        only(tmp_path)


def test_missing_folders_say_what_is_wanted(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder"):
        load_data(f"folder:{tmp_path / 'nowhere'}")
    save(tmp_path / "train/0/a.png", GREY)
    with pytest.raises(InputError, match="no folder test/"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "test/0").mkdir(parents=True)
    with pytest.raises(InputError, match=r"test: no images; want .*CLASS/IMAGE.png"):
        load_data(f"folder:{tmp_path}")


def test_a_class_without_images_takes_no_number(tmp_path):
    save(tmp_path / "test/cat/a.png", GREY)
    save(tmp_path / "test/dog/b.png", GREY)
    (tmp_path / "test/cow").mkdir()
    with pytest.raises(InputError, match="class cow has no images; remove its empty folder"):
        load_data(f"folder:{tmp_path}")
    save(tmp_path / "train/cow/c.png", GREY)  # it may be missing from one split
    assert load_data(f"folder:{tmp_path}").test.labels.tolist() == [0, 2]


def test_images_one_folder_deeper_are_named(tmp_path):
    save(tmp_path / "test/0/part0/x.png", GREY)
    save(tmp_path / "test/1/y.png", GREY)
    with pytest.raises(InputError, match=r"class 0 has images .*0/part0/x.png; move them up"):
        load_data(f"folder:{tmp_path}")
