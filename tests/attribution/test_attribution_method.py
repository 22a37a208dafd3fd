"""What holds for every attribution method: linear models, batches, baselines, bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bent import CLASSES, SHAPE, Watched, batch, flat, network
from torch import Tensor, nn

from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.method import Attribution, at_once
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

PASSES = {
    "integrated-gradients": 50,
    "input-x-gradient": 1,
    "gradient-shap": 50,
    "smoothgrad": 1000,
}
BASELINES = ["black", "gray", "white", "mean", (0.1, 0.5, 0.9)]


def make(name: str, **settings) -> Attribution:
    return ATTRIBUTIONS[name](**settings)


def quick(name: str, **settings) -> Attribution:
    """With fewer samples, that tests stay quick."""
    method = make(name, **settings)
    return replace(method, steps=5, samples=3) if name == "smoothgrad" else method


def baseline(kind: str | tuple[float, ...], images: Tensor) -> Tensor:
    if isinstance(kind, tuple):
        return torch.tensor(kind).view(1, -1, 1, 1).expand_as(images)
    if kind == "mean":
        return images.flatten(2).mean(2)[:, :, None, None].expand_as(images)
    return torch.full_like(images, {"black": 0, "gray": 0.5, "white": 1}[kind])


def test_the_table_names_the_four():
    assert list(ATTRIBUTIONS) == list(PASSES)
    assert all(ATTRIBUTIONS.describe(name) for name in ATTRIBUTIONS)


@pytest.mark.parametrize("kind", BASELINES)
@pytest.mark.parametrize("name", ["integrated-gradients", "input-x-gradient"])
def test_a_linear_model_gives_weight_times_way(name: str, kind: str | tuple[float, ...]):
    (model, weight), (images, labels) = flat(), batch(9)
    maps = make(name, baseline=kind)(model, images, labels)
    torch.testing.assert_close(
        maps, weight[labels] * (images - baseline(kind, images)), atol=1e-5, rtol=1e-4
    )
    assert (maps < 0).any()
    assert (maps > 0).any()


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_maps_do_not_depend_on_the_split(name: str):
    model, (images, labels) = network(), batch(11)
    random = Randomness(5, torch.arange(11))
    whole = quick(name)(model, images, labels, random)
    for size in (1, 4):
        parts = [
            quick(name)(model, images[rows], labels[rows], Randomness(5, rows))
            for rows in torch.arange(11).split(size)
        ]
        torch.testing.assert_close(torch.cat(parts), whole, atol=1e-6, rtol=1e-5)
    assert torch.equal(quick(name)(model, images, labels, random), whole)


@pytest.mark.parametrize("name", ["gradient-shap", "smoothgrad"])
def test_noise_is_the_generators(name: str):
    """Another seed gives another map; no generator is seed 0; global ones stay unused."""
    model, (images, labels) = network(), batch(3)
    state = torch.get_rng_state()
    first = quick(name)(model, images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(9)
    assert torch.equal(quick(name)(model, images, labels, Randomness(0, torch.arange(3))), first)
    assert (
        quick(name)(model, images, labels, Randomness(1, torch.arange(3))) - first
    ).abs().max() > 1e-4


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_bounded_batches_and_no_pass_too_many(name: str, monkeypatch):
    monkeypatch.setattr("scotoma.attribution.method.MOST_VALUES", 40 * 105)
    model, (images, labels) = Watched(flat()[0]), batch(97)
    make(name)(model, images, labels)
    assert model.largest <= 40 == at_once(images)
    assert model.total == 97 * PASSES[name]


def test_few_images_share_batches():
    """One image's fifty points go through the model together."""
    model, (images, labels) = Watched(network()), batch(1)
    make("integrated-gradients")(model, images, labels)
    assert model.largest == 50
    make("gradient-shap")(model, images, labels)
    assert model.total == 100


def test_huge_images_go_one_by_one():
    assert at_once(torch.empty(1).expand(3, 3, 4096, 4096)) == 1
    assert at_once(torch.empty(1).expand(3, 3, 224, 224)) == 8


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_images_in_another_order_in_memory_and_inputs_left_alone(name: str):
    model, (images, labels) = network(), batch(4)
    expected = quick(name)(model, images, labels)
    turned = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    before = turned.clone()
    with torch.no_grad():
        maps = quick(name)(model, turned, labels)
    torch.testing.assert_close(maps, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(turned, before)
    assert maps.is_contiguous()
    assert not maps.requires_grad
    assert not turned.requires_grad
    assert maps.dtype == torch.float32


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_no_images(name: str):
    maps = make(name)(network(), *batch(0))
    assert maps.shape == (0, *SHAPE)


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_a_constant_logit_has_an_empty_map(name: str):
    model, weight = flat()
    weight[2] = 0
    images, _ = batch(3)
    assert not quick(name)(model, images, torch.full((3,), 2)).any()


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_nan_stays_with_its_image(name: str):
    model, (images, labels) = network(), batch(4)
    expected = quick(name)(model, images, labels)
    images[2, 0, 0, 0] = torch.nan
    maps = quick(name)(model, images, labels)
    others = torch.tensor([0, 1, 3])
    assert maps[2].isnan().any()
    torch.testing.assert_close(maps[others], expected[others])


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_a_model_without_gradient_has_no_map(name: str):
    class Cut(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.detach().flatten(1)[:, :CLASSES]

    with pytest.raises(InputError, match="no gradient reaches the images"):
        quick(name)(Cut(), *batch(2))


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "integrated-gradients",
            {"baseline": "blue"},
            "baseline 'blue': want black, gray, white, mean",
        ),
        ("input-x-gradient", {"baseline": (0.5, 2.0)}, r"want values in \[0, 1\]"),
        ("input-x-gradient", {"baseline": (0.5, float("nan"))}, r"want values in \[0, 1\]"),
        ("integrated-gradients", {"steps": 0}, "0 steps"),
        ("gradient-shap", {"samples": 0}, "0 samples"),
        ("smoothgrad", {"noise": -0.1}, "noise -0.1"),
        ("smoothgrad", {"noise": (0.1, float("inf"))}, "want standard deviations"),
    ],
)
def test_bad_settings(name: str, settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        make(name, **settings)


@pytest.mark.parametrize(
    ("name", "settings"),
    [("integrated-gradients", {"baseline": (0.5,)}), ("gradient-shap", {"noise": (0.1, 0.1)})],
)
def test_values_for_other_channels(name: str, settings: dict):
    with pytest.raises(InputError, match="but the images have 3 channels"):
        make(name, **settings)(network(), *batch(2))


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_standardised_space_is_a_baseline_and_a_noise(name: str):
    """Maps equal those of a model of standardised images around zero, with its noise."""
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.25, 0.3])
    model, (images, labels) = network(), batch(4)
    columns = mean.view(-1, 1, 1), deviation.view(-1, 1, 1)
    standardised = (images - columns[0]) / columns[1]

    class Back(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return model(z * columns[1] + columns[0])

    noise = (
        {}
        if name in ("integrated-gradients", "input-x-gradient")
        else {"noise": tuple((0.2 * deviation).tolist())}
    )
    ours = quick(name, baseline=tuple(mean.tolist()), **noise)(model, images, labels)
    theirs = quick(name, **({"noise": 0.2} if noise else {}))(Back(), standardised, labels)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
