"""Contests of our attacks and those of other libraries, with equal settings if both have them."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from harness import Attack, Problem, Result, attempt, bare, measure
from page import Standing
from peers import art, autoattack, foolbox, ours, torchattacks
from scotoma.attacks import ATTACKS, takes
from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.threat import Threat

STEPS = 40
BATCH = 1000
"""More images than any problem has: ART's own batches have 32 images or one."""
LONG = ("square", "strong", "deepfool")
MAIN = (*LONG, "fgsm", "pgd", "apgd-ce", "ddn", "fmn-linf", "min-linf", "min-l2")
QUICK = 0.5
"""Seconds below which a run is repeated."""
HUNDRED = {"steps": 100}
Settings = dict[str, Any]


@dataclass(frozen=True)
class Contest:
    """An attack of ours beside those of equal name elsewhere, or of equal aim if the title says so.

    Attacks that minimise the perturbation ignore the eps of the threat; of these, ours get as many
    queries as the first of the peers took.

    Args:
        images: at most so many; few where a peer takes one image after the other.
    """

    title: str
    attack: str
    threat: Threat
    peers: dict[str, Attack]
    settings: Settings = field(default_factory=dict)
    images: int = 1000

    @property
    def minimal(self) -> bool:
        return issubclass(ATTACKS[self.attack], MinimumNormAttack)


def compete(contest: Contest, setting: Problem) -> Standing:
    """Run every peer and ours; a peer that fails has its error as result."""
    few, threat = slice(0, contest.images), contest.threat
    eps = math.inf if contest.minimal else threat.eps
    images, labels = setting.images[few], setting.labels[few]
    setting = replace(setting, images=images, labels=labels, norm=threat.norm, eps=eps)
    bare(setting, 2, 1)  # kernels are chosen at the first pass of a shape

    def run(attack: Attack) -> Result | str:
        once = attempt(measure, attack, setting)
        if isinstance(once, Result) and once.seconds < QUICK:
            return min(once, measure(attack, setting), key=lambda result: result.seconds)
        return once

    peers = {name: run(attack) for name, attack in contest.peers.items()}
    settings, first = contest.settings, next(iter(peers.values()))
    if contest.minimal and takes(contest.attack, "queries") and isinstance(first, Result):
        settings = settings | {"queries": round(first.forwards)}
    results = {"**ours**": run(ours(contest.attack, threat, **settings)), **peers}
    for name, result in results.items():
        if isinstance(result, Result):
            result = f"{result.fooled:>7.0%}{result.median:>10.4g}{result.seconds:>9.2f} s"
        print(f"{contest.title[:44]:<46}{name:<20}{result}", flush=True)
    return Standing(contest.title, contest.minimal, results)


