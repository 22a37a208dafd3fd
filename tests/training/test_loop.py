import json
import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from once import barely_tested
from scotoma.attacks.pgd import PGD
from scotoma.cli.training import log_epoch
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.models.checkpoint import load_checkpoint, read_safetensors
from scotoma.threat import TOLERANCE, Threat
from scotoma.training.loop import Epoch, Schedule, train
from scotoma.training.pgd import PGDTraining
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)
SHORT = Schedule(epochs=3, batch=64, peak=3e-3)


@pytest.fixture(scope="module")
def few(digits) -> Dataset:
    """A part of the digits: training on it takes a blink."""

    def part(split, n: int) -> ArraySplit:
        return ArraySplit(split.images(torch.arange(n)).numpy(), split.labels[:n].numpy(), "few")

    return from_splits("few", part(digits.train, 256), part(digits.test, 100))


class StopError(Exception):
    pass


def stop_after(epoch: int):
    def log(line: Epoch) -> None:
        if line.epoch == epoch:
            raise StopError

    return log


@pytest.mark.parametrize("recipe", ["natural", "pgd"])
def test_a_stopped_training_ends_with_the_same_weights(tmp_path, few, recipe):
    train(recipe, few, "small-cnn", THREAT, tmp_path / "whole.safetensors", schedule=SHORT)
    steps = []
    for log in (stop_after(1), stop_after(2)):
        with pytest.raises(StopError):
            train(
                recipe,
                few,
                "small-cnn",
                THREAT,
                tmp_path / "parts.safetensors",
                schedule=SHORT,
                log=log,
            )
        assert not (tmp_path / "parts.safetensors").exists()
    train(
        recipe,
        few,
        "small-cnn",
        THREAT,
        tmp_path / "parts.safetensors",
        schedule=SHORT,
        step=steps.append,
    )
    assert steps == [8, 1, 1, 1, 1], "two epochs of four batches were done"
    whole, parts = (
        read_safetensors(tmp_path / f"{name}.safetensors") for name in ("whole", "parts")
    )
    assert whole[1] == parts[1]
    for name, value in whole[0].items():
        assert torch.equal(value, parts[0][name]), name
    logs = [(tmp_path / f"{name}.safetensors.log.jsonl").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    assert [json.loads(line)["epoch"] for line in logs[0].splitlines()] == [1, 2, 3]
    assert not list(tmp_path.glob("*.checkpoint"))


def test_the_card_tells_what_was_trained(tmp_path, few):
    out = tmp_path / "new" / "folder" / "a.safetensors"
    model = train(
        "pgd",
        few,
        "small-cnn",
        Threat.parse("linf:8/255"),
        out,
        schedule=SHORT,
        seed=3,
        options={"steps": 2},
    )
    again, card = load_checkpoint(out)
    images = few.test.images(torch.arange(10))
    with torch.no_grad():
        assert torch.allclose(again(images), model(images), atol=1e-5)
    told = {
        key: card[key]
        for key in ("recipe", "arch", "threat", "data", "data_sha256", "seed", "shape", "classes")
    }
    assert told == {
        "recipe": "pgd",
        "arch": "small-cnn",
        "threat": "linf:8/255",
        "data": "few",
        "data_sha256": few.sha256,
        "seed": 3,
        "shape": [1, 8, 8],
        "classes": 10,
    }
    assert card["options"] == {"steps": 2, "warmup": 0.3}
    assert card["schedule"]["epochs"] == 3
    with torch.no_grad():
        right = (
            (again(few.test.images(torch.arange(100))).argmax(1) == few.test.labels)
            .float()
            .mean()
            .item()
        )
    assert card["accuracy"] == pytest.approx(right, abs=1e-6)
    assert 0 <= card["robust_accuracy"] <= card["accuracy"]


def test_half_precision(tmp_path, few):
    sizes = {}
    for half in (False, True):
        out = tmp_path / f"{half}.safetensors"
        train("natural", few, "small-cnn", THREAT, out, schedule=Schedule(epochs=1), half=half)
        sizes[half] = out.stat().st_size
    assert sizes[True] < 0.55 * sizes[False]
    model, card = load_checkpoint(tmp_path / "True.safetensors")
    with torch.no_grad():
        right = (
            (model(few.test.images(torch.arange(100))).argmax(1) == few.test.labels)
            .float()
            .mean()
            .item()
        )
    assert card["accuracy"] == pytest.approx(right, abs=1e-6)


def test_pgd_training_makes_robust_what_natural_training_does_not(tmp_path, digits, digits_model):
    natural = train(
        "natural",
        barely_tested(digits),
        "small-cnn",
        THREAT,
        tmp_path / "n",
        schedule=Schedule(epochs=3, batch=64, peak=3e-3),
    )
    robust, card = load_checkpoint(digits_model)
    images, labels = digits.test.images(torch.arange(200)), digits.test.labels[:200]
    stands = []
    for model in (natural, robust):
        attacked = PGD(THREAT)(model.eval(), images, labels)
        with torch.no_grad():
            stands.append((model(attacked).argmax(1) == labels).float().mean().item())
            assert (model(images).argmax(1) == labels).float().mean() > 0.9
    assert stands[0] + 0.15 < stands[1]
    assert card["robust_accuracy"] > 0.65


def test_pgd_training_images_are_inside_a_ball_that_grows(digits, linear):
    images, labels = digits.test.images(torch.arange(50)), digits.test.labels[:50]
    recipe = PGDTraining(THREAT, steps=5, warmup=0.5)
    for progress in (0.0, 0.25, 0.5, 0.9):
        eps = THREAT.eps * min(1, max(progress, 1e-3) / 0.5)
        made = recipe.perturb(linear, images, labels, progress, torch.Generator().manual_seed(0))
        assert made.min() >= 0
        assert made.max() <= 1
        distance = (made - images).abs().max().item()
        assert distance <= eps + TOLERANCE
        assert distance == pytest.approx(eps, rel=0.01)
        assert not made.requires_grad


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recipe": "pdg"}, "unknown recipe 'pdg'"),
        ({"arch": "small-cn"}, "did you mean 'small-cnn'"),
        ({"options": {"steps": 3}}, "recipe natural has no option 'steps'; it has none"),
        ({"recipe": "pgd", "options": {"step": 3}}, "did you mean 'steps'"),
    ],
)
def test_what_cannot_be_used_is_told(tmp_path, few, change, says):
    given: dict[str, Any] = {
        "recipe": "natural",
        "data": few,
        "arch": "small-cnn",
        "threat": THREAT,
        "out": tmp_path / "a",
        "schedule": SHORT,
    }
    with pytest.raises(InputError, match=says):
        train(**given | change)
    assert not list(tmp_path.iterdir())


