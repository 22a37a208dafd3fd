"""IDX files, whole and broken, and MNIST itself where it is at hand."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from scotoma.data import load_data
from scotoma.data.idx import FILES, read_idx
from scotoma.utils.errors import InputError


def idx(array: np.ndarray) -> bytes:
    return (
        b"\0\0\x08"
        + bytes([array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(np.uint8).tobytes()
    )


@pytest.fixture
def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (n, 5, 4)) for n in (7, 3)]
    return [images[0], np.arange(7), images[1], np.array([9, 0, 4])]


def write(folder: Path, arrays: list[np.ndarray], zipped: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in zip(FILES, arrays, strict=True):
        content = idx(array)
        (folder / (name + ".gz" * zipped)).write_bytes(
            gzip.compress(content) if zipped else content
        )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_reads_gzipped_and_plain(tmp_path, arrays, zipped, name):
    write(tmp_path / name, arrays, zipped)
    data = load_data(name, tmp_path)
    assert data.train is not None
    assert (len(data.train), len(data.test), data.shape, len(data.classes)) == (7, 3, (1, 5, 4), 10)
    assert torch.equal(
        data.test.images(torch.tensor([2, 0])),
        torch.from_numpy(arrays[2][[2, 0], None] / 255).float(),
    )
    assert data.test.labels.tolist() == [9, 0, 4]


def test_the_hash_follows_the_content(tmp_path, arrays):
    write(tmp_path / "a" / "mnist", arrays, True)
    write(tmp_path / "b" / "mnist", arrays, False)
    before = load_data("mnist", tmp_path / "a").sha256
    assert load_data("mnist", tmp_path / "b").sha256 == before
    arrays[2][0, 0, 0] ^= 1
    write(tmp_path / "b" / "mnist", arrays, False)
    assert load_data("mnist", tmp_path / "b").sha256 != before


def test_the_root_may_be_the_folder_itself_but_only_of_that_name(tmp_path, arrays):
    write(tmp_path / "mnist", arrays, False)
    assert len(load_data("mnist", tmp_path / "mnist").test) == 3
    with pytest.raises(InputError, match="root=FOLDER"):  # the files of both have the same names
        load_data("fashion-mnist", tmp_path / "mnist")


def test_the_environment_names_a_root(tmp_path, arrays, monkeypatch):
    write(tmp_path / "mnist", arrays, True)
    monkeypatch.setenv("SCOTOMA_DATA", str(tmp_path))
    assert len(load_data("mnist").test) == 3


WHOLE = idx(np.zeros((3, 5, 4)))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x", b"", "not an IDX file"),
        ("x", b"\x89PNG and so on", "not an IDX file"),
        ("x", WHOLE[:9], "inside its header"),
        ("x", b"\0\0\x08\0", "inside its header"),
        ("x", WHOLE[:-1], r"59 bytes of data .* \(3, 5, 4\)"),
        ("x", WHOLE + b"0", "61 bytes of data"),
        ("x.gz", WHOLE, "cannot be read"),
        ("x.gz", gzip.compress(WHOLE)[:-9], "cannot be read"),
        ("x.gz", gzip.compress(WHOLE)[:11] + b"\xff" * 30, "cannot be read"),
    ],
    ids=[
        "empty",
        "picture",
        "half-header",
        "no-size",
        "short",
        "long",
        "not-gzip",
        "cut-gzip",
        "damaged-gzip",
    ],
)
def test_broken_files_are_refused(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_idx(tmp_path / name)


def test_files_that_do_not_belong_together_are_refused(tmp_path, arrays):
    write(tmp_path / "mnist", [arrays[0], arrays[1][:5], *arrays[2:]], False)
    with pytest.raises(InputError, match=r"labels are uint8 of shape \(5,\); want 7"):
        load_data("mnist", tmp_path)
    write(tmp_path / "mnist", [arrays[0][:, :4], arrays[1], *arrays[2:]], False)
    with pytest.raises(InputError, match="training images are"):
        load_data("mnist", tmp_path)
    write(tmp_path / "mnist", [*arrays[:3], np.array([1, 2, 10])], False)
    with pytest.raises(InputError, match="label 10 lies outside the 10 classes"):
        load_data("mnist", tmp_path)
    write(tmp_path / "mnist", [arrays[1], arrays[1], *arrays[2:]], False)
    with pytest.raises(InputError, match="images have shape"):
        load_data("mnist", tmp_path)


def test_a_missing_file_is_named(tmp_path, arrays):
    write(tmp_path / "mnist", arrays, False)
    (tmp_path / "mnist" / FILES[3]).unlink()
    with pytest.raises(InputError, match=FILES[3]):
        load_data("mnist", tmp_path)


def test_a_failed_download_says_where_to_put_the_files(tmp_path, monkeypatch):
    import pooch

    def fail(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.delenv("SCOTOMA_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", fail)
    with pytest.raises(InputError, match=r"could not be downloaded.*root=FOLDER"):
        load_data("mnist")


@pytest.mark.parametrize(
    ("name", "means", "counts"),
    [
        ("mnist", (0.13066, 0.13251), (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)),
        ("fashion-mnist", (0.28604, 0.28685), (1000,) * 10),
    ],
)
def test_published_files(name, means, counts):
    root = os.environ.get("SCOTOMA_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"$SCOTOMA_DATA names no folder with {name}/ in it")
    data = load_data(name)
    assert data.train is not None
    assert (len(data.train), len(data.test), data.shape) == (60000, 10000, (1, 28, 28))
    for split, mean in zip((data.train, data.test), means, strict=True):
        total = sum(
            split.images(rows).double().sum().item()
            for rows in torch.arange(len(split)).split(10000)
        )
        assert total / (784 * len(split)) == pytest.approx(mean, abs=6e-6)
    assert tuple(torch.bincount(data.test.labels).tolist()) == counts
    if name == "mnist":
        train = (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)
        assert tuple(torch.bincount(data.train.labels).tolist()) == train
