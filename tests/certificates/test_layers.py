"""Which models the dual bound accepts, and that it reads them as they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from scotoma.certificates.layers import read_network
from scotoma.models import ARCHITECTURES
from scotoma.models.resnet import Standardise
from scotoma.utils.errors import InputError

SHAPE = (2, 7, 6)


def answer(network, images: torch.Tensor) -> torch.Tensor:
    """Logits from the layers that were read."""
    maps = network.box(images, images)[0]
    for layer in network.layers[:-1]:
        maps = layer(maps).relu()
    return network.layers[-1](maps).flatten(1)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(84, 3)),
        nn.Sequential(
            Standardise(), nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)
        ),
        nn.Sequential(
            nn.Sequential(
                nn.Conv2d(2, 4, (2, 3), stride=(2, 1), padding=(0, 1), bias=False), nn.ReLU()
            ),
            nn.Sequential(
                nn.Identity(),
                nn.Flatten(),
                nn.Dropout(),
                nn.Linear(72, 5),
                nn.ReLU(),
                nn.Linear(5, 3),
            ),
        ).eval(),
        nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.Conv2d(5, 3, (5, 4))),
    ],
    ids=["dense", "strided", "nested", "all-convolutions"],
)
def test_the_layers_that_were_read_give_the_same_logits(model):
    images = torch.rand(5, *SHAPE)
    assert torch.allclose(
        answer(read_network(model, SHAPE), images), model(images).flatten(1), atol=1e-5
    )


@pytest.mark.parametrize("name", ["wong-small", "wong-large"])
def test_the_networks_of_provable_training_can_be_read(name):
    model = ARCHITECTURES[name]((1, 12, 12), 10)
    images = torch.rand(3, 1, 12, 12)
    assert torch.allclose(
        answer(read_network(model, (1, 12, 12)), images), model(images), atol=1e-5
    )


def test_scaled_pixels_stay_between_their_ends():
    centre, radius = read_network(
        nn.Sequential(Standardise(), nn.Flatten(), nn.Linear(4, 2)), (1, 2, 2)
    ).box(torch.full((1, 1, 2, 2), 0.25), torch.full((1, 1, 2, 2), 0.75))
    assert torch.equal(centre, torch.zeros(1, 1, 2, 2))
    assert torch.equal(radius, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            nn.Sequential(nn.Conv2d(2, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)),
            "a layer MaxPool2d",
        ),
        (
            nn.Sequential(
                nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
            ),
            "a layer BatchNorm2d",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(84, 5), nn.ELU(), nn.Linear(5, 3)), "a layer ELU"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(84, 5), nn.Linear(5, 3)),
            "two layers without a ReLU",
        ),
        (nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(84, 5)), "a layer ReLU"),
        (nn.Sequential(nn.Flatten(), nn.Linear(84, 5), nn.ReLU()), "no dense layer at its end"),
        (nn.Sequential(), "no dense layer at its end"),
        (nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten()), "no dense layer at its end"),
        (nn.Sequential(nn.Linear(6, 5)), "not given the flattened maps"),
        (nn.Sequential(nn.Flatten(0), nn.Linear(84, 5)), "a layer Flatten"),
        (
            nn.Sequential(
                nn.Conv2d(2, 4, 3, dilation=2), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)
            ),
            "Conv2d",
        ),
        (
            nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)),
            "Conv2d",
        ),
        (
            nn.Sequential(
                nn.Conv2d(2, 4, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(168, 3)
            ),
            "Conv2d",
        ),
        (
            nn.Sequential(
                nn.Conv2d(2, 4, 3, padding_mode="circular"),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(80, 3),
            ),
            "Conv2d",
        ),
        (nn.Linear(84, 3), "not given the flattened maps"),
        (nn.ReLU(), "a layer ReLU"),
    ],
)
def test_what_stands_in_the_way_is_told(model, says):
    with pytest.raises(InputError, match="no bound for this model") as told:
        read_network(model, SHAPE)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


class Added(nn.Sequential):
    """A sequence with a skip connection, as many write it."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input + super().forward(input)


class Doubled(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class Standardised(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Always(nn.Dropout):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(input, self.p, training=True)


def hooked(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda module, given, made: -made)
    return layer


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Flatten(), Doubled(84, 4), nn.ReLU()),
        (nn.Flatten(), hooked(nn.Linear(84, 4)), nn.ReLU()),
        (nn.Flatten(), nn.Linear(84, 4), nn.ReLU(), Added(nn.Linear(4, 4)), nn.ReLU()),
        (nn.Flatten(), nn.Linear(84, 4), nn.ReLU(), Always()),
        (Standardised(2, 4, (7, 6)), nn.ReLU(), nn.Flatten()),
    ],
    ids=["subclass", "hook", "skip connection", "dropout", "convolution"],
)
def test_a_layer_that_computes_something_else_than_its_class_has_no_bound(layers):
    # its weights alone would give a certificate of another network
    with pytest.raises(InputError, match="own"):
        read_network(nn.Sequential(*layers, nn.Linear(4, 3)).eval(), SHAPE)


def test_a_layer_whose_weights_are_parametrised_is_read_as_it_computes():
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(84, 4))
    model, images = nn.Sequential(nn.Flatten(), layer), torch.rand(5, *SHAPE)
    assert torch.allclose(answer(read_network(model, SHAPE), images), model(images), atol=1e-5)
