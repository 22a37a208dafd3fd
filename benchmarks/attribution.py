"""Attribution maps beside the forward and backward passes that they need: same model, images, batches, threads and process.

    python benchmarks/attribution.py
    python benchmarks/attribution.py --model digits --images 100
    python benchmarks/attribution.py --methods integrated-gradients,gradient-shap --images 100

A pass is one of logits forward, and of the label's logit backward to the images, weights frozen. The passes are counted while the
maps are made, and as many are then run bare, in batches as large as those of the maps. Batch by batch the two take turns, on one
thread and by its own time where the device is a CPU, so that a busy machine slows both.

Target: integrated gradients of 50 steps in at most 1.15 times the time of their passes. Memory is the process's peak (the device's
where that is an accelerator): that of the bare passes, and what the maps add.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from digits import digits_model
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.method import Attribution, at_once
from scotoma.data import load_data
from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError

TARGET = 1.15
TARGETED = "integrated-gradients"


class Counted(nn.Module):
    """A model that counts the images that go through it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.model(images)


@dataclass
class Cost:
    """Of the maps and of the bare passes, in seconds, over all batches; passes an image."""

    maps: float = 0
    bare: float = 0
    passes: int = 0

    def add(self, method: Attribution, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Measure one batch."""
        counted = Counted(model)
        started = clock(images.device)
        method(counted, images, labels)
        between = clock(images.device)
        self.passes = counted.images // len(images)
        passes(model, images, labels, self.passes)
        self.maps, self.bare = (
            self.maps + between - started,
            self.bare + clock(images.device) - between,
        )


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    data = load_data(
        options.data or ("digits" if options.model == "digits" else "mnist"), options.data_root
    )
    classifier = (
        digits_model() if options.model == "digits" else load_model(options.model)
    ).checked(data)
    device = torch.device(options.device)
    model = classifier.module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    indices = torch.arange(min(options.images, len(data.test)))
    images, labels = data.test.images(indices).to(device), data.test.labels[indices].to(device)
    print(
        f"{classifier.name}, {len(images)} images of {data.name}, {at_once(images)} at once, one thread, {device}\n"
    )
    few = images[: at_once(images)], labels[: at_once(images)]
    passes(
        model, *few, at_once(images) // len(few[0]) * 2
    )  # what is loaded and allocated once is not the maps'
    print(
        f"{'maps':<22}{'passes':>8}{'seconds':>9}{'bare':>9}{'ratio':>8}{'peak MB':>10}{'more':>7}"
    )
    for name in options.methods.split(","):
        ATTRIBUTIONS[name]()(model, images[:1], labels[:1])
        before, cost = peak(device), Cost()
        for rows in torch.arange(len(images), device=device).split(at_once(images)):
            cost.add(ATTRIBUTIONS[name](), model, images[rows], labels[rows])
        ratio, reached = cost.maps / cost.bare, peak(device)
        row = f"{name:<22}{cost.passes:>8}{cost.maps:>9.2f}{cost.bare:>9.2f}{ratio:>8.3f}{reached:>10.0f}{reached - before:>7.0f}"
        print(
            row
            + (
                f"  {'at most' if ratio <= TARGET else 'above'} {TARGET}"
                if name == TARGETED
                else ""
            ),
            flush=True,
        )


def passes(model: nn.Module, images: Tensor, labels: Tensor, count: int) -> None:
    """So many forward and backward passes over a batch, of which several go through the model together where there is room."""
    room = max(1, at_once(images) // len(images))
    for first in range(0, count, room):
        together = min(room, count - first)
        leaf, targets = images.repeat(together, 1, 1, 1).requires_grad_(), labels.repeat(together)
        torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)


def clock(device: torch.device) -> float:
    """Seconds, when all that was asked of the device is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.accelerator.synchronize(device)
    return time.perf_counter()


def peak(device: torch.device) -> float:
    """The most memory held so far, in MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default="zoo/mnist-pgd.safetensors", help="`digits`, or as in `scotoma audit`"
    )
    parser.add_argument("--data", help="(default: digits for the model digits, else mnist)")
    parser.add_argument("--data-root", help="where data sets are")
    parser.add_argument("--images", type=int, default=1000, help="test images (default: 1000)")
    parser.add_argument(
        "--methods",
        default=TARGETED,
        help="names with commas between, of " + ", ".join(ATTRIBUTIONS),
    )
    parser.add_argument("--device", default="cpu", help="(default: cpu)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
