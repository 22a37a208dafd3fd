"""FMN against the closed form on linear models, its own promises, and another implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import Exact, l2_optimum
from decisions import problem as boxed_problem
from linear import (
    Undefined,
    boxed_optimum,
    clearly_classified,
    distance,
    linear_model,
    saturated_images,
)
from minimum_norm import nearest_boundary, open_problem
from scipy.optimize import minimize
from torch import Tensor, nn
from trained import correct_digits, digits_images, digits_model

from scotoma.attacks import make
from scotoma.attacks.core.losses import GUARD, fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.fmn import FMN, FMNL1, FMNL2, project_l1
from scotoma.threat import Threat
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.3)
L2, L1 = FMNL2("l2"), FMNL1("l1")
FAR = pytest.mark.parametrize("attack", [L2, L1], ids=["l2", "l1"])


def problem(
    shape: tuple[int, int, int], n: int, seed: int = 0
) -> tuple[nn.Sequential, Tensor, Tensor]:
    """Images further from the boundary than rounding, where distances of 1e-6 mean something."""
    model, images = linear_model(shape, 10, seed), saturated_images(n, shape, seed)
    return model, *clearly_classified(model, images)


@pytest.mark.parametrize("seed", range(2))
def test_reaches_the_optimum_of_linear_models(seed: int):
    model, images, labels = problem((1, 28, 28), 20, seed)
    adversarial = FMN("linf")(model, images, labels)
    ratio = distance(adversarial, images) / boxed_optimum(model, images, labels)
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.02


def test_results_lie_in_range_and_only_fooled_images_move():
    model, (images, labels) = digits_model(), digits_images(100)
    adversarial = FMN("linf", steps=30)(model, images, labels)
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    wrong, won = fooled(model(images), labels), fooled(model(adversarial), labels)
    assert torch.equal(distance(adversarial, images) > 0, won & ~wrong)
    assert (won & ~wrong).any()


def test_more_steps_come_nearer():
    model, (images, labels) = digits_model(), digits_images(60)
    right = ~fooled(model(images), labels)
    short, long = (
        distance(FMN("linf", steps)(model, images, labels), images)[right] for steps in (10, 100)
    )
    assert (long > 0).all()
    assert long.median() <= short[short > 0].median()


def test_every_step_is_one_pass_each_way_and_wrong_images_leave():
    model, images, labels = problem((1, 8, 8), 12)
    labels = labels.clone()
    labels[:3] = (labels[:3] + 1) % 10
    counted = Counted(model, len(images), images.device)
    adversarial = FMN("linf", steps=7)(counted, images, labels)
    assert torch.equal(adversarial[:3], images[:3])
    assert counted.forwards.tolist() == [1] * 3 + [9] * (len(images) - 3)
    assert counted.backwards.tolist() == [0] * 3 + [7] * (len(images) - 3)


def test_repeats_itself():
    model, (images, labels) = digits_model(), digits_images(30)
    assert torch.equal(
        FMN("linf", steps=20)(model, images, labels), FMN("linf", steps=20)(model, images, labels)
    )


def test_an_image_alone_is_as_in_a_batch():
    model, images, labels = problem((1, 8, 8), 16)
    together = FMN("linf")(model, images, labels)
    for i in (0, len(images) - 1):
        alone = FMN("linf")(model, images[i : i + 1], labels[i : i + 1])
        assert torch.allclose(
            distance(alone, images[i : i + 1]),
            distance(together[i : i + 1], images[i : i + 1]),
            rtol=1e-3,
        )


def test_no_images_and_images_all_wrong():
    model, images, labels = problem((1, 8, 8), 4)
    assert FMN("linf")(model, images[:0], labels[:0]).shape == (0, 1, 8, 8)
    assert torch.equal(FMN("linf")(model, images, (labels + 1) % 10), images)


def test_a_constant_model_leaves_images_unchanged():
    model, images, _ = problem((1, 8, 8), 4)
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    layer.weight.zero_()
    layer.bias.copy_(torch.arange(10.0))
    assert torch.equal(FMN("linf")(model, images, torch.full((len(images),), 9)), images)


def test_undefined_gradients_do_not_spread():
    model, images, labels = problem((1, 8, 8), 8)
    images[:, 0, 0, 0] = 0
    labels = model(images).argmax(1)
    adversarial = FMN("linf")(Undefined(model), images, labels)
    assert adversarial.isfinite().all()
    assert fooled(model(adversarial), labels).all()


def test_as_near_as_another_implementation():
    foolbox = pytest.importorskip("foolbox")
    model, images, labels = correct_digits(100)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    _, theirs, won = foolbox.attacks.LInfFMNAttack(steps=100)(peer, images, labels, epsilons=None)
    ours = FMN("linf", steps=100)(model, images, labels)
    far = torch.where(won, distance(theirs, images), torch.inf)
    near = torch.where(fooled(model(ours), labels), distance(ours, images), torch.inf)
    assert near.isfinite().sum() >= won.sum()
    assert near.median() <= 1.02 * far.median()


@pytest.mark.parametrize(
    ("name", "norm"), [("fmn-linf", "linf"), ("fmn-l2", "l2"), ("fmn-l1", "l1")]
)
def test_each_norm_has_its_own(name: str, norm: str):
    for other in ("linf", "l2", "l1"):
        threat = Threat(other, 0.5)
        if other == norm:
            assert make(name, threat).norm == norm
        else:
            with pytest.raises(InputError, match=f"{name} is for {norm}, not for {other}"):
                make(name, threat)


def l1_optimum(model: Exact, images: Tensor, labels: Tensor) -> Tensor:
    """Return the least L1 distance that fools in [0, 1], float64 (n,): steepest values first."""
    logits = model(images)
    lack = logits.gather(1, labels[:, None]) - logits + GUARD * logits.abs().amax(1, keepdim=True)
    slope = model.weight[None] - model.weight[labels][:, None]
    x = images.flatten(1).double()[:, None]
    steepness, order = slope.abs().sort(dim=2, descending=True)
    room = torch.where(slope > 0, 1 - x, x).gather(2, order)
    missing = lack[..., None] - (steepness * room).cumsum(2) + steepness * room
    cost = (missing / steepness.clamp_min(1e-12)).clamp_min(0).minimum(room).sum(2)
    reached = (steepness * room).sum(2) >= lack
    return cost.masked_fill(~reached, torch.inf).scatter(1, labels[:, None], torch.inf).amin(1)


@FAR
@pytest.mark.parametrize("shape", [(1, 10, 10), (3, 6, 6)])
def test_comes_near_the_optimum_inside_the_box(attack: FMN, shape: tuple[int, int, int]):
    model, images, labels = boxed_problem(40, shape)
    optimum = (l2_optimum if attack is L2 else l1_optimum)(model, images, labels)
    adversarial = attack(model, images, labels)
    ratio = size(adversarial - images, attack.norm) / optimum
    assert fooled(model(adversarial), labels).all()
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < (1.01 if attack is L2 else 1.03)


@FAR
def test_comes_near_the_optimum_where_the_box_is_far(attack: FMN):
    model, images, labels = open_problem(20, (1, 3, 3), classes=3)
    labels = model(images).argmax(1)
    optimum = nearest_boundary(model, images, labels, attack.norm)
    assert optimum.max() < 0.48
    ratio = size(attack(model, images, labels) - images, attack.norm) / optimum
    assert ratio.min() > 1 - 1e-4
    assert ratio.mean() < 1.02


@FAR
def test_every_step_is_one_pass_each_way(attack: FMN):
    model, images, labels = boxed_problem(8)
    counted = Counted(model, len(images), images.device)
    type(attack)(attack.norm, steps=7)(counted, images, labels)
    assert counted.forwards.tolist() == [9] * len(images)
    assert counted.backwards.tolist() == [7] * len(images)


def test_l1_perturbations_are_sparse():
    model, images, labels = boxed_problem(20)
    changed = {attack: (attack(model, images, labels) - images).abs() > 1e-3 for attack in (L1, L2)}
    assert changed[L1].sum() < 0.5 * changed[L2].sum()


def test_projects_on_the_l1_ball_and_the_box_as_a_solver_does():
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(12, 1, 2, 3, generator=generator, dtype=torch.float64)
    clean[:, 0, 0] = clean[:, 0, 0].round()
    delta = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    radius = torch.linspace(0.1, 3, 12, dtype=torch.float64)
    projected = project_l1(delta, clean, radius)
    for one, x, bound, result in zip(
        delta.flatten(1), clean.flatten(1), radius, projected.flatten(1), strict=True
    ):
        sign, room = one.sign(), torch.where(one > 0, 1 - x, x)
        target = one.abs().numpy()
        solution = minimize(
            lambda u, target=target: ((u - target) ** 2).sum(),
            torch.zeros(6).numpy(),
            jac=lambda u, target=target: 2 * (u - target),
            bounds=[(0, float(most)) for most in room],
            constraints={"type": "ineq", "fun": lambda u, bound=float(bound): bound - u.sum()},
            options={"ftol": 1e-14},
        )
        assert solution.success
        assert torch.allclose(sign * torch.from_numpy(solution.x), result, atol=1e-5)
    assert (size(projected, "l1") <= radius + 1e-12).all()


def test_projection_leaves_what_is_inside_alone_and_gives_up_equal_amounts():
    clean = torch.full((4, 1, 1, 3), 0.5)
    delta = torch.tensor([0.1, -0.3, 0.2]).repeat(4, 1).view(4, 1, 1, 3)
    projected = project_l1(delta, clean, torch.tensor([1, 0.3, 0.1, 0])).flatten(1)
    assert projected[0].tolist() == pytest.approx([0.1, -0.3, 0.2])
    assert projected[1].tolist() == pytest.approx([0, -0.2, 0.1], abs=1e-6)
    assert projected[2].tolist() == pytest.approx([0, -0.1, 0], abs=1e-6)
    assert projected[3].tolist() == pytest.approx([0, 0, 0], abs=1e-6)


@FAR
def test_nearer_than_another_implementation(attack: FMN):
    foolbox = pytest.importorskip("foolbox")
    norm = attack.norm
    model, images, labels = correct_digits(100)
    peer = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    kind = {"l2": foolbox.attacks.L2FMNAttack, "l1": foolbox.attacks.L1FMNAttack}[norm]
    _, theirs, won = kind(steps=100)(peer, images, labels, epsilons=None)
    near, far = size(attack(model, images, labels) - images, norm), size(theirs - images, norm)
    far[~won] = torch.inf
    assert near.min() > 0
    assert near.median() <= 1.01 * far.median()
    assert near[won].mean() < far[won].mean()
