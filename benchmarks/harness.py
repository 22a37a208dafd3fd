"""What every benchmark shares: the problem, how one piece of work is measured, and claims."""

import argparse
import ctypes
import gc
import importlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import TOLERANCE, Threat
from scotoma.data import load_data
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.training.loop import Schedule, train
from scotoma.utils.device import autocast, keep_memory, pays_in_bf16
from scotoma.utils.errors import InputError

HERE = Path(__file__).resolve().parent
ZOO = HERE.parent / "zoo"
DIGITS = Path(tempfile.gettempdir()) / "scotoma-benchmarks" / "digits-pgd-0.2.safetensors"
THREAT = Threat("linf", 0.2)
"""Threat of the training of the digits model."""

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, images and labels to images."""


@dataclass(frozen=True)
class Options:
    """What the command line sets; None is the default of the contest or claim."""

    model: str | None = None
    data: str | None = None
    data_root: Path | None = None
    images: int | None = None
    threads: int = 2
    repeats: int = 2
    contest: str = ""


@dataclass(frozen=True)
class Problem:
    """Images that a model classifies correctly, and the largest perturbation that counts."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    norm: str = "linf"
    eps: float = math.inf
    drawn: int = 0
    """test images before the misclassified ones were omitted"""
    card: dict[str, Any] | None = None


@dataclass(frozen=True)
class Result:
    """What one attack did: distances (n,), infinite where it failed; mean passes an image and the
    most forward passes of one; seconds in all and in the passes; peak memory in MiB."""

    distances: np.ndarray
    forwards: float
    backwards: float
    most: int
    seconds: float
    passes: float
    memory: float = math.nan

    @property
    def n(self) -> int:
        return len(self.distances)

    @property
    def hits(self) -> int:
        return int(np.isfinite(self.distances).sum())

    @property
    def fooled(self) -> float:
        return self.hits / self.n

    @property
    def median(self) -> float:
        """Lower median, infinite where more than half are not fooled."""
        return float(np.quantile(self.distances, 0.5, method="lower"))

    @property
    def mean(self) -> float:
        """Mean distance, where an image that is not fooled counts 1."""
        return float(np.minimum(self.distances, 1.0).mean())


@dataclass(frozen=True)
class Claim:
    """A measured value and its target: at most, or at least."""

    what: str
    value: float
    target: float
    least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.least else self.value <= self.target

    def __str__(self) -> str:
        bound, missed = "at least" if self.least else "at most", "" if self.met else "  MISSED"
        return f"  {self.what:<66}{self.value:>9.4g}  {bound} {self.target:.4g}{missed}"


