"""Adversarial training in a single gradient step."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.models.small_cnn import small_cnn
from scotoma.threat import TOLERANCE, Threat
from scotoma.training.loop import Schedule, train
from scotoma.training.single_step import (
    EnsembleTraining,
    FastTraining,
    FGSMTraining,
    NoiseFGSM,
    RandFGSMTraining,
    StepLLTraining,
)
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


@pytest.fixture
def batch(grey):
    return grey.test.images(torch.arange(30)), grey.test.labels[:30]


def gradient(model, images, classes):
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(leaf), classes, reduction="sum"), leaf)[0]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


@pytest.mark.parametrize("threat", [THREAT, Threat("l2", 0.5)], ids=str)
def test_fgsm_steps_away_from_the_prediction_and_knows_no_label(linear_grey, batch, threat):
    images, _ = batch
    made = FGSMTraining(threat).perturb(linear_grey, images, generator())
    wanted = threat.steepest(gradient(linear_grey, images, linear_grey(images).argmax(1)))
    assert torch.allclose(made - images, wanted, atol=1e-6)


def test_step_ll_goes_towards_the_least_likely_class(linear_grey, batch):
    images, _ = batch
    made = StepLLTraining(THREAT).perturb(linear_grey, images, generator())
    wanted = -0.1 * gradient(linear_grey, images, linear_grey(images).argmin(1)).sign()
    assert torch.allclose(made - images, wanted, atol=1e-6)


def test_rand_fgsm_takes_half_at_random(linear_grey, batch):
    images, _ = batch
    made = RandFGSMTraining(THREAT).perturb(linear_grey, images, generator())
    noise = torch.randn(images.shape, generator=generator()).sign() * 0.05
    start = images + noise
    wanted = noise + 0.05 * gradient(linear_grey, start, linear_grey(start).argmax(1)).sign()
    assert torch.allclose(made - images, wanted, atol=1e-6)
    assert (made - images).abs().max() <= 0.1 + TOLERANCE


@pytest.mark.parametrize("recipe", [FGSMTraining, StepLLTraining, RandFGSMTraining])
def test_half_of_the_loss_is_on_clean_images(linear_grey, batch, recipe):
    images, labels = batch
    made = recipe(THREAT).perturb(linear_grey, images, generator())
    loss = recipe(THREAT)(linear_grey, images, labels, 0.5, generator())
    clean, adversarial = (
        F.cross_entropy(linear_grey(each), labels).item() for each in (images, made)
    )
    assert loss.item() == pytest.approx((clean + adversarial) / 2, rel=1e-5)
    assert clean != pytest.approx(adversarial, rel=1e-3)


def test_the_gradient_reaches_the_weights_through_the_loss_alone(digits):
    from scotoma.models.small_cnn import small_cnn

    model = small_cnn(digits.shape, 10)
    images, labels = digits.test.images(torch.arange(8)), digits.test.labels[:8]
    FGSMTraining(THREAT).perturb(model, images, generator())
    assert all(weight.grad is None for weight in model.parameters())
    FGSMTraining(THREAT)(model, images, labels, 0.5, generator()).backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_fast_steps_beyond_the_ball_and_is_cut_back_to_it(linear_grey, batch):
    images, labels = batch
    made = FastTraining(THREAT).perturb(linear_grey, images, labels, 0.9, generator())
    start = images + 0.1 * (2 * torch.rand(images.shape, generator=generator()) - 1)
    raw = start + 0.125 * gradient(linear_grey, start, labels).sign()
    assert torch.allclose(made, raw.maximum(images - 0.1).minimum(images + 0.1), atol=1e-6)
    assert ((raw - images).abs() > 0.1).any()


def test_the_ball_of_fast_grows_over_the_warmup(linear_grey, batch):
    images, labels = batch
    made = FastTraining(THREAT, warmup=0.5).perturb(linear_grey, images, labels, 0.25, generator())
    assert 0.04 < (made - images).abs().max() <= 0.05 + TOLERANCE


def test_the_step_is_one_signed_gradient_from_the_noise(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(20)), grey.test.labels[:20]
    noise = (
        THREAT.eps
        * 2
        * (2 * torch.rand(images.shape, generator=torch.Generator().manual_seed(3)) - 1)
    )
    made = NoiseFGSM(THREAT).perturb(
        linear_grey, images, labels, 0.9, torch.Generator().manual_seed(3)
    )
    step = made - (images + noise)
    leaf = (images + noise).requires_grad_()
    torch.nn.functional.cross_entropy(linear_grey(leaf), labels).backward()
    assert leaf.grad is not None
    assert torch.allclose(
        step, THREAT.eps * leaf.grad.sign(), atol=1e-6
    )  # corners are always black: no gradient there
    assert (leaf.grad != 0).float().mean() > 0.9


def test_eps_grows_over_the_warmup(grey, linear_grey):
    images, labels = grey.test.images(torch.arange(5)), grey.test.labels[:5]
    small = NoiseFGSM(THREAT, warmup=0.5).perturb(
        linear_grey, images, labels, 0.25, torch.Generator().manual_seed(0)
    )
    assert 0.9 * 0.15 < (small - images).abs().max() <= 0.15 + 1e-6


@pytest.fixture
def sources(digits) -> tuple[Classifier, ...]:
    torch.manual_seed(1)
    return tuple(Classifier.of(small_cnn(digits.shape, 10), name) for name in ("first", "second"))


@pytest.mark.parametrize(("step", "plain"), [("fgsm", FGSMTraining), ("step-ll", StepLLTraining)])
def test_each_batch_takes_one_source_or_the_model_itself(digits, sources, step, plain):
    torch.manual_seed(2)
    model = small_cnn(digits.shape, 10)
    images = digits.test.images(torch.arange(20))
    unused = torch.Generator()
    wanted = [
        plain(THREAT).perturb(module, images, unused)
        for module in (sources[0].module, sources[1].module, model)
    ]
    generator, drawn = torch.Generator().manual_seed(0), []
    for _ in range(90):
        made = EnsembleTraining(THREAT, sources, step).perturb(model, images, generator)
        (who,) = [i for i, each in enumerate(wanted) if torch.equal(made, each)]
        drawn.append(who)
    assert all(18 <= drawn.count(who) <= 42 for who in range(3)), drawn


def test_sources_stay_as_they_are_and_stand_on_the_card(tmp_path, digits, sources):
    before = [source.module.state_dict()["conv1.weight"].clone() for source in sources]
    out = tmp_path / "m.safetensors"
    train(
        "ensemble",
        digits,
        "small-cnn",
        THREAT,
        out,
        schedule=Schedule(1),
        options={"sources": sources},
    )
    for source, weight in zip(sources, before, strict=True):
        assert torch.equal(source.module.state_dict()["conv1.weight"], weight)
        assert not source.module.training
    _, card = load_checkpoint(out)
    assert card["options"]["sources"] == [
        f"{source.name} {source.sha256[:16]}" for source in sources
    ]


def test_what_cannot_be(sources):
    with pytest.raises(InputError, match="sources=MODEL"):
        EnsembleTraining(THREAT)
    with pytest.raises(InputError, match="want fgsm or step-ll"):
        EnsembleTraining(THREAT, sources, "pgd")
