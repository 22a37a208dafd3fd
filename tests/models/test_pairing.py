"""Images and classes of the data that the model knows otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import scotoma
from scotoma.auditing import make_claim
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.data.input import InputSpec
from scotoma.models.classifier import Classifier
from scotoma.models.loading import fitted, load_pair
from scotoma.utils.errors import InputError

RNG = np.random.default_rng(2)


def images(channels: int, n: int = 12) -> np.ndarray:
    return RNG.integers(0, 256, (n, channels, 4, 4), dtype=np.uint8)


def made(names: tuple[str, ...] | None, labels: list[int], channels: int = 1) -> Dataset:
    split = ArraySplit(images(channels, len(labels)), np.array(labels), "mine")
    return from_splits("mine", None, split, names)


def network(outputs: int, names: tuple[str, ...] | None = None, channels: int = 1) -> Classifier:
    module = nn.Sequential(nn.Flatten(), nn.Linear(16 * channels, outputs))
    return replace(Classifier.of(module, "net"), classes=names)


def test_classes_in_another_order_are_matched_by_name():
    data = made(("ant", "sea_cow", "tench"), [0, 1, 2, 2])
    model = network(4, ("Tench, Tinca tinca", "dog", "ant", "manatee, sea cow"))
    matched = fitted(data, model)
    assert matched.test.labels.tolist() == [2, 3, 0, 0]
    assert matched.classes == model.classes
    assert matched.notes == (
        "Classes are matched by name: 3 classes of mine are among the 4 outputs of model net.",
    )
    assert matched.sha256 != data.sha256
    assert torch.equal(matched.test.images(torch.arange(4)), data.test.images(torch.arange(4)))
    assert fitted(matched, model) is matched
    assert data.test.labels.tolist() == [0, 1, 2, 2]


def test_equal_names_in_equal_order_change_nothing():
    data = made(("ant", "dog"), [0, 1])
    assert fitted(data, network(2, ("ant", "dog"))) is data
    same = fitted(data, network(3, ("Ant", "Dog", "cat")))
    assert same.sha256 == data.sha256
    assert same.test.labels.tolist() == [0, 1]


def test_a_class_that_the_model_does_not_know_is_named():
    data = made(("ant", "dogg"), [0, 1])
    with pytest.raises(InputError, match=r"1 of its 2 classes by name, but not 'dogg'; did you"):
        fitted(data, network(3, ("ant", "cat", "dog")))
    # one without images does no harm
    assert fitted(made(("ant", "dogg"), [0, 0]), network(2, ("cat", "ant"))).test.labels[0] == 1


def test_two_classes_for_one_output():
    data = made(("ant", "formica"), [0, 1])
    with pytest.raises(InputError, match=r"several of its classes fit the output 'ant, formica'"):
        fitted(data, network(2, ("dog", "ant, formica")))


@pytest.mark.parametrize("names", [("n01", "n02"), ("LABEL_0", "LABEL_1")])
def test_without_common_names_numbers_count(names):
    data = made(("ant", "dog"), [0, 1])
    matched = fitted(data, network(2, names))
    assert matched.test.labels.tolist() == [0, 1]
    assert ["class numbers are taken to mean the same" in note for note in matched.notes] == (
        [] if names[0] == "LABEL_0" else [True]
    )


def test_folders_named_by_numbers_are_numbers_of_outputs():
    data = made(("22", "243", "99"), [0, 1, 2])
    matched = fitted(data, network(300))
    assert matched.test.labels.tolist() == [22, 243, 99]
    assert "numbers of outputs of model net" in matched.notes[0]
    assert make_claim(network(300), data, "linf:0.1").data.test.labels.tolist() == [22, 243, 99]
    # a model of as many classes was trained in the order of the folders
    assert fitted(data, network(3)) is data


def test_grey_images_for_a_model_of_colour():
    data = made(None, [0, 1, 0])
    claim = make_claim(network(2, channels=3), data, "linf:0.1")
    assert claim.data.shape == (3, 4, 4)
    pixels = claim.data.test.images(torch.tensor([2, 0]))
    assert torch.equal(pixels, data.test.images(torch.tensor([2, 0])).expand(2, 3, 4, 4))
    assert claim.data.notes == ("Grey images of mine have three equal channels for model net.",)
    assert claim.data.sha256 != data.sha256
    # also from memory
    pair = data.test.images(torch.arange(3)), data.test.labels
    assert make_claim(network(2, channels=3), pair, "linf:0.1").data.shape == (3, 4, 4)


def test_colour_images_for_a_model_of_grey():
    with pytest.raises(InputError, match="takes grey images of one channel"):
        make_claim(network(2), made(None, [0, 1], channels=3), "linf:0.1")


def test_other_failures_are_left_to_the_check():
    class Wants5(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("want images of 5x5")

    with pytest.raises(InputError, match="cannot take images of 1x4x4 from mine: want images of"):
        make_claim(Wants5(), made(None, [0, 1]), "linf:0.1")


def test_one_hot_labels_from_memory():
    with pytest.raises(InputError, match=r"one-hot, of shape \(3, 2\); give their class numbers"):
        make_claim(network(2), (images(1, 3), np.eye(3, 2, dtype=int)), "linf:0.1")


def test_names_for_training_images_go_with_names_for_data(digits):
    pair = images(1, 3), np.array([0, 1, 1])
    with pytest.raises(InputError, match="wants training images by name as well"):
        make_claim(network(2), digits, "linf:0.1", pair)
    with pytest.raises(InputError, match="wants training images from memory as well"):
        make_claim(network(2), pair, "linf:0.1", "digits")


def test_the_default_size_is_that_of_the_model(tmp_path):
    for name, size in (("a", (9, 7)), ("b", (8, 12))):
        (tmp_path / name).mkdir()
        Image.new("RGB", size).save(tmp_path / name / "0.png")
    model = replace(network(2, channels=3), input=InputSpec((4, 4), 5, (4, 4)))
    classifier, data = load_pair(model, f"folder:{tmp_path}")
    assert (classifier, data.shape) == (model, (3, 4, 4))
    assert load_pair(model, f"folder:{tmp_path}", size=6)[1].shape == (3, 6, 6)
    assert scotoma.load_data(f"folder:{tmp_path}", model=model.input).sha256 == data.sha256


@pytest.mark.usefixtures("undrawn")
def test_the_report_says_how_the_images_were_read(tmp_path):
    for name, grey in (("black", 0), ("white", 255)):
        (tmp_path / name).mkdir()
        Image.new("L", (6 + grey // 255, 6), grey).save(tmp_path / name / "0.png")
        (tmp_path / name / "1.png").touch()
    last = nn.Linear(16, 2)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 16))
        last.bias.copy_(torch.tensor([8.0, -8.0]))
    model = nn.Sequential(nn.Flatten(), last)
    data = scotoma.load_data(f"folder:{tmp_path}", size=4, on_error="skip")
    probes = ["robustness", "divergence"]
    report = scotoma.audit(model, data, "linf:0.1", probes=probes, attack="fgsm")
    notes = report.provenance["notes"]
    assert [note.split(" ")[0] for note in notes][:2] == ["Images", "2"]
    assert "resized when they are read: resized to 4x4 (bilinear)" in notes[0]
    assert "files of" in notes[1]
    assert "no training images for divergence to compare with" in notes[2]
    assert report["robustness"].numbers["clean_accuracy"] == 1
