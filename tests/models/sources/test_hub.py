"""Networks of timm and torchvision with random weights, where torchvision is (`make test-hub`)."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from scotoma.models.loading import load_model
from scotoma.models.preparation import Prepared
from scotoma.models.sources.opening import Opening
from scotoma.models.sources.timm import of_timm
from scotoma.models.sources.torchvision import of_torchvision
from scotoma.utils.errors import InputError

pytestmark = pytest.mark.hub
ROUNDED = 3 / 255
"""Difference of pixels that Pillow's rounding to 8 bits in both directions explains."""


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    return Image.fromarray(coarse).resize((301, 262), Image.Resampling.BICUBIC)


def check(module: Prepared, wanted: torch.Tensor, picture: Image.Image) -> None:
    """The module prepares the picture as the library's own transforms do, with gradients."""
    images = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    images.requires_grad_()
    prepared = module.prepare(images)
    assert float(((prepared.detach() - wanted) * module.std).abs().max()) <= ROUNDED
    module(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("resnet18", {}),
        ("test_vit", {}),
        ("test_resnet", {"crop_pct": 0.95, "interpolation": "bilinear"}),
        ("test_efficientnet", {"crop_pct": 1.0, "crop_mode": "squash"}),
    ],
)
def test_timm(picture, name, changes):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    network = timm.create_model(name, pretrained=False, pretrained_cfg_overlay=changes or None)
    model = of_timm(network.eval(), name)
    config = timm.data.resolve_data_config({}, model=network)
    transform = timm.data.create_transform(**config)
    assert isinstance(model.module, Prepared)
    check(model.module, transform(picture), picture)
    side = config["input_size"][1]
    assert model.input is not None
    assert model.input.size == (side, side)
    whole = math.floor(side / config["crop_pct"])
    assert model.input.resize == ((whole, whole) if config["crop_mode"] == "squash" else whole)
    assert model.input.interpolation == config["interpolation"]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "swin_t"])
def test_torchvision(picture, name):
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    weights = models.get_model_weights(name).DEFAULT
    model = of_torchvision(models.get_model(name, weights=None).eval(), weights, name)
    assert isinstance(model.module, Prepared)
    check(model.module, weights.transforms()(picture), picture)
    assert model.classes is not None
    assert (len(model.classes), model.classes[0]) == (1000, "tench")


def test_weights_of_ones_own(tmp_path):
    """A network by name with weights from a file, so that nothing is downloaded."""
    models = pytest.importorskip("torchvision.models", reason="torchvision is not installed")
    timm = pytest.importorskip("timm", reason="timm is not installed")
    images = torch.rand(2, 3, 224, 224)
    for source, network in (
        ("torchvision", models.resnet18()),
        ("timm", timm.create_model("resnet18", pretrained=False)),
    ):
        torch.save(network.state_dict(), tmp_path / "w.pt")
        model = load_model(f"{source}:resnet18", tmp_path / "w.pt")
        assert model.name == "resnet18"
        assert isinstance(model.module, Prepared)
        expected = network.eval()(model.module.prepare(images))
        assert torch.equal(model.module(images), expected)


def test_names_that_are_none():
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    pytest.importorskip("timm", reason="timm is not installed")
    expected = {
        "timm:resnet81": "unknown; did you mean 'resnet18'",
        "torchvision:resnet81": "unknown; did you mean 'resnet18'",
        "torchvision:resnet18@V3": "unknown weights; ",
        "torchvision:fasterrcnn_resnet50_fpn": "no image classifier",
    }
    for spec, says in expected.items():
        with pytest.raises(InputError, match=says) as error:
            load_model(spec)
        assert "\n" not in str(error.value)
    assert Opening.of().weights is None
