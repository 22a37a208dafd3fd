"""Our attacks and those of Foolbox, ART, torchattacks and AutoAttack in the form of `Attack`.

Each runs from seed 0 every time.
"""

from __future__ import annotations

import logging
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import Attack, library
from scotoma.attacks import make
from scotoma.claim import Threat
from scotoma.utils.random import Randomness

PACKAGES = ("scotoma", "torch", "foolbox", "adversarial-robustness-toolbox", "torchattacks")


def ours(name: str, threat: Threat, **settings: Any) -> Attack:
    """Return our attack of a name."""
    attack = make(name, threat, **settings)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(images), device=images.device)
        return attack(model, images, labels, generator=Randomness(0, rows, name))

    return run


def foolbox(name: str, epsilon: float | None = None, **settings: Any) -> Attack:
    """Return Foolbox's attack of a class name, at a size if it attacks at one."""
    fb = library("foolbox", "foolbox")
    attack = getattr(fb.attacks, name)(**settings)
    ball = {} if epsilon is None else {"epsilon": epsilon}

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(0)
        wrapped = fb.models.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return attack.run(wrapped, images, fb.criteria.Misclassification(labels), **ball)

    return run


class Single(nn.Module):
    """A model that accepts float64 images, which ART's decision-based attacks use."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.float())


def art(name: str, classes: int = 10, **settings: Any) -> Attack:
    """Return ART's attack of a class name."""
    package = "adversarial-robustness-toolbox"
    kind = getattr(library("art.attacks.evasion", package), name)
    estimators = library("art.estimators.classification", package)
    if "verbose" in kind.attack_params:
        settings["verbose"] = False

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        np.random.seed(0)  # noqa: NPY002 - what ART draws from
        torch.manual_seed(0)
        shape, loss = tuple(images.shape[1:]), nn.CrossEntropyLoss()
        wrapped = estimators.PyTorchClassifier(
            Single(model), loss, shape, classes, clip_values=(0, 1), device_type="cpu"
        )
        made = kind(wrapped, **settings).generate(images.numpy(), labels.numpy())
        return torch.from_numpy(made).float()

    return run


def torchattacks(name: str, **settings: Any) -> Attack:
    """Return torchattacks' attack of a class name."""
    kind = getattr(library("torchattacks", "torchattacks"), name)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(0)
        return kind(model, **settings)(images, labels)

    return run


def autoattack(
    threat: Threat, part: str | None = None, batch: int | None = None, **settings: Any
) -> Attack:
    """Return AutoAttack's standard version, or one `part` of it with these attributes."""
    kind = library("pyautoattack", "pyautoattack").AutoAttack
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    runner = {"apgd-ce": "apgd", "apgd-t": "apgd_targeted", "square": "square"}
    which: dict[str, Any] = {"version": "standard"}
    if part:
        which = {"version": "custom", "attacks": [part]}

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        peer = kind(model, norm="Linf", eps=threat.eps, seed=0, device="cpu", **which)
        for setting, value in settings.items():
            setattr(getattr(peer, runner[part or ""]), setting, value)
        return peer.run_standard_evaluation(images, labels, batch_size=batch or len(images))[0]

    return run


def versions() -> str:
    """Versions of Python and of every compared library."""
    lines = [f"Python {platform.python_version()}"]
    for package in (*PACKAGES, "pyautoattack"):
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"no {package}")
    return ", ".join(lines)
