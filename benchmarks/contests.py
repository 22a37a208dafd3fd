"""Which attacks of ours meet which of other libraries, and with which settings: the same wherever both have them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np

from libraries import art, autoattack, ours, torchattacks
from peers import Attack, foolbox
from scotoma.claim import Threat

STEPS = 40
BATCH = 1000
"""More images than any problem has: ART's own batches are of 32 images or of one."""
MAIN = (
    "fgsm",
    "pgd",
    "apgd-ce",
    "square",
    "strong",
    "deepfool",
    "ddn",
    "fmn-linf",
    "min-linf",
    "min-l2",
)
LONG = ("square", "strong", "deepfool")


@dataclass(frozen=True)
class Contest:
    """An attack of ours beside those of the same name elsewhere, or of the same aim where the title says so."""

    title: str
    attack: str
    threat: Threat
    peers: dict[str, Attack]
    settings: dict[str, Any] = field(default_factory=dict)
    images: int = 1000
    """at most; few where a peer takes one image after the other"""
    fixed: bool = True
    """attacks at the threat's eps; else looks for the smallest perturbation, and eps bounds nothing"""
    as_asked: bool = False
    """ours gets as many queries as the first of the peers took"""

    @property
    def eps(self) -> float:
        return self.threat.eps if self.fixed else math.inf

    def ours(self, queries: int | None = None) -> Attack:
        return ours(
            self.attack, self.threat, **self.settings, **({"queries": queries} if queries else {})
        )


