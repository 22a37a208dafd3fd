"""Image files of any size: decoding, resizing, options, damage, and what is remembered of them."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scotoma.data import load_data
from scotoma.data import scan as scanning
from scotoma.data.decoding import decode, prepared
from scotoma.data.encoded import EncodedSplit
from scotoma.data.input import InputSpec
from scotoma.utils.errors import InputError

RNG = np.random.default_rng(5)
STORED = ([117, 87, 138], [219, 212, 103], [209, 154, 182])


def ramp(height: int, width: int) -> np.ndarray:
    """An image in colour that is equal on every machine."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(7 * x + 3 * y) % 256, (x * y) % 256, (5 * x + 11 * y) % 256], -1).astype(
        np.uint8
    )


def save(path: Path, pixels: np.ndarray | Image.Image, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)


def png(image: Image.Image, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def only(root: Path, **options) -> torch.Tensor:
    return load_data(f"folder:{root}", **options).test.images(torch.tensor([0]))[0]


@pytest.mark.parametrize(
    ("size", "recipe", "box"),
    [
        # the longer side is cut to a whole number, and a crop begins at the nearest even number
        ((50, 37), InputSpec((22, 22), 25, (22, 22)), ((33, 25), (6, 2))),
        ((37, 50), InputSpec((22, 22), 25, (22, 22)), ((25, 33), (2, 6))),
        ((37, 50), InputSpec((21, 21), 25, (21, 21), "bicubic"), ((25, 33), (2, 6))),
        ((50, 37), InputSpec((20, 30), (20, 30)), ((30, 20), (0, 0))),
        ((50, 37), InputSpec((20, 30), None, (20, 30)), ((50, 37), (10, 8))),
    ],
)
def test_sizes_are_those_of_torchvision(size, recipe, box):
    """Source: `_compute_resized_output_size` and `center_crop` of torchvision 0.29."""
    image = Image.fromarray(ramp(size[1], size[0]))
    filter = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    resized = image.resize(box[0], filter[recipe.interpolation])
    (left, top), (height, width) = box[1], recipe.size
    expected = np.asarray(resized)[top : top + height, left : left + width]
    assert np.array_equal(np.asarray(prepared(image, recipe)), expected)


def test_stored_pixels():
    """Values computed once by hand: PIL's bilinear filter, which averages when it makes smaller."""
    image = Image.fromarray(ramp(48, 64))
    pixels = np.asarray(prepared(image, InputSpec((24, 24), 32, (24, 24))))
    assert pixels.shape == (24, 24, 3)
    assert pixels[0, 0].tolist() == STORED[0]
    assert pixels[11, 5].tolist() == STORED[1]
    assert pixels[23, 23].tolist() == STORED[2]

    # the same as a sum: a triangle around the centre of a pixel that is `scale` times as wide
    def weights(place: int, before: int, after: int) -> np.ndarray:
        scale = before / after
        centre = scale * (place + 0.5)
        triangle = np.maximum(0, 1 - np.abs(np.arange(before) + 0.5 - centre) / scale)
        return triangle / triangle.sum()

    rows, columns = weights(5 + 4, 48, 32), weights(11 + 9, 64, 42)
    summed = np.einsum("y,x,yxc->c", rows, columns, ramp(48, 64).astype(float))
    assert np.abs(pixels[5, 11] - summed).max() <= 1


def test_orientation_is_that_of_the_camera(tmp_path):
    pixels = ramp(6, 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # the right side of the stored pixels is the top of the picture
    save(tmp_path / "test/0/a.png", pixels, exif=exif)
    data = load_data(f"folder:{tmp_path}")
    assert data.shape == (3, 4, 6)
    turned = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1).float() / 255
    assert torch.equal(only(tmp_path), turned)
    save(tmp_path / "other/test/0/a.png", pixels)
    assert load_data(f"folder:{tmp_path}/other").shape == (3, 6, 4)


def test_modes_and_frames():
    colour = Image.fromarray(ramp(5, 4))
    expected = ramp(5, 4).transpose(2, 0, 1)
    clear = colour.copy()
    clear.putalpha(7)
    assert np.array_equal(decode(png(clear), "clear"), expected)  # transparency is dropped
    few = Image.fromarray(np.tile(np.array([[0, 1], [2, 3]], np.uint8), (2, 2)), "P")
    few.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    pixels = decode(png(few, transparency=bytes([0, 128, 255, 255])), "palette")
    assert pixels[:, :2, :2].transpose(1, 2, 0).tolist() == [
        [[255, 0, 0], [0, 255, 0]],
        [[0, 0, 255], [9, 9, 9]],
    ]
    frames = [Image.new("L", (4, 5), grey) for grey in (200, 10)]
    first = decode(png(frames[0], "GIF", save_all=True, append_images=frames[1:]), "animated")
    assert first.shape[1:] == (5, 4)
    assert abs(int(first[0, 0, 0]) - 200) < 3
    assert decode(png(Image.new("CMYK", (4, 5), (0, 0, 0, 255)), "JPEG"), "print").max() < 8
    assert decode(png(Image.new("1", (4, 5), 1)), "bits").tolist() == [[[255] * 4] * 5]


def test_sixteen_bits_stay_between_black_and_white_when_resized():
    deep = np.kron(
        RNG.choice(np.array([0, 65535], np.uint16), (4, 4)), np.ones((10, 10), np.uint16)
    )
    recipe = InputSpec((17, 17), (17, 17), interpolation="bicubic")
    pixels = decode(png(Image.fromarray(deep)), "deep", recipe)
    assert pixels.dtype == np.float32
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert len(np.unique((pixels * 255).round(6) % 1)) > 5  # finer than 8 bits


def test_several_sizes_are_made_equal(tmp_path):
    save(tmp_path / "test/0/a.png", ramp(30, 40))
    save(tmp_path / "test/1/b.png", ramp(50, 35))
    with pytest.raises(InputError, match=r"35x50 pixels, .* is 40x30; give size=224, or resize"):
        load_data(f"folder:{tmp_path}")
    shapes = {
        (("size", 24),): (3, 24, 24),
        (("size", "24x20"),): (3, 24, 20),
        (("resize", 24), ("crop", 20)): (3, 20, 20),
        (("crop", 28),): (3, 28, 28),
    }
    hashes = set()
    for options, shape in shapes.items():
        data = load_data(f"folder:{tmp_path}", **dict(options))
        assert data.test.images(torch.arange(2)).shape == (2, *data.shape) == (2, *shape)
        assert "are resized when they are read: " in data.notes[0]
        hashes.add(data.sha256)
    bicubic = load_data(f"folder:{tmp_path}", size=24, interpolation="bicubic")
    assert len({*hashes, bicubic.sha256}) == 5
    pixels = np.array(prepared(Image.fromarray(ramp(30, 40)), InputSpec((24, 24), (24, 24))))
    expected = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    assert torch.equal(only(tmp_path, size=24), expected)


def test_the_model_says_how_unless_all_images_have_its_size_or_are_smaller(tmp_path):
    asked = InputSpec((20, 20), 24, (20, 20), "bicubic")
    save(tmp_path / "test/0/a.png", ramp(30, 40))
    data = load_data(f"folder:{tmp_path}", model=asked)
    assert data.shape == (3, 20, 20)
    assert "as the configuration of the model asks: shorter side to 24 (bicubic)" in data.notes[0]
    assert load_data(f"folder:{tmp_path}", model=asked, size=16).shape == (3, 16, 16)
    for size in ((20, 20), (12, 30)):
        save(tmp_path / "test/0/a.png", ramp(*size))
        data = load_data(f"folder:{tmp_path}", model=asked)
        assert (data.shape, data.notes) == ((3, *size), ())
    save(tmp_path / "test/0/b.png", ramp(30, 30))
    assert load_data(f"folder:{tmp_path}", model=InputSpec((10, 14), 12)).shape == (3, 10, 14)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 24, "resize": 30, "crop": 24}, "contradict"),
        ({"resize": 30}, "add crop=30"),
        ({"resize": 20, "crop": 30}, "crop=30 is larger than resize=20"),
        ({"size": "20x24", "crop": 22}, "crop=22 is larger than size=20x24"),
        ({"size": "big"}, "size=big: want a side"),
        ({"size": "1x2x3"}, "want a side"),
        ({"crop": 0}, "crop=0"),
        ({"crop": 64}, "less than the crop of 64x64"),
        ({"size": 8, "interpolation": "bilinaer"}, "did you mean 'bilinear'"),
        ({"interpolation": "bicubic"}, "nothing is resized; add size=N"),
        ({"on_error": "ignore"}, "want refuse or skip"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, says):
    save(tmp_path / "test/0/a.png", ramp(30, 40))
    with pytest.raises(InputError, match=says) as error:
        load_data(f"folder:{tmp_path}", **options).test.images(torch.arange(1))
    assert "\n" not in str(error.value)


