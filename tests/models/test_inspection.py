"""What `scotoma inspect` says."""

import pytest
import torch
from torch import nn

from scotoma.models.inspection import inspect
from scotoma.models.loading import load_model
from scotoma.threat import Threat


def test_a_sound_model(linear, digits):
    block = inspect(load_model(linear), digits, Threat("linf", 8 / 255))
    assert block["model"].startswith("Centroids (") or block["model"].startswith("Sequential (")
    assert block["parameters"] == "650 in 2 tensors"
    assert block["input"] == "1x8x8 from digits"
    assert block["accuracy"].endswith("of 100 test images (chance: 10.3)")
    assert block["outputs"].startswith("10 logits from ")
    assert block["gradient"] == "yes"
    assert block["features"].startswith("input of 1; also ")
    assert "images a second" in block["speed"]
    assert "with gradients" in block["speed"]
    assert block["threat"] == "linf:8/255: each value changes by up to 8 of 255 grey levels"
    assert block["first"] == "Nothing to fix."
    assert "notes" not in block


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (lambda x: x.softmax(1), "Return logits, not probabilities"),
        (torch.sigmoid, "Outputs lie in [0, 1], as after a sigmoid"),
        (lambda x: x + x.mean(0), "Predictions depend on the other images"),
        (lambda x: x.detach(), "The gradient by the images is no"),
        (lambda x: torch.cat([x, x - 1], 1), "It has 20 outputs for 10 classes"),
        (lambda x: x.roll(3, 1), "With its classes in another order"),
    ],
)
def test_the_first_thing_to_fix(linear, digits, end, says):
    class Changed(nn.Module):
        def forward(self, images):
            return end(linear(images))

    assert inspect(load_model(Changed()), digits)["first"].startswith(says)


def test_eps_in_grey_levels(linear, digits):
    block = inspect(load_model(linear), digits, Threat("linf", 1))
    assert block["first"].startswith("eps 1 lets every pixel become black or white")
    assert block["first"].endswith("1/255?")


def test_a_black_box(linear, digits):
    block = inspect(load_model(lambda x: linear(x).detach().numpy()), digits)
    assert block["parameters"] == "unknown, since it is no torch module"
    assert block["gradient"].startswith("no, a black box")
    assert block["features"].startswith("logits and pixels alone")
    assert "black box without gradients" in block["notes"]
    assert block["first"] == "Nothing to fix."


def test_the_command(scotoma, digits_model):
    ended = scotoma("inspect", digits_model, "--data", "digits", "--threat", "l2:0.5")
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[0].startswith("model         digits-pgd (Sequential), sha256 ")
    assert lines[-1] == "first         Nothing to fix."
    assert any(line.startswith("threat        l2:0.5: ") for line in lines)
    ended = scotoma("inspect", "nowhere.onnx", "--data", "digits")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
