"""What a call of an attack prepares and refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from linear import linear_model
from torch import Tensor, nn

import scotoma
from scotoma.attacks.apgd import APGDT
from scotoma.attacks.carlini_wagner import CarliniWagnerLinf
from scotoma.attacks.deepfool import DeepFool
from scotoma.attacks.iterative import IFGSM
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM
from scotoma.attacks.strong import Strong
from scotoma.attacks.transfer import Transfer
from scotoma.utils.errors import InputError

GRADIENT_ATTACKS = [
    FGSM("linf:0.2"),
    IFGSM("linf:0.2"),
    PGD("linf:0.2", steps=5),
    APGDT("linf:0.2", steps=5),
    DeepFool("linf", steps=10),
    MinLinf("linf", steps=20),
    CarliniWagnerLinf("linf", iterations=10),
    Strong("linf:0.2", look=False),
]


def images_and_labels(model: Callable[[Tensor], Tensor], n: int = 4) -> tuple[Tensor, Tensor]:
    images = torch.rand((n, 1, 3, 3), generator=torch.Generator().manual_seed(1))
    return images, model(images).argmax(1)


@pytest.mark.parametrize("attack", GRADIENT_ATTACKS, ids=lambda attack: attack.id)
def test_attacks_work_in_inference_mode(attack):
    model = linear_model((1, 3, 3), 3)
    images, labels = images_and_labels(model)
    expected = attack(model, images, labels)
    assert not torch.equal(expected, images)
    with torch.inference_mode():
        inside = attack(model, images, labels)
        # weights, images and labels made in the mode have no gradients outside of it either
        inference_model = linear_model((1, 3, 3), 3)
        own = attack(inference_model, images.clone(), labels.clone())
        assert torch.is_inference_mode_enabled()
    assert torch.equal(inside, expected)
    assert torch.equal(own, expected)
    assert torch.equal(attack(inference_model, images, labels), expected)


def test_hidden_weights_of_inference_mode_are_refused():
    with torch.inference_mode():
        hidden = linear_model((1, 3, 3), 3)
    images, labels = images_and_labels(linear_model((1, 3, 3), 3))
    with pytest.raises(InputError, match="build or load the model outside"):
        PGD("linf:0.2")(lambda x: hidden(x), images, labels)


def test_an_audit_works_in_inference_mode(tmp_path):
    model = linear_model((1, 3, 3), 3)
    data = images_and_labels(model, 30)
    options: Any = {"probes": ["robustness"], "attack": "pgd"}
    expected = scotoma.audit(model, data, "linf:0.1", **options)["robustness"].numbers
    with torch.inference_mode():
        own = linear_model((1, 3, 3), 3), tuple(each.clone() for each in data)
        ordinary = scotoma.audit(model, data, "linf:0.1", **options)["robustness"].numbers
        report = scotoma.audit(own[0], own[1], "linf:0.1", **options)  # type: ignore[arg-type]
        inference = report["robustness"].numbers
    assert expected["robust_accuracy"] < 1
    assert (
        ordinary["robust_accuracy"] == inference["robust_accuracy"] == expected["robust_accuracy"]
    )


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda logits: logits * torch.nan, "model: returns NaN or infinite logits"),
        (lambda logits: (logits, logits), r"model: returns tuple.*lambda images: model\(images\)"),
        (lambda logits: logits.detach().numpy(), "model: returns ndarray, want a tensor of logits"),
        (lambda logits: logits.argmax(1), r"model: returns int64 \(4,\) for 4 images"),
        (lambda logits: logits[:3], r"model: returns float32 \(3, 3\) for 4 images"),
        (lambda logits: logits[:, :1], "labels: reach from 0 to 2, but the model has 1 outputs"),
        (lambda logits: logits @ logits, r"model: cannot take images float32 \(4, 1, 3, 3\): mat1"),
    ],
)
@pytest.mark.parametrize("attack", [PGD("linf:0.1"), MinLinf("linf"), Strong("linf:0.1")])
def test_what_is_no_logits_is_refused(attack, answer, message):
    model = linear_model((1, 3, 3), 3)
    images, _ = images_and_labels(model)
    with pytest.raises(InputError, match=message):
        attack(lambda x: answer(model(x)), images, torch.tensor([0, 1, 2, 0]))


def test_a_scripted_model_is_checked_too():
    model = torch.jit.script(linear_model((1, 3, 3), 3))
    images, labels = images_and_labels(model)
    assert not torch.equal(PGD("linf:0.3")(model, images, labels), images)
    with pytest.raises(InputError, match="labels: reach from 3 to 3, but the model has 3 outputs"):
        PGD("linf:0.3")(model, images, torch.full_like(labels, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_and_models_of_another_precision_are_refused(dtype):
    """One step in float16 left the ball by 1e-4, and most attacks failed somewhere inside."""
    model = linear_model((1, 3, 3), 3)
    images, labels = images_and_labels(model)
    for attack in (FGSM("linf:0.1"), APGDT("linf:0.1"), MinLinf("linf")):
        with pytest.raises(InputError, match=r"images are .*: write images.float\(\) and model"):
            attack(copy.deepcopy(model).to(dtype), images.to(dtype), labels)
        with pytest.raises(InputError, match=r"its weights are .*: write model.float\(\)"):
            attack(copy.deepcopy(model).to(dtype), images, labels)


def test_images_and_labels_of_another_kind_are_refused():
    model, attack = linear_model((1, 3, 3), 3), PGD("linf:0.1")
    images, labels = images_and_labels(model)
    refused: list[tuple[Any, Any, str]] = [
        (images.numpy(), labels, r"images: want a tensor, not ndarray; .*torch.from_numpy\(images"),
        (images, labels.numpy(), r"labels: want a tensor, not ndarray"),
        (images, labels.tolist(), r"labels: want a tensor, not list; write torch.tensor\(labels\)"),
        (images.byte(), labels, r"images: want floats in \[0, 1\], not uint8"),
        (images.double(), labels, r"images are float64, .*: write images.float\(\)"),
        (images.half(), labels, r"images are float16, .*: write images.float\(\)"),
        (images, labels + 10, "labels: reach from 1"),
        (images, labels - 10, "labels: reach from -"),
    ]
    for pixels, classes, message in refused:
        with pytest.raises(InputError, match=message):
            attack(model, pixels, classes)


def test_the_model_is_checked_without_a_pass_of_its_own():
    passes = []

    class Spy(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            passes.append(len(input))
            return super().forward(input)

    model = Spy(*linear_model((1, 3, 3), 3))
    images, labels = images_and_labels(model)
    passes.clear()
    FGSM("linf:0.01")(model, images, labels)
    assert passes == [4]
    assert not model._forward_hooks


def test_images_that_have_a_gradient_give_none_to_the_result():
    model = linear_model((1, 3, 3), 3).requires_grad_()
    images, labels = images_and_labels(model)
    for attack in (PGD("linf:0.3"), MinLinf("linf")):
        adversarial = attack(model, images.clone().requires_grad_(), labels)
        assert not adversarial.requires_grad
        assert torch.equal(adversarial, attack(model, images, labels))
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


def test_a_module_is_attacked_in_eval_mode_and_keeps_its_own():
    model = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 3), nn.Dropout().eval()
    )
    images, labels = images_and_labels(model.eval())
    expected = PGD("linf:0.3")(model, images, labels)
    model.train()
    model[4].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sourced = Transfer("linf:0.3", sources=[model])
    assert torch.equal(PGD("linf:0.3")(model, images, labels), expected)
    sourced(linear_model((1, 3, 3), 3), images, labels)
    assert [part.training for part in model] == [True, True, True, True, False]
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
