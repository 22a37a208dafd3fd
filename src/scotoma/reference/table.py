"""The reference models, and how each is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from scotoma.reference.recipe import Reference
from scotoma.training.loop import Schedule

_CIFAR: dict[str, Any] = {
    "data": "cifar-10",
    "arch": "resnet9",
    "threat": "linf:8/255",
    "augment": ("crop-flip",),
}
_SGD = Schedule(peak=0.2, decay=5e-4, optimizer="sgd")
_DIGITS: dict[str, Any] = {
    "data": "digits",
    "arch": "small-cnn",
    "schedule": Schedule(40, 64, peak=3e-3),
}
"""Networks on digits, each trained in less than a minute."""
_SMALL: dict[str, Any] = {
    "data": "mnist",
    "arch": "wong-small",
    "schedule": Schedule(12, 64, peak=2e-3),
}
"""A sweep over training images only: one network, the same number of epochs, minutes each."""
_BRIEF: dict[str, Any] = _SMALL | {"schedule": Schedule(4, 64, peak=2e-3)}
"""The sweep over sizes that are far below those of the noise that the networks are tested with."""
_FEW: dict[str, Any] = _SMALL | {
    "threat": "linf:0.3",
    "schedule": Schedule(1, 32, peak=2e-3),
    "options": {"steps": 4},
}
"""Networks that differ in what they train on, with 1,875 steps each; less than a minute each."""
FEW = (1, 3, 10, 30, 60)
"""Thousands of MNIST images that networks are trained on to study scarcity."""
SEEDS = (0, 1, 2)
SEEDED = {0: "", 1: "-seed1", 2: "-seed2"}
"""Ends of the names of the digits' networks by seed."""
_TRAMER = ("tramer-a", "tramer-b", "tramer-c", "tramer-d")
_ENSEMBLE = {"sources": ("tramer-a", "tramer-c", "tramer-d")}
_IMAGENET = {
    "data": "folder:imagenet",
    "threat": "linf:16/256",
    "schedule": Schedule(90, 256, peak=0.1, decay=1e-4, optimizer="sgd"),
    "augment": ("crop-flip",),
}


def _on_mnist(recipe: str, arch: str, epochs: int = 6, **more: Any) -> Reference:
    return Reference(recipe, "mnist", arch, "linf:0.3", Schedule(epochs, 64), **more)


def _further(
    recipe: str, schedule: Schedule, sources: tuple[str, ...], **options: float
) -> Reference:
    """Return how the small network is trained further, from the first of its sources."""
    names = tuple(f"mnist-small-{source}" for source in sources)
    more: dict[str, Any] = {"options": {"warmup": 0.01} | options, "sources": names}
    return Reference(recipe, "mnist", "wong-small", "linf:0.3", schedule, **more, begins=True)


