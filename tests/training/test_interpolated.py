"""Weights between two models: exact ends, whole files, and models that do not fit together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.training.interpolated import Interpolation
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, width), nn.BatchNorm1d(width))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_weights_and_statistics_lie_between(share):
    one, other = network(), network()
    other(torch.rand(8, 1, 2, 2))  # statistics of its own
    before = {name: part.clone() for name, part in one.state_dict().items()}
    Interpolation(THREAT, (Classifier.of(other),), share).fit(one)
    for name, part in one.state_dict().items():
        mine, theirs = before[name], other.state_dict()[name]
        wanted = torch.lerp(mine, theirs, share) if mine.is_floating_point() else mine
        assert torch.equal(part, wanted), name


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ((), "takes one model as sources=; got 0"),
        ((network(), network()), "got 2"),
        ((network(5),), "has other weights than the model to begin with"),
    ],
)
def test_models_that_do_not_fit(sources, message):
    given = tuple(Classifier.of(each) for each in sources)
    with pytest.raises(InputError, match=message):
        Interpolation(THREAT, given).fit(network())


def test_a_share_outside_0_to_1(scotoma, tmp_path):
    command = ("train", "interpolated", "--data", "digits", "--arch", "mlp", "--out")
    ended = scotoma(*command, tmp_path / "m.safetensors", "--option", "share=1.5")
    assert ended.code == 2
    assert "share=1.5" in ended.err


def test_two_trained_networks(scotoma, tmp_path, digits):
    files = {}
    for seed in ("0", "1"):
        files[seed] = tmp_path / f"{seed}.safetensors"
        command = ("train", "natural", "--data", "digits", "--arch", "small-cnn", "--epochs", "1")
        command += ("--threat", "linf:0.1", "--seed", seed, "--out", files[seed])
        assert scotoma(*command).code == 0
    out = tmp_path / "between.safetensors"
    command = ("train", "interpolated", "--data", "digits", "--threat", "linf:0.1")
    command += ("--start", files["0"], "--sources", files["1"], "--option", "share=0.5")
    ended = scotoma(*command, "--out", out)
    assert ended.code == 0, ended.err
    one, other, between = (load_model(str(path)) for path in (*files.values(), out))
    for name, part in between.module.state_dict().items():
        ends = one.module.state_dict()[name], other.module.state_dict()[name]
        assert torch.allclose(part, torch.lerp(*ends, 0.5), atol=1e-6)
    assert between.card["options"]["share"] == 0.5
    assert between.card["schedule"]["epochs"] == 0
    again = scotoma(*command, "--out", out)
    assert "finished before" in again.out
