"""A masked class, or a constant in all logits: nothing is lost beside what is huge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from linear import clearly_classified, linear_model, saturated_images
from torch import Tensor, nn

from scotoma.attacks import make
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.strong import Strong
from scotoma.execution.records import measure
from scotoma.models.classifier import Classifier, is_randomised

SHAPE = (1, 4, 4)
MASK = -1e9


class Changed(nn.Module):
    """A model whose logits are changed at the end."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model = model
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self.model(images))


def masked(model: nn.Module) -> nn.Module:
    """Return the model with one more class, which cannot be predicted."""

    def change(logits: Tensor) -> Tensor:
        return torch.cat([logits, torch.full_like(logits[:, :1], MASK)], 1)

    return Changed(model, change).eval()


def raised(model: nn.Module) -> nn.Module:
    """Return the model with 1e5 added to all logits, which changes no prediction but rounds."""
    return Changed(model, lambda logits: logits + 1e5).eval()


def test_a_success_beside_a_masked_class_counts():
    logits = torch.tensor([[1.0, 1.5, MASK], [1.5, 1.0, MASK]])
    assert fooled(logits, torch.zeros(2, dtype=torch.int64)).tolist() == [True, False]


def test_a_success_above_a_constant_counts_if_rounding_cannot_undo_it():
    logits = 1e5 + torch.tensor([[1.0, 1.5, -9.0], [1.0, 1.02, -9.0], [1.5, 1.0, -9.0]])
    assert fooled(logits, torch.zeros(3, dtype=torch.int64)).tolist() == [True, False, False]


@pytest.mark.parametrize("attack", ["strong", "fmn-linf", "apgd-ce", "square"])
def test_an_attack_fools_a_model_with_a_constant_in_its_logits(attack: str):
    """A constant of 1e5 once hid all successes by less than one, its rounding by a wide guess."""
    model = linear_model(SHAPE, 5)
    images, labels = clearly_classified(model, saturated_images(12, SHAPE))
    adversarial = make(attack, "linf:0.3")(raised(model), images, labels)
    wrong = raised(model)(adversarial).argmax(1) != labels
    alone = make(attack, "linf:0.3")(model, images, labels)
    assert wrong.sum() >= (model(alone).argmax(1) != labels).sum() > 0


@pytest.mark.parametrize("attack", ["strong", "fmn-linf", "deepfool", "square"])
def test_an_attack_fools_a_model_with_a_masked_class_as_without(attack: str):
    model = linear_model(SHAPE, 5)
    images, labels = clearly_classified(model, saturated_images(12, SHAPE))
    results = [make(attack, "linf:0.3")(each, images, labels) for each in (model, masked(model))]
    wrong = [model(each).argmax(1) != labels for each in results]
    assert wrong[0].any()
    assert torch.equal(*wrong)


def test_l2_is_as_small_with_a_masked_class():
    model = linear_model(SHAPE, 5)
    images, labels = clearly_classified(model, saturated_images(12, SHAPE))
    sizes = [
        (Strong("l2:1", look=False)(each, images, labels) - images).flatten(1).norm(dim=1)
        for each in (model, masked(model))
    ]
    assert torch.allclose(*sizes, rtol=0.01)


def test_records_count_successes_beside_a_masked_class():
    model, zeros = masked(nn.Flatten()), torch.zeros(1, dtype=torch.int64)
    images, adversarial = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([[[[0.4, 0.6]]]])
    frame = measure(model, zeros, images, zeros, adversarial, (zeros, zeros))
    assert frame["success"].to_list() == [True]


def test_random_answers_are_noticed_beside_a_masked_class(digits):
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :10] + 0.1 * torch.randn(len(images), 10)

    checked = Classifier.of(masked(Noisy())).checked(digits)
    assert is_randomised(checked.module)