def test_no_training_split(tmp_path, few):
    with pytest.raises(InputError, match="no training split"):
        train(
            "natural", Dataset(**vars(few) | {"train": None}), "small-cnn", THREAT, tmp_path / "a"
        )


def test_the_file_to_write_is_a_folder(tmp_path, few):
    with pytest.raises(InputError, match="is a folder"):
        train("natural", few, "small-cnn", THREAT, tmp_path)


def test_the_checkpoint_of_another_training_is_refused(tmp_path, few):
    out = tmp_path / "a.safetensors"
    with pytest.raises(StopError):
        train("natural", few, "small-cnn", THREAT, out, schedule=SHORT, log=stop_after(1))
    (checkpoint,) = tmp_path.glob("*.checkpoint")
    before = checkpoint.read_bytes()
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"schedule": Schedule(epochs=4)},
        {"recipe": "pgd"},
    ]
    for change in changes:
        given: dict[str, Any] = {
            "recipe": "natural",
            "data": few,
            "arch": "small-cnn",
            "threat": THREAT,
            "out": out,
            "schedule": SHORT,
        }
        with pytest.raises(InputError, match="the checkpoint of another training"):
            train(**given | change)
    assert checkpoint.read_bytes() == before
    checkpoint.write_bytes(before[:1000])
    with pytest.raises(InputError, match="cannot be read"):
        train("natural", few, "small-cnn", THREAT, out, schedule=SHORT)