def stepping(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """Gradient steps inside a ball: one, or many of a fixed length."""
    eps = linf.eps
    peers = {
        "Foolbox": foolbox("LinfFastGradientAttack", epsilon=eps),
        "ART": art("FastGradientMethod", eps=eps, batch_size=BATCH),
        "torchattacks": torchattacks("FGSM", eps=eps),
    }
    yield Contest("FGSM", "fgsm", linf, peers)

    def contest(
        title: str,
        attack: str,
        threat: Threat,
        stride: float,
        names: tuple[str, str, str],
        **only_art: Any,
    ) -> Contest:
        eps = threat.eps
        peers = {
            "Foolbox": foolbox(names[0], epsilon=eps, steps=STEPS, abs_stepsize=stride),
            "ART": art(
                names[1], eps=eps, max_iter=STEPS, eps_step=stride, batch_size=BATCH, **only_art
            ),
            "torchattacks": torchattacks(names[2], eps=eps, steps=STEPS, alpha=stride),
        }
        return Contest(
            f"{title}, {STEPS} steps", attack, threat, peers, {"steps": STEPS, "step_size": stride}
        )

    descent = "ProjectedGradientDescent"
    yield contest(
        "PGD", "pgd", linf, 2.5 * linf.eps / STEPS, ("LinfPGD", descent, "PGD"), num_random_init=1
    )
    yield contest(
        "PGD for L2",
        "pgd",
        l2,
        2.5 * l2.eps / STEPS,
        ("L2PGD", descent, "PGDL2"),
        num_random_init=1,
        norm=2,
    )
    names = "LinfBasicIterativeAttack", "BasicIterativeMethod", "BIM"
    yield contest("Basic iterative method", "ifgsm", linf, linf.eps / STEPS, names)
    names = "LinfMomentumIterativeFastGradientMethod", "MomentumIterativeMethod", "MIFGSM"
    yield contest("Momentum iterative method", "mim", linf, linf.eps / STEPS, names)


def automatic(linf: Threat, _: Threat) -> Iterator[Contest]:
    """Inside a ball with nothing to set: Auto-PGD and random search, and several attacks in turn."""
    eps = linf.eps
    once: dict[str, Any] = {"loss_type": "cross_entropy", "nb_random_init": 1}
    peers = {
        "AutoAttack": autoattack(linf, "apgd-ce", n_restarts=1),
        "ART": art(
            "AutoProjectedGradientDescent", eps=eps, eps_step=2 * eps, batch_size=BATCH, **once
        ),
        "torchattacks": torchattacks("APGD", eps=eps, steps=100),
    }
    yield Contest("APGD-CE, 100 steps", "apgd-ce", linf, peers)
    peers = {
        "AutoAttack": autoattack(linf, "apgd-t", n_restarts=1),
        "torchattacks": torchattacks("APGDT", eps=eps, steps=100),
    }
    yield Contest("APGD-T, 100 steps towards each of 9 classes", "apgd-t", linf, peers)
    peers = {
        "AutoAttack": autoattack(linf, "square", n_queries=1000),
        "ART": art("SquareAttack", eps=eps, max_iter=1000),
        "torchattacks": torchattacks("Square", eps=eps, n_queries=1000),
    }
    yield Contest("Square, 1,000 queries", "square", linf, peers, {"queries": 1000})

    peers = {
        "AutoAttack": autoattack(linf),
        "torchattacks": torchattacks("AutoAttack", eps=eps, seed=0),
    }
    # ART's own AutoAttack is of parts that are above, one of them several times as slow, and needs a package it does not declare
    yield Contest("`strong` beside AutoAttack", "strong", linf, peers)


def nearest(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """The smallest perturbation, by gradients."""
    l1, l0 = Threat("l1", 1), Threat("l0", 1)
    solves: dict[str, Any] = {"binary_search_steps": 9}
    peers = {
        "Foolbox": foolbox("L2CarliniWagnerAttack", steps=200, stepsize=0.01, **solves),
        # each step searches along a line, up to ten passes: with 200 it takes minutes
        "ART, 9 x 20 steps": art(
            "CarliniL2Method", max_iter=20, learning_rate=0.01, batch_size=BATCH, **solves
        ),
        "torchattacks": torchattacks("CW", steps=200, lr=0.01),
    }
    yield Contest("C&W for L2, up to 9 x 200 steps", "cw-l2", l2, peers, fixed=False)
    peers = {
        "Foolbox": foolbox("L2DeepFoolAttack"),
        "ART": art("DeepFool", max_iter=50, epsilon=0.02, batch_size=BATCH),
        "torchattacks": torchattacks("DeepFool"),
    }
    yield Contest("DeepFool for L2", "deepfool", l2, peers, fixed=False)
    yield Contest(
        "DeepFool for L-inf",
        "deepfool",
        linf,
        {"Foolbox": foolbox("LinfDeepFoolAttack")},
        fixed=False,
    )
    hundred = {"steps": 100}
    yield Contest(
        "DDN, 100 steps", "ddn", l2, {"Foolbox": foolbox("DDNAttack")}, hundred, fixed=False
    )
    for attack, threat, name in (("linf", linf, "LInf"), ("l2", l2, "L2"), ("l1", l1, "L1")):
        title = f"FMN for {name.replace('LInf', 'L-inf')}, 100 steps"
        yield Contest(
            title,
            f"fmn-{attack}",
            threat,
            {"Foolbox": foolbox(f"{name}FMNAttack")},
            hundred,
            fixed=False,
        )
    peers = {"Foolbox": foolbox("LInfFMNAttack")}
    yield Contest(
        "`min-linf` beside FMN for L-inf, 100 steps", "min-linf", linf, peers, hundred, fixed=False
    )
    peers = {"Foolbox": foolbox("DDNAttack", steps=240)}
    yield Contest(
        "`min-l2` beside DDN, 240 steps", "min-l2", l2, peers, {"steps": 240}, fixed=False
    )
    peers = {"Foolbox": foolbox("L0FMNAttack")}
    yield Contest(
        "`sigma-zero` beside FMN for L0, 100 steps", "sigma-zero", l0, peers, hundred, fixed=False
    )

    peers = {
        "ART, its defaults": art("CarliniLInfMethod"),
        "ART, 100 steps": art(
            "CarliniLInfMethod", max_iter=100, initial_const=10.0, largest_const=20.0
        ),
    }
    yield Contest("C&W for L-inf", "cw-linf", linf, peers, images=6, fixed=False)


def decision(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """By the label alone."""
    asked: dict[str, Any] = {"fixed": False, "as_asked": True}
    peers = {
        "Foolbox": foolbox("BoundaryAttack", steps=2500),
        "ART": art("BoundaryAttack", targeted=False, max_iter=50),
    }
    yield Contest("Boundary", "boundary", l2, peers, {"tolerance": 0.0}, **asked)
    for threat, norm in ((l2, 2), (linf, np.inf)):
        peers = {
            "Foolbox": foolbox("HopSkipJumpAttack", steps=12, constraint=threat.norm),
            "ART": art("HopSkipJump", norm=norm, max_iter=12),
        }
        title = f"HopSkipJump for {'L2' if norm == 2 else 'L-inf'}"
        yield Contest(title, "hop-skip-jump", threat, peers, **asked)
    many: dict[str, Any] = {"fixed": False}
    peers = {"Foolbox": foolbox("PointwiseAttack", l2_binary_search=False)}
    yield Contest("Pointwise for L0", "pointwise", Threat("l0", 1), peers, **many)
    yield Contest(
        "Salt and pepper, L2",
        "salt-pepper",
        l2,
        {"Foolbox": foolbox("SaltAndPepperNoiseAttack")},
        **many,
    )
    peers = {"Foolbox": foolbox("BinarySearchContrastReductionAttack")}
    yield Contest("Contrast, L2", "contrast", l2, peers, **many)


def main_ones(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """The first contest of each of the main attacks; beside the first of the peers alone where all would take long."""
    seen = set()
    for contest in chain.from_iterable(
        theme(linf, l2) for theme in (stepping, automatic, nearest, decision)
    ):
        if contest.attack in MAIN and contest.attack not in seen:
            seen.add(contest.attack)
            few = (
                dict(islice(contest.peers.items(), 1)) if contest.attack in LONG else contest.peers
            )
            yield replace(contest, peers=few)
