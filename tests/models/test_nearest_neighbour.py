"""The model that remembers: distances, gradients, bytes and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scotoma.data.dataset import ArraySplit, Dataset
from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.nearest_neighbour import NearestNeighbour
from scotoma.threat import Threat
from scotoma.training.loop import train
from scotoma.utils.errors import InputError


def split(n: int = 50, classes: int = 4, dtype: type = np.uint8) -> ArraySplit:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (n, 2, 5, 6)).astype(np.uint8)
    chosen = images if dtype is np.uint8 else random.random(images.shape, np.float32)
    return ArraySplit(chosen, np.arange(n) % classes, "made")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_logits_are_distances_to_the_nearest_of_each_class(dtype: type):
    training = split(dtype=dtype)
    model = NearestNeighbour(4).remember(training)
    assert model.images.dtype == (torch.uint8 if dtype is np.uint8 else torch.float32)
    x = torch.rand(7, *training.shape)
    everything = training.images(torch.arange(len(training)))
    distances = torch.cdist(x.flatten(1).double(), everything.flatten(1).double())
    expected = torch.stack(
        [distances[:, training.labels == label].amin(1) for label in range(4)], 1
    )
    assert torch.allclose(model(x), -expected.float(), atol=1e-5)
    assert torch.equal(model(everything).argmax(1), training.labels)


def test_the_gradient_points_to_the_neighbour():
    training = split()
    model = NearestNeighbour(4).remember(training)
    x = torch.rand(3, *training.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    assert torch.allclose(gradient.flatten(1).norm(dim=1), torch.ones(3))
    with torch.no_grad():
        assert (model(x + 0.01 * gradient)[:, 1] - model(x)[:, 1]).allclose(
            torch.tensor(0.01), atol=1e-4
        )
    x = training.images(torch.arange(3)).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert gradient.isfinite().all()


def test_a_class_without_images_is_far_away():
    model = NearestNeighbour(6).remember(split())
    x = torch.rand(3, 2, 5, 6)
    assert torch.allclose(model(x)[:, 4:], torch.full((3, 2), -(60**0.5)))


def test_an_empty_one_says_so():
    with pytest.raises(InputError, match="has no training images yet"):
        NearestNeighbour(4)(torch.rand(1, 2, 5, 6))


def test_it_is_trained_saved_and_read_again(digits: Dataset, tmp_path: Path):
    out = tmp_path / "known.safetensors"
    model = train("nearest-neighbour", digits, None, Threat("l2", 1.5), out, half=True)
    again, card = load_checkpoint(out)
    assert card["arch"] == "nearest-neighbour"
    assert card["accuracy"] > 0.95
    assert card["robust_accuracy"] is None
    x = digits.test.images(torch.arange(20))
    assert torch.equal(again(x), model(x))


def test_only_its_own_architecture(digits: Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="arch=nearest-neighbour"):
        train(
            "nearest-neighbour", digits, "small-cnn", Threat("l2", 1.5), tmp_path / "m.safetensors"
        )