def stepping(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """Gradient steps inside a ball: one, or many of a fixed length."""
    peers = {
        "Foolbox": foolbox("LinfFastGradientAttack", epsilon=linf.eps),
        "ART": art("FastGradientMethod", eps=linf.eps, batch_size=BATCH),
        "torchattacks": torchattacks("FGSM", eps=linf.eps),
    }
    yield Contest("FGSM", "fgsm", linf, peers)
    descent, start = "ProjectedGradientDescent", {"num_random_init": 1}
    bim = "LinfBasicIterativeAttack", "BasicIterativeMethod", "BIM"
    mim = "LinfMomentumIterativeFastGradientMethod", "MomentumIterativeMethod", "MIFGSM"
    rows: list[tuple[str, str, Threat, float, tuple[str, str, str], Settings]] = [
        ("PGD", "pgd", linf, 2.5, ("LinfPGD", descent, "PGD"), start),
        ("PGD for L2", "pgd", l2, 2.5, ("L2PGD", descent, "PGDL2"), start | {"norm": 2}),
        ("Basic iterative method", "ifgsm", linf, 1, bim, {}),
        ("Momentum iterative method", "mim", linf, 1, mim, {}),
    ]
    for title, attack, threat, factor, names, only_art in rows:
        eps, stride = threat.eps, factor * threat.eps / STEPS
        steps: Settings = {"max_iter": STEPS, "eps_step": stride, "batch_size": BATCH}
        peers = {
            "Foolbox": foolbox(names[0], epsilon=eps, steps=STEPS, abs_stepsize=stride),
            "ART": art(names[1], eps=eps, **steps, **only_art),
            "torchattacks": torchattacks(names[2], eps=eps, steps=STEPS, alpha=stride),
        }
        settings = {"steps": STEPS, "step_size": stride}
        yield Contest(f"{title}, {STEPS} steps", attack, threat, peers, settings)


def automatic(linf: Threat, _: Threat) -> Iterator[Contest]:
    """Inside a ball with nothing to set: Auto-PGD, random search, and several attacks in turn."""
    eps = linf.eps
    once: Settings = {"loss_type": "cross_entropy", "nb_random_init": 1, "batch_size": BATCH}
    peers = {
        "AutoAttack": autoattack(linf, "apgd-ce", n_restarts=1),
        "ART": art("AutoProjectedGradientDescent", eps=eps, eps_step=2 * eps, **once),
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
    # ART's own AutoAttack consists of attacks that are above, one several times as slow, and needs
    # a package that it does not declare
    auto = torchattacks("AutoAttack", eps=eps, seed=0)
    peers = {"AutoAttack": autoattack(linf), "torchattacks": auto}
    yield Contest("`strong` beside AutoAttack", "strong", linf, peers)


def nearest(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """The smallest perturbation, by gradients."""
    solves = {"binary_search_steps": 9}
    twenty: Settings = {"max_iter": 20, "learning_rate": 0.01, "batch_size": BATCH}
    peers = {
        "Foolbox": foolbox("L2CarliniWagnerAttack", steps=200, stepsize=0.01, **solves),
        # each step is a line search of up to ten passes: with 200 it takes minutes
        "ART, 9 x 20 steps": art("CarliniL2Method", **twenty, **solves),
        "torchattacks": torchattacks("CW", steps=200, lr=0.01),
    }
    yield Contest("C&W for L2, up to 9 x 200 steps", "cw-l2", l2, peers)
    peers = {
        "Foolbox": foolbox("L2DeepFoolAttack"),
        "ART": art("DeepFool", max_iter=50, epsilon=0.02, batch_size=BATCH),
        "torchattacks": torchattacks("DeepFool"),
    }
    yield Contest("DeepFool for L2", "deepfool", l2, peers)
    l1, l0 = Threat("l1", 1), Threat("l0", 1)
    rows: list[tuple[str, str, Threat, str, Settings]] = [
        ("DeepFool for L-inf", "deepfool", linf, "LinfDeepFoolAttack", {}),
        ("DDN, 100 steps", "ddn", l2, "DDNAttack", HUNDRED),
        ("FMN for L-inf, 100 steps", "fmn-linf", linf, "LInfFMNAttack", HUNDRED),
        ("FMN for L2, 100 steps", "fmn-l2", l2, "L2FMNAttack", HUNDRED),
        ("FMN for L1, 100 steps", "fmn-l1", l1, "L1FMNAttack", HUNDRED),
        ("`min-linf` beside FMN for L-inf, 100 steps", "min-linf", linf, "LInfFMNAttack", HUNDRED),
        ("`min-l2` beside DDN, 240 steps", "min-l2", l2, "DDNAttack", {"steps": 240}),
        ("`sigma-zero` beside FMN for L0, 100 steps", "sigma-zero", l0, "L0FMNAttack", HUNDRED),
    ]
    for title, attack, threat, peer, steps in rows:
        yield Contest(title, attack, threat, {"Foolbox": foolbox(peer, **steps)}, steps)
    more = {"max_iter": 100, "initial_const": 10.0, "largest_const": 20.0}
    default, longer = art("CarliniLInfMethod"), art("CarliniLInfMethod", **more)
    peers = {"ART, its defaults": default, "ART, 100 steps": longer}
    yield Contest("C&W for L-inf", "cw-linf", linf, peers, images=6)


def decision(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """The smallest perturbation, by the predicted class alone."""
    peers = {
        "Foolbox": foolbox("BoundaryAttack", steps=2500),
        "ART": art("BoundaryAttack", targeted=False, max_iter=50),
    }
    yield Contest("Boundary", "boundary", l2, peers, {"tolerance": 0.0})
    for threat, norm, name in ((l2, 2, "L2"), (linf, np.inf, "L-inf")):
        peers = {
            "Foolbox": foolbox("HopSkipJumpAttack", steps=12, constraint=threat.norm),
            "ART": art("HopSkipJump", norm=norm, max_iter=12),
        }
        yield Contest(f"HopSkipJump for {name}", "hop-skip-jump", threat, peers)
    l0, pixels = Threat("l0", 1), foolbox("PointwiseAttack", l2_binary_search=False)
    rows: list[tuple[str, str, Threat, Attack]] = [
        ("Pointwise for L0", "pointwise", l0, pixels),
        ("Salt and pepper, L2", "salt-pepper", l2, foolbox("SaltAndPepperNoiseAttack")),
        ("Contrast, L2", "contrast", l2, foolbox("BinarySearchContrastReductionAttack")),
    ]
    for title, attack, threat, peer in rows:
        yield Contest(title, attack, threat, {"Foolbox": peer})


THEMES: dict[str, Callable[[Threat, Threat], Iterator[Contest]]] = {
    "stepping": stepping,
    "automatic": automatic,
    "nearest": nearest,
    "decision": decision,
}


def main_ones(linf: Threat, l2: Threat) -> Iterator[Contest]:
    """The first contest of each main attack; beside the first peer alone where all take long."""
    done = set()
    for contest in (each for theme in THEMES.values() for each in theme(linf, l2)):
        if contest.attack in MAIN and contest.attack not in done:
            done.add(contest.attack)
            few = dict(islice(contest.peers.items(), 1))
            yield replace(contest, peers=few if contest.attack in LONG else contest.peers)