def test_options_are_not_for_arrays():
    with pytest.raises(InputError, match="size=32 is for images that are decoded from files"):
        load_data("digits", size=32)


def test_damaged_files_are_named_once_and_left_out(tmp_path):
    for name in "abcd":
        save(tmp_path / f"test/{name}/image.png", ramp(90, 90))
    whole = load_data(f"folder:{tmp_path}")
    content = (tmp_path / "test/b/image.png").read_bytes()
    for name in "xyz":
        (tmp_path / f"test/b/{name}.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "test/c/empty.jpg").touch()
    with pytest.raises(InputError, match=r"c/empty.jpg: cannot be read as an image"):
        load_data(f"folder:{tmp_path}")
    data = load_data(f"folder:{tmp_path}", on_error="skip")
    assert data.test.labels.tolist() == [0, 1, 2, 3]
    assert data.sha256 == whole.sha256
    assert len(data.notes) == 1
    assert data.notes[0].startswith("4 files of")
    assert all(f"b/{name}.png" in data.notes[0] for name in "xyz")
    assert torch.equal(data.test.images(torch.arange(4)), whole.test.images(torch.arange(4)))
    (tmp_path / "one/test/0").mkdir(parents=True)
    (tmp_path / "one/test/0/a.png").touch()
    with pytest.raises(InputError, match=r"no image can be read; .*a.png"):
        load_data(f"folder:{tmp_path}/one", on_error="skip")


def test_a_folder_of_classes_alone_and_one_of_validation(tmp_path):
    save(tmp_path / "plain/cat/a.png", ramp(8, 8))
    save(tmp_path / "plain/dog/b.png", ramp(8, 8))
    plain = load_data(f"folder:{tmp_path}/plain")
    assert (plain.classes, plain.test.labels.tolist()) == (("cat", "dog"), [0, 1])
    save(tmp_path / "net/val/cat/a.png", ramp(8, 8))
    save(tmp_path / "net/train/cat/b.png", ramp(8, 8))
    net = load_data(f"folder:{tmp_path}/net")
    assert net.train is not None
    assert (len(net.test), len(net.train)) == (1, 1)


def test_training_images_that_lie_apart(tmp_path):
    for name in ("dog", "cat"):
        save(tmp_path / f"mine/test/{name}/a.png", ramp(30, 40))
        save(tmp_path / f"more/{name}/a.png", ramp(44, 33))
    save(tmp_path / "more/cat/b.png", ramp(44, 35))
    data = load_data(f"folder:{tmp_path}/mine", train=f"folder:{tmp_path}/more", size=16)
    assert data.train is not None
    assert data.train.labels.tolist() == [0, 0, 1]
    assert data.train.shape == data.test.shape == (3, 16, 16)
    (tmp_path / "more/cat/b.png").unlink()
    with pytest.raises(InputError, match=r"train=.*more: its images are 3x44x33, those of"):
        load_data(f"folder:{tmp_path}/mine", train=f"folder:{tmp_path}/more")
    (tmp_path / "more/dog").rename(tmp_path / "more/wolf")
    with pytest.raises(InputError, match=r"knows 1 of its 2 classes by name, but not 'wolf'"):
        load_data(f"folder:{tmp_path}/mine", train=f"folder:{tmp_path}/more", size=16)


def test_training_images_of_classes_that_are_numbers(tmp_path):
    """Alphabetical order gives 99 another label where a class 243 is missing."""
    for name in ("22", "99", "243"):
        save(tmp_path / f"mine/test/{name}/a.png", ramp(8, 8))
    for name in ("22", "99"):
        save(tmp_path / f"more/{name}/a.png", ramp(8, 8))
    data = load_data(f"folder:{tmp_path}/mine", train=f"folder:{tmp_path}/more")
    assert data.train is not None
    assert [data.classes[label] for label in data.train.labels] == ["22", "99"]
    save(tmp_path / "more/7/a.png", ramp(8, 8))
    with pytest.raises(InputError, match="has a class 7, and folder:mine has 22, 243, 99; rename"):
        load_data(f"folder:{tmp_path}/mine", train=f"folder:{tmp_path}/more")


def test_training_files_that_are_left_out_are_named(tmp_path):
    for name in ("dog", "cat"):
        save(tmp_path / f"mine/test/{name}/a.png", ramp(8, 8))
        save(tmp_path / f"more/{name}/a.png", ramp(8, 8))
    (tmp_path / "more/cat/b.png").write_bytes(b"damaged")
    mine, more = (f"folder:{tmp_path}/{name}" for name in ("mine", "more"))
    data = load_data(mine, train=more, on_error="skip")
    assert any("1 file of folder:more is left out" in note for note in data.notes)


class Counted:
    """Files in memory that count how often each is read."""

    def __init__(self, contents: list[bytes]):
        self.contents = contents
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.contents)

    def name(self, index: int) -> str:
        return f"image {index}"

    key = name

    def read(self, index: int) -> bytes:
        self.reads.append(index)
        return self.contents[index]


