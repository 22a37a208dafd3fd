"""An attack of ours beside AutoAttack's standard version: same model, images, batches, threads and process.

    python benchmarks/autoattack.py --model digits
    python benchmarks/autoattack.py --model model.safetensors --data mnist --eps 0.3 --images 500
    python benchmarks/autoattack.py --model my_model.py:build --data mnist --eps 0.3 --attack apgd-t

AutoAttack (Croce and Hein 2020) is the package pyautoattack: APGD-CE, APGD-T, FAB-T and Square with 5,000 queries. Neither
attack is believed: an image counts as fooled when a plain float32 forward pass gives the image returned, inside ball and
range, another label. Both models count their passes the same way; clean errors count against robust accuracy.

Targets: robust accuracy at most 0.5 points above AutoAttack's, in at most a third of its time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from digits import digits_model
from scotoma.attacks import ATTACKS
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import TOLERANCE, Threat
from scotoma.data import load_data
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

POINTS = 0.5
TIME = 1 / 3

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""A model, images and labels to images."""


@dataclass(frozen=True)
class Result:
    """What one attack did to all images: rates in [0, 1], seconds, mean passes an image."""

    robust: float
    seconds: float
    forwards: float
    backwards: float


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    data = load_data(
        options.data or ("digits" if options.model == "digits" else "mnist"), options.data_root
    )
    model = (digits_model() if options.model == "digits" else load_model(options.model)).checked(
        data
    )
    threat = (
        Threat("linf", options.eps)
        if options.eps is not None
        else stated_threat(model, options.model)
    )
    indices = torch.arange(min(options.images, len(data.test)))
    images, labels = data.test.images(indices), data.test.labels[indices]

    name = f"{model.name} on {len(indices)} images of {data.name}, {threat}"
    print(f"{name}; {options.threads} threads, batches of {options.batch}, seed {options.seed}\n")
    contenders = {
        options.attack: ours(options.attack, threat, indices, options.seed, options.batch),
        "AutoAttack": autoattack(threat, options.seed, options.batch),
    }
    print(
        f"{'attack':<12}{'robust accuracy':>17}{'seconds':>10}{'forwards':>10}{'backwards':>11}   (passes an image)"
    )
    print(f"{'none':<12}{clean_accuracy(model.module, images, labels):>16.2%}")
    results = []
    for attack, run in contenders.items():
        result = measure(run, model.module, images, labels, threat)
        results.append(result)
        print(
            f"{attack:<12}{result.robust:>16.2%}{result.seconds:>11.2f}{result.forwards:>10.0f}{result.backwards:>11.0f}"
        )
    verdict(*results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="digits",
        help="digits (trained on the spot), FILE.safetensors or file.py:function",
    )
    parser.add_argument(
        "--data", help="a data set (default: digits for --model digits, else mnist)"
    )
    parser.add_argument(
        "--data-root", type=Path, help="where downloaded data sets are (default: $SCOTOMA_DATA)"
    )
    parser.add_argument(
        "--attack", default="strong", help="a name of scotoma's table of attacks (default: strong)"
    )
    parser.add_argument(
        "--eps", type=float, help="L-inf size (default: what the model was trained for)"
    )
    parser.add_argument(
        "--images", type=int, default=500, help="how many test images (default: 500)"
    )
    parser.add_argument("--batch", type=int, default=256, help="images a batch (default: 256)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def stated_threat(model: Classifier, spec: str) -> Threat:
    """What the model's card says that it was trained for."""
    if "threat" not in model.card:
        raise InputError(f"model {spec} does not say what it was trained for; give --eps")
    return Threat.parse(model.card["threat"])


def ours(name: str, threat: Threat, indices: Tensor, seed: int, batch: int) -> Attack:
    kind = ATTACKS[name]
    attack = kind(threat)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return torch.cat(
            [
                attack(model, images[rows], labels[rows], Randomness(seed, indices[rows], name))
                for rows in torch.arange(len(images)).split(batch)
            ]
        )

    return run


def autoattack(threat: Threat, seed: int, batch: int) -> Attack:
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise InputError("pyautoattack is not installed; pip install 'scotoma[peers]'") from None

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        peer = AutoAttack(
            model, norm="Linf", eps=threat.eps, seed=seed, version="standard", device="cpu"
        )
        return peer.run_standard_evaluation(images, labels, batch_size=batch)[0]

    return run


def measure(
    run: Attack, model: nn.Module, images: Tensor, labels: Tensor, threat: Threat
) -> Result:
    counted = Counted(model, len(images), images.device)
    start = time.perf_counter()
    adversarial = run(counted, images, labels)
    seconds = time.perf_counter() - start
    n = len(images)
    fooled = verified(model, images, adversarial, labels, threat)
    # Means, since AutoAttack does not say which image is which.
    return Result(
        1 - int(fooled.sum()) / n,
        seconds,
        int(counted.forwards.sum()) / n,
        int(counted.backwards.sum()) / n,
    )


def verified(
    model: nn.Module, images: Tensor, adversarial: Tensor, labels: Tensor, threat: Threat
) -> Tensor:
    """Which images are wrong, before or after the attack, without leaving ball and range; bool (n,)."""
    moved = (adversarial - images).abs().flatten(1).amax(1) <= threat.eps + TOLERANCE
    inside = (adversarial.flatten(1).amin(1) >= 0) & (adversarial.flatten(1).amax(1) <= 1)
    return (predict(model, images) != labels) | (
        moved & inside & (predict(model, adversarial) != labels)
    )


def clean_accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((predict(model, images) == labels).float().mean())


def predict(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in images.split(100)])


def verdict(mine: Result, peer: Result) -> None:
    points, ratio = 100 * (mine.robust - peer.robust), mine.seconds / peer.seconds
    print(
        f"\ndifference    {points:+.2f} points (target: at most +{POINTS})  {'met' if points <= POINTS else 'MISSED'}"
    )
    print(
        f"time          {ratio:.3f} of AutoAttack's (target: at most {TIME:.3f})  {'met' if ratio <= TIME else 'MISSED'}"
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
