"""Features: what a layer makes of images."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from scotoma.models import ARCHITECTURES
from scotoma.models.classifier import LogProbabilities, Randomised
from scotoma.models.features import default_layer, features
from scotoma.utils.errors import InputError


@pytest.mark.parametrize(
    ("arch", "width"), [("small-cnn", 128), ("madry-mnist", 1024), ("wong-small", 100)]
)
def test_the_default_is_the_first_dense_layer_after_its_relu(arch, width, images):
    net = ARCHITECTURES[arch]((1, 8, 8), 10)
    h = features(net, images, None)
    assert (h.shape, h.dtype, h.requires_grad) == ((5, width), torch.float32, False)
    assert torch.equal(h, features(net, images, "relu3"))
    assert torch.allclose(net.fc2(h), net(images), atol=1e-6)
    assert default_layer(net) == default_layer(net, images) == "input of fc2"


def test_named_layers_pixels_and_logits(net, images):
    assert torch.equal(features(net, images, "pixels"), images.flatten(1))
    assert torch.equal(features(net, images, "logits"), net(images))
    assert torch.equal(features(net, images, "fc2"), net(images))
    assert torch.equal(features(net, images, "conv1"), net.conv1(images).flatten(1))


def test_hooks_are_taken_off_again(net, images):
    for layer in (None, "fc1"):
        features(net, images, layer)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    with pytest.raises(RuntimeError):
        features(net, images[..., :3], "fc2")
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_a_layer_that_works_in_place_does_not_change_what_was_read(images):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 10))
    assert torch.equal(features(net, images, "0"), net[0](images).flatten(1))
    assert features(net, images, "0").min() < 0


class Crossed(nn.Module):
    """Its layers run in another order than they are registered, and one runs twice."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 10)
        self.act = nn.ReLU()
        self.body = nn.Linear(64, 16)
        self.spare = nn.Linear(3, 3)

    def forward(self, images):
        return self.act(self.head(input=self.act(self.body(images.flatten(1)))))


def test_the_last_to_run_counts(images):
    net = Crossed()
    assert torch.equal(features(net, images, None), F.relu(net.body(images.flatten(1))))
    assert default_layer(net, images) == "input of head"
    assert torch.equal(features(net, images, "act"), net(images))
    with pytest.raises(InputError, match="layer 'spare' does not run"):
        features(net, images, "spare")


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(images.flatten(1) + torch.randn(len(images), 64))


def test_wrappers_are_seen_through(net, images):
    wrapped = LogProbabilities(Randomised(nn.Sequential(net, nn.Softmax(1))))
    assert torch.allclose(features(wrapped, images, None), features(net, images, None))
    assert torch.allclose(features(wrapped, images, "0.conv2"), features(net, images, "conv2"))
    assert torch.allclose(
        features(wrapped, images, "logits"), net(images).log_softmax(1), atol=1e-5
    )
    assert default_layer(wrapped) == default_layer(wrapped, images) == "input of 0.fc2"


def test_a_randomised_model_is_averaged_over_its_draws(images):
    torch.manual_seed(0)
    net = Noisy()
    values = features(Randomised(net), images, None)
    assert (values - images.flatten(1)).std() == pytest.approx(1 / 8**0.5, rel=0.2)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 10, batch_first=True)
        self.rows = nn.Linear(10, 10)

    def forward(self, images):
        out, _ = self.lstm(images[:, 0])
        return self.rows(out.flatten(0, 1)).view(len(images), -1, 10)[:, -1]


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("fc22", "no layer 'fc22'; did you mean 'fc2'"),
        ("", "no layer ''"),
        ("logit", "did you mean 'logits'"),
    ],
)
def test_unknown_layers_get_the_nearest_name(net, images, layer, says):
    with pytest.raises(InputError, match=says):
        features(net, images, layer)


def test_layers_without_a_row_for_each_image_are_refused(images):
    with pytest.raises(InputError, match="'lstm' gives tuple for 5 images"):
        features(Pair(), images, "lstm")
    with pytest.raises(InputError, match=r"'rows' gives \(40, 10\) for 5 images.*layer=logits"):
        features(Pair(), images, None)


def test_models_that_cannot_be_looked_into(net, images):
    exported = torch.export.export(net.eval(), (images,)).module()
    traced = torch.jit.trace(net.eval(), images)
    assert isinstance(exported, nn.Module)
    assert isinstance(traced, nn.Module)
    convolutional = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    for module in (exported, traced, convolutional):
        with pytest.raises(InputError, match=r"no nn.Linear layer.*layer=logits.*layer=pixels"):
            features(module, images, None)
        with pytest.raises(InputError, match="layer=logits"):
            default_layer(module)
        assert features(module, images, "logits").shape == (5, 10)
        assert features(module, images, "pixels").shape == (5, 64)
    for module in (exported, traced):
        with pytest.raises(InputError, match="layer=logits"):
            features(module, images, "fc1")