def test_expected_images_are_decoded_before_they_are_asked_for():
    files = Counted([png(Image.new("L", (4, 4), grey)) for grey in range(12)])
    split = EncodedSplit(files, torch.arange(12), torch.zeros(12).long(), (1, 4, 4))
    first, second = torch.arange(6), torch.arange(6, 12)
    split.expect(first)
    split.expect(first)
    split.expect(second)
    deadline = time.monotonic() + 10
    while len(files.reads) < 12 and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert sorted(files.reads) == list(range(12))
    images = torch.cat([split.images(first), split.images(second)])
    assert len(files.reads) == 12
    assert (images[:, 0, 0, 0] * 255).round().tolist() == list(range(12))
    split.images(first)
    assert len(files.reads) == 18


def old(root: Path) -> None:
    """Let files look as if they had been there for a while."""
    for path in root.rglob("*.png"):
        os.utime(path, (1e9, 1e9))


def test_an_unchanged_folder_is_not_read_again(tmp_path, monkeypatch):
    for label in range(3):
        save(tmp_path / f"test/{label}/a.png", ramp(8, 8 + label))
    old(tmp_path)
    before = load_data(f"folder:{tmp_path}", size=8)
    looked = []
    monkeypatch.setattr(scanning, "header", lambda *given: looked.append(given))
    again = load_data(f"folder:{tmp_path}", size=8)
    assert (again.sha256, again.shape, looked) == (before.sha256, before.shape, [])
    with pytest.raises(InputError, match="give size=224"):
        load_data(f"folder:{tmp_path}")
    monkeypatch.undo()
    # another content of the same length, and the same time
    content = bytearray((tmp_path / "test/1/a.png").read_bytes())
    (tmp_path / "test/1/a.png").unlink()
    save(tmp_path / "test/1/a.png", 255 - ramp(8, 9))
    old(tmp_path)
    assert bytes(content) != (tmp_path / "test/1/a.png").read_bytes()
    assert load_data(f"folder:{tmp_path}", size=8).sha256 != before.sha256
