"""Two processes train what one trains."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from processes import together
from scotoma import cli
from scotoma.data import load_data
from scotoma.data.dataset import ArraySplit, Dataset, from_splits
from scotoma.execution.ranks import Group
from scotoma.models import ARCHITECTURES, synthesis
from scotoma.models.checkpoint import load_checkpoint, read_safetensors
from scotoma.models.classifier import Classifier
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.threat import Threat
from scotoma.training import parallel
from scotoma.training.balance import balanced_order
from scotoma.training.evaluation import evaluate
from scotoma.training.loop import Schedule, train
from scotoma.training.parallel import Step, Team, joined
from scotoma.training.plain import Natural
from scotoma.training.transformed import Patched
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils import device
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.1)
COMMAND = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
OPTIONS = ["--data", "digits", "--arch", "small-cnn", "--threat", "linf:0.1"]
PACE = ["--epochs", "1", "--batch", "100", "--optimizer", "sgd", "--rate", "0.05"]
PACE += ["--out", "cli/two.safetensors"]
COMMAND_LINE = "now the command line"
RECIPES: dict[str, str | None] = {
    "natural": "small-cnn",
    "pgd": "small-cnn",
    "n-fgsm": "small-cnn",
    "fast": "small-cnn",
    "rand-fgsm": "small-cnn",
    "ensemble": "small-cnn",
    "igd": "small-cnn",
    "wong": "wong-small",
    "wrm": "small-cnn",
    "abs": None,
    "nearest-neighbour": None,
}


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("turns", [1, 2, 4, 7])
def test_shares_add_up_to_the_gradient_of_the_whole_batch(turns, world, together):
    torch.manual_seed(turns)
    images, labels = (
        torch.rand(turns * together, 1, 3, 3, dtype=torch.float64),
        torch.randint(4, (turns * together,)),
    )
    step = Step(nn.Sequential(nn.Flatten(), nn.Linear(9, 4)).double(), Natural(THREAT))

    def gradient(rows: torch.Tensor, share: float) -> torch.Tensor:
        step.zero_grad()
        (step(images[rows], labels[rows], 0.0, torch.Generator()) * share).backward()
        return torch.cat(
            [weight.grad.flatten() for weight in step.parameters() if weight.grad is not None]
        )

    batch = torch.randperm(len(images))
    shares = [Team(rank, world).share(batch, together) for rank in range(world)]
    assert all(len(rows) and len(rows) % together == 0 for rows, _ in shares)
    dealt = torch.cat([rows for rows, share in shares if share])
    assert dealt.sort().values.tolist() == list(range(len(images)))
    assert sum(share for _, share in shares) == pytest.approx(1)
    summed = torch.stack([gradient(*share) for share in shares]).sum(0)
    assert torch.allclose(summed, gradient(batch, 1.0), atol=1e-12)


def test_shares_of_a_balanced_batch_are_balanced():
    labels = torch.arange(60) % 4
    batch = balanced_order(labels, 4, 28, torch.Generator())[:28]
    for rank in range(3):
        rows, share = Team(rank, 3).share(batch, 4)
        assert labels[rows].view(-1, 4).tolist() == [[0, 1, 2, 3]] * round(7 * share)


def test_random_numbers_are_a_rank_s_own_and_the_first_one_s_those_of_a_process_alone():
    seeds = [Team(rank, 3).seed(5, 2, 1) for rank in range(3)]
    assert len(set(seeds)) == 3
    assert seeds[0] == Team().seed(5, 2, 1)


class Counts(Team):
    """Ranks one after the other in one process."""

    def total(self, numbers):
        parts.append(numbers)
        return numbers


parts: list[torch.Tensor] = []


def test_evaluation_is_dealt_out(digits, linear):
    alone = evaluate(linear, digits.test, THREAT, torch.device("cpu"), 101)
    parts.clear()
    for rank in range(3):
        evaluate(linear, digits.test, THREAT, torch.device("cpu"), 101, team=Counts(rank, 3))
    stood, steps = sum(parts[::2]), sum(parts[1::2])
    assert torch.is_tensor(stood)
    assert torch.is_tensor(steps)
    assert (stood / 101).tolist() == pytest.approx(
        [alone.accuracy, alone.robust_accuracy, alone.single_step_accuracy]
    )
    assert steps.tolist() == pytest.approx([alone.loss_ratio, alone.cosine], rel=1e-5)


@pytest.mark.slow
def test_two_processes_train_what_one_does_and_stay_together(tmp_path, digits, monkeypatch):
    ranks = together(
        tmp_path, ["train", "natural", *OPTIONS, *PACE], program=main, CUDA_VISIBLE_DEVICES=""
    )
    for code, _, err in ranks:
        assert code == 0, err
        assert "Warning" not in err.split(COMMAND_LINE)[1]
    line, last = "".join(out for _, out, _ in ranks).splitlines()
    assert line.startswith("epoch 1: loss ")
    assert last == "model: cli/two.safetensors"
    every_recipe_kept_them_together(tmp_path)
    monkeypatch.setattr(device, "has_bf16", without_bf16)
    they_trained_what_one_does(tmp_path / "cli", digits)


def they_trained_what_one_does(folder: Path, digits: Dataset) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "two.safetensors",
        "two.safetensors.log.jsonl",
    ]
    one, two = folder / "one", folder / "two.safetensors"
    schedule = Schedule(1, 100, 0.05, 0.0, "sgd")
    train("natural", digits, "small-cnn", THREAT, one, schedule=schedule)
    weights = read_safetensors(two)[0]
    for name, value in read_safetensors(one)[0].items():
        assert torch.allclose(value, weights[name], rtol=0, atol=1e-5), name
    (_, card), (_, other) = load_checkpoint(one), load_checkpoint(two)
    assert other["processes"] == 2
    assert other["accuracy"] == pytest.approx(card["accuracy"], abs=0.005)
    losses = [
        json.loads((folder / f"{name}.log.jsonl").read_text())["loss"]
        for name in ("one", "two.safetensors")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def every_recipe_kept_them_together(folder: Path) -> None:
    first, second = (json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2))
    for recipe in [*RECIPES, "patched"]:
        mine, theirs = first[recipe], second[recipe]
        assert mine["weights"] == theirs["weights"], recipe
        assert mine["state"] == theirs["state"], recipe
        assert (
            len(set(mine["weights"]))
            == len(mine["weights"])
            == (0 if recipe == "nearest-neighbour" else 2)
        ), "every step moves"
        assert (mine["epochs"], theirs["epochs"]) == (len(mine["weights"]) // 2, 0), (
            "only the first process logs"
        )
        assert digest(read_safetensors(folder / f"{recipe}.safetensors")[0]) == mine["state"], (
            recipe
        )
    for record in (first, second):
        assert record["diverged"].endswith("the training diverged; lower the learning rate")
        assert record["differ"].startswith(
            "rank 1 has another training than rank 0 (different: seed);"
        )
        assert record["mean"] == {"running_mean": 0.5, "constant": record["rank"]}
        assert record["from the first"] == "rank 0"
        assert record["again"] == [2, 2]


def test_processes_that_do_not_reach_each_other_name_what_to_set(tmp_path, scotoma, monkeypatch):
    store: Any = dist.HashStore()  # type: ignore[reportPrivateImportUsage]
    monkeypatch.setattr(parallel, "ranks", lambda: Group(0, 2, store))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nowhere")
    ended = scotoma("train", "natural", *OPTIONS, "--out", tmp_path / "two.safetensors")
    assert ended.code == 2
    (line,) = (line for line in ended.err.splitlines() if line.startswith("scotoma: "))
    assert line.startswith("scotoma: processes cannot connect (")
    assert line.endswith("nowhere); set GLOO_SOCKET_IFNAME to the network interface between them")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_costs_an_epoch(tmp_path, digits_model, rank):
    pace = ["--epochs", "6", "--batch", "64", "--rate", "4e-3"]
    command = [
        *COMMAND,
        "--max-restarts",
        "1",
        "-m",
        "scotoma",
        "train",
        "pgd",
        *OPTIONS,
        "--out",
        "two.safetensors",
        *pace,
    ]
    log = tmp_path / "two.safetensors.log.jsonl"
    with (tmp_path / "told").open("w") as told:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=ENVIRONMENT, stdout=told, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and not (
            log.exists() and len(log.read_text().splitlines()) >= 3
        ):
            time.sleep(0.02)
        (victim,) = (
            child for child in children(process.pid) if f"\0RANK={rank}\0" in started_with(child)
        )
        os.kill(victim, signal.SIGKILL)
        assert process.wait(500) == 0
    lines = (tmp_path / "told").read_text().splitlines()
    epochs = [line.split(":")[0] for line in lines if line.startswith("epoch ")]
    assert len(set(epochs)) == len(epochs) >= 5, (
        "no epoch is trained twice; the line of one may be lost"
    )
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == list(range(1, 7))
    assert not (tmp_path / "two.safetensors.checkpoint").exists()
    (_, card), (_, one) = (
        load_checkpoint(tmp_path / "two.safetensors"),
        load_checkpoint(digits_model),
    )
    for accuracy in ("accuracy", "robust_accuracy"):
        assert card[accuracy] == pytest.approx(one[accuracy], abs=0.06)


def without_bf16(device: torch.device) -> bool:
    """It rounds by 100 times what is asserted."""
    return False


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def started_with(pid: int) -> str:
    return "\0" + Path(f"/proc/{pid}/environ").read_text()


def digest(state: dict[str, torch.Tensor]) -> str:
    values = [state[name].detach().contiguous().numpy().tobytes() for name in sorted(state)]
    return hashlib.sha256(b"".join(values)).hexdigest()


def few() -> Dataset:
    """31 images: batches of 30 leave one, of which the second process has none."""
    digits = load_data("digits")
    assert digits.train is not None
    rows = torch.stack(
        [(digits.train.labels == label).nonzero()[:4, 0] for label in range(10)], 1
    ).flatten()[:31]
    train, test = (
        ArraySplit(split.images(which).numpy(), split.labels[which].numpy(), "few")
        for split, which in ((digits.train, rows), (digits.test, torch.arange(15)))
    )
    return from_splits("few", train, test, digits.classes)


def quick(shape: tuple[int, int, int], classes: int) -> AnalysisBySynthesis:
    """Analysis by synthesis whose search for latents takes no time."""
    return AnalysisBySynthesis(ClassVAEs(shape, classes), samples=100, steps=5)


def main() -> None:
    """Train with every recipe, and write what this process saw; then the command line."""
    folder = Path()
    seen: list[str] = []
    forward = Step.forward

    def spied(self: Step, *given: Any) -> torch.Tensor:
        seen.append(digest(self.state_dict()))
        return forward(self, *given)

    Step.forward = spied  # type: ignore[method-assign]
    synthesis.synthesis = quick
    data = few()
    torch.manual_seed(7)
    source = Classifier(ARCHITECTURES["small-cnn"](data.shape, 10), "source", "0" * 64)
    with joined() as team:
        record: dict[str, Any] = {
            "rank": team.rank,
            "from the first": team.broadcast(lambda: f"rank {team.rank}"),
        }

        def run(recipe: Any, arch: str | None, name: str, **given: Any) -> None:
            seen.clear()
            epochs: list[int] = []
            out = folder / f"{name}.safetensors"
            given = {
                "schedule": Schedule(1, 30, 1e-2),
                "log": lambda line: epochs.append(line.epoch),
            } | given
            model = train(recipe, data, arch, THREAT, out, team=team, **given)
            record[name] = {
                "weights": list(seen),
                "state": digest(model.state_dict()),
                "epochs": len(epochs),
            }

        for recipe, arch in RECIPES.items():
            run(
                recipe,
                arch,
                recipe,
                options={"sources": (source,)} if recipe in ("ensemble", "igd") else {},
            )
        run(Patched(THREAT, (ScaleShift(0.7, 0.1),)), None, "patched", start=source)
        for name, change in {
            "diverged": {"schedule": Schedule(4, 30, 1e30)},
            "differ": {"seed": team.rank},
        }.items():
            try:
                run("natural", "small-cnn", name, **change)
            except InputError as error:
                record[name] = str(error)
        norm = nn.BatchNorm1d(1)
        norm.register_buffer("constant", torch.tensor(float(team.rank)))
        norm.running_mean.fill_(team.rank)  # type: ignore[union-attr]
        team.average_statistics(norm)
        record["mean"] = {
            name: norm.get_buffer(name).item() for name in ("running_mean", "constant")
        }
    record["again"] = []
    for _ in range(2):
        with joined() as team:
            record["again"].append(team.total(torch.ones(())).item())
    (folder / f"rank{record['rank']}.json").write_text(json.dumps(record))
    print(COMMAND_LINE, file=sys.stderr, flush=True)
    device.has_bf16 = without_bf16
    cli.main()
