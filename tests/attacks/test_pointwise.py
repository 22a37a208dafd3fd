"""The pointwise attack: brute force, closed forms, guarantees, and another implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from decisions import Quantised, l0_optimum, problem
from torch import Tensor, nn
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pointwise import Pointwise
from scotoma.utils.random import Randomness


def resets_that_fool(model: nn.Module, image: Tensor, label: Tensor, adversarial: Tensor) -> int:
    """How many of the changed pixels of one image, (c, h, w), can be taken back alone."""
    changed = (adversarial != image).any(0).nonzero()
    tries = adversarial.repeat(len(changed), 1, 1, 1)
    for number, (row, column) in enumerate(changed.tolist()):
        tries[number, :, row, column] = image[:, row, column]
    return int(fooled(model(tries), label.expand(len(tries))).sum()) if len(changed) else 0


@pytest.mark.parametrize("norm", Pointwise.norms)
def test_no_changed_pixel_can_be_taken_back(norm: str):
    model, (images, labels) = digits_model(), digits_images(60)
    right = ~fooled(model(images), labels)
    adversarial = Pointwise(norm, restarts=1)(model, images, labels)
    assert fooled(model(adversarial), labels)[right].all()
    assert size(adversarial - images, "l0").max() > 3
    results = zip(images, labels, adversarial, strict=True)
    assert sum(resets_that_fool(model, image, label, end) for image, label, end in results) == 0


class Chain(nn.Module):
    """Fooled while the white pixels are a prefix of the image: a pixel goes after its successor."""

    def forward(self, images: Tensor) -> Tensor:
        white = images[:, 0].flatten(1) > 0.5
        fooling = (white[:, :-1] | ~white[:, 1:]).all(1) & white[:, 0]
        return torch.stack([~fooling, fooling], dim=1).float()


def test_pixels_that_could_not_be_taken_back_are_tried_again():
    images, labels = torch.zeros(10, 1, 4, 4), torch.zeros(10, dtype=torch.int64)
    adversarial = Pointwise("l0")(Chain(), images, labels, start=torch.ones_like(images))
    assert torch.equal(adversarial.flatten(1).nonzero()[:, 1], torch.zeros(10, dtype=torch.int64))
    assert size(adversarial - images, "l0").tolist() == [1] * 10


@pytest.mark.parametrize(("channels", "factor"), [(1, 1.1), (3, 1.5)])
def test_reaches_nearly_the_fewest_pixels_of_linear_models(channels: int, factor: float):
    """In colour the fewest need other colours than black and white."""
    model, images, labels = problem(30, (channels, 6, 6))
    optimum = l0_optimum(model, images, labels)
    adversarial = Pointwise("l0", restarts=20)(model, images, labels)
    count = size(adversarial - images, "l0")
    assert fooled(model(adversarial), labels).all()
    assert (count >= optimum).all()
    assert count.mean() < factor * optimum.float().mean()


def test_restarts_only_help():
    model, images, labels = problem(30, (1, 8, 8), classes=3)
    one, many = (
        size(Pointwise("l0", restarts)(model, images, labels) - images, "l0")
        for restarts in (1, 10)
    )
    assert (many <= one).all()
    assert many.mean() < one.mean()


def test_restarts_that_do_not_fit_together_run_in_turn(monkeypatch: pytest.MonkeyPatch):
    model, images, labels = problem(10)
    together = Pointwise("l0", restarts=5)(model, images, labels)
    monkeypatch.setattr("scotoma.attacks.pointwise.VALUES", 2 * images.numel())
    turned = Pointwise("l0", restarts=5)(model, images, labels)
    assert torch.equal(size(together - images, "l0"), size(turned - images, "l0"))


class Window(nn.Module):
    """Is fooled as long as all of a few pixels are white."""

    def __init__(self, needed: Tensor):
        super().__init__()
        self.needed = needed

    def forward(self, images: Tensor) -> Tensor:
        white = (images[:, 0] > 0.9) | ~self.needed
        fooling = white.flatten(1).all(1).float()
        return torch.stack([1 - fooling, fooling], dim=1)


def test_finds_the_needed_pixels_in_fewer_queries_than_pixels():
    """8 of 1,024 pixels, all changed: one by one it would take 1,024 queries and 8 to be sure."""
    needed = torch.zeros(32, 32, dtype=torch.bool)
    needed.view(-1)[torch.randperm(1024, generator=torch.Generator().manual_seed(0))[:8]] = True
    model = Window(needed)
    images, labels = torch.zeros(10, 1, 32, 32), torch.zeros(10, dtype=torch.int64)
    counted = Counted(model, 10, images.device)
    adversarial = Pointwise("l0")(counted, images, labels, start=torch.ones_like(images))
    assert torch.equal(adversarial[:, 0] > 0, needed.expand(10, -1, -1))
    assert counted.forwards.max() < 150


def test_a_start_that_does_not_fool_leaves_the_image():
    model, images, labels = problem(6)
    start = images.clone()
    start[:3] = Pointwise("l0")(model, images, labels)[:3]
    adversarial = Pointwise("l0")(
        model, images, labels, start=start, generator=Randomness(1, torch.arange(6))
    )
    assert torch.equal(adversarial[3:], images[3:])
    assert fooled(model(adversarial), labels)[:3].all()
    assert (size(adversarial - images, "l0") <= size(start - images, "l0")).all()


def test_values_are_bisected_for_l2():
    model, (images, labels) = digits_model(), digits_images(60)
    right = ~fooled(model(images), labels)
    whole, part = (
        Pointwise(norm, restarts=3)(model, images, labels)[right] for norm in ("l0", "l2")
    )
    near, far = (size(each - images[right], "l2") for each in (part, whole))
    assert near.mean() < 0.95 * far.mean()
    assert size(part - images[right], "l0").mean() >= size(whole - images[right], "l0").mean()


def test_breaks_a_model_without_gradient():
    model, (images, labels) = Quantised(digits_model()), digits_images(40)
    right = ~fooled(model(images), labels)
    adversarial = Pointwise("l0", restarts=2)(model, images, labels)
    assert fooled(model(adversarial), labels)[right].all()


def test_no_more_pixels_than_another_implementation():
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(20)
    counted = Counted(model, len(images), images.device)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002, the generator that Foolbox draws from
    attack = foolbox.attacks.PointwiseAttack(l2_binary_search=False)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    theirs = attack.run(peer, images, foolbox.criteria.Misclassification(labels))
    ours = Pointwise("l0")(counted, images, labels)
    assert fooled(model(ours), labels).all()
    assert size(ours - images, "l0").mean() <= size(theirs - images, "l0").mean()
    assert counted.forwards.float().mean() < 1000
