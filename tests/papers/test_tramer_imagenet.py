"""The ImageNet item on a tiny folder, from the command line to its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scotoma.papers import BY_NAME, ITEMS, item_names
from scotoma.papers.tramer2018 import published
from scotoma.papers.tramer2018.imagenet import ImageNet
from scotoma.reference import REFERENCES
from scotoma.training.loop import Schedule

CLASSES = 6
ITEM = "tramer2018/imagenet"


@pytest.fixture
def root(tmp_path) -> Path:
    """FOLDER/imagenet/{train,test}/CLASS/*.png: 32x32, stripes that differ by class."""
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 2)):
        for label in range(CLASSES):
            folder = tmp_path / "data" / "imagenet" / part / f"n{label:03}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 60, (32, 32, 3))
                lines = pixels if label % 2 else pixels.swapaxes(0, 1)
                lines[number % 4 :: 4, :, label // 2] += 190
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "data"


def shrink(monkeypatch, **archs: str) -> None:
    """The reference models of ImageNet after an epoch, in other architectures."""
    for name, wanted in REFERENCES.items():
        if name.startswith("imagenet-"):
            small = replace(
                wanted,
                schedule=Schedule(1, 16, optimizer="sgd"),
                arch=archs.get(wanted.arch, wanted.arch),
            )
            monkeypatch.setitem(REFERENCES, name, small)


def run(scotoma, tmp_path, root) -> dict:
    """What the command writes."""
    out, models = tmp_path / "out", tmp_path / "models"
    ended = scotoma(
        "reproduce", ITEM, "--data-root", root, "--models", models, "--limit", 4, "--out", out
    )
    assert ended.code == 0, ended.err
    told = [line.split()[0] for line in ended.err.splitlines()]
    assert told == [
        "imagenet-natural",
        "imagenet-step-ll",
        "imagenet-ensemble",
        "imagenet-held-out",
        "these",
    ]
    assert {path.stem for path in models.glob("*.safetensors")} == {
        name for name in REFERENCES if name.startswith("imagenet-")
    }
    assert "ImageNet" in ended.out
    assert (out / "report.html").exists()
    return json.loads((out / "reproduction.json").read_text())


def check(held: dict) -> None:
    """Every table of the paper is there, with its figures."""
    rows = held["rows"]
    assert all(each["n"] == 4 for each in rows if each["measure"] != "loss ratio")

    def printed(measure: str, **where: str) -> dict[str, float]:
        found = [
            each for each in rows if each["measure"] == measure and where.items() <= each.items()
        ]
        return {
            f"{each['network']} {each['training']}": each["published"]
            for each in found
            if each["published"] is not None
        }

    v3, v3adv, ens3 = (published.TABLE4[network] for network in ("v3", "v3adv", "v3adv-ens3"))
    names = ("ResNet-50 natural", "ResNet-50 step-ll", "ResNet-50 ensemble", "ResNet-101 natural")
    lines = zip(names, (v3, v3adv, ens3), strict=False)
    assert printed("clean error") == {
        name: errors.clean for name, errors in zip(names, (v3, v3adv, ens3), strict=False)
    }
    assert printed("black-box error") == {name: errors.black_box for name, errors in lines}
    step_ll = printed("white-box error", attack="Step-LL")
    assert step_ll == dict(zip(names, (0.696, 0.266, 0.300, 0.602), strict=True))
    assert printed("white-box error", attack="R+Step-LL") == {
        names[0]: 0.8,
        names[1]: 0.648,
        names[3]: 0.705,
    }
    assert printed("loss ratio") == dict(zip(names, (0.19, 0.07, 0.13), strict=False))
    assert printed("black-box error, top-5") == dict(
        zip(names, (0.245, 0.174, 0.112), strict=False)
    )
    table1 = [each for each in rows if each["measure"] == "error, Table 1"]
    assert len(table1) == 9
    assert {each["published"] for each in table1} == {
        0.602,
        0.392,
        0.311,
        0.438,
        0.696,
        0.364,
        0.363,
        0.356,
        0.266,
    }
    own = next(
        each
        for each in table1
        if (each["training"], each["source"]) == ("step-ll", "imagenet-step-ll")
    )
    white = next(
        each
        for each in rows
        if (each["training"], each["attack"], each["measure"])
        == ("step-ll", "Step-LL", "white-box error")
    )
    assert (own["ours"], own["published"]) == (white["ours"], white["published"])


def test_the_item_on_a_tiny_folder(scotoma, tmp_path, monkeypatch, root):
    shrink(monkeypatch, resnet50="small-cnn", resnet101="tramer-d")
    check(run(scotoma, tmp_path, root))


@pytest.mark.slow
def test_the_item_on_a_tiny_folder_with_its_own_networks(scotoma, tmp_path, monkeypatch, root):
    shrink(monkeypatch)
    check(run(scotoma, tmp_path, root))


def test_without_images_one_line_says_what_to_do(scotoma, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = scotoma("reproduce", ITEM, "--data-root", tmp_path / "nowhere")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    for says in ("imagenet: no images there", "train/CLASS/IMAGE", "--data-root FOLDER"):
        assert says in ended.err
    monkeypatch.delenv("SCOTOMA_DATA", raising=False)
    assert "no images there" in scotoma("reproduce", ITEM).err
    assert list(tmp_path.iterdir()) == []


def test_the_folder_itself_may_be_the_root(tmp_path, root, monkeypatch):
    from scotoma.papers.item import Context

    for place in (root, root / "imagenet"):
        with Context(tmp_path / "runs", data_root=place) as here:
            data = here.data("imagenet-natural")
            assert (data.name, len(data.test), len(data.classes), data.shape) == (
                "folder:imagenet",
                12,
                CLASSES,
                (3, 32, 32),
            )
    monkeypatch.setenv("SCOTOMA_DATA", str(root))
    with Context(tmp_path / "runs") as here:
        assert here.data("imagenet-natural").sha256 == data.sha256


def test_the_item_is_run_by_its_own_name_alone():
    assert item_names(ITEM) == [ITEM]
    rest = item_names("tramer2018")
    assert rest == [name for name in ITEMS if name.startswith("tramer2018/") and name != ITEM]
    assert {"tramer2018/mnist", "tramer2018/rand-fgsm", "tramer2018/diagnostics"} <= set(rest)
    assert set(ITEMS) >= BY_NAME


def test_held_out_is_held_out():
    item = ImageNet()
    taught = {source for name in item.models for source in REFERENCES[name].sources}
    assert taught == set(item.members)
    assert not taught & set(item.held_out)
    assert {REFERENCES[name].arch for name in item.held_out} & {
        REFERENCES[name].arch for name in taught
    } == set()
    assert {REFERENCES[name].threat for name in item.models} == {"linf:16/256"}
    assert set(item.counterparts) == set(item.models)
