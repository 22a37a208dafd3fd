"""The residual networks are the published ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.models import ARCHITECTURES
from scotoma.models.features import default_layer, features
from scotoma.models.resnet import Bottleneck, StandardiseEach, madry_cifar, resnet9, resnet50
from scotoma.utils.errors import InputError

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
    shortcut = nn.functional.leaky_relu(unit.norm1(images), 0.1)  # type: ignore[operator]
    assert torch.allclose(out[:, 1:5], shortcut)
    assert not out[:, [0, 5]].any()


@pytest.mark.parametrize(
    ("arch", "parameters", "convolutions"),
    [("resnet50", 25_557_032, 53), ("resnet101", 44_549_160, 104)],
    ids=["50", "101"],
)
def test_the_size_on_imagenet(arch, parameters, convolutions):
    with torch.device("meta"):
        model = ARCHITECTURES[arch]((3, 224, 224), 1000)
    assert sum(weight.numel() for weight in model.parameters()) == parameters
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == convolutions
    assert all(part.bias is None for part in model.modules() if isinstance(part, nn.Conv2d))


def test_stages_halve_the_image():
    model = resnet50((3, 64, 64), 5).eval()
    sizes: dict[nn.Module, tuple[int, ...]] = {}
    for part in model.children():
        part.register_forward_hook(lambda part, _, out: sizes.update({part: tuple(out.shape[1:])}))
    images = torch.rand(2, 3, 64, 64)
    assert model(images).shape == (2, 5)
    stages = [
        sizes[model.get_submodule(name)]
        for name in ("stem", "stage1", "stage2", "stage3", "stage4")
    ]
    assert stages == [(64, 16, 16), (256, 16, 16), (512, 8, 8), (1024, 4, 4), (2048, 2, 2)]
    assert default_layer(model, images) == "input of fc"
    assert torch.equal(features(model, images), features(model, images, "pool"))


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 33, 47)])
def test_other_sizes_and_grey_images(shape):
    torch.manual_seed(0)
    model = resnet50(shape, 3).eval()
    images = torch.rand(2, *shape).requires_grad_()
    logits = model(images)
    assert logits.shape == (2, 3)
    assert bool(logits.isfinite().all())
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), images)
    assert bool(gradient.any())


def test_too_small_an_image():
    with pytest.raises(InputError, match=r"resnet101.*at least 32x32 pixels, not 28x40"):
        ARCHITECTURES["resnet101"]((3, 28, 40), 10)


def test_a_fresh_unit_passes_its_shortcut_on_and_a_stride_skips_no_pixel():
    torch.manual_seed(0)
    unit = Bottleneck(16, 4, 1).eval()
    images = torch.rand(2, 16, 6, 6)
    assert isinstance(unit.shortcut, nn.Identity)
    nn.init.zeros_(unit.body[-1].weight)  # type: ignore[arg-type]
    assert torch.equal(unit(images), images)
    halved = Bottleneck(16, 8, 2).eval()
    leaf = images.requires_grad_()
    (gradient,) = torch.autograd.grad(halved.body(leaf).sum(), leaf)
    assert bool(gradient.abs().sum((0, 1)).all()), "every pixel has a part in it"
