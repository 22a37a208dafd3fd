"""Images in Parquet files and in data sets of Hugging Face: local files, no network."""

from __future__ import annotations

import io
import sys

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from scotoma.data import load_data
from scotoma.utils.errors import InputError

GREYS = (10, 200, 90)


def image(grey: int, size: tuple[int, int] = (6, 5)) -> bytes:
    file = io.BytesIO()
    Image.new("L", size, grey).save(file, "PNG")
    return file.getvalue()


def write(path, **columns) -> None:
    pl.DataFrame(columns).write_parquet(path)


def greys(split) -> list[int]:
    return (split.images(torch.arange(len(split)))[:, 0, 0, 0] * 255).round().tolist()


def test_bytes_and_numbers(tmp_path):
    write(tmp_path / "a.parquet", image=list(map(image, GREYS)), label=[2, 0, 1], id=[7, 8, 9])
    data = load_data(f"parquet:{tmp_path}/a.parquet")
    assert (data.name, data.shape, data.classes, data.train) == (
        "parquet:a.parquet",
        (1, 5, 6),
        ("0", "1", "2"),
        None,
    )
    assert (data.test.labels.tolist(), greys(data.test)) == ([2, 0, 1], list(GREYS))
    write(tmp_path / "b.parquet", image=list(map(image, GREYS)), label=[2, 1, 1])
    other = load_data(f"parquet:{tmp_path}/b.parquet")
    assert other.sha256 != data.sha256  # labels belong to the data
    joined = load_data(f"parquet:{tmp_path}/a.parquet", train=f"parquet:{tmp_path}/b.parquet")
    assert joined.train is not None
    assert joined.train.labels.tolist() == [2, 1, 1]


def test_structs_names_and_sizes(tmp_path):
    (tmp_path / "beside.png").write_bytes(image(90, (8, 9)))
    cells = [
        {"bytes": image(10), "path": "a.png"},
        {"bytes": None, "path": "beside.png"},
    ]
    write(tmp_path / "a.parquet", img=cells, species=["wolf", "ant"])
    with pytest.raises(InputError, match=r"row 1\): is 8x9 pixels, .*row 0\) is 6x5; give size="):
        load_data(f"parquet:{tmp_path}/a.parquet")
    data = load_data(f"parquet:{tmp_path}/a.parquet", size=4)
    assert (data.classes, data.test.labels.tolist()) == (("ant", "wolf"), [1, 0])
    assert (data.shape, greys(data.test)) == ((1, 4, 4), [10, 90])
    (tmp_path / "beside.png").unlink()
    with pytest.raises(InputError, match=r"row 1\): beside.png cannot be read"):
        load_data(f"parquet:{tmp_path}/a.parquet", size=4)
    left = load_data(f"parquet:{tmp_path}/a.parquet", size=4, on_error="skip")
    assert greys(left.test) == [10]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"image": [image(1)], "label": [[0, 1]]}, "labels are lists, as one-hot labels are"),
        ({"image": [image(1)], "label": [-1]}, "labels reach from -1 to -1.*without a label"),
        ({"image": [image(1)], "label": [0.5]}, "has the label 0.5"),
        ({"image": [image(1)], "label": [None]}, "row 0 has no label"),
        ({"image": 2 * [image(1)], "label": ["1", None]}, "row 1 has no label"),
        ({"image": ["a.png"], "label": [0]}, "has the columns image, label; want one of encoded"),
        ({"image": [image(1)]}, "want one of encoded images"),
        ({"image": [image(1)], "mask": [image(1)], "label": [0]}, "want one of encoded images"),
        ({"image": [b"no image"], "label": [0]}, r"row 0\): cannot be read as an image"),
        ({"image": [], "label": []}, "want one of encoded|no images"),
    ],
)
def test_tables_that_are_none_of_images(tmp_path, columns, says):
    write(tmp_path / "a.parquet", **columns)
    with pytest.raises(InputError, match=says) as error:
        load_data(f"parquet:{tmp_path}/a.parquet")
    assert "\n" not in str(error.value)


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_data(f"parquet:{tmp_path}/a.parquet")
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(InputError, match="not a whole Parquet file"):
        load_data(f"parquet:{tmp_path}/a.parquet")
    with pytest.raises(InputError, match=r"write parquet:.*a.parquet"):
        load_data(f"{tmp_path}/a.parquet")


