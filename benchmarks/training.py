"""Time until a small network withstands PGD-20 at L-inf 0.3 on 85% of MNIST's test images, beside a straightforward loop.

    python benchmarks/training.py
    python benchmarks/training.py --recipe n-fgsm --epochs 8 --rate 0.003

The straightforward loop is Madry et al. 2018 written down: PGD-7 from a random start at every step, Adam, float32, images in the
layout that they come in. It gets the same network, batches, learning rates and slow rise of eps, without which it learns nothing.
Both are judged alike after every epoch, on the first 1,000 test images, which counts, and end when they are there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peers import clock
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models import ARCHITECTURES
from scotoma.training.evaluation import Epoch, evaluate
from scotoma.training.loop import Schedule, train
from scotoma.utils.device import default_device
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 0.3)
ENOUGH = 0.85
ARCH = "wong-small"
STEPS = 7
RISE = 0.3


@dataclass(eq=False)
class Reached(Exception):  # noqa: N818 - how a training is told to end
    """Robust accuracy after so many epochs and seconds, whether or not it is enough."""

    accuracy: float
    epochs: int
    seconds: float


class Watch:
    """Notes the robust accuracy of each epoch, and raises `Reached` when it is enough or the last."""

    def __init__(self, name: str, epochs: int):
        self.name = name
        self.epochs = epochs
        self.start = clock()

    def __call__(self, epoch: int, accuracy: float | None) -> None:
        seconds = clock() - self.start
        print(
            f"{self.name:<10} epoch {epoch:>2}: {accuracy or 0:.1%} after {seconds:.0f} s",
            flush=True,
        )
        if (accuracy or 0) >= ENOUGH or epoch == self.epochs:
            raise Reached(accuracy or 0, epoch, seconds)


def race(data: Dataset, recipe: str, schedule: Schedule) -> tuple[Reached, Reached]:
    """Ours and the straightforward loop."""
    mine = ended(lambda: ours(data, recipe, schedule))
    return mine, ended(lambda: plain(data, schedule))


def ended(run: Callable[[], None]) -> Reached:
    try:
        run()
    except Reached as reached:
        return reached
    raise AssertionError("the last epoch ends it")


def ours(data: Dataset, recipe: str, schedule: Schedule) -> None:
    watch = Watch(recipe, schedule.epochs)

    def log(epoch: Epoch) -> None:
        watch(epoch.epoch, epoch.robust_accuracy)

    with tempfile.TemporaryDirectory() as folder:
        train(
            recipe,
            data,
            ARCH,
            THREAT,
            Path(folder) / "model.safetensors",
            schedule=schedule,
            log=log,
        )


def plain(data: Dataset, schedule: Schedule) -> None:
    assert data.train is not None
    torch.manual_seed(0)
    device = default_device()
    model = ARCHITECTURES[ARCH](data.shape, len(data.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.peak)
    watch = Watch("plain loop", schedule.epochs)
    for epoch in range(schedule.epochs):
        model.train()
        batches = torch.randperm(len(data.train)).split(schedule.batch)
        for number, indices in enumerate(batches):
            progress = (epoch + number / len(batches)) / schedule.epochs
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(progress)
            images, labels = (
                data.train.images(indices).to(device),
                data.train.labels[indices].to(device),
            )
            adversarial = pgd(model, images, labels, THREAT.eps * min(1.0, progress / RISE))
            optimizer.zero_grad()
            F.cross_entropy(model(adversarial), labels).backward()
            optimizer.step()
        watch(epoch + 1, evaluate(model, data.test, THREAT, device).robust_accuracy)


def pgd(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    x = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
    for _ in range(STEPS):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
        x = x.detach() + 2.5 * eps / STEPS * gradient.sign()
        x = torch.min(torch.max(x, images - eps), images + eps).clamp(0, 1)
    return x.detach()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-root", type=Path, help="where downloaded data sets are (default: $SCOTOMA_DATA)"
    )
    parser.add_argument("--recipe", default="pgd", help="ours (default: pgd)")
    parser.add_argument(
        "--epochs", type=int, default=6, help="of the schedule of both (default: 6)"
    )
    parser.add_argument(
        "--rate", type=float, default=3e-3, help="highest learning rate of both (default: 0.003)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    schedule = Schedule(epochs=options.epochs, peak=options.rate)
    mine, theirs = race(load_data("mnist", options.data_root), options.recipe, schedule)
    for name, each in ((options.recipe, mine), ("plain loop", theirs)):
        there = "" if each.accuracy >= ENOUGH else f"  never {ENOUGH:.0%}"
        print(
            f"{name:<10} {each.accuracy:.1%} after {each.epochs} epochs and {each.seconds:.0f} s{there}"
        )
    print(f"time x{mine.seconds / theirs.seconds:.2f}")


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