def test_a_finished_training_is_not_repeated_nor_replaced_by_another(tmp_path, few):
    out = tmp_path / "a.safetensors"
    given: dict[str, Any] = {
        "recipe": "natural",
        "data": few,
        "arch": "small-cnn",
        "threat": THREAT,
        "out": out,
        "schedule": Schedule(epochs=1, batch=64),
    }
    model = train(**given)
    before, said, epochs = out.read_bytes(), [], []
    again = train(**given, done=lambda: said.append(True), log=epochs.append)
    assert (said, epochs) == ([True], [])
    assert all(torch.equal(a, b) for a, b in zip(*map(_weights, (model, again)), strict=True))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"schedule": Schedule(epochs=2, batch=64)}, "epochs 1, not 2"),
        ({"recipe": "pgd"}, "recipe natural, not pgd"),
        ({"half": True}, "half False, not True"),
    ]
    for change, says in changes:
        with pytest.raises(InputError, match=f"is not this training .{says}.*choose another out"):
            train(**given | change, done=lambda: None)
    assert out.read_bytes() == before
    out.write_text("something else")
    with pytest.raises(InputError, match="exists and is not this training; choose another out"):
        train(**given, done=lambda: None)


def _weights(model) -> list[torch.Tensor]:
    return list(model.state_dict().values())


@pytest.mark.parametrize("threat", ["l1:2", "l0:3"])
def test_a_threat_that_is_not_trained_in_is_named_as_it_was_given(tmp_path, few, threat):
    with pytest.raises(InputError, match=f"threat {threat}: training and its log attack in"):
        train("pgd", few, "small-cnn", Threat.parse(threat), tmp_path / "a")


@pytest.mark.parametrize("recipe", ["n-fgsm", "wong"])
def test_a_recipe_of_one_norm_is_not_trained_in_another(tmp_path, few, recipe):
    """n-fgsm perturbed images by ten times eps in L2, and wong's bound is that of a cube."""
    with pytest.raises(InputError, match=f"l2:0.5: recipe {recipe} trains in L-inf only"):
        train(recipe, few, "wong-small", Threat("l2", 0.5), tmp_path / "m.safetensors")


def test_a_training_that_diverges_is_told(tmp_path, few):
    with pytest.raises(InputError, match="diverged; lower the learning rate"):
        train(
            "natural",
            few,
            "small-cnn",
            THREAT,
            tmp_path / "a",
            schedule=Schedule(epochs=4, peak=1e30),
        )
    assert not (tmp_path / "a").exists()


def test_a_loss_that_explodes_but_stays_finite_is_told(tmp_path, few, capsys):
    log: list[Epoch] = []
    schedule = Schedule(epochs=2, peak=100)
    train("natural", few, "small-cnn", THREAT, tmp_path / "a", schedule=schedule, log=log.append)
    assert all(
        line.diverged and "the training diverged: the loss was 2.3" in line.diverged for line in log
    )
    log_epoch(log[-1])
    assert "; lower --rate" in capsys.readouterr().err
    train("natural", few, "small-cnn", THREAT, tmp_path / "b", schedule=SHORT, log=log.append)
    assert log[-1].diverged is None


def test_the_learning_rate_rises_and_falls():
    schedule = Schedule(peak=2.0)
    rates = [schedule.rate(step / 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[100] == pytest.approx(2.0)
    assert all(a < b for a, b in pairwise(rates[:101]))
    assert all(a > b for a, b in pairwise(rates[100:]))
    assert math.isclose(schedule.rate(1.0), 0, abs_tol=1e-12)


def test_small_data_is_passed_over_more_often():
    assert Schedule.for_images(60_000) == Schedule(epochs=10)
    assert Schedule.for_images(1297, batch=128).epochs * 1297 / 128 >= 1500
