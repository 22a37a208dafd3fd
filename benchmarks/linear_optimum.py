"""Minimum-norm attacks beside the exact answer: linear models, where the least L-inf perturbation inside [0, 1] is known.

    python benchmarks/linear_optimum.py
    python benchmarks/linear_optimum.py --models 5 --images 40

Random linear models of 10 classes on 1x28x28 images, 90% of whose pixels are 0 or 1. The optimum is found by bisection in
float64 (`tests/attacks/linear.py`); images nearer to the boundary than 1/256 are left out, since cw-linf does not look there.
All attacks see the same images in the same process; ART, which works on one image after the other, sees the first few. A
success is counted from the images returned, and passes are counted in the model; distances are over successes.

Targets: every image fooled; cw-linf within 10% of the optimum on average at no more than 3,000 forward passes for any image;
fmn-linf and min-linf, of 100 steps, within 2%.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from scotoma.attacks import ATTACKS
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Threat
from scotoma.utils.random import Randomness

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "attacks"))
from linear import boxed_optimum, linear_model, saturated_images  # pyright: ignore[reportMissingImports]

SHAPE, CLASSES = (1, 28, 28), 10
GREY_LEVEL = 1 / 256

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, images and labels to images."""


@dataclass(frozen=True)
class Contender:
    """One row: an attack, how many images of each model it gets (None is all), and the targets it should meet."""

    attack: Attack
    images: int | None = None
    excess: float | None = None
    forwards: int | None = None


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    problems = [problem(seed, options.images) for seed in range(options.models)]
    optimum = torch.cat([problem[3] for problem in problems])
    print(
        f"{options.models} linear models, {len(optimum)} images, {options.threads} threads; mean optimum {optimum.mean():.5f}\n"
    )
    print(
        f"{'':<16}{'':>7}{'':>9}{'L-inf':>10}  {'above optimum':^17}  {'forwards an image':^18}{'ms an':>8}"
    )
    heads = f"{'attack':<16}{'images':>7}{'success':>9}{'mean':>10}{'mean':>10}{'largest':>9}{'mean':>10}{'most':>9}{'image':>9}"
    print(heads)
    for name, contender in contenders(options.peer_images).items():
        print(row(name, contender, problems))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=int, default=4, help="random models (default: 4)")
    parser.add_argument("--images", type=int, default=25, help="images of each model (default: 25)")
    parser.add_argument(
        "--peer-images", type=int, default=2, help="images of each model for ART (default: 2)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    return parser.parse_args()


def problem(seed: int, n: int) -> tuple[nn.Sequential, Tensor, Tensor, Tensor]:
    """A model, `n` images, the labels that it gives them, and their distances from another."""
    model, images = linear_model(SHAPE, CLASSES, seed), saturated_images(2 * n, SHAPE, seed)
    labels = model(images).argmax(1)
    optimum = boxed_optimum(model, images, labels)
    chosen = (optimum > GREY_LEVEL).nonzero().squeeze(1)[:n]
    return model.eval(), images[chosen], labels[chosen], optimum[chosen]


def contenders(peer_images: int) -> dict[str, Contender]:
    """What is installed, ours first."""
    rows = {
        "cw-linf": Contender(ours("cw-linf"), excess=0.1, forwards=3000),
        "fmn-linf": Contender(ours("fmn-linf", steps=100), excess=0.02),
        "min-linf": Contender(ours("min-linf", steps=100), excess=0.02),
    }
    if find_spec("foolbox"):
        rows["Foolbox FMN"] = Contender(foolbox_fmn)
    if find_spec("art"):
        rows["ART C&W L-inf"] = Contender(art_carlini, peer_images)
    return rows


def ours(name: str, **options: int) -> Attack:
    def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return ATTACKS[name](Threat("linf", 0.3), **options)(
            model, images, labels, Randomness.default(images)
        )

    return attack


def foolbox_fmn(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    from foolbox.attacks.fast_minimum_norm import LInfFMNAttack
    from foolbox.models.pytorch import PyTorchModel

    target = PyTorchModel(model, bounds=(0, 1), device=images.device)
    return LInfFMNAttack(steps=100)(target, images, labels, epsilons=None)[0]  # type: ignore[arg-type, return-value]


def art_carlini(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """With its own defaults: 10 iterations at each of 21 constants."""
    from art.attacks.evasion import CarliniLInfMethod
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), SHAPE, CLASSES, clip_values=(0, 1), device_type="cpu"
    )
    return torch.from_numpy(
        CarliniLInfMethod(classifier, verbose=False).generate(images.numpy(), labels.numpy())
    )


def row(
    name: str, contender: Contender, problems: list[tuple[nn.Sequential, Tensor, Tensor, Tensor]]
) -> str:
    distances, optima, forwards, seconds = [], [], [], 0.0
    for model, images, labels, optimum in problems:
        images, labels, optimum = (part[: contender.images] for part in (images, labels, optimum))
        counted = Counted(model, len(images), images.device).eval()
        start = time.perf_counter()
        adversarial = contender.attack(counted, images, labels)
        seconds += time.perf_counter() - start
        distance = (adversarial - images).abs().flatten(1).amax(1)
        distances.append(
            torch.where(model(adversarial).argmax(1) != labels, distance, torch.inf).double()
        )
        optima.append(optimum)
        forwards.append(counted.forwards)
    reached, optimum, passes = torch.cat(distances), torch.cat(optima), torch.cat(forwards)
    won = reached.isfinite()
    excess = (reached / optimum)[won] - 1
    n = len(reached)
    # ART does not say which image a pass belongs to, so only the mean is its own.
    most = f"{int(passes.max())}" if contender.images is None else ""
    line = f"{name:<16}{n:>7}{won.float().mean():>9.0%}"
    line += (
        f"{reached[won].mean():>10.5f}{excess.mean():>10.1%}{excess.max():>9.1%}"
        if won.any()
        else f"{'-':>10}{'-':>10}{'-':>9}"
    )
    line += f"{passes.float().mean():>10.0f}{most:>9}{1000 * seconds / n:>9.1f}"
    if contender.excess is not None:
        met = (
            bool(won.all())
            and excess.mean() <= contender.excess
            and int(passes.max()) <= (contender.forwards or sys.maxsize)
        )
        line += "  met" if met else "  MISSED"
    return line


if __name__ == "__main__":
    main()
