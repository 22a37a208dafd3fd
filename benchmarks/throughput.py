"""Attacks beside the bare forward and backward passes that they ask for: same model, images, batch, process and device.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --model zoo/mnist-pgd.safetensors --data mnist --images 1000

An attack is charged for each image that it puts through the model. As many images then go through the bare model in full batches,
and as many backward to the inputs: what a loop that does nothing but ask, and never runs on a batch of few images, would take. Its
time by the attack's is the share of the raw throughput that the attack reaches. It matters on an accelerator, where small batches
and waiting cost more than arithmetic; the device is the accelerator where there is one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch

from libraries import ours
from peers import Attack, Problem, parser, problem
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Threat
from scotoma.utils.device import autocast, default_device, pays_in_bf16

ATTACKS = {
    "pgd": "linf",
    "min-linf": "linf",
    "ddn": "l2",
    "fmn-linf": "linf",
    "square": "linf",
    "strong": "linf",
}
"""The main attacks and their norms."""


@dataclass(frozen=True)
class Throughput:
    """Passes over an image a second, in the attack and bare."""

    attack: float
    bare: float

    @property
    def share(self) -> float:
        return self.attack / self.bare


def throughput(attack: Attack, setting: Problem) -> Throughput:
    """Measured on the device that model and images are on, after a run that warms up."""
    images, labels = setting.images, setting.labels
    reduced = pays_in_bf16(setting.model, images)
    attack(Counted(setting.model, len(images), images.device, reduced).eval(), images, labels)
    counted = Counted(setting.model, len(images), images.device, reduced).eval()
    start = clock(images.device)
    attack(counted, images, labels)
    spent = clock(images.device) - start
    forwards, backwards = (
        round(float(count.float().mean())) for count in (counted.forwards, counted.backwards)
    )
    bare(setting, 1, 1, reduced)
    start = clock(images.device)
    bare(setting, forwards, backwards, reduced)
    alone = clock(images.device) - start
    passes = len(images) * (forwards + backwards)
    return Throughput(passes / spent, passes / alone)


def bare(setting: Problem, forwards: int, backwards: int, reduced: bool) -> None:
    """So many passes over the whole batch, gradients in reduced precision where an attack takes them so."""
    for _ in range(backwards):
        leaf = setting.images.detach().requires_grad_()
        with autocast(leaf.device, enabled=reduced):
            logits = setting.model(leaf)
        torch.autograd.grad(logits.float().gather(1, setting.labels[:, None]).sum(), leaf)
    with torch.no_grad():
        for _ in range(forwards - backwards):
            setting.model(setting.images)


def clock(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def on(device: torch.device, setting: Problem) -> Problem:
    images = setting.images.to(device, memory_format=torch.channels_last)
    return replace(
        setting, model=setting.model.to(device), images=images, labels=setting.labels.to(device)
    )


def main() -> None:
    made = parser(__doc__)
    made.add_argument(
        "--device",
        default=str(default_device()),
        help="(default: the accelerator, else cpu)",
    )
    made.add_argument("--eps", type=float, default=0.2, help="L-inf size (default: 0.2)")
    options = made.parse_args()
    setting = on(torch.device(options.device), problem(options, "linf"))
    print(f"\n{'attack':<12}{'passes a second':>18}{'bare':>14}{'share':>9}")
    for name, norm in ATTACKS.items():
        found = throughput(ours(name, Threat(norm, options.eps)), setting)
        print(
            f"{name:<12}{found.attack:>18,.0f}{found.bare:>14,.0f}{found.share:>9.1%}", flush=True
        )


if __name__ == "__main__":
    main()
