"""Auto-PGD: closed forms on linear models, its own guarantees, and the reference implementation."""

from __future__ import annotations

import pytest
import torch
from decisions import l2_optimum
from decisions import problem as exact_problem
from linear import Undefined, boxed_optimum, distance, linear_model, saturated_images
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.apgd import APGD, APGDT, checkpoints
from scotoma.attacks.core.losses import fooled, targeted_dlr, targeted_margin
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness

ATTACKS = [APGD, APGDT]
SHAPE = (1, 8, 8)


def problem(n: int, classes: int = 10, seed: int = 0) -> tuple[nn.Sequential, Tensor, Tensor]:
    model, images = linear_model(SHAPE, classes, seed), saturated_images(n, SHAPE, seed)
    return model, images, model(images).argmax(1)


def test_checkpoints_are_the_papers():
    assert checkpoints(100) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_checkpoints_of_short_attacks_lie_inside():
    assert all(0 < mark <= steps for steps in range(1, 20) for mark in checkpoints(steps))


@pytest.mark.parametrize(("attack", "classes"), [(APGD, 2), (APGDT, 10)])
@pytest.mark.parametrize(("factor", "succeeds"), [(1.001, True), (0.999, False)])
def test_finds_the_optimum_of_linear_models(
    attack: type, classes: int, factor: float, succeeds: bool
):
    """With many classes the cross-entropy mixes all of them: exact only between two."""
    model, images, labels = problem(2, classes)
    for image, label, optimum in zip(
        images, labels, boxed_optimum(model, images, labels).tolist(), strict=True
    ):
        threat = Threat("linf", factor * optimum)
        steps = 100 if succeeds else 30  # no step may leave the ball
        adversarial = attack(threat, steps=steps)(model, image[None], label[None])
        assert bool(fooled(model(adversarial), label[None])) is succeeds


@pytest.mark.parametrize(("attack", "classes"), [(APGD, 2), (APGDT, 5)])
@pytest.mark.parametrize(("factor", "succeeds"), [(1.003, True), (0.999, False)])
def test_finds_the_optimum_of_linear_models_in_l2(
    attack: type, classes: int, factor: float, succeeds: bool
):
    model, images, labels = exact_problem(2, SHAPE, classes)
    for image, label, optimum in zip(
        images, labels, l2_optimum(model, images, labels).tolist(), strict=True
    ):
        threat = Threat("l2", factor * optimum)
        steps = 100 if succeeds else 30
        adversarial = attack(threat, steps=steps)(model, image[None], label[None])
        assert bool(fooled(model(adversarial), label[None])) is succeeds
        assert size(adversarial - image, "l2").item() <= factor * optimum * (1 + TOLERANCE)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(attack: type, classes: int):
    model, images, labels = problem(8, classes)
    eps = 1.001 * float(boxed_optimum(model, images, labels).max())
    assert fooled(model(attack(Threat("linf", eps))(model, images, labels)), labels).all()


def test_only_the_second_target_can_be_reached():
    """The likeliest wrong class has the label's slope and is unreachable; the next is reachable."""
    model = linear_model(SHAPE, 4)
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight[1:2] = layer.weight[0]
        layer.weight[3] = layer.weight[2]
        layer.bias.copy_(torch.tensor([100.0, 99.0, 90.0, 70.0]))
    images, labels = torch.full((1, *SHAPE), 0.5), torch.zeros(1, dtype=torch.int64)
    threat = Threat("linf", 1.2 * float(boxed_optimum(model, images, labels)))
    assert not fooled(model(APGDT(threat, targets=1)(model, images, labels)), labels).any()
    assert fooled(model(APGDT(threat, targets=2)(model, images, labels)), labels).all()


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("threat", [Threat("linf", 0.15), Threat("l2", 0.6)], ids=str)
def test_results_lie_inside_ball_and_range_and_failures_are_unchanged(attack: type, threat: Threat):
    model, (images, labels) = digits_model(), digits_images(40)
    adversarial = attack(threat, steps=20)(model, images, labels)
    assert size(adversarial - images, threat.norm).max() <= threat.eps + TOLERANCE
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    wrong, won = fooled(model(images), labels), fooled(model(adversarial), labels)
    moved = distance(adversarial, images) > 0
    assert won.sum() > wrong.sum()
    assert not won.all()
    assert torch.equal(moved, won & ~wrong)


@pytest.mark.parametrize(
    ("attack", "options", "starts"), [(APGD, {}, 3), (APGDT, {"targets": 2}, 6)]
)
def test_passes(attack: type, options: dict, starts: int):
    """Misclassified images cost one forward, withstanding ones all iterations, others fewer."""
    model, images, labels = problem(40)
    labels = labels.clone()
    labels[:5] = (labels[:5] + 1) % 10
    optimum = boxed_optimum(model, images, labels)
    eps = float(optimum[5:].median())
    counted = Counted(model, len(images), images.device)
    adversarial = attack(Threat("linf", eps), steps=10, restarts=3, **options)(
        counted, images, labels
    )
    won = fooled(model(adversarial), labels)
    assert counted.forwards[:5].tolist() == [1] * 5
    assert counted.backwards[:5].tolist() == [0] * 5
    stands = ~won
    assert stands.any()
    assert set(counted.forwards[stands].tolist()) == {1 + starts * 11}
    assert set(counted.backwards[stands].tolist()) == {starts * 10}
    assert (counted.backwards[5:][won[5:]] < starts * 10).all()
    easy = optimum < eps / 2
    assert (counted.backwards[easy] <= 4 * starts).all()  # which climb together