def library(module: str, package: str) -> Any:
    """A module of another library; InputError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"{package} is not installed; `make bench` installs what it compares with"
        ) from None


def digits_model() -> Classifier:
    """Return a `small-cnn` after 40 epochs of PGD training at `THREAT`, kept for the next time."""
    if not DIGITS.exists():
        print(f"training the digits model into {DIGITS}")
        train("pgd", load_data("digits"), "small-cnn", THREAT, DIGITS, schedule=Schedule(epochs=40))
    return load_model(str(DIGITS))


def problem(options: Options, images: int = 100, model: str = "digits") -> Problem:
    """Load model and data, and keep the images that the model classifies correctly.

    The user's options win over `images`, a number of test images, and `model`: "digits", a file of
    `zoo/`, or as in an audit.
    """
    torch.set_num_threads(options.threads)
    keep_memory()  # as audits do; the peers have it as well
    spec, count = options.model or model, options.images or images
    data = load_data(options.data or ("digits" if spec == "digits" else "mnist"), options.data_root)
    zoo = ZOO / f"{spec}.safetensors"
    loaded = digits_model() if spec == "digits" else load_model(str(zoo if zoo.exists() else spec))
    classifier = loaded.checked(data)
    module: Any = classifier.module
    network: nn.Module = module.to(memory_format=torch.channels_last)
    count = min(count, len(data.test))
    pictures, labels = data.test.images(torch.arange(count)), data.test.labels[:count]
    with torch.no_grad():
        predicted = torch.cat([network(part).argmax(1) for part in pictures.split(100)])
    correct = predicted == labels
    if not correct.any():
        raise InputError(f"{classifier.name} classifies none of the {count} images correctly")
    n = int(correct.sum())
    print(f"{classifier.name}, {n} of {count} images of {data.name}, {options.threads} threads")
    return Problem(network, pictures[correct], labels[correct], drawn=count, card=classifier.card)


def measure(attack: Attack, setting: Problem, reduced: bool | None = None) -> Result:
    """Run an attack once and evaluate the returned images.

    What is not fooled, outside [0, 1] or farther than the problem's eps counts as infinitely far.
    `reduced` says whether our attacks search in bf16; None is as in an audit, where that pays.
    """
    images, labels = setting.images, setting.labels
    bf16 = pays_in_bf16(setting.model, images) if reduced is None else reduced
    counted = Counted(setting.model, len(images), images.device, bf16).eval()
    with clocked(setting.model) as spent, peak(images.device) as memory:
        start = clock(images.device)
        adversarial = attack(counted, images, labels).detach()
        seconds = clock(images.device) - start
    low, high = adversarial.flatten(1).aminmax(dim=1)
    distance = size(adversarial - images, setting.norm)
    with torch.no_grad():
        wrong = setting.model(adversarial).argmax(1) != labels
    wrong &= (low >= -TOLERANCE) & (high <= 1 + TOLERANCE) & (distance <= setting.eps + TOLERANCE)
    # the mean over images, since a peer does not say which image a pass belongs to
    forwards, backwards = (c.double().mean().item() for c in (counted.forwards, counted.backwards))
    distances, most = torch.where(wrong, distance, torch.inf), int(counted.forwards.max())
    distances = distances.double().cpu().numpy()
    return Result(distances, forwards, backwards, most, seconds, sum(spent), memory[0])


def fastest(attacks: dict[str, Attack], setting: Problem, repeats: int) -> dict[str, Result]:
    """Measure each attack `repeats` times, in turn, so that other programs slow all alike."""
    rounds = [{n: measure(a, setting) for n, a in attacks.items()} for _ in range(repeats)]
    return {name: min((r[name] for r in rounds), key=lambda r: r.seconds) for name in attacks}


def clock(device: torch.device | None = None) -> float:
    """Seconds when all work of the device is done: of the processor where this process has one
    thread on a CPU, so that other programs do not count, else of the wall clock."""
    if device is not None and device.type != "cpu":
        torch.accelerator.synchronize(device)
        return time.perf_counter()
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@contextmanager
def clocked(model: nn.Module) -> Iterator[list[float]]:
    """A list that gets the seconds of each forward pass and each backward pass through PyTorch."""
    spent, starts = list[float](), list[float]()

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = clock()
            result = function(*args, **kwargs)
            spent.append(clock() - start)
            return result

        return call

    before = model.register_forward_pre_hook(lambda *_: starts.append(clock()))
    after = model.register_forward_hook(lambda *_: spent.append(clock() - starts.pop()))
    kept = torch.autograd.grad, torch.autograd.backward
    torch.autograd.grad, torch.autograd.backward = map(timed, kept)
    try:
        yield spent
    finally:
        torch.autograd.grad, torch.autograd.backward = kept
        before.remove()
        after.remove()


def bare(setting: Problem, forwards: int, backwards: int) -> None:
    """Run passes over the whole batch, gradients in bf16 where an attack takes them so."""
    reduced = pays_in_bf16(setting.model, setting.images)
    for _ in range(backwards):
        leaf = setting.images.detach().requires_grad_()
        with autocast(leaf.device, enabled=reduced):
            logits = setting.model(leaf)
        torch.autograd.grad(logits.float().gather(1, setting.labels[:, None]).sum(), leaf)
    with torch.no_grad():
        for _ in range(forwards - backwards):
            setting.model(setting.images)


def resident(field: str) -> float:
    """MiB of this process, on Linux: "VmRSS" now, "VmHWM" at its peak."""
    line = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert line
    return int(line[1]) / 1024


@contextmanager
def peak(device: torch.device) -> Iterator[list[float]]:
    """A list that gets the peak in MiB inside, beyond what was allocated before: of the device, or
    of this process where that is the CPU; NaN where it cannot be read."""
    more = list[float]()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield more
        more.append((torch.cuda.max_memory_allocated(device) - before) / 2**20)
    elif sys.platform == "linux":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # freed memory would hide peaks
        Path("/proc/self/clear_refs").write_text("5")  # "VmHWM" restarts at the present size
        before = resident("VmRSS")
        yield more
        more.append(max(0.0, resident("VmHWM") - before))
    else:
        yield more
        more.append(math.nan)


def fresh(module: str, function: str, *arguments: Any, threads: int = 1) -> Any:
    """Call a function of a benchmark in a process of its own; arguments and value are JSON."""
    code = f"import json, sys; sys.path.insert(0, {str(HERE)!r}); import {module}; "
    code += f"print(json.dumps({module}.{function}(*{arguments!r})))"
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | limits, check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def timed(part: str, clocks: dict[str, tuple[float, float]]) -> Iterator[None]:
    """Note wall-clock and processor seconds of what is done inside, and print them."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    clocks[part] = time.perf_counter() - wall, time.process_time() - processor
    print("{:<30}{:8.1f} s  processor {:8.1f} s".format(part, *clocks[part]), flush=True)


def command(main: Callable[[argparse.ArgumentParser], None], text: str | None) -> None:
    """Run a command line that this text describes; an InputError is one line."""
    form = argparse.RawDescriptionHelpFormatter
    try:
        main(argparse.ArgumentParser(description=text, formatter_class=form))
    except InputError as error:
        sys.exit(f"error: {error}")
