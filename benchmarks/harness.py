"""What every benchmark shares: the problem, what an attack did to it, claims, the command line."""

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from measuring import clocked, spending
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.auditing import make_claim
from scotoma.claim import Claim as AuditedClaim
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.threat import TOLERANCE, Threat
from scotoma.training.loop import Schedule, train
from scotoma.utils.device import autocast, keep_memory, pays_in_bf16
from scotoma.utils.errors import InputError

HERE = Path(__file__).resolve().parent
ZOO = HERE.parent / "zoo"
DIGITS = Path(tempfile.gettempdir()) / "scotoma-benchmarks" / "digits-pgd-0.2.safetensors"
THREAT = Threat("linf", 0.2)
"""Threat of the training of the digits model."""
LINF, L2 = Threat("linf", 0.3), Threat("l2", 2.0)
"""Threats on MNIST."""

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, images and labels to images."""


@dataclass(frozen=True)
class Options:
    """What the command line sets; None is the default of the benchmark."""

    model: str | None = None
    data: str | None = None
    data_root: Path | None = None
    images: int | None = None
    threads: int = 1
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


def in_zoo(name: str) -> str:
    """Return the file of a name in `zoo/`; another model as it is."""
    file = ZOO / f"{name}.safetensors"
    return str(file) if file.exists() else name


def known(names: list[str], table: Collection[str], what: str) -> list[str]:
    """Return the names; an InputError that begins with `what` if the table lacks one."""
    if unknown := ", ".join(name for name in names if name not in table):
        raise InputError(f"{what} {unknown}; known: {', '.join(table)}")
    return names


def digits_model() -> Classifier:
    """Return a `small-cnn` after 40 epochs of PGD training at `THREAT`, kept for the next time."""
    if not DIGITS.exists():
        print(f"training the digits model into {DIGITS}")
        train("pgd", load_data("digits"), "small-cnn", THREAT, DIGITS, schedule=Schedule(epochs=40))
    return load_model(str(DIGITS))


def loaded(options: Options, model: str = "digits") -> tuple[Classifier, Dataset]:
    """Return model and data; the user's options win over `model`.

    That is "digits", a file of `zoo/`, or as in an audit.
    """
    torch.set_num_threads(options.threads)
    spec = options.model or model
    data = load_data(options.data or ("digits" if spec == "digits" else "mnist"), options.data_root)
    classifier = digits_model() if spec == "digits" else load_model(in_zoo(spec), data=data)
    return classifier.checked(data), data


def problem(options: Options, images: int = 100, model: str = "digits") -> Problem:
    """Return `loaded`, and the test images that the model classifies correctly of so many."""
    keep_memory()  # as audits do; the peers have it as well
    classifier, data = loaded(options, model)
    module: Any = classifier.module
    network: nn.Module = module.to(memory_format=torch.channels_last)
    pictures, labels = first(data, options.images or images)
    count = len(pictures)
    pictures, labels = correct(network, pictures, labels)
    n = len(pictures)
    if not n:
        raise InputError(f"{classifier.name} classifies none of the {count} images correctly")
    print(f"{classifier.name}, {n} of {count} images of {data.name}, {options.threads} threads")
    return Problem(network, pictures, labels, drawn=count, card=classifier.card)


def claimed(options: Options, threat: str) -> AuditedClaim:
    """Return the claim of an audit, by default on the robust MNIST network."""
    torch.set_num_threads(options.threads)
    data = load_data(options.data or "mnist", options.data_root)
    return make_claim(in_zoo(options.model or "mnist-pgd"), data, threat)


def first(data: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """Return the first test images, at most `count`, and their labels."""
    rows = torch.arange(min(count, len(data.test)))
    return data.test.images(rows), data.test.labels[rows]


def correct(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images that the model classifies correctly, and their labels."""
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in images.split(100)])
    right = predicted == labels
    return images[right], labels[right]


def measure(attack: Attack, setting: Problem, reduced: bool | None = None) -> Result:
    """Run an attack once, from seed 0, and evaluate the returned images.

    What is not fooled, outside [0, 1] or farther than the problem's eps counts as infinitely far.
    `reduced` says whether our attacks search in bf16; None is as in an audit, where that pays.
    """
    images, labels = setting.images, setting.labels
    bf16 = pays_in_bf16(setting.model, images) if reduced is None else reduced
    counted = Counted(setting.model, len(images), images.device, bf16).eval()
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what ART and some attacks of Foolbox draw from
    with clocked(setting.model) as passes, spending(images.device) as spent:
        adversarial = attack(counted, images, labels).detach()
    with torch.no_grad():
        wrong = setting.model(adversarial).argmax(1) != labels
    wrong &= allowed(adversarial, images, setting.norm, setting.eps)
    distances = torch.where(wrong, size(adversarial - images, setting.norm), torch.inf)
    # the mean over images, since a peer does not say which image a pass belongs to
    forwards, backwards = (c.double().mean().item() for c in (counted.forwards, counted.backwards))
    return Result(
        distances.double().cpu().numpy(),
        forwards,
        backwards,
        int(counted.forwards.max()),
        spent.seconds,
        sum(passes),
        spent.mib,
    )


def allowed(adversarial: Tensor, images: Tensor, norm: str, eps: float) -> Tensor:
    """Return which images lie in [0, 1] and within eps of the originals, bool (n,)."""
    low, high = adversarial.flatten(1).aminmax(dim=1)
    near = size(adversarial - images, norm) <= eps + TOLERANCE
    return near & (low >= -TOLERANCE) & (high <= 1 + TOLERANCE)


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the value of a function, or "fails: " and the kind of what it raises.

    InputErrors are raised again.
    """
    try:
        return function(*arguments)
    except InputError:
        raise
    except Exception as error:  # whatever another library raises is its result
        print(f"{type(error).__name__}: {error}")
        return f"fails: {type(error).__name__}"


def fastest(
    attacks: dict[str, Attack], setting: Problem, repeats: int = 1, reduced: bool | None = None
) -> dict[str, Result]:
    """Measure each attack `repeats` times, in turn, so that other programs slow all alike."""
    rounds = [{n: measure(a, setting, reduced) for n, a in attacks.items()} for _ in range(repeats)]
    return {name: min((r[name] for r in rounds), key=lambda r: r.seconds) for name in attacks}


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


def command(main: Callable[[argparse.ArgumentParser], None], text: str | None) -> None:
    """Run a command line that this text describes; an InputError is one line."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=text, formatter_class=form)
    parser.add_argument("--data-root", type=Path, help="data folder (default: $SCOTOMA_DATA)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    try:
        main(parser)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
