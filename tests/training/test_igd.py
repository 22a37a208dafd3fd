"""Input gradient distillation: its second term, and that input gradients approach the teacher's."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.data.dataset import Dataset
from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.classifier import Classifier
from scotoma.models.resnet import resnet9
from scotoma.threat import Threat
from scotoma.training.augment import Cutout
from scotoma.training.loop import Schedule, train
from scotoma.training.pgd import InputGradientDistillation, PGDTraining
from scotoma.training.plain import Natural
from scotoma.training.recipe import Recipe
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def igd(teacher: nn.Module, weight: float = 1.0, **more) -> InputGradientDistillation:
    return InputGradientDistillation(
        THREAT, sources=(Classifier.of(teacher, "teacher"),), weight=weight, **more
    )


def linear(seed: int, pixels: int = 64, classes: int = 10) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))


@pytest.fixture
def batch(digits) -> tuple[Tensor, Tensor]:
    return digits.train.images(torch.arange(32)), digits.train.labels[:32]


def test_on_linear_models_it_is_the_cosine_of_the_classes_weights(batch):
    images, labels = batch
    student, teacher = linear(1), linear(2)
    cosines = igd(teacher).alignment(student, images, labels)
    rows = F.cosine_similarity(student[1].weight, teacher[1].weight)  # type: ignore[arg-type]
    assert cosines.dtype == torch.float32
    assert torch.allclose(cosines, rows[labels], atol=1e-6)
    assert torch.allclose(
        igd(linear(1)).alignment(student, images, labels), torch.ones(len(images))
    )


def test_the_loss_is_adversarial_training_and_the_weighted_rest_to_a_cosine_of_one(batch):
    images, labels = batch
    student, teacher = linear(1), linear(2)
    plain = PGDTraining(THREAT)(student, images, labels, 0.9, generator())
    rest = 1 - igd(teacher).alignment(student, images, labels).mean()
    for weight in (0.5, 4.0):
        loss = igd(teacher, weight)(student, images, labels, 0.9, generator())
        assert loss.item() == pytest.approx((plain + weight * rest).item(), rel=1e-6)


def test_the_weights_are_given_the_derivative_of_the_cosine(batch):
    """Second order, against finite differences in float64, on a network that is smooth."""
    images, labels = batch[0][:4].double(), batch[1][:4]
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(108, 10)
    ).double()
    recipe = igd(nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Tanh()).double())
    weight = student[0].weight
    recipe.alignment(student, images, labels).sum().backward()
    drawn = {"dtype": torch.float64, "generator": generator()}
    direction = torch.randn(weight.shape, **drawn)  # type: ignore[arg-type]
    moved = []
    for step in (3e-3, -3e-3):
        with torch.no_grad():
            weight += step * direction  # type: ignore[operator]
        moved.append(recipe.alignment(student, images, labels).sum().item())
        with torch.no_grad():
            weight -= step * direction  # type: ignore[operator]
    assert (weight.grad * direction).sum().item() == pytest.approx(
        (moved[0] - moved[1]) / 6e-3, rel=0.02
    )  # type: ignore[operator]


def test_weight_0_is_pgd_training(batch):
    student, teacher, images, labels = linear(1), linear(2), *batch
    gradients = []
    for recipe in (PGDTraining(THREAT), igd(teacher, 0.0), igd(teacher, 1e-3)):
        student.zero_grad()
        recipe(student, images, labels, 0.5, generator()).backward()
        gradients.append([weight.grad for weight in student.parameters()])
    plain, without, little = gradients
    assert all(torch.equal(*pair) for pair in zip(plain, without, strict=True))
    assert not torch.equal(plain[0], little[0])


def test_in_the_training_loop_beside_cutout(tmp_path, digits):
    teacher = Classifier.of(linear(1), "teacher")
    options, out = {"sources": (teacher,), "steps": 2}, tmp_path / "m.safetensors"
    train(
        "igd",
        digits,
        "small-cnn",
        THREAT,
        out,
        schedule=Schedule(1, 512),
        options=options,
        augment=("cutout",),
    )
    _, card = load_checkpoint(out)
    assert card["options"] == {
        "steps": 2,
        "warmup": 0.3,
        "sources": [f"teacher {teacher.sha256[:16]}"],
        "weight": 1.0,
    }
    assert card["augment"] == [repr(Cutout())]


def fitted(recipe: Recipe, digits: Dataset, seed: int) -> nn.Module:
    """A network of one hidden layer after 80 steps of a recipe on 320 digits."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    assert digits.train is not None
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    random = generator()
    for step in range(80):
        rows = torch.arange(64) + 64 * (step % 5)
        loss = recipe(
            model, digits.train.images(rows), digits.train.labels[rows], step / 80, random
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def test_training_turns_gradients_to_the_teachers_and_leaves_the_teacher(digits):
    teacher = fitted(Natural(THREAT), digits, seed=1)
    before = {name: weight.clone() for name, weight in teacher.state_dict().items()}
    images, labels = digits.test.images(torch.arange(200)), digits.test.labels[:200]
    cosines = {}
    for weight in (0.0, 4.0):
        recipe = igd(teacher, weight, steps=2)
        model = fitted(recipe, digits, seed=2)
        cosines[weight] = recipe.alignment(model, images, labels).mean().item()
        with torch.no_grad():
            assert (model(images).argmax(1) == labels).float().mean() > 0.75
    assert 1 - cosines[4.0] < 0.5 * (1 - cosines[0.0]), cosines
    assert all(torch.equal(weight, before[name]) for name, weight in teacher.state_dict().items())
    assert not teacher.training


@pytest.mark.parametrize("half", [False, True])
def test_batch_normalisation_pooling_and_bf16(half):
    torch.manual_seed(0)
    student, teacher = (resnet9((3, 16, 16), 4, width=4) for _ in range(2))
    images = torch.rand(6, 3, 16, 16, generator=generator()).contiguous(
        memory_format=torch.channels_last
    )
    labels = torch.arange(6) % 4
    student.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = igd(teacher, steps=2)(student, images, labels, 0.5, generator())
    assert loss.dtype == torch.float32
    loss.backward()
    # the last bias moves no input gradient, but the cross-entropy
    assert all(
        weight.grad is not None and bool(weight.grad.isfinite().all())
        for weight in student.parameters()
    )
    assert images.grad is None
    assert not images.requires_grad
    assert all(weight.grad is None for weight in teacher.parameters())


def test_a_model_without_gradients_gives_no_nan(batch):
    dead = linear(1)
    nn.init.zeros_(dead[1].weight)  # type: ignore[arg-type]
    cosines = igd(linear(2)).alignment(dead, *batch)
    assert torch.equal(cosines, torch.zeros(len(cosines)))
    cosines.mean().backward()
    assert bool(dead[1].weight.grad.isfinite().all())  # type: ignore[union-attr]


class Constant(nn.Module):
    """Logits that no gradient reaches."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.ones(len(images), 10)


class Flat(nn.Module):
    """Logits with a gradient of zeros."""

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1)[:, :10]


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        (linear(1, pixels=784), "teacher teacher of recipe igd cannot take images of 1x8x8"),
        (
            linear(1, classes=9),
            "for 32 images of 10 classes; choose one trained on the same data",
        ),
        (
            linear(1, classes=100),
            "for 32 images of 10 classes; choose one trained on the same data",
        ),
        (Constant(), "no input gradient"),
        (Flat(), "no input gradient"),
    ],
)
def test_teachers_that_cannot_teach(batch, teacher, says):
    with pytest.raises(InputError, match=says) as error:
        igd(teacher).alignment(linear(3), *batch)
    assert "\n" not in str(error.value)


def test_what_cannot_be():
    one = Classifier.of(linear(1), "one")
    with pytest.raises(InputError, match="not 0; set sources=MODEL"):
        InputGradientDistillation(THREAT)
    with pytest.raises(InputError, match="one naturally trained teacher, not 2"):
        InputGradientDistillation(THREAT, sources=(one, one))
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="want a number from 0"):
            InputGradientDistillation(THREAT, sources=(one,), weight=weight)
