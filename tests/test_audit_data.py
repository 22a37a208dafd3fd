"""Audits of data that are at hand in Python: tensors, PyTorch data sets and data loaders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import scotoma
from scotoma.data.memory import from_memory
from scotoma.probes.distance.probe import Distance
from scotoma.probes.norms.probe import Norms

QUICK = Norms({"l0": ("vfga",), "l2": ("deepfool",), "linf": ("fmn-linf",)})
SETTINGS: dict[str, Any] = {"attack": "fmn-linf", "probes": ["robustness"]}

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def pairs(digits) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Forty test images and 200 training images of the digits, with labels."""
    return tuple(
        (split.images(torch.arange(n)), split.labels[:n])
        for split, n in ((digits.test, 40), (digits.train, 200))
    )  # type: ignore[return-value]


def audit(model: nn.Module, data: Any, **settings: Any) -> scotoma.Report:
    return scotoma.audit(model, data, "linf:0.1", **SETTINGS | settings)


def test_all_kinds_of_the_same_images_give_one_result(linear, pairs):
    images, labels = pairs[0]
    kinds = {
        "tensors": (images, labels),
        "arrays": [images.numpy(), labels.numpy()],
        "set": TensorDataset(images, labels),
        "loader": DataLoader(TensorDataset(images, labels), batch_size=7),
        "shuffled": DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True),
    }
    hashes = {from_memory(kind).sha256 for kind in kinds.values()}
    assert len(hashes) == 1
    reports = [audit(linear, kinds[kind]) for kind in ("tensors", "set", "shuffled")]
    assert len({report.provenance["digest"] for report in reports}) == 1
    assert [report.claim["data"] for report in reports] == [
        "tensors",
        "TensorDataset",
        "TensorDataset",
    ]
    assert "data=(images, labels), threat='linf:0.1'" in reports[0].provenance["command"]
    assert reports[0]["robustness"].numbers["n"] == 40


def test_bytes_are_read_as_256_grey_levels(pairs):
    images, labels = pairs[0]
    stored = from_memory(((images * 255).round().byte(), labels)).test.images(torch.arange(40))
    assert (stored - images).abs().max() <= 0.5 / 255 + 1e-6


def test_training_images_let_probes_compare_with_them(linear, pairs):
    test, train = pairs
    without = audit(linear, test, probes=["distance"])["distance"]
    assert without.verdict == "not applicable"
    report = audit(
        linear, test, train=TensorDataset(*train), probes=["robustness", Distance(layer="pixels")]
    )
    assert report["distance"].verdict != "not applicable"
    assert report.provenance["data"]["train"] == 200
    assert "train=TensorDataset" in report.provenance["command"]
    assert "probes=['robustness', Distance(layer='pixels')]" in report.provenance["command"]


def test_an_unknown_probe_of_a_report_is_named(linear, pairs):
    report = audit(linear, pairs[0])
    with pytest.raises(KeyError, match="no finding of probe 'norms'; there are: robustness"):
        report["norms"]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.full((1, 8, 8), 0.5), 1), (torch.zeros(1, 8, 8), 0)])


def test_a_stream_is_read_once():
    data = from_memory(Stream())  # type: ignore[arg-type]
    assert data.name == "Stream"
    assert data.test.labels.tolist() == [1, 0]


IMAGES, LABELS = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ((IMAGES[:, 0, 0], LABELS), r"data: images have shape \(4, 8\); want"),
        ((IMAGES, LABELS[:3]), r"data: labels are int64 of shape \(3,\); want 4 integers"),
        ((IMAGES, LABELS.float()), "data: labels are float32"),
        ((IMAGES * 255, LABELS), "data: pixels reach from .* .normalise inside the model."),
        ((IMAGES - 0.5, LABELS), "data: pixels reach from -0"),
        ((IMAGES * np.nan, LABELS), "data: some pixels are NaN"),
        ((IMAGES, LABELS - 1), "data: labels reach from -1 to 2"),
        ((IMAGES, list(range(4))), "data: labels are a list; want a tensor"),
        ((IMAGES, LABELS, LABELS), "data: is 3 values; want .images, labels."),
        (IMAGES, "data: is Tensor; want .images, labels."),
        (TensorDataset(IMAGES), "data: TensorDataset does not give batches of .image, label."),
        (TensorDataset(IMAGES[:0], LABELS[:0]), "data: TensorDataset has no images"),
        ([("picture", 1)] * 4, "data: is 4 values"),
        ((IMAGES[:0], LABELS[:0]), "data: there are no images"),
    ],
)
def test_wrong_data_are_one_clear_line(linear, data, says):
    with pytest.raises(scotoma.InputError, match=says) as caught:
        audit(linear, data)
    assert "\n" not in str(caught.value)


def test_wrong_training_images_name_their_parameter(linear, pairs):
    with pytest.raises(scotoma.InputError, match=r"train: images have shape \(4, 8\)"):
        audit(linear, pairs[0], train=(IMAGES[:, 0, 0], LABELS))
    with pytest.raises(scotoma.InputError, match=r"data: training images are \(1, 4, 4\)"):
        audit(linear, pairs[0], train=(IMAGES[:, :, :4, :4], LABELS))
    with pytest.raises(scotoma.InputError, match="train: data that is loaded by name"):
        audit(linear, "digits", train=(IMAGES, LABELS))
