"""Loss ratio and cosine where both are known, and against the attacks themselves."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from known_surfaces import SHAPE, Ripple, TwoClass, bent, grey, linear, weight, zeros
from torch import Tensor, nn

from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.iterative import IFGSM
from scotoma.attacks.single_step import FGSM
from scotoma.metrics.linearity import Linearity, loss_linearity
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

LINF, L2 = Threat("linf", 0.1), Threat("l2", 0.3)
THREATS = pytest.mark.parametrize("threat", [LINF, L2], ids=str)


def losses(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(model(images), labels, reduction="none")


@THREATS
@pytest.mark.parametrize("shape", [SHAPE, (3, 5, 5)])
def test_a_linear_model_is_linear(threat: Threat, shape: tuple[int, int, int]):
    w = weight(shape)
    model, images = linear(w), grey(20, shape)
    linearity = loss_linearity(model, images, zeros(20), threat, restarts=1)
    gain = threat.eps * float(w.abs().sum() if threat is LINF else w.norm())
    assert torch.allclose(linearity.clean, losses(model, images, zeros(20)))
    assert torch.allclose(
        linearity.single, F.softplus((images.flatten(1) - 0.5) @ w - 1 + gain), atol=1e-5
    )
    assert torch.allclose(linearity.iterated, linearity.single, atol=1e-5)
    assert torch.allclose(linearity.cosine, torch.ones(20, dtype=torch.float64), atol=1e-5)
    assert linearity.ratio == pytest.approx((1, 1, 1, 20), abs=1e-5)
    assert linearity.mean_cosine == pytest.approx((1, 1, 1, 20), abs=1e-5)


@pytest.mark.parametrize("shape", [SHAPE, (3, 8, 8)])
def test_a_ripple_that_turns_the_gradient_at_the_image(shape: tuple[int, int, int]):
    """One step along the ripple gains nothing; of ten, nine climb the slope beneath."""
    w = weight(shape).sign() * 0.2
    ripple = Ripple(w, step=LINF.eps / 10)
    images = ripple.grey(20, shape)
    linearity = loss_linearity(TwoClass(ripple), images, zeros(20), LINF)
    assert torch.allclose(linearity.single, linearity.clean, atol=1e-3)
    # where both agree ten steps, elsewhere eight: the second undoes the first
    gain = 0.2 * LINF.eps * len(w) * (0.5 * 1.0 + 0.5 * 0.8)
    height = (images.flatten(1) - 0.5) @ w - 1 + gain + ripple.height
    assert torch.allclose(linearity.iterated, F.softplus(height), atol=1e-2)
    assert linearity.ratio.value < 0.5
    cosine = (0.5 * 1.0 - 0.5 * 0.8) / math.sqrt(0.5 * 1.0 + 0.5 * 0.8**2)
    assert linearity.mean_cosine.value == pytest.approx(cosine, abs=1e-3)


@THREATS
def test_the_attacks_give_the_same(threat: Threat):
    """The highest of all iterates counts, which on a bent loss is not always the last."""
    model, images = bent(frequency=128), grey(30)
    labels = model(images).argmax(1)
    linearity = loss_linearity(model, images, labels, threat, steps=8)
    single = FGSM(threat)(model, images, labels)
    paths = [
        IFGSM(threat, steps=steps, step_size=threat.eps / 8, until_fooled=False)(
            model, images, labels
        )
        for steps in range(1, 9)
    ]
    heights = torch.stack([losses(model, x, labels) for x in (images, *paths)])
    assert torch.allclose(linearity.single, losses(model, single, labels), atol=1e-5)
    assert torch.allclose(linearity.iterated, heights.amax(0), atol=1e-4)
    assert (heights.argmax(0) < 8).any()
    one, many = ((x - images).flatten(1) for x in (single, paths[-1]))
    assert torch.allclose(linearity.cosine, F.cosine_similarity(one, many).double(), atol=1e-3)
    assert linearity.cosine.min() < 0.9


def test_more_starts_find_more_and_the_seed_decides():
    model, images = bent(), grey(30)
    labels = model(images).argmax(1)
    none, some, same, other = (
        loss_linearity(
            model,
            images,
            labels,
            LINF,
            restarts=restarts,
            random=Randomness(seed, torch.arange(30)),
        )
        for restarts, seed in ((0, 0), (3, 0), (3, 0), (3, 1))
    )
    assert (some.iterated >= none.iterated).all()
    assert (some.iterated > none.iterated + 0.1).any()
    assert torch.equal(some.cosine, none.cosine)
    assert torch.equal(some.iterated, same.iterated)
    assert not torch.equal(some.iterated, other.iterated)


def test_any_split_gives_the_same(monkeypatch):
    model, images = bent(frequency=32), grey(11)
    labels = model(images).argmax(1)
    whole = loss_linearity(model, images, labels, L2, restarts=4)
    assert (whole.iterated > loss_linearity(model, images, labels, L2).iterated)[[7, 2]].all()
    monkeypatch.setattr("scotoma.metrics.linearity.batch_size", lambda device, pixels: 4)
    split = loss_linearity(
        model, images.contiguous(memory_format=torch.channels_last), labels, L2, restarts=4
    )
    part = torch.tensor([7, 2])
    alone = loss_linearity(
        model, images[part], labels[part], L2, restarts=4, random=Randomness(0, part)
    )
    for name in ("clean", "single", "iterated", "cosine"):
        values = getattr(whole, name)
        assert torch.allclose(getattr(split, name), values, atol=1e-4)
        assert torch.allclose(getattr(alone, name), values[part], atol=1e-4)


def test_passes_and_weights():
    """Ten steps cost twelve forward and ten backward passes, a restart eleven and ten."""
    model, images = bent(), grey(6)
    counted = Counted(model, 6, images.device)
    loss_linearity(counted, images, zeros(6), LINF)
    assert counted.forwards.tolist() == [12] * 6
    assert counted.backwards.tolist() == [10] * 6
    loss_linearity(counted, images, zeros(6), LINF, restarts=1)
    assert counted.forwards.tolist() == [12 + 12 + 11] * 6
    assert all(
        parameter.requires_grad and parameter.grad is None for parameter in model.parameters()
    )


def test_one_step_of_one_is_the_single_step():
    model, images = bent(frequency=512), grey(10)
    linearity = loss_linearity(model, images, zeros(10), LINF, steps=1)
    assert (linearity.single < linearity.clean).any()
    assert torch.equal(linearity.iterated, linearity.single.maximum(linearity.clean))
    assert torch.allclose(linearity.cosine, torch.ones_like(linearity.cosine))


@pytest.mark.parametrize("kill", [torch.sign, Tensor.detach], ids=["sign", "detach"])
def test_without_a_gradient_nothing_moves_and_there_is_no_cosine(kill):
    w = weight()
    linearity = loss_linearity(TwoClass(lambda x: kill((x - 0.5) @ w) - 2), grey(9), zeros(9), LINF)
    assert torch.equal(linearity.single, linearity.clean)
    assert torch.equal(linearity.iterated, linearity.clean)
    assert linearity.cosine.isnan().all()
    assert linearity.ratio.value == 1
    assert linearity.mean_cosine.n == 0
    assert math.isnan(linearity.mean_cosine.value)


def test_logits_times_a_thousand():
    """The cross-entropy and its gradient are 0 at confident images, thousands at lost ones."""
    linearity = loss_linearity(linear(weight(), margin=8, scale=1000), grey(9), zeros(9), LINF)
    assert torch.equal(linearity.iterated, torch.zeros(9))
    assert math.isnan(linearity.ratio.value)
    assert linearity.ratio.n == 9
    lost = loss_linearity(linear(weight(), margin=-8, scale=1000), grey(9), zeros(9), LINF)
    assert lost.clean.min() > 1000
    assert lost.single.isfinite().all()
    assert lost.ratio.value == pytest.approx(1, abs=1e-4)
    assert lost.mean_cosine.value == pytest.approx(1)


def test_losses_that_are_not_numbers_are_left_out():
    w = weight()
    images = grey(10)
    images[:4] = 0.75
    model = TwoClass(lambda x: (x - 0.5) @ w - 1 + torch.where(x.amax(1) > 0.65, torch.nan, 0))
    linearity = loss_linearity(model, images, zeros(10), Threat("linf", 0.01), restarts=1)
    assert linearity.single.isnan().tolist() == [True] * 4 + [False] * 6
    assert linearity.iterated.isnan().tolist() == linearity.single.isnan().tolist()
    assert linearity.ratio.n == 6
    assert linearity.ratio.value == pytest.approx(1, abs=1e-5)
    nothing = loss_linearity(model, images[:4], zeros(4), LINF)
    assert nothing.ratio.n == 0
    assert math.isnan(nothing.ratio.low)


def test_one_image_and_none():
    model = bent()
    assert loss_linearity(model, grey(1), zeros(1), LINF).ratio.n == 1
    linearity = loss_linearity(model, grey(0), zeros(0), LINF)
    assert linearity.clean.shape == (0,)
    assert math.isnan(linearity.ratio.value)


def test_the_interval_is_as_wide_as_the_delta_method_says():
    generator = torch.Generator().manual_seed(0)
    iterated = 2 + torch.rand(400, generator=generator)
    single = 0.3 * iterated + 0.2 * torch.rand(400, generator=generator)
    ratio = Linearity(iterated, single, iterated, iterated).ratio
    assert ratio.value == pytest.approx(float(single.sum() / iterated.sum()))
    half = 1.96 * float((single - ratio.value * iterated).std()) / 20 / float(iterated.mean())
    assert ratio.high - ratio.low == pytest.approx(2 * half, rel=0.1)
    assert ratio.low < ratio.value < ratio.high


def test_a_ratio_stands_on_the_images_that_lose_anything():
    """Most resamples of eight images hold the one loss; the others have no ratio."""
    lone = torch.tensor([1.0] + [0.0] * 7)
    ratio = Linearity(lone, lone / 2, lone, lone).ratio
    assert ratio == (0.5, 0.5, 0.5, 8)
