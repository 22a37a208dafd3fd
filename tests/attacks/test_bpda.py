"""BPDA: the same logits, a gradient through steps, and models whose only defence they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from linear import linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.bpda import BPDA
from scotoma.attacks.core.losses import cross_entropy, fooled
from scotoma.attacks.core.oracle import Counted, Oracle, PerImage
from scotoma.attacks.pgd import PGD
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

THREAT = Threat("linf", 0.3)
C = 0.5


class Stepped(nn.Module):
    """A step before a model."""

    def __init__(self, step: Callable[[Tensor], Tensor], model: nn.Module):
        super().__init__()
        self.step = step
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(self.step(images))


def gradient(module: nn.Module, images: Tensor, weight: Tensor) -> Tensor:
    """Of the outputs times `weight`, as an attack inside BPDA gets it."""
    gradients = []

    def attack(
        model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        leaf = images.clone().requires_grad_()
        out = model(leaf)
        with torch.no_grad():
            assert torch.equal(out, model(images))
        assert torch.equal(out.signbit(), module(images).signbit())
        assert torch.equal(out, module(images))
        assert out.dtype == module(images).dtype
        gradients.append(torch.autograd.grad((out * weight).sum(), leaf)[0])
        return images

    run = Counted(module, len(images), images.device)  # what it returns are no logits
    BPDA(attack)(run, images, torch.zeros(len(images), dtype=torch.int64))
    return gradients[0]


def in_place(x: Tensor) -> Tensor:
    y = 7 * x
    y.round_()
    return y / 7


def masked_in_place(x: Tensor) -> Tensor:
    y = torch.full_like(x, 2.0)
    y *= x >= C
    return y


def levels_in_place(x: Tensor) -> Tensor:
    levels = (4 * x).to(torch.int64)
    levels *= 2
    return levels.float()


def assigned(x: Tensor) -> Tensor:
    y = torch.ones_like(x)
    y[x < C] = -1
    return y


STEPS: dict[str, tuple[Callable[[Tensor], Tensor], float | Callable[[Tensor], Tensor]]] = {
    "round": (lambda x: (7 * x).round() / 7, 1),
    "decimals": (lambda x: torch.round(x, decimals=1), 1),
    "floor": (lambda x: torch.floor(5 * x), 5),
    "ceil": (lambda x: (x * 4).ceil(), 4),
    "trunc": (torch.trunc, 1),
    "sign": (lambda x: torch.sign(x - C), 1),
    "heaviside": (lambda x: torch.heaviside(x - C, torch.tensor(1.0)), 1),
    "in place": (in_place, 1),
    "floor division": (lambda x: x // 0.25, 4),
    "div": (lambda x: torch.div(x, 0.25, rounding_mode="floor"), 4),
    "ge float": (lambda x: (x >= C).float(), 1),
    "gt to": (lambda x: (x > C).to(x.dtype), 1),
    "lt type": (lambda x: (x < C).type(torch.float32), -1),
    "le double": (lambda x: (x <= C).double().float(), -1),
    "number first": (lambda x: torch.tensor(C).lt(x).float(), 1),
    "keyword": (lambda x: x.gt(other=C).float(), 1),
    "type_as": (lambda x: torch.gt(x, C).type_as(x), 1),
    "threshold of the image": (lambda x: (x >= 1 - x).float(), 2),
    "times number": (lambda x: (x >= C) * 3.0, 3),
    "times image": (lambda x: x * (x >= C), lambda x: (x >= C).float() + x),
    "times a constant in place": (masked_in_place, 2),
    "plus": (lambda x: 0.25 + (x >= C) / 2, 0.5),
    "minus": (lambda x: 1.0 - (x >= C).int(), -1),
    "not": (lambda x: (~(x >= C)).float(), -1),
    "where": (lambda x: torch.where(x >= C, 0.75, 0.25), 0.5),
    "where of images": (
        lambda x: torch.where(x >= C, 3 * x, -x),
        lambda x: torch.where(x >= C, 3.0, -1.0) + 4 * x,
    ),
    "where with keywords": (
        lambda x: torch.where(x >= C, input=torch.ones_like(x), other=torch.zeros_like(x)),
        1,
    ),
    "the method where": (lambda x: x.where(x >= C, 0.0), lambda x: (x >= C).float() + x),
    "where of whole numbers": (lambda x: torch.where(x >= C, 2, 0).float(), 2),
    "masked_fill": (lambda x: torch.ones_like(x).masked_fill(x < C, -1.0), 2),
    "assigned": (assigned, 2),
    "and": (lambda x: ((x >= C) & (x >= -1.0)).float(), lambda x: 1 + (x >= C).float()),
    "or": (lambda x: torch.logical_or(x >= C, x < -1.0).float(), lambda x: 1 - (x < C).float()),
    "whole numbers": (lambda x: (x * 255).to(torch.uint8).float() / 255, 1),
    "whole numbers divided": (lambda x: (x * 255).long() / 255, 1),
    "whole numbers in place": (levels_in_place, 8),
    "levels compared": (lambda x: ((x * 10).int() > 5).float(), 10),
    "reshaped": (lambda x: (x >= C).flatten(1)[:, :, None].view(x.shape).float(), 1),
    "stacked": (lambda x: torch.stack([x >= C, x < 2.0]).float()[0], 1),
}


@pytest.mark.parametrize("name", STEPS)
def test_steps_keep_their_values_and_get_a_slope(name: str):
    step, slope = STEPS[name]
    images = torch.cat([saturated_images(3, (2, 4, 4)), torch.full((1, 2, 4, 4), C)])
    weight = torch.rand(images.shape, generator=torch.Generator().manual_seed(1))
    expected = slope(images) if callable(slope) else torch.full_like(images, slope)
    assert torch.allclose(
        gradient(Stepped(step, nn.Identity()), images, weight), weight * expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "name", ["ge float", "round", "where", "whole numbers", "not", "times image", "masked_fill"]
)
def test_exported_programs_are_looked_into(name: str):
    step, slope = STEPS[name]
    images = saturated_images(3, (2, 4, 4))
    program = torch.export.export(Stepped(step, nn.Identity()), (images,)).module()
    expected = slope(images) if callable(slope) else torch.full_like(images, slope)
    assert torch.allclose(gradient(program, images, torch.ones_like(images)), expected)


def test_a_table_of_colours_is_left_alone():
    """What whole numbers pick out of a table has no slope; it must only not fail."""
    table = torch.tensor([0.1, 0.7, 0.4])
    images = saturated_images(3, (1, 4, 4))
    module = Stepped(lambda x: x + table[(2 * x).long()], nn.Identity())
    assert torch.equal(gradient(module, images, torch.ones_like(images)), torch.ones_like(images))


def test_values_that_are_not_finite_are_kept():
    images = torch.rand(2, 1, 3, 3)
    odd = torch.tensor([torch.inf, -0.0, torch.nan])
    leaf = images.clone().requires_grad_()
    outputs = []

    def attack(
        model: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        outputs.append(model(leaf).detach())
        return images

    BPDA(attack)(
        Counted(Stepped(lambda x: torch.where(x >= 2.0, x, odd), nn.Identity()), 2, images.device),
        images,
        torch.zeros(2, dtype=torch.int64),
    )
    assert torch.equal(
        outputs[0].view(torch.int32), odd.expand_as(images).contiguous().view(torch.int32)
    )


def test_a_model_without_steps_is_unchanged():
    model, (images, labels) = digits_model(), digits_images(20)
    attack = PGD(THREAT, steps=5)
    assert torch.equal(BPDA(attack)(model, images, labels), attack(model, images, labels))
    weight = torch.rand(len(images), 10)
    leaf = images.clone().requires_grad_()
    assert torch.equal(
        gradient(model, images, weight), torch.autograd.grad((model(leaf) * weight).sum(), leaf)[0]
    )


@pytest.mark.parametrize(
    "name", ["ge float", "round", "sign", "where", "whole numbers", "masked_fill"]
)
def test_pgd_wins_only_with_bpda(name: str):
    model, (images, _) = Stepped(STEPS[name][0], digits_model()), digits_images(60)
    labels = model(images).argmax(1)
    attack = PGD(Threat("linf", 0.5), steps=20)
    seeing, blind = (
        fooled(model(a(model, images, labels)), labels).float().mean()
        for a in (BPDA(attack), attack)
    )
    assert seeing > 0.9
    assert blind < 0.5


def test_every_pass_is_charged_to_its_image():
    images, labels = digits_images(12)
    model = Stepped(lambda x: (x >= C).float(), digits_model())
    counts = []
    for attack in (PGD(THREAT, steps=6), BPDA(PGD(THREAT, steps=6))):
        counted = Counted(
            Stepped(lambda x: 0 * x, linear_model((1, 8, 8), 10)), len(images), images.device
        )
        attack(counted, images, torch.zeros(len(images), dtype=torch.int64))
        counts.append((counted.forwards.tolist(), counted.backwards.tolist()))
    assert counts[0] == counts[1]
    counted = Counted(model, len(images), images.device)
    wrong = fooled(model(images), labels)
    BPDA(PGD(THREAT, steps=6))(counted, images, labels)
    assert counted.forwards[wrong].tolist() == [1] * int(wrong.sum())
    assert torch.equal(counted.backwards > 0, ~wrong)


def test_an_oracle_within_narrows():
    model, (images, labels) = (
        Counted(Stepped(lambda x: x.round(), digits_model()), 6, torch.device("cpu"), True),
        digits_images(6),
    )

    def attack(
        inner: nn.Module, images: Tensor, labels: Tensor, generator: Randomness | None = None
    ) -> Tensor:
        assert isinstance(inner, PerImage)
        assert inner.reduced
        Oracle(inner, labels).select(torch.tensor([4, 1])).value_and_grad(
            images[[4, 1]], cross_entropy
        )
        return images

    BPDA(attack)(model, images, labels)
    assert model.forwards.tolist() == model.backwards.tolist() == [0, 1, 0, 0, 1, 0]