@pytest.fixture
def hub(tmp_path):
    """A data set in the form of the hub, with a training and a test split."""
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )

    def split(values):
        cells = [{"bytes": image(grey), "path": None} for grey in values]
        return datasets.Dataset.from_dict(
            {"image": cells, "label": [grey % 2 for grey in values]}, features=features
        )

    return datasets.DatasetDict({"train": split((1, 2, 3)), "test": split((11, 12))})


@pytest.mark.filterwarnings("ignore")
def test_a_data_set_on_disk(tmp_path, hub):
    hub.save_to_disk(str(tmp_path / "animals"))
    data = load_data(f"hf:{tmp_path}/animals")
    assert data.train is not None
    assert (data.name, data.classes, data.shape) == ("hf:animals", ("cat", "dog"), (1, 5, 6))
    assert (greys(data.test), data.test.labels.tolist()) == ([11, 12], [1, 0])
    assert (greys(data.train), data.train.labels.tolist()) == ([1, 2, 3], [1, 0, 1])
    train = load_data(f"hf:{tmp_path}/animals:train")
    assert train.train is None
    assert greys(train.test) == [1, 2, 3]
    assert load_data(f"hf:{tmp_path}/animals").sha256 == data.sha256 != train.sha256
    with pytest.raises(InputError, match=r"no split 'valid', but .*; write hf:"):
        load_data(f"hf:{tmp_path}/animals:valid")
    with pytest.raises(InputError, match=r"cannot be loaded"):
        load_data(f"hf:{tmp_path}/nowhere")


@pytest.mark.filterwarnings("ignore")
def test_splits_that_number_their_classes_differently(tmp_path, hub):
    datasets = pytest.importorskip("datasets")
    other = datasets.ClassLabel(names=["dog", "cat"])
    swapped = hub["train"].cast_column("label", datasets.Value("int64"))
    swapped = swapped.map(lambda row: {"label": 1 - row["label"]}).cast_column("label", other)
    hub["train"] = swapped
    hub.save_to_disk(str(tmp_path / "animals"))
    data = load_data(f"hf:{tmp_path}/animals")
    assert data.train is not None
    assert [data.classes[label] for label in data.train.labels] == ["dog", "cat", "dog"]
    hub["train"] = swapped.cast_column("label", datasets.ClassLabel(names=["wolf", "cat"]))
    hub.save_to_disk(str(tmp_path / "wolves"))
    with pytest.raises(InputError, match="training images are not those of the test images"):
        load_data(f"hf:{tmp_path}/wolves")


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_cannot_be_reached_is_not_waited_for(monkeypatch):
    datasets = pytest.importorskip("datasets")
    config = pytest.importorskip("datasets.config")

    def load(name):
        assert config.HF_HUB_OFFLINE
        raise ConnectionError("offline")

    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("scotoma.utils.network.reachable", lambda address: False)
    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=r"someone/data.*the hub cannot be reached"):
        load_data("hf:someone/data")
    assert config.HF_HUB_OFFLINE is False


def test_class_names_that_hugging_face_wrote_into_parquet(tmp_path, hub):
    hub["test"].to_parquet(str(tmp_path / "a.parquet"))
    data = load_data(f"parquet:{tmp_path}/a.parquet")
    assert (data.classes, data.test.labels.tolist()) == (("cat", "dog"), [1, 0])
    assert greys(data.test) == [11, 12]


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"hf:cifar10 needs datasets; pip install datasets"):
        load_data("hf:cifar10")


def test_pixels_are_those_of_a_folder(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    (tmp_path / "test/0").mkdir(parents=True)
    file = tmp_path / "test/0/a.jpg"
    Image.fromarray(pixels).save(file)
    write(tmp_path / "a.parquet", image=[file.read_bytes()], label=[0])
    both = [
        load_data(spec, resize=32, crop=24).test.images(torch.arange(1))
        for spec in (f"folder:{tmp_path}", f"parquet:{tmp_path}/a.parquet")
    ]
    assert torch.equal(*both)
