"""Equal images in one split or in both, and classes without training images."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import scotoma
from scotoma.data import load_data
from scotoma.data.dataset import ArraySplit, from_splits
from scotoma.data.duplicates import with_duplicates_noted
from scotoma.data.matching import in_colour
from scotoma.utils.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4), dtype=np.uint8)
LABELS = np.arange(12) % 4


def split(rows, labels=LABELS, floats=False) -> ArraySplit:
    images = PIXELS[rows]
    return ArraySplit(images.astype(np.float32) / 255 if floats else images, labels[rows], "mine")


def notes(test: ArraySplit, train: ArraySplit | None = None) -> tuple[str, ...]:
    return with_duplicates_noted(from_splits("mine", train, test)).notes


@pytest.mark.parametrize("floats", [False, True])
def test_what_occurs_once_has_no_note(floats):
    assert notes(split(np.arange(6)), split(np.arange(6, 12), floats=floats)) == ()


def test_copies_among_the_test_images_are_counted():
    (note,) = notes(split(np.array([0, 1] * 3)))
    assert note.startswith("4 of the 6 test images of mine repeat another one")


@pytest.mark.parametrize("floats", [False, True])
def test_training_images_among_the_test_images(floats):
    """Also where one split has bytes and the other floats."""
    (note,) = notes(split(np.arange(6)), split(np.arange(4, 12), floats=floats))
    assert note.startswith("2 of the 6 test images of mine occur among the training images")
    with pytest.raises(InputError, match="every test image of mine is a training image"):
        notes(split(np.arange(6)), split(np.arange(12), floats=floats))


def test_classes_without_training_images_are_named():
    (note,) = notes(split(np.arange(6)), split(np.arange(6, 12), LABELS % 2))
    assert note.startswith("2 of the 4 classes of the test images of mine have no training images")
    assert "(such as class 2)" in note


@pytest.mark.parametrize("which", ["both", "train"])
def test_grey_images_in_colour_are_compared(which):
    grey = from_splits("mine", split(np.arange(4, 12)), split(np.arange(6)))
    colour = in_colour(grey)
    if which == "train":
        test = split(np.arange(6))._images.repeat(1, 3, 1, 1).numpy()
        colour = replace(colour, test=ArraySplit(test, LABELS[:6], "mine"))
    assert "2 of the 6 test images of mine occur among" in with_duplicates_noted(colour).notes[0]


def test_files_are_compared(tmp_path):
    for name, row in {"test/a/x": 0, "test/a/y": 1, "test/b/z": 2, "train/a/w": 0}.items():
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[row, 0]).save(path)
    (tmp_path / "train/b").mkdir()
    texts = with_duplicates_noted(load_data(f"folder:{tmp_path}")).notes
    assert len(texts) == 2
    assert " occurs among the training images" in texts[0]
    assert "(such as class b)" in texts[1]


def test_an_audit_refuses_training_images_as_test_images(linear, digits):
    rows = np.arange(40)
    images, labels = digits.test.stored(rows), digits.test.labels[rows]
    with pytest.raises(InputError, match="every test image of tensors is a training image"):
        scotoma.audit(linear, (images, labels), "linf:0.1", train=(images, labels))
