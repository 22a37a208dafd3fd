"""NumPy archives in every layout that is taken, and all that are not."""

import numpy as np
import pytest
import torch

from scotoma.data import load_data
from scotoma.utils.errors import InputError

RNG = np.random.default_rng(2)
BYTES = RNG.integers(0, 256, (6, 3, 8, 10), dtype=np.uint8)
GREY = BYTES[:, :1]
LABELS = np.array([0, 1, 2, 2, 1, 0])


def load(path, **arrays):
    np.savez(path / "mine.npz", **arrays)
    return load_data(f"npz:{path / 'mine.npz'}")


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (GREY[:, 0], GREY),
        (GREY, GREY),
        (GREY.transpose(0, 2, 3, 1), GREY),
        (BYTES, BYTES),
        (BYTES.transpose(0, 2, 3, 1), BYTES),
        (BYTES / np.float64(255), BYTES),
        (BYTES / np.float32(255), BYTES),
        ((BYTES / 255).astype(">f4"), BYTES),
        (GREY[:, 0] > 127, (GREY > 127) * 255),
    ],
)
def test_layouts_and_types(tmp_path, images, expected):
    data = load(tmp_path, x_test=images, y_test=LABELS)
    loaded = data.test.images(torch.arange(6))
    assert loaded.dtype == torch.float32
    assert torch.allclose(loaded, torch.from_numpy(expected / 255).float(), atol=1e-7)
    assert data.train is None
    assert (data.name, data.shape, data.classes) == (
        "npz:mine.npz",
        expected.shape[1:],
        ("0", "1", "2"),
    )


@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "u8", ">i4"])
def test_label_types(tmp_path, kind):
    data = load(
        tmp_path,
        x_test=GREY,
        y_test=LABELS.astype(kind),
        x_train=GREY[:4],
        y_train=np.array([5, 0, 0, 1]),
    )
    assert data.test.labels.dtype == torch.int64
    assert data.test.labels.tolist() == LABELS.tolist()
    assert data.train is not None
    assert (len(data.train), len(data.classes)) == (4, 6)


def test_compressed_archives(tmp_path):
    np.savez_compressed(tmp_path / "mine.npz", x_test=GREY, y_test=LABELS)
    assert len(load_data(f"npz:{tmp_path / 'mine.npz'}").test) == 6


FLOATS = GREY / np.float32(255)
NAN = np.where(np.arange(10) == 3, np.nan, FLOATS)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x_test": FLOATS * 1.1, "y_test": LABELS}, "pixels reach from"),
        ({"x_test": FLOATS - 0.5, "y_test": LABELS}, "normalise inside the model"),
        ({"x_test": NAN, "y_test": LABELS}, "NaN"),
        ({"x_test": GREY.astype(int), "y_test": LABELS}, "floats in .0, 1. or uint8"),
        ({"x_test": FLOATS.astype(complex), "y_test": LABELS}, "complex128"),
        ({"x_test": np.full((6, 8, 8), "a"), "y_test": LABELS}, "pixels are <U1"),
        (
            {"x_test": GREY, "y_test": LABELS.astype(float)},
            r"\(x_test, y_test\): labels are float64",
        ),
        ({"x_test": GREY, "y_test": LABELS - 1}, "labels reach from -1 to 1"),
        ({"x_test": GREY, "y_test": LABELS + 2**40}, "labels reach from"),
        ({"x_test": GREY, "y_test": (LABELS - 1).astype(np.uint64)}, "labels reach from"),
        ({"x_test": GREY, "y_test": LABELS[:5]}, "want 6 integers"),
        ({"x_test": GREY, "y_test": np.eye(6, dtype=int)}, r"of shape \(6, 6\)"),
        ({"x_test": GREY[:0], "y_test": LABELS[:0]}, "no images"),
        ({"x_test": GREY[:, :, :0], "y_test": LABELS}, "no images"),
        ({"x_test": GREY.reshape(6, -1), "y_test": LABELS}, r"shape \(6, 80\); want \(n, h, w\)"),
        ({"x_test": np.zeros((6, 8, 8, 4), "u1"), "y_test": LABELS}, "1 or 3 channels"),
        ({"x_test": GREY}, "y_test"),
        ({"images": GREY, "labels": LABELS}, "images.*labels.*want x_test"),
        ({"x_test": GREY, "y_test": LABELS, "x_train": GREY}, "x_train with y_train or neither"),
        (
            {"x_test": GREY, "y_test": LABELS, "x_train": BYTES, "y_train": LABELS},
            "training images are",
        ),
        ({"x_test": GREY.astype(object), "y_test": LABELS}, "plain arrays.*[Oo]bject"),
    ],
)
def test_bad_arrays_are_refused(tmp_path, arrays, says):
    with pytest.raises(InputError, match=says) as error:
        load(tmp_path, **arrays)
    assert "\n" not in str(error.value)
    assert "mine.npz" in str(error.value)


def test_bad_files_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    with pytest.raises(InputError, match="no such file"):
        load_data(f"npz:{path}")
    np.savez_compressed(path, x_test=GREY, y_test=LABELS)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[60:90] = bytes(30)
    for content in (
        b"",
        b"PK",
        b"hello",
        whole[:-20],
        whole[: len(whole) // 2],
        bytes(damaged),
        b"\x80\x04]\x94.",
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a whole NumPy archive") as error:
            load_data(f"npz:{path}")
        assert "unsafely" not in str(error.value)
    np.save(tmp_path / "one.npy", GREY)
    with pytest.raises(InputError, match="not a whole NumPy archive"):
        load_data(f"npz:{tmp_path / 'one.npy'}")
    with pytest.raises(InputError, match="not a whole NumPy archive"):
        load_data(f"npz:{tmp_path}")


def test_training_arrays_may_have_classes_that_are_not_tested(tmp_path):
    for name, labels in (("test", [0, 1, 1, 0]), ("train", [2, 1, 0, 2])):
        np.savez(tmp_path / f"{name}.npz", x_test=GREY[:4], y_test=np.array(labels))
    data = load_data(f"npz:{tmp_path}/test.npz", train=f"npz:{tmp_path}/train.npz")
    assert data.train is not None
    assert data.classes == ("0", "1", "2")
    assert data.train.labels.tolist() == [2, 1, 0, 2]