REFERENCES = {
    "mnist-natural": Reference("natural", "mnist", "madry-mnist", "linf:0.3", Schedule(5)),
    "mnist-pgd": Reference("pgd", "mnist", "madry-mnist", "linf:0.3", Schedule(18)),
    "mnist-small-natural": Reference("natural", threat="linf:0.3", **_SMALL),
    **{
        f"mnist-small-pgd-0{tenths}": Reference("pgd", threat=f"linf:0.{tenths}", **_SMALL)
        for tenths in (1, 2, 3)
    },
    "mnist-small-pgd-cutout": Reference("pgd", threat="linf:0.3", augment=("cutout",), **_SMALL),
    "mnist-small-pgd-shifted": _further("pgd-shifted", Schedule(6, 128, 2e-3), ("pgd-03",)),
    "mnist-small-pgd-composed-1": _further(
        "pgd-composed", Schedule(8, 128, 3e-3), ("pgd-shifted",), reach=1.0, white=0.0
    ),
    "mnist-small-pgd-composed": _further(
        "pgd-composed", Schedule(10, 128, 2e-3), ("pgd-composed-1",), white=0.5
    ),
    "mnist-small-pgd-between": replace(
        _further("interpolated", Schedule(0), ("pgd-composed", "pgd-shifted")), options={}
    ),
    "mnist-small-igd": Reference(
        "igd", threat="linf:0.3", sources=("mnist-small-natural",), **_SMALL
    ),
    "mnist-brief-natural": Reference("natural", threat="linf:0.01", **_BRIEF),
    **{
        f"mnist-brief-pgd-00{hundredths}": Reference(
            "pgd", threat=f"linf:0.0{hundredths}", **_BRIEF
        )
        for hundredths in (2, 5)
    },
    **{
        f"mnist-{thousands}k-{seed}": Reference("pgd", images=1000 * thousands, seed=seed, **_FEW)
        for thousands in FEW
        for seed in SEEDS
    },
    **{
        f"mnist-60k-{augment}-{seed}": Reference(
            "pgd", images=60_000, seed=seed, augment=(augment,), **_FEW
        )
        for augment in ("scale-shift", "invert")
        for seed in SEEDS[:1]
    },
    **{
        f"digits-natural{end}": Reference("natural", threat="linf:0.3", seed=seed, **_DIGITS)
        for seed, end in SEEDED.items()
    },
    **{
        f"digits-pgd-0{tenths}{end}": Reference(
            "pgd", threat=f"linf:0.{tenths}", seed=seed, **_DIGITS
        )
        for seed, end in SEEDED.items()
        for tenths in (1, 2, 3)
    },
    "digits-pgd-cutout": Reference("pgd", threat="linf:0.3", augment=("cutout",), **_DIGITS),
    "digits-igd": Reference("igd", threat="linf:0.3", sources=("digits-natural",), **_DIGITS),
    "fashion-natural": Reference(
        "natural", "fashion-mnist", "madry-mnist", "linf:0.1", Schedule(8)
    ),
    "fashion-pgd": Reference("pgd", "fashion-mnist", "madry-mnist", "linf:0.1", Schedule(12)),
    "cifar-natural": Reference("natural", schedule=replace(_SGD, epochs=8), **_CIFAR),
    "cifar-robust": Reference("n-fgsm", schedule=replace(_SGD, epochs=12), **_CIFAR),
    "cifar-flow": Reference("generator", "cifar-10", "flow", "linf:0.1", Schedule(12, 64, 1e-3)),
    **{
        f"cifar-pgd-{levels}": Reference(
            "n-fgsm", schedule=replace(_SGD, epochs=5), **{**_CIFAR, "threat": f"linf:{levels}/255"}
        )
        for levels in (1, 2, 4)
    },
    "mnist-wong": Reference("wong", "mnist", "wong-small", "linf:0.1", Schedule(3, 50)),
    "fashion-wong": Reference("wong", "fashion-mnist", "wong-small", "linf:0.1", Schedule(2, 50)),
    "mnist-wrm": Reference("wrm", "mnist", "wrm", "linf:0.1", Schedule(1)),
    "fashion-wrm": Reference("wrm", "fashion-mnist", "wrm", "linf:0.1", Schedule(1)),
    **{arch: _on_mnist("natural", arch) for arch in _TRAMER},
    **{f"{arch}-fgsm": _on_mnist("fgsm", arch) for arch in _TRAMER},
    **{
        f"{arch}-ensemble{epochs}": _on_mnist("ensemble", arch, epochs, **_ENSEMBLE)
        for epochs, archs in {12: _TRAMER, 6: ("tramer-b", "tramer-d")}.items()
        for arch in archs
    },
    "tramer-a-rand-fgsm": _on_mnist("rand-fgsm", "tramer-a"),
    "mnist-nearest-neighbour": Reference(
        "nearest-neighbour", "mnist", "nearest-neighbour", "l2:1.5", Schedule(0)
    ),
    "mnist-cnn": Reference("natural", "mnist", "cnn", "l2:1.5", Schedule(6)),
    "mnist-binary-cnn": Reference("natural", "mnist", "binary-cnn", "linf:0.3", Schedule(6)),
    "mnist-abs": Reference("abs", "mnist", "abs", "l2:1.5", Schedule(30, peak=3e-3)),
    "mnist-binary-abs": Reference("abs", "mnist", "binary-abs", "l2:1.5", Schedule(30, peak=3e-3)),
    "fashion-abs": Reference("abs", "fashion-mnist", "abs", "l2:1.5", Schedule(15, peak=3e-3)),
    "imagenet-natural": Reference("natural", arch="resnet50", **_IMAGENET),
    "imagenet-held-out": Reference("natural", arch="resnet101", **_IMAGENET),
    "imagenet-step-ll": Reference("step-ll", arch="resnet50", **_IMAGENET),
    "imagenet-ensemble": Reference(
        "ensemble",
        arch="resnet50",
        options={"step": "step-ll"},
        sources=("imagenet-natural",),
        **_IMAGENET,
    ),
}
"""Reference models by name; the file of each is NAME.safetensors."""
