"""Attacks of ART, torchattacks and AutoAttack in the form that `peers.measure` runs; Foolbox's are in `peers`."""

from __future__ import annotations

import logging
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peers import Attack
from scotoma.attacks import make
from scotoma.claim import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

CLASSES = 10
PACKAGES = (
    "scotoma",
    "torch",
    "foolbox",
    "adversarial-robustness-toolbox",
    "torchattacks",
    "pyautoattack",
)


def ours(name: str, threat: Threat, **settings: Any) -> Attack:
    """Our attack of a name, from seed 0 every time."""
    attack = make(name, threat, **settings)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return attack(
            model,
            images,
            labels,
            Randomness(0, torch.arange(len(images), device=images.device), name),
        )

    return run


def art(name: str, **settings: Any) -> Attack:
    """ART's attack of a class name with these settings, from seed 0 every time."""
    try:
        from art.attacks import evasion
        from art.estimators.classification import PyTorchClassifier
    except ImportError:
        raise missing("adversarial-robustness-toolbox") from None
    kind = getattr(evasion, name)
    if "verbose" in kind.attack_params:
        settings["verbose"] = False

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        np.random.seed(0)  # noqa: NPY002 - what ART draws from
        torch.manual_seed(0)
        shape = tuple(images.shape[1:])
        classifier = PyTorchClassifier(
            Single(model),
            nn.CrossEntropyLoss(),
            shape,
            CLASSES,
            clip_values=(0, 1),
            device_type="cpu",
        )
        return torch.from_numpy(
            kind(classifier, **settings).generate(images.numpy(), labels.numpy())
        ).float()

    return run


class Single(nn.Module):
    """A model that takes float64 images, which ART's attacks by decisions hand over."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.float())


def torchattacks(name: str, **settings: Any) -> Attack:
    """The attack of torchattacks of a class name with these settings, from seed 0 every time."""
    try:
        import torchattacks as library
    except ImportError:
        raise missing("torchattacks") from None
    kind = getattr(library, name)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(0)
        return kind(model, **settings)(images, labels)

    return run


def autoattack(threat: Threat, part: str | None = None, **settings: Any) -> Attack:
    """The standard version of AutoAttack from seed 0, or one `part` of it with these attributes of the object that runs it."""
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise missing("pyautoattack") from None
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    runner = {"apgd-ce": "apgd", "apgd-t": "apgd_targeted", "square": "square"}

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        asked: dict[str, Any] = (
            {"version": "custom", "attacks": [part]} if part else {"version": "standard"}
        )
        peer = AutoAttack(model, norm="Linf", eps=threat.eps, seed=0, device="cpu", **asked)
        for setting, value in settings.items():
            setattr(getattr(peer, runner[part or ""]), setting, value)
        return peer.run_standard_evaluation(images, labels, batch_size=len(images))[0]

    return run


def missing(package: str) -> InputError:
    return InputError(f"{package} is not installed; `make bench` installs what it compares with")


def versions() -> str:
    """Of Python and of everything that is compared."""
    told = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            told.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            told.append(f"no {package}")
    return ", ".join(told)
