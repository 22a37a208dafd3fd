"""What an attack learns from a model, and that every pass is charged to its image."""

from __future__ import annotations

import pytest
import torch
from linear import linear_model, saturated_images
from torch import Tensor, nn

from scotoma.attacks import ATTACKS, make
from scotoma.attacks.core.active import Active
from scotoma.attacks.core.losses import GUARD, cross_entropy, fooled, margin
from scotoma.attacks.core.oracle import Counted, Oracle, answer
from scotoma.models.classifier import Classifier

SHAPE = (1, 4, 4)


def counted(n: int) -> Counted:
    return Counted(linear_model(SHAPE, 5), n, torch.device("cpu"))


def test_the_gradient_of_the_margin_is_a_difference_of_weights():
    model, images = linear_model(SHAPE, 5), saturated_images(6, SHAPE)
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    logits = model(images)
    order = logits.argsort(1, descending=True)
    ascent = Oracle(model, order[:, 0]).value_and_grad(images, margin)
    assert torch.allclose(
        ascent.gradient.flatten(1), layer.weight[order[:, 1]] - layer.weight[order[:, 0]]
    )
    assert torch.allclose(
        ascent.loss,
        logits.gather(1, order[:, 1:2]).squeeze(1) - logits.gather(1, order[:, :1]).squeeze(1),
    )
    assert not ascent.fooled.any()
    assert Oracle(model, order[:, 1]).value_and_grad(images, margin).fooled.all()
    assert Oracle(model, order[:, 1]).fooled(images).all()


def test_the_jacobian_is_the_gradient_of_each_loss_for_one_forward_pass_in_all():
    model, images = counted(6), saturated_images(6, SHAPE)
    layer = model.model[1]  # type: ignore[index]
    assert isinstance(layer, nn.Linear)
    labels = model.model(images).argmax(1)
    oracle = Oracle(model, labels).select(torch.tensor([1, 3, 5]))

    def losses(logits: Tensor, labels: Tensor) -> Tensor:
        return logits[:, :3] - logits.gather(1, labels[:, None])

    gradient, loss, wrong = oracle.jacobian(images[1::2], losses)
    assert torch.allclose(
        gradient.flatten(2), layer.weight[None, :3] - layer.weight[oracle.labels][:, None]
    )
    assert torch.allclose(loss, losses(model.model(images[1::2]), oracle.labels))
    assert not wrong.any()
    assert model.forwards.tolist() == [0, 1, 0, 1, 0, 1]
    assert model.backwards.tolist() == [0, 3, 0, 3, 0, 3]


def test_ascent_leaves_the_images_alone():
    images = saturated_images(3, SHAPE)
    Oracle(linear_model(SHAPE, 5), torch.zeros(3, dtype=torch.int64)).value_and_grad(
        images, cross_entropy
    )
    assert not images.requires_grad
    assert images.grad is None


@pytest.mark.parametrize("share", [0.5, 2.0])
def test_a_success_within_rounding_does_not_count(share: float):
    logits = torch.tensor([[100.0, 100.0 + share * GUARD * 100]])
    assert bool(fooled(logits, torch.tensor([0]))) is (share > 1)


def test_logits_that_are_not_finite_are_no_success():
    logits = torch.tensor([[0.0, torch.nan], [torch.nan, 0.0], [0.0, torch.inf]])
    assert not fooled(logits, torch.zeros(3, dtype=torch.int64)).any()


def test_passes_are_charged_to_their_images_after_narrowing():
    model, images = counted(6), saturated_images(6, SHAPE)
    oracle = Oracle(model, torch.zeros(6, dtype=torch.int64))
    oracle.logits(images)
    odd = oracle.select(torch.tensor([1, 3, 5]))
    odd.value_and_grad(images[[1, 3, 5]], cross_entropy)
    last = odd.select(torch.tensor([False, False, True]))
    last.value_and_grad(images[5:], margin)
    last.fooled(images[5:])
    assert last.rows.tolist() == [5]
    assert model.forwards.tolist() == [1, 2, 1, 2, 1, 4]
    assert model.backwards.tolist() == [0, 1, 0, 1, 0, 2]


def test_passes_are_charged_after_the_active_set_drops():
    model, images = counted(4), saturated_images(4, SHAPE)
    state = Active(Oracle(model, torch.zeros(4, dtype=torch.int64)))
    state.drop(torch.tensor([True, False, False, False]))
    state.drop(torch.zeros(3, dtype=torch.bool))
    state.oracle.logits(images[state.rows])
    state.drop(torch.tensor([False, True, False]))
    state.oracle.value_and_grad(images[state.rows], cross_entropy)
    assert state.rows.tolist() == [1, 3]
    assert model.forwards.tolist() == [0, 2, 1, 2]
    assert model.backwards.tolist() == [0, 1, 0, 1]


def test_a_repeated_backward_is_charged_again():
    model = counted(2)
    images = saturated_images(2, SHAPE).requires_grad_()
    logits = answer(model, images, torch.arange(2))
    for _ in range(3):
        torch.autograd.grad(logits.sum(), images, retain_graph=True)
    assert model.forwards.tolist() == [1, 1]
    assert model.backwards.tolist() == [3, 3]


def test_an_attack_that_does_not_say_which_images_is_charged_for_every_one():
    model, images = counted(4), saturated_images(4, SHAPE)
    model(images)
    model(images.repeat(3, 1, 1, 1))
    assert model.forwards.tolist() == [4] * 4
    assert int(model.backwards.sum()) == 0


def test_a_counted_model_answers_as_the_model():
    model, images = linear_model(SHAPE, 5), saturated_images(4, SHAPE)
    assert torch.equal(Counted(model, 4, images.device)(images), model(images))


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ATTACKS
        if "linf" in getattr(ATTACKS[name], "norms", ("linf",)) and name != "latent-descent"
    ],
)
def test_every_attack_takes_gradients_that_are_expanded_or_not_finite(name: str):
    class Brightness(nn.Module):
        """Uses the sum of pixels, so they share one gradient; divides 0 by 0 on a black image."""

        def forward(self, images: Tensor) -> Tensor:
            sums = images.sum((1, 2, 3)) / images[0].numel()
            return torch.stack([sums - 0.5, 0.5 - sums, (sums - sums).sqrt(), sums * 0 - 9], dim=1)

    images = torch.full((6, 1, 4, 4), 0.45)
    labels = torch.ones(6, dtype=torch.int64)
    attack = make(name, "linf:0.1", sources=(Classifier.of(Brightness()),))
    adversarial = attack(Brightness(), images, labels)
    assert adversarial.isfinite().all()
    assert ((adversarial >= 0) & (adversarial <= 1)).all()


def test_a_cut_graph_has_no_gradient_while_weights_have():
    """As in training, on a model that rounds its input without a graph."""

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, images):
            return self.layer(images.detach().flatten(1).round())

    images, labels = torch.rand(2, 1, 2, 2), torch.tensor([0, 1])
    result = Oracle(Cut(), labels).value_and_grad(images, cross_entropy)
    assert torch.equal(result.gradient, torch.zeros_like(images))
    assert result.loss.isfinite().all()
