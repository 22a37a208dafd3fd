"""Our Carlini-Wagner L-inf attack beside ART's: same model, images, threads and process.

    python benchmarks/cw_linf.py
    python benchmarks/cw_linf.py --images 20 --threads 1

The model is a small network of the embedded digits, trained against PGD at L-inf 0.2 on the first run and kept in the temporary
folder. ART's attack (CarliniLInfMethod of adversarial-robustness-toolbox) runs with its own defaults, 10 iterations at each of 21
constants c, and in a strong setting: 300 iterations at one c, since c does not enter its gradient and the others would repeat
the same run. That takes minutes; `--art-iterations 1000`, Carlini and Wagner's own number, takes three times as long. Distances
and successes are measured on the images returned; a failure counts as infinite, a clean error as 0.

Targets, against either setting: a higher success rate (or all images), a smaller median, at least 20 times faster.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from digits import THREAT, digits_model
from scotoma.attacks.carlini_wagner import CarliniWagnerLinf
from scotoma.attacks.core.oracle import Counted
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.utils.errors import InputError

SPEED = 20

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, images and labels to images."""


@dataclass(frozen=True)
class Result:
    """Success rate in [0, 1] and median L-inf over all images, mean forward passes an image, seconds."""

    success: float
    median: float
    forwards: float
    seconds: float


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    data = load_data("digits")
    # channels-last as the run has it, for both
    model = digits_model().module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = data.test.images(torch.arange(options.images))
    labels = data.test.labels[: options.images]
    print(
        f"digits, small-cnn trained against PGD at {THREAT}; {options.images} images, {options.threads} threads\n"
    )
    print(f"{'attack':<28}{'success':>9}{'median L-inf':>14}{'forwards':>10}{'seconds':>10}")
    contenders = {
        "cw-linf": CarliniWagnerLinf(THREAT),
        "ART, defaults": art(data),
        f"ART, {options.art_iterations} iterations": art(
            data, max_iter=options.art_iterations, initial_const=10.0, largest_const=20.0
        ),
    }
    results = {}
    for name, attack in contenders.items():
        results[name] = result = measure(attack, model, images, labels)
        print(
            f"{name:<28}{result.success:>9.1%}{result.median:>14.4f}{result.forwards:>10.0f}{result.seconds:>10.2f}"
        )
    print()
    mine = results.pop("cw-linf")
    for name, peer in results.items():
        print(verdict(name, mine, peer))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", type=int, default=100, help="how many test images (default: 100)"
    )
    parser.add_argument(
        "--art-iterations", type=int, default=300, help="of ART's strong setting (default: 300)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    return parser.parse_args()


def art(data: Dataset, **options: float) -> Attack:
    """ART's attack; `options` are those of CarliniLInfMethod."""
    try:
        from art.attacks.evasion import CarliniLInfMethod
        from art.estimators.classification import PyTorchClassifier
    except ImportError:
        raise InputError(
            "adversarial-robustness-toolbox is not installed; pip install 'scotoma[peers]'"
        ) from None

    def attack(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            data.shape,
            len(data.classes),
            clip_values=(0, 1),
            device_type="cpu",
        )
        method = CarliniLInfMethod(classifier, verbose=False, **options)  # type: ignore[arg-type]
        return torch.from_numpy(method.generate(images.numpy(), labels.numpy()))

    return attack


def measure(attack: Attack, model: nn.Module, images: Tensor, labels: Tensor) -> Result:
    counted = Counted(model, len(images), images.device).eval()
    start = time.perf_counter()
    adversarial = attack(counted, images, labels)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        clean, wrong = (model(part).argmax(1) != labels for part in (images, adversarial))
    distance = (adversarial - images).abs().flatten(1).amax(1)
    distance = torch.where(wrong, distance, torch.inf).masked_fill(clean, 0)
    # The mean over images, since ART does not say which image a pass belongs to.
    return Result(
        distance.isfinite().float().mean().item(),
        distance.median().item(),
        int(counted.forwards.sum()) / len(images),
        seconds,
    )


def verdict(name: str, mine: Result, peer: Result) -> str:
    faster, share = peer.seconds / mine.seconds, mine.median / peer.median
    success = mine.success > peer.success or mine.success == 1
    met = success and share < 1 and faster >= SPEED
    return (
        f"against {name + ':':<22} success {mine.success - peer.success:+.1%}, median x{share:.2f}, {faster:.1f} times as fast "
        f"(target: {SPEED})  {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