@pytest.mark.parametrize("attack", ATTACKS)
def test_starts_in_turn_give_the_same(attack: type, monkeypatch: pytest.MonkeyPatch):
    model, (images, labels) = digits_model(), digits_images(60)
    attack = attack("linf:0.15", steps=5, restarts=3)
    passes, results = [], []
    for fill in (1024, 100, 1):
        monkeypatch.setattr("scotoma.attacks.apgd.batch_size", lambda *_, fill=fill: fill)
        counted = Counted(model, len(images), images.device)
        results.append(attack(counted, images, labels))
        passes.append(int(counted.backwards.sum()))
    assert torch.equal(results[0], results[2])
    assert torch.equal(results[1], results[2])
    assert passes[0] > passes[2]  # what falls from the first start is spared the others


@pytest.mark.parametrize("attack", ATTACKS)
def test_restarts_only_add_successes(attack: type):
    model, (images, labels) = digits_model(), digits_images(200)
    threat = Threat("linf", 0.15)
    one, three = (
        attack(threat, steps=2, restarts=restarts)(model, images, labels) for restarts in (1, 3)
    )
    first, more = fooled(model(one), labels), fooled(model(three), labels)
    assert not (first & ~more).any()
    assert more.sum() > first.sum()


@pytest.mark.parametrize("attack", ATTACKS)
def test_seed_decides(attack: type):
    model, (images, labels) = digits_model(), digits_images(40)
    run = attack(Threat("linf", 0.3), steps=10)
    results = [
        run(model, images, labels, generator=Randomness(seed, torch.arange(40), "test"))
        for seed in (0, 0, 1)
    ]
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_image_alone_is_as_in_a_batch(attack: type):
    model, images, labels = problem(16)
    run = attack(Threat("linf", float(boxed_optimum(model, images, labels).median())), steps=20)
    together = run(model, images, labels, generator=Randomness(3, torch.arange(16)))
    for i in (0, 9):
        alone = run(
            model, images[i : i + 1], labels[i : i + 1], generator=Randomness(3, torch.tensor([i]))
        )
        assert torch.allclose(alone[0], together[i], atol=1e-6)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_images_and_images_all_wrong(attack: type):
    model, images, labels = problem(4)
    run = attack(Threat("linf", 0.1))
    assert run(model, images[:0], labels[:0]).shape == (0, *SHAPE)
    assert torch.equal(run(model, images, (labels + 1) % 10), images)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_constant_model_leaves_images_unchanged(attack: type):
    model, images, _ = problem(4)
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    layer.weight.zero_()
    layer.bias.copy_(torch.arange(10.0))
    assert torch.equal(
        attack(Threat("linf", 0.3), steps=10)(model, images, torch.full((4,), 9)), images
    )


@pytest.mark.parametrize("attack", ATTACKS)
def test_undefined_gradients_do_not_spread(attack: type):
    model, images, labels = problem(8)
    images[:, 0, 0, 0] = 0
    labels = model(images).argmax(1)
    eps = 1.2 * float(boxed_optimum(model, images, labels).max())
    adversarial = attack(Threat("linf", eps))(Undefined(model), images, labels)
    assert adversarial.isfinite().all()
    assert fooled(model(adversarial), labels).all()


def test_targeted_dlr_by_hand_and_its_invariance():
    logits = torch.tensor([[5.0, 3.0, 2.0, 0.0, -1.0]])
    label, target = torch.tensor([0]), torch.tensor([2])
    assert targeted_dlr(logits, label, target).item() == pytest.approx((2 - 5) / (5 - (2 + 0) / 2))
    assert targeted_dlr(10 * logits + 7, label, target).item() == pytest.approx(-0.75)
    assert targeted_margin(logits, label, target).item() == -3
    assert targeted_dlr(logits[:, :3], label, target).item() == -3


def test_targeted_dlr_where_all_logits_tie():
    logits = torch.zeros(1, 5, requires_grad=True)
    loss = targeted_dlr(logits, torch.tensor([0]), torch.tensor([2]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == 0
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["ce", "targeted"])
def test_as_strong_as_the_reference(name: str):
    reference = pytest.importorskip("pyautoattack.autopgd_base")
    model, (images, labels) = digits_model(), digits_images(50)
    right = model(images).argmax(1) == labels
    images, labels = images[right], labels[right]
    settings = {
        "n_restarts": 1,
        "n_iter": 30,
        "eps": 0.15,
        "norm": "Linf",
        "seed": 0,
        "device": "cpu",
        "verbose": False,
    }
    if name == "ce":
        theirs = reference.APGDAttack(model, loss="ce", **settings).perturb(images, labels)
        ours = APGD(Threat("linf", 0.15), steps=30)(model, images, labels)
    else:
        theirs = reference.APGDAttack_targeted(model, n_target_classes=9, **settings).perturb(
            images, labels
        )
        ours = APGDT(Threat("linf", 0.15), steps=30)(model, images, labels)
    rates = [
        (model(adversarial).argmax(1) == labels).float().mean().item()
        for adversarial in (ours, theirs)
    ]
    assert 0.1 < rates[1] < 0.95
    assert rates[0] <= rates[1] + 0.01
