"""The audit attack on models that hide their gradient: it sees what hides it, and gets around."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.adaptive import expected
from scotoma.attacks.adaptive.adapted import Adapted
from scotoma.attacks.adaptive.expected import Expected
from scotoma.attacks.adaptive.look import Look, look
from scotoma.attacks.adaptive.plan import CLEAN, Plan, make_plan
from scotoma.attacks.adaptive.views import View, Viewed, inner_classifiers
from scotoma.attacks.core.batch import Batch
from scotoma.attacks.core.losses import fooled, margin
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.pgd import PGD
from scotoma.attacks.strong import Strong
from scotoma.models.defences.logits import HardLabel
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness

THREAT = Threat("linf", 0.35)


class Before(nn.Module):
    """A network behind a function of the image, or before one of its logits."""

    def __init__(self, before=lambda images: images, after=lambda logits: logits):
        super().__init__()
        self.network = digits_model()
        self.before, self.after = before, after

    def forward(self, images: Tensor) -> Tensor:
        return self.after(self.network(self.before(images)))


class _Nothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx, *gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient[0])


def cut(images: Tensor) -> Tensor:
    with torch.no_grad():
        return images * 1


def votes_of_one(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(1), logits.shape[1]).float()


HIDDEN: dict[str, tuple[dict, str]] = {
    "rounded": ({"before": lambda x: torch.round(x * 7) / 7}, "answers change in steps"),
    "compared": (
        {"before": lambda x: sum((x > level / 8).float() for level in range(8)) / 8},
        "the gradient is cut",
    ),
    "rippled": (
        {"before": lambda x: x + 0.02 * torch.sin(2 * math.pi * x / 0.006)},
        "functions of the model oscillate",
    ),
    "cut": ({"before": cut}, "the gradient is cut"),
    "killed": ({"after": _Nothing.apply}, "gradients are 0"),
    "hard": ({"after": votes_of_one}, "functions of the model choose one class"),
    "saturated": ({"after": lambda z: (1e4 * z).softmax(1)}, "gradients are 0"),
}


def hiding(name: str) -> tuple[Before, str]:
    how, mechanism = HIDDEN[name]
    return Before(**how), mechanism


def random_numbers(images: Tensor) -> Randomness:
    return Randomness.default(images)


def of(model: nn.Module, n: int = 24) -> tuple[Tensor, Tensor]:
    """Images that the model classifies correctly."""
    images, labels = digits_images(2 * n)
    with torch.no_grad():
        correct = model(images).argmax(1) == labels
    return images[correct][:n], labels[correct][:n]


def falls(model: nn.Module, images: Tensor, labels: Tensor, adversarial: Tensor) -> Tensor:
    with torch.no_grad():
        wrong = fooled(model(adversarial), labels)
    return wrong & (size(adversarial - images, THREAT.norm) <= THREAT.eps + TOLERANCE)


def test_an_honest_model_is_attacked_as_before():
    model, (images, labels) = digits_model(), of(digits_model())
    plan = make_plan(model, images, labels, THREAT, random_numbers(images))
    assert plan.clean
    assert plan.mechanisms == ()
    images, labels = images[:2], labels[:2]
    plain = Strong(THREAT, look=False)(model, images, labels)
    assert torch.equal(Strong(THREAT)(model, images, labels), plain)


def test_the_look_is_cheap():
    model, (images, labels) = digits_model(), of(digits_model())
    counted = Counted(model, len(images), images.device)
    make_plan(counted, images, labels, THREAT, random_numbers(images))
    passes = (counted.forwards + counted.backwards).float()
    assert 10 < passes.mean() < 110


HARMLESS = {
    "compared": {"before": lambda x: torch.where(x > 1.5, x / 255, x)},
    "detached": {"after": lambda z: z - z.detach().amax(1, keepdim=True)},
    "masked": {"after": lambda z: z * (z > 0) + 0.1 * z * (z <= 0)},
}
"""Functions that hide gradients elsewhere, but not here."""


@pytest.mark.parametrize("name", HARMLESS)
def test_functions_alone_are_no_evidence(name: str):
    model = Before(**HARMLESS[name])
    images, labels = of(model)
    counted = Counted(model, len(images), images.device)
    plan = make_plan(counted, images, labels, THREAT, random_numbers(images))
    assert plan.look
    assert plan.look.gates
    assert plan.clean
    assert plan.mechanisms == ()
    assert (counted.forwards + counted.backwards).float().mean() < 130


def test_few_images_are_no_evidence():
    assert not Look(5, zero=2 / 5).shows("zero")
    assert Look(5, zero=3 / 5).shows("zero")
    assert Look(2, zero=1.0).shows("zero")
    assert not Look(2, zero=1 / 2).shows("zero")
    assert not Look(100, zero=0.1).shows("zero")


class Brightness(nn.Module):
    """The sum of the brightest pixels of 2x2 windows, and 0."""

    def forward(self, images: Tensor) -> Tensor:
        bright = F.max_pool2d(images, 2).flatten(1).sum(1)
        return torch.stack([bright, torch.zeros_like(bright)], 1)


@pytest.mark.parametrize(("untied", "unfaithful"), [(6, 0), (2, 1)])
def test_a_gradient_may_promise_too_much_at_tied_maxima(untied: int, unfaithful: float):
    images = torch.full((8, 1, 2, 32), 0.5)
    images[..., 0, 0 : 2 * untied : 2] = 0.7  # one brightest pixel in these of 16 windows
    labels = torch.zeros(8, dtype=torch.int64)
    result = look(Batch(Brightness(), images, labels, random_numbers(images)), THREAT)
    assert result.unfaithful == unfaithful


@pytest.mark.parametrize("name", HIDDEN)
def test_what_hides_a_gradient_is_named_and_gone_around(name: str):
    model, mechanism = hiding(name)
    images, labels = of(model)
    plan = make_plan(model, images, labels, THREAT, random_numbers(images))
    assert mechanism in plan.mechanisms
    assert not plan.clean
    plain = PGD(THREAT, steps=20, loss=margin)(model, images, labels)
    adapted = Viewed(PGD(THREAT, steps=20, loss=margin), plan.views[0])(model, images, labels)
    bare = PGD(THREAT, steps=20, loss=margin)(model.network, images, labels)
    network = model.network
    truth = falls(network, images, labels, bare).float().mean()
    assert falls(model, images, labels, plain).float().mean() < 0.5 * truth
    assert falls(model, images, labels, adapted).float().mean() > 0.7 * truth


def test_strong_adapts_by_itself():
    model, _ = hiding("rounded")
    images, labels = of(model, 12)
    adapted = falls(model, images, labels, Strong(THREAT)(model, images, labels))
    assert adapted.all()
    assert (
        not falls(model, images, labels, PGD(THREAT, steps=20)(model, images, labels))
        .float()
        .mean()
        > 0.2
    )


def test_a_view_changes_no_answer():
    for name in HIDDEN:
        model, _ = hiding(name)
        images, labels = of(model, 4)
        for steps in ("straight", "open", "skip"):
            view = View(steps, reach=THREAT.eps)
            viewed = Viewed(PGD(THREAT), view).wrap(model, images, random_numbers(images))
            with torch.enable_grad():
                through = viewed(images.clone().requires_grad_())
            assert torch.equal(through.detach(), model(images)), (name, steps)
            assert through.requires_grad or steps == "straight"
        assert len(labels) == 4


def test_the_network_inside_is_found():
    model, _ = hiding("rounded")
    images, labels = of(model)
    assert inner_classifiers(model, images, labels, 10) == ("network",)
    assert inner_classifiers(digits_model(), images, labels, 10) == ()
    with torch.no_grad():
        assert inner_classifiers(model, images, labels, 10) == ("network",)
    labelled = HardLabel(model)  # classifies as well, but has no gradient
    assert inner_classifiers(nn.Sequential(labelled), images, labels, 10) == ("0.network.network",)


def test_random_answers_are_judged_by_most_draws():
    model = Before(lambda images: images + 0.15 * torch.randn_like(images))
    torch.manual_seed(0)
    images, labels = of(model, 64)
    plan = make_plan(model, images, labels, THREAT, random_numbers(images))
    assert "answers are random" in plan.mechanisms
    assert plan.views[0].random
    threat = Threat("linf", 0.35)
    adversarial = Expected(threat, plan.views[0], steps=15)(model, images, labels)
    moved = (adversarial != images).flatten(1).any(1)
    draws = [model(adversarial).argmax(1) != labels for _ in range(256)]
    wrong = torch.stack(draws).float().mean(0)
    assert moved.float().mean() > 0.3
    assert (wrong[moved] > 0.5).float().mean() > 0.98
    unmoved = torch.stack([model(images).argmax(1) != labels for _ in range(64)]).float().mean(0)
    assert (unmoved <= 0.5).all()


def test_images_that_withstand_the_mean_of_draws_are_attacked_again(monkeypatch):
    images, labels = of(digits_model(), 24)
    view, fooled_within, passes = View(draws=8, random=True), [], []
    for count in (0, 2):
        monkeypatch.setattr(expected, "AGAIN", count)
        torch.manual_seed(0)
        noisy = Before(lambda images: images + 0.1 * torch.randn_like(images))
        counted = Counted(noisy, len(images), images.device)
        stream = random_numbers(images)
        adversarial = Expected("linf:0.15", view, 8)(counted, images, labels, generator=stream)
        sizes = size(adversarial - images, "linf")
        fooled_within.append((sizes > 0) & (sizes <= 0.15 + TOLERANCE))
        passes.append(counted.forwards)
    once, twice = fooled_within
    assert 0 < once.sum() <= twice.sum() < len(images)
    assert (passes[1][once] == passes[0][once]).float().mean() > 0.8
    assert (passes[1][~twice] > 1.5 * passes[0][~twice]).all()


def test_what_depends_on_the_batch_is_seen():
    model = Before(lambda images: images - images.mean(0, keepdim=True))
    images, labels = digits_images(24)
    labels = model(images).argmax(1)
    result = look(Batch(model, images, labels, random_numbers(images)), THREAT)
    assert result.batch > 0.5
    assert not result.clean


def test_a_plan_survives_json():
    model, _ = hiding("hard")
    images, labels = of(model)
    plan = make_plan(model, images, labels, THREAT, random_numbers(images))
    restored = Plan.from_json(plan.as_json())
    assert restored == plan
    assert str(restored.views[0]) in str(plan)
    assert str(CLEAN) == "The exact gradient leads attacks."


def test_it_works_in_l2():
    model, _ = hiding("rounded")
    images, labels = of(model, 12)
    threat = Threat("l2", 1.5)
    plan = make_plan(model, images, labels, threat, random_numbers(images))
    assert not plan.clean
    adversarial = Adapted(threat, plan=plan)(model, images, labels)
    with torch.no_grad():
        wrong = fooled(model(adversarial), labels) & (
            size(adversarial - images, "l2") <= threat.eps
        )
    assert wrong.float().mean() > 0.8


class Binarised(nn.Module):
    """Black and white: only values that cross one half count."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images > 0.5).to(images))


def test_pixels_that_cross_no_step_are_reverted():
    """All values change along straight-through gradients; what is left has to."""
    model = Binarised(digits_model()).eval()
    images, labels = of(model, 12)
    adversarial = Strong(Threat("l2", 1.0))(model, images, labels)
    changed = (adversarial != images).flatten(1)
    was_fooled = changed.any(1)
    assert was_fooled.sum() >= 8
    assert fooled(model(adversarial[was_fooled]), labels[was_fooled]).all()
    rows, pixels = changed.nonzero(as_tuple=True)
    undone = adversarial[rows].flatten(1)
    undone[torch.arange(len(rows)), pixels] = images.flatten(1)[rows, pixels]
    assert not fooled(model(undone.view_as(adversarial[rows])), labels[rows]).any()


def test_an_odd_number_of_draws_has_noise_too():
    images, labels = of(digits_model(), 3)
    view = View(draws=3, sigma=0.05)
    adversarial = Viewed(PGD(THREAT, steps=2), view)(digits_model(), images, labels)
    assert (adversarial != images).any()
