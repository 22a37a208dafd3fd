"""What share of an attack's time is the model's own forward and backward passes.

    python benchmarks/passes.py
    python benchmarks/passes.py --model zoo/mnist-pgd.safetensors --images 256

Forward time is the time inside the model's `forward`; backward time the time inside `torch.autograd.grad`, through which every
attack takes its gradients. The rest is the attack's own: steps, projections, bookkeeping. Attacks search as in an audit, in bf16
where that pays. Target: at least 90% on a network for 28x28 images. The default network is `wong-small`, the fastest that is used
on MNIST, and so the hardest case.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from peers import clock, clocked
from scotoma.attacks import ATTACKS
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Threat
from scotoma.models.checkpoint import load_checkpoint
from scotoma.models.classifier import freeze
from scotoma.models.wong import wong_small
from scotoma.utils.device import pays_in_bf16

TARGET = 0.9


def share(
    attack: Callable[..., Tensor], model: nn.Module, images: Tensor, labels: Tensor
) -> tuple[float, float]:
    """The passes' share of the time, and the time in seconds."""
    reduced = pays_in_bf16(model, images)
    with clocked(model, clock) as (timed, spent):
        counted = Counted(timed, len(images), images.device, reduced)
        start = clock()
        attack(counted, images, labels)
        total = clock() - start
    return sum(spent) / total, total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        type=Path,
        help="a safetensors file of `scotoma train` (default: wong-small at random)",
    )
    parser.add_argument(
        "--images", type=int, default=128, help="images in the batch (default: 128)"
    )
    parser.add_argument(
        "--attacks", default=",".join(ATTACKS), help="names with commas between (default: all)"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = load_checkpoint(options.model)[0] if options.model else wong_small((1, 28, 28), 10)
    freeze(model)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.rand(options.images, 1, 28, 28)
    labels = model(images).argmax(1)
    print(
        f"{options.images} images, {options.threads} threads\n{'attack':<12}{'passes':>8}{'seconds':>9}"
    )
    for name in options.attacks.split(","):
        # tiny eps: random images of an untrained network would otherwise fall in the first steps and time only the start
        kind = ATTACKS[name]
        share(kind(Threat("linf", 1e-4)), model, images[:8], labels[:8])
        part, seconds = share(kind(Threat("linf", 1e-4)), model, images, labels)
        print(
            f"{name:<12}{part:>8.1%}{seconds:>9.2f}  {'' if part >= TARGET else f'below {TARGET:.0%}'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
