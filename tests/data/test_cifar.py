"""Small files in the format of CIFAR-10: read in place; only plain data is accepted."""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scotoma.data import load_data
from scotoma.data.cifar import FOLDER, TEST, TRAIN, parse_batch
from scotoma.utils.errors import InputError


def batch(n: int, seed: int) -> dict[bytes, Any]:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (n, 3072), np.uint8)
    return {
        b"data": pixels,
        b"labels": generator.integers(0, 10, n).tolist(),
        b"batch_label": b"a batch",
    }


def contents() -> dict[str, bytes]:
    """The six files, ten images each, as Python 2 wrote them: protocol 2."""
    return {
        name: pickle.dumps(batch(10, seed), protocol=2) for seed, name in enumerate((*TRAIN, TEST))
    }


def unpacked(root: Path) -> Path:
    (root / FOLDER).mkdir(parents=True)
    for name, content in contents().items():
        (root / FOLDER / name).write_bytes(content)
    return root


def packed(root: Path, ending: str) -> Path:
    root.mkdir(parents=True)
    path = root / f"cifar-10-python.tar.{ending}"
    with tarfile.open(path, f"w:{ending}") as archive:  # type: ignore[call-overload]
        for name, content in {**contents(), "readme.html": b"<html>"}.items():
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return root


@pytest.mark.parametrize("ending", ["gz", "xz"])
def test_archives_are_read_in_place(tmp_path, ending):
    packed(tmp_path / "cifar-10", ending)
    data = load_data("cifar-10", tmp_path)
    assert data.train is not None
    assert (len(data.train), len(data.test), data.shape) == (50, 10, (3, 32, 32))
    assert data.classes[0] == "airplane"
    assert data.classes[9] == "truck"
    content = batch(10, 5)
    images = data.test.images(torch.arange(10))
    assert torch.equal(data.test.labels, torch.tensor(content[b"labels"]))
    assert images[3, 1, 2, 4].item() == pytest.approx(content[b"data"][3, 1024 + 2 * 32 + 4] / 255)
    unpacked(tmp_path / "open" / "cifar-10")
    assert load_data("cifar-10", tmp_path / "open").sha256 == data.sha256
    assert sorted(path.name for path in (tmp_path / "cifar-10").iterdir()) == [
        f"cifar-10-python.tar.{ending}"
    ]


def test_the_archive_is_read_by_the_environment_too(tmp_path, monkeypatch):
    packed(tmp_path / "cifar-10", "gz")
    monkeypatch.setenv("SCOTOMA_DATA", str(tmp_path))
    assert len(load_data("cifar-10").test) == 10


class Attack:
    """Runs code when it is unpickled, without the guard."""

    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('code ran')",))


@pytest.mark.parametrize(
    ("held", "complaint"),
    [
        ({b"data": Attack(), b"labels": []}, "__builtin__.exec"),
        ({b"data": Path("/etc"), b"labels": []}, "pathlib"),
        ({b"data": np.array([Attack()]), b"labels": [1]}, "not of numbers|__builtin__.exec"),
        ({b"data": np.zeros((2, 3071), np.uint8), b"labels": [1, 2]}, "no images of CIFAR-10"),
        ({b"data": np.zeros((2, 3072), np.float32), b"labels": [1, 2]}, "no images of CIFAR-10"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "no labels for its 2 images"),
        (
            {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, "cat"]},
            "no labels for its 2 images",
        ),
        ([1, 2], "no images of CIFAR-10"),
    ],
    ids=["code", "path", "objects", "width", "floats", "few labels", "names", "list"],
)
def test_what_is_not_plain_data_is_refused(held, complaint):
    with pytest.raises(InputError, match=complaint):
        parse_batch(pickle.dumps(held, protocol=2), "a file")


def test_every_protocol_of_plain_data_is_read():
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        if protocol < 5:  # buffers of protocol 5 need a function of numpy
            images, labels = parse_batch(pickle.dumps(batch(4, 0), protocol=protocol), "a file")
            assert images.shape == (4, 3, 32, 32)
            assert labels.tolist() == batch(4, 0)[b"labels"]


def test_damage_is_named(tmp_path):
    folder = unpacked(tmp_path / "cifar-10") / FOLDER
    whole = (folder / TEST).read_bytes()
    (folder / TEST).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"test_batch: not a whole pickle .*fetch it again"):
        load_data("cifar-10", tmp_path)
    (folder / TEST).unlink()
    with pytest.raises(InputError, match=r"test_batch: cannot be read"):
        load_data("cifar-10", tmp_path)
    archive = packed(tmp_path / "short" / "cifar-10", "xz") / "cifar-10-python.tar.xz"
    archive.write_bytes(archive.read_bytes()[:3000])
    with pytest.raises(InputError, match="not a whole archive"):
        load_data("cifar-10", tmp_path / "short")
    with pytest.raises(InputError, match=r"no cifar-10-python\.tar\.gz there"):
        load_data("cifar-10", tmp_path / "nothing")
