"""Our attacks and those of Foolbox, ART, torchattacks and AutoAttack in the form of `Attack`.

Ours run from seed 0; `measure` sets that of the others.
"""

import contextlib
import logging
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness import Attack
from scotoma.attacks import make
from scotoma.attacks.carlini_wagner import CarliniWagnerLinf
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.oracle import Counted
from scotoma.threat import Threat
from scotoma.utils.optional import require
from scotoma.utils.random import Randomness

ART = "adversarial-robustness-toolbox"
PEERS = "a comparison with other libraries (`make bench` installs them)"
PACKAGES = ("scotoma", "torch", "foolbox", ART, "torchattacks", "pyautoattack")


def ours(name: str, threat: Threat, **settings: Any) -> Attack:
    """Return our attack of a name."""
    attack = make(name, threat, **settings)

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(images), device=images.device)
        return attack(model, images, labels, generator=Randomness(0, rows, name))

    return run


def foolbox(name: str, epsilon: float | None = None, **settings: Any) -> Attack:
    """Return Foolbox's attack of a class name, at a size if it attacks at one."""
    fb = require("foolbox", PEERS)
    attack = getattr(fb.attacks, name)(**settings)
    ball = {} if epsilon is None else {"epsilon": epsilon}

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        wrapped = fb.models.PyTorchModel(model, bounds=(0, 1), device="cpu")
        return attack.run(wrapped, images, fb.criteria.Misclassification(labels), **ball)

    return run


class Single(nn.Module):
    """A model that accepts float64 images, which ART's decision-based attacks use.

    It is no `nn.Sequential`, of which ART calls the parts alone.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.float())


def art(name: str, classes: int = 10, **settings: Any) -> Attack:
    """Return ART's attack of a class name."""
    kind = getattr(require("art.attacks.evasion", PEERS, ART), name)
    estimators = require("art.estimators.classification", PEERS, ART)
    if "verbose" in kind.attack_params:
        settings["verbose"] = False

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        np.random.seed(0)  # noqa: NPY002 - what ART draws from
        shape, loss = tuple(images.shape[1:]), nn.CrossEntropyLoss()
        wrapped = estimators.PyTorchClassifier(
            Single(model), loss, shape, classes, clip_values=(0, 1), device_type="cpu"
        )
        made = kind(wrapped, **settings).generate(images.numpy(), labels.numpy())
        return torch.from_numpy(made).float()

    return run


def torchattacks(name: str, **settings: Any) -> Attack:
    """Return torchattacks' attack of a class name."""
    kind = getattr(require("torchattacks", PEERS), name)
    return lambda model, images, labels: kind(model, **settings)(images, labels)


def autoattack(
    threat: Threat,
    part: str | None = None,
    batch: int | None = None,
    version: str = "standard",
    **settings: Any,
) -> Attack:
    """Return a version of AutoAttack, or one `part` of it with these attributes."""
    kind = require("pyautoattack", PEERS).AutoAttack
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    runner = {"apgd-ce": "apgd", "apgd-t": "apgd_targeted", "square": "square"}
    which = {"version": "custom", "attacks": [part]} if part else {"version": version}

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        peer = kind(model, norm="Linf", eps=threat.eps, seed=0, device="cpu", **which)
        for setting, value in settings.items():
            setattr(getattr(peer, runner[part or ""]), setting, value)
        return peer.run_standard_evaluation(images, labels, batch_size=batch or len(images))[0]

    return run


WIDEST = 0.5
"""Where the bisection of APGD-T begins, the first radius of `min-linf`."""
SIZES = 10
"""Sizes of the bisection, which share the steps."""


def contenders(steps: int, classes: int) -> dict[str, Attack]:
    """The peers, each with the passes of `steps` gradient steps, rounded up by a few."""
    passes = 2 * steps + 1
    return {
        "cw-linf": capped(CarliniWagnerLinf("linf"), passes),
        "Foolbox FMN": foolbox("LInfFMNAttack", steps=steps),
        "FAB": fab(-(-passes // (classes + 2)), 0),
        "FAB-T, 1 class": fab(-(-passes // 3), 1),
        "FAB-T, 3 classes": fab(-(-passes // 9), 3),
        "APGD-T, random start": apgd(-(-steps // SIZES), warm=False),
        "APGD-T, warm start": apgd(-(-steps // SIZES), warm=True),
    }


def fab(iterations: int, targets: int) -> Attack:
    """FAB towards each of the likeliest classes, as many as `targets`; 0 goes to the nearest.

    An iteration takes two forward passes and one backward pass, without targets one a class.
    """
    kind = require("pyautoattack.fab_pt", PEERS).FABAttack_PT

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        attack = kind(model, n_iter=iterations, targeted=bool(targets), device=images.device)
        best = images.clone()
        for target in range(2, max(targets, 1) + 2):
            attack.target_class = target
            made = attack.attack_single_run(images, labels, is_targeted=bool(targets))
            distance, so_far = size(made - images, "linf"), size(best - images, "linf")
            nearer = (distance > 0) & ((so_far == 0) | (distance < so_far))
            best[nearer] = made[nearer]  # FAB returns the image itself where it fails
        return best

    return run


def apgd(iterations: int, warm: bool) -> Attack:
    """APGD towards the likeliest class at sizes by bisection, for each image its own."""
    kind = require("pyautoattack.autopgd_base", PEERS).APGDAttack_targeted

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        best, low = images.clone(), torch.zeros(len(images))
        high = torch.full((len(images),), torch.inf)
        with torch.no_grad():
            likely = model(images).scatter(1, labels[:, None], -torch.inf).argmax(1)
        for _ in range(SIZES):
            eps = column(torch.where(high.isinf(), WIDEST, (low + high) / 2))
            attack = kind(model, n_iter=max(1, iterations - 1), eps=eps, device=images.device)
            attack.init_hyperparam(images)
            attack.y_target = likely
            warmed = warm and bool(high.isfinite().any())
            start = images + (best - images).clamp(-eps, eps) if warmed else None
            _, failed, _, made = attack.attack_single_run(images, labels, x_init=start)
            best[~failed] = made[~failed]
            high = torch.where(failed, high, size(best - images, "linf"))
            low = torch.where(failed & high.isfinite(), eps.flatten(), low)
        return best

    return run


class SpentError(Exception):
    """Every image has had its passes."""


class Capped(Counted):
    """A model that keeps the nearest fooling image it evaluates while an image has passes left."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, passes: int):
        super().__init__(model, len(images), images.device)
        self.images, self.labels, self.left = images, labels, passes
        self.nearest, self.best = images.clone(), torch.full((len(images),), torch.inf)

    def forward(self, images: Tensor) -> Tensor:
        spent = self.forwards + self.backwards >= self.left
        if bool(spent.all()):
            raise SpentError
        rows = torch.arange(len(self.images)) if self.rows is None else self.rows
        logits = super().forward(images)
        distance = size(images.detach() - self.images[rows], "linf")
        nearer = fooled(logits.detach(), self.labels[rows]) & ~spent[rows]
        nearer &= distance < self.best[rows]
        self.nearest[rows[nearer]] = images.detach()[nearer]
        self.best[rows[nearer]] = distance[nearer]
        return logits


def capped(attack: Attack, passes: int) -> Attack:
    """One of our attacks, cut off after so many passes an image."""

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        limited = Capped(model, images, labels, passes)
        with contextlib.suppress(SpentError):
            attack(limited, images, labels)
        return limited.nearest

    return run


def versions() -> str:
    """Versions of Python and of every compared library."""
    lines = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            lines.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            lines.append(f"no {package}")
    return ", ".join(lines)
