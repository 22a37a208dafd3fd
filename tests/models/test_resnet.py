"""The residual networks are the published ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.models.features import default_layer, features
from scotoma.models.resnet import StandardiseEach, madry_cifar, resnet9

SHAPE = (3, 32, 32)


def test_w32_10_has_the_size_and_layers_of_the_challenge():
    model = madry_cifar(SHAPE, 10)
    convolutions = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert len(convolutions) == 31
    assert all(part.bias is None for part in convolutions)
    assert [part.in_channels for part in convolutions if part.stride == (2, 2)] == [160, 320]
    assert sum(weight.numel() for weight in model.parameters()) == 45_901_914


@pytest.mark.parametrize(
    "build",
    [resnet9, lambda s, c: madry_cifar(s, c, units=1, widths=(4, 8, 8, 16))],
    ids=["resnet9", "w32"],
)
def test_features_are_the_pooled_channels(build):
    torch.manual_seed(0)
    model = build(SHAPE, 7).eval()
    images = torch.rand(2, *SHAPE)
    assert model(images).shape == (2, 7)
    assert default_layer(model, images) == "input of fc"
    assert features(model, images).shape == (2, model.fc.in_features)
    assert torch.equal(features(model, images), features(model, images, "pool"))


def test_every_image_is_standardised_by_itself():
    images = torch.rand(3, *SHAPE)
    images[2] = 0.25
    standard = StandardiseEach()(images)
    assert torch.allclose(standard.flatten(1).mean(1), torch.zeros(3), atol=1e-5)
    assert torch.allclose(standard[:2].flatten(1).std(1, correction=0), torch.ones(2), atol=1e-5)
    assert not standard[2].any()
    assert torch.allclose(StandardiseEach()(images * 0.5 + 0.2)[:2], standard[:2], atol=1e-4)


def test_a_shortcut_keeps_the_image_where_the_body_is_silent():
    model = madry_cifar(SHAPE, 10, units=1, widths=(4, 6, 6, 6)).eval()
    unit = model.get_submodule("stage1.0")
    nn.init.zeros_(unit.conv2.weight)  # type: ignore[arg-type]
    images = torch.rand(1, 4, 8, 8)
    out = unit(images)
    kept = nn.functional.leaky_relu(unit.norm1(images), 0.1)  # type: ignore[operator]
    assert torch.allclose(out[:, 1:5], kept)
    assert not out[:, [0, 5]].any()
