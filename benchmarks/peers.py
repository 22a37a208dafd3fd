"""What benchmarks of attacks beside Foolbox's share: the problem, the peer, and how a run is measured."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from digits import digits_model
from memory import peak
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import TOLERANCE
from scotoma.data import load_data
from scotoma.models.loading import load_model
from scotoma.utils.device import keep_memory, pays_in_bf16
from scotoma.utils.errors import InputError

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, images and labels to images."""


@dataclass(frozen=True)
class Problem:
    """Images that a model has right, and how large a perturbation is."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    norm: str
    eps: float = math.inf
    """what is farther does not count as fooled"""


@dataclass(frozen=True)
class Result:
    """Share of images fooled, median distance over all, mean passes an image, seconds in all and in the model's passes, and the
    most memory held beyond what was held before, in MiB."""

    fooled: float
    median: float
    forwards: float
    backwards: float
    seconds: float
    passes: float
    memory: float = math.nan


def parser(description: str | None) -> argparse.ArgumentParser:
    """With the options that say which problem."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--model",
        default="digits",
        help="digits (trained on the spot), FILE.safetensors or file.py:function",
    )
    made.add_argument("--data", default="digits", help="a data set (default: digits)")
    made.add_argument(
        "--data-root", type=Path, help="where downloaded data sets are (default: $SCOTOMA_DATA)"
    )
    made.add_argument("--images", type=int, default=100, help="how many test images (default: 100)")
    made.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    made.add_argument(
        "--repeats",
        type=int,
        default=2,
        help="runs of each attack, of which the fastest counts (default: 2)",
    )
    return made


def problem(options: argparse.Namespace, norm: str) -> Problem:
    """What the options of `parser` say; prints what it is."""
    torch.set_num_threads(options.threads)
    keep_memory()  # as audits do; the peers have it as well
    data = load_data(options.data, options.data_root)
    classifier = (
        digits_model() if options.model == "digits" else load_model(options.model)
    ).checked(data)
    model = classifier.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    count = min(options.images, len(data.test.labels))
    images, labels = data.test.images(torch.arange(count)), data.test.labels[:count]
    with torch.no_grad():
        right = model(images).argmax(1) == labels
    if not right.any():
        raise InputError(
            f"{classifier.name} has none of the {count} images right; nothing to attack"
        )
    print(f"{classifier.name}, {int(right.sum())} images of {data.name}, {options.threads} threads")
    return Problem(model, images[right], labels[right], norm)


def foolbox(name: str, epsilon: float | None = None, **settings: Any) -> Attack:
    """Foolbox's attack of a class name with these settings, from seed 0 every time; `epsilon` where it attacks at one."""
    try:
        import foolbox as fb
        from foolbox.models.pytorch import PyTorchModel
    except ImportError:
        raise InputError("foolbox is not installed; pip install 'scotoma[peers]'") from None
    attack = getattr(fb.attacks, name)(**settings)
    ball = {} if epsilon is None else {"epsilon": epsilon}

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(0)
        return attack.run(
            PyTorchModel(model, bounds=(0, 1), device="cpu"),
            images,
            fb.criteria.Misclassification(labels),
            **ball,
        )

    return run


def compare(problem: Problem, attacks: list[Attack], repeats: int) -> list[Result]:
    """The result of each attack, its time the best of `repeats`, in turn: other programs then slow all of them alike."""
    rounds = [[measure(attack, problem) for attack in attacks] for _ in range(repeats)]
    return [min(runs, key=lambda run: run.seconds) for runs in zip(*rounds, strict=True)]


def measure(attack: Attack, problem: Problem) -> Result:
    """One run; ours search as in an audit, in bf16 where that pays. Whether and how far it fools is measured on the images
    returned; a failure, and what is outside [0, 1] or farther than the problem's eps, counts as infinitely far."""
    images, labels = problem.images, problem.labels
    reduced = pays_in_bf16(problem.model, images)
    with clocked(problem.model, clock) as (model, spent):
        counted = Counted(model, len(images), images.device, reduced).eval()
        with peak(images.device) as memory:
            start = clock()
            adversarial = attack(counted, images, labels)
            seconds = clock() - start
    with torch.no_grad():
        wrong = problem.model(adversarial).argmax(1) != labels
    distance = size(adversarial - images, problem.norm)
    inside = (adversarial.flatten(1).amin(1) >= -TOLERANCE) & (
        adversarial.flatten(1).amax(1) <= 1 + TOLERANCE
    )
    wrong &= inside & (distance <= problem.eps + TOLERANCE)
    distance = torch.where(wrong, distance, torch.inf)
    # the mean over images, since a peer does not say which image a pass belongs to
    forwards, backwards = (
        count.float().mean().item() for count in (counted.forwards, counted.backwards)
    )
    return Result(
        wrong.float().mean().item(),
        distance.median().item(),
        forwards,
        backwards,
        seconds,
        sum(spent),
        memory[0],
    )


def clock() -> float:
    """Seconds: of this process alone where it has one thread, so that other programs do not count; else by the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@contextmanager
def clocked(
    model: nn.Module, clock: Callable[[], float] = time.perf_counter
) -> Iterator[tuple[nn.Module, list[float]]]:
    """The model, and the seconds of each of its forward passes and of each backward pass through PyTorch."""
    spent: list[float] = []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            result = function(*args, **kwargs)
            spent.append(clock() - start)
            return result

        return call

    class Timed(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model  # some libraries look for its parameters

        def forward(self, images: Tensor) -> Tensor:
            return forward(images)

    forward, kept = timed(model), (torch.autograd.grad, torch.autograd.backward)
    torch.autograd.grad, torch.autograd.backward = map(timed, kept)
    try:
        yield Timed(), spent
    finally:
        torch.autograd.grad, torch.autograd.backward = kept
