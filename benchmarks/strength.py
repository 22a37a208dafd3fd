"""Our attacks beside exact answers and beside other attacks, at full size, with targets."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "attacks"))
from linear import boxed_optimum, linear_model, saturated_images

from harness import (
    Attack,
    Claim,
    Options,
    Problem,
    Result,
    correct,
    fastest,
    first,
    loaded,
    measure,
    problem,
)
from page import Section
from peers import art, autoattack, contenders, foolbox, ours
from rivals import ProbabilityMargin, adaptive_auto_attack, malt, super_deepfool
from scotoma.attacks import takes
from scotoma.attacks.min_linf import MinLinf
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.transformed import contrast_shift
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.device import pays_in_bf16
from scotoma.utils.errors import InputError

BOX = Threat("linf", 1)


def show(results: dict[str, Result]) -> dict[str, Result]:
    """Print what attacks did."""
    for name, r in results.items():
        reached = f"{r.fooled:>7.1%} fooled, median {r.median:.5g}, mean {r.mean:.5g}"
        spent = f"{r.forwards:,.0f} + {r.backwards:,.0f} passes, {r.seconds:.2f} s"
        print(f"  {name:<30}{reached}, {spent}, {r.passes / r.seconds:.0%} in passes", flush=True)
    return results


def compared(
    results: dict[str, Result], time: float = 0, median: float = 0, hits: bool = False
) -> Iterator[Claim]:
    """Print what attacks did, and claim of the first what is asked.

    Args:
        time: at most this share of each other attack's time.
        median: at most this share of each other's median distance.
        hits: whether it fools as many images as each other.
    """
    (_, mine), *others = show(results).items()
    for name, other in others:
        if hits:
            fewer = f"images fooled less those of {name}"
            yield Claim(fewer, mine.hits - other.hits, 0, least=True)
        if median:
            yield Claim(f"median by that of {name}", mine.median / other.median, median)
        if time:
            yield Claim(f"time by that of {name}", mine.seconds / other.seconds, time)


def sooner(costlier: dict[str, Attack], setting: Problem, peer: Result) -> None:
    """Print the time of the first attack that is as near as the peer."""
    for name, attack in costlier.items():
        (less,) = show({name: measure(attack, setting)}).values()
        if less.fooled >= peer.fooled and less.median <= peer.median:
            print(f"  as near as the peer in x{less.seconds / peer.seconds:.2f} of its time")
            break


def optimum(
    options: Options, models: int = 4, images: int = 25, peer_images: int = 2
) -> Iterator[Claim]:
    """Minimum-norm attacks beside the exact answer on linear models, 90% of pixels 0 or 1."""
    torch.set_num_threads(options.threads)
    problems: list[tuple[Problem, Tensor]] = []
    for seed in range(models):
        model = linear_model((1, 28, 28), 10, seed).eval()
        pictures = saturated_images(2 * images, (1, 28, 28), seed)
        labels = model(pictures).argmax(1)
        exact = boxed_optimum(model, pictures, labels)
        rows = (exact > 1 / 256).nonzero().squeeze(1)[:images]  # cw-linf does not look nearer
        problems.append((Problem(model, pictures[rows], labels[rows]), exact[rows]))
    table: list[tuple[str, Attack, int, float | None]] = [
        ("cw-linf", ours("cw-linf", BOX), images, 0.1),
        ("fmn-linf", ours("fmn-linf", BOX, steps=100), images, 0.02),
        ("min-linf", ours("min-linf", BOX, steps=100), images, 0.02),
        ("Foolbox LInfFMNAttack", foolbox("LInfFMNAttack"), images, None),
        ("ART CarliniLInfMethod", art("CarliniLInfMethod"), peer_images, None),
    ]
    for name, attack, n, target in table:
        results, ratios = [], []
        for each, exact in problems:
            part = replace(each, images=each.images[:n], labels=each.labels[:n])
            results.append(measure(attack, part, reduced=False))
            ratios.append(results[-1].distances / exact[:n].numpy() - 1)
        above, most = np.concatenate(ratios), max(result.most for result in results)
        hit = np.isfinite(above)
        excess = above[hit].mean()
        print(f"  {name:<28}{hit.mean():>6.0%} fooled, {excess:.1%} above, {most} passes")
        if target:
            yield Claim(f"{name}: share of images fooled", float(hit.mean()), 1, least=True)
            yield Claim(f"{name}: mean excess over the optimum", float(excess), target)
        if name == "cw-linf":
            yield Claim("cw-linf: most forward passes of an image", most, 3000)


def carlini(options: Options, art_iterations: int = 300) -> Iterator[Claim]:
    """`cw-linf` beside ART's, at its defaults and with many iterations at one constant."""
    strong: dict[str, Any] = {"initial_const": 10.0, "largest_const": 20.0}
    attacks = {
        "cw-linf": ours("cw-linf", Threat("linf", 0.2)),
        "ART, defaults": art("CarliniLInfMethod"),
        "ART, strong": art("CarliniLInfMethod", max_iter=art_iterations, **strong),
    }
    yield from compared(fastest(attacks, problem(options)), time=1 / 20, median=1, hits=True)


def stated(setting: Problem, eps: str) -> Threat:
    """The L-inf threat of this size; without one that of the model's training."""
    threat = f"linf:{eps}" if eps else (setting.card or {}).get("threat")
    if not threat:
        raise InputError("the model does not say what it was trained for; give --set eps=0.3")
    return Threat.parse(threat)


def strong(
    options: Options, attack: str = "strong", eps: str = "", batch: int = 256
) -> Iterator[Claim]:
    """An attack of ours beside AutoAttack's standard version; clean errors count as errors."""
    setting = problem(options, 500)
    threat = stated(setting, eps)
    one = ours(attack, threat)

    def batches(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(images)).split(batch)
        return torch.cat([one(model, images[part], labels[part]) for part in rows])

    both = {attack: batches, "AutoAttack": autoattack(threat, batch=batch)}
    results = fastest(both, replace(setting, eps=threat.eps), reduced=False)
    yield from compared(results, time=1 / 3)
    mine, peer = results.values()
    points = 100 * (peer.hits - mine.hits) / setting.drawn
    yield Claim("points of robust accuracy above AutoAttack's", points, 0.5)


def rivals(options: Options, eps: str = "") -> Iterator[Claim]:
    """`strong` beside single attacks of later papers, written here (marked *), on ten classes."""
    setting = problem(options, 200)
    threat = stated(setting, eps)
    attacks = {
        "strong": ours("strong", threat),
        "MALT*": malt(threat),
        "PMA*": ProbabilityMargin(threat),
        "PMA*, 10 starts": ProbabilityMargin(threat, restarts=10),
        "A3*": adaptive_auto_attack(threat),
    }
    yield from compared(fastest(attacks, replace(setting, eps=threat.eps)), time=0.5, hits=True)
    nearest = {"min-l2": ours("min-l2", Threat("l2", 1)), "SuperDeepFool*": super_deepfool()}
    yield from compared(fastest(nearest, replace(setting, norm="l2")), time=0.5, median=1)


MINIMUM = {
    "ddn": ("l2", "DDNAttack"),
    "fmn-l2": ("l2", "L2FMNAttack"),
    "fmn-linf": ("linf", "LInfFMNAttack"),
    "fmn-l1": ("l1", "L1FMNAttack"),
    "sigma-zero": ("l0", "L0FMNAttack"),
    "pointwise": ("l0", "PointwiseAttack"),
}
"""Norm and Foolbox's class; that of `sigma-zero` is another attack, FMN for L0."""


def minimum(
    options: Options, steps: int = 100, attacks: str = ",".join(MINIMUM)
) -> Iterator[Claim]:
    """Minimum-norm attacks beside Foolbox's, then with fewer steps if not twice as fast."""
    setting = problem(options)
    for name in attacks.split(","):
        norm, peer = MINIMUM[name]
        more = {"l2_binary_search": False} if name == "pointwise" else {"steps": steps}
        part, threat = replace(setting, norm=norm), Threat(norm, 1)
        pair = {name: ours(name, threat, steps=steps), f"Foolbox {peer}": foolbox(peer, **more)}
        results = fastest(pair, part, options.repeats)
        yield from compared(results, time=0.5, median=1)
        mine, theirs = results.values()
        if mine.seconds > theirs.seconds / 2 and takes(name, "steps"):
            few = [max(1, round(share * steps)) for share in (0.1, 0.2, 0.5)]
            sooner({f"{name}, {n} steps": ours(name, threat, steps=n) for n in few}, part, theirs)


def linf(options: Options, steps: int = 100) -> Iterator[Claim]:
    """`min-linf` beside the best peer at equal passes, by mean distance; all in float32."""
    least = MinLinf.restarts * MinLinf.restart_steps + 10
    if steps < least:
        raise InputError(f"steps={steps} leaves no steps after the restarts; give at least {least}")
    setting = problem(replace(options, threads=1), 50)
    classes = setting.model(setting.images[:1]).shape[1]
    mine = measure(MinLinf("linf", steps=steps), setting, False)
    peers = fastest(contenders(steps, classes), setting, reduced=False)
    others = {"cw-linf, to its end": measure(ours("cw-linf", BOX), setting, False)}
    if pays_in_bf16(setting.model, setting.images):
        others["min-linf, in bf16"] = measure(MinLinf("linf", steps=steps), setting, True)
    show({"min-linf": mine} | peers | others)
    for name, peer in (peers | others).items():
        a, b = (np.minimum(result.distances, 1) for result in (mine, peer))
        rows = np.random.default_rng(0).integers(len(a), size=(10_000, len(a)))
        low, high = np.quantile(a[rows].mean(1) / b[rows].mean(1), (0.025, 0.975))
        mean = f"mean x{mine.mean / peer.mean:.4f} ({low:.4f} to {high:.4f})"
        pairs = f"nearer {(a < b).sum()}, farther {(a > b).sum()}"
        print(f"  against {name:<22} {mean}, {pairs}, x{mine.seconds / peer.seconds:.2f}")
    best = min(peers, key=lambda name: peers[name].mean)
    yield Claim(f"mean by that of the best peer, {best}", mine.mean / peers[best].mean, 1)
    yield Claim(f"time by that of {best}", mine.seconds / peers[best].seconds, 1)


def boundary(
    options: Options, attack: str = "boundary", norm: str = "l2", steps: int = 0
) -> Iterator[Claim]:
    """A decision-based attack beside Foolbox's at equal queries, then with fewer."""
    setting, threat = replace(problem(options, 20), norm=norm), Threat(norm, 1)
    if attack == "boundary":
        theirs = foolbox("BoundaryAttack", steps=steps or 5000)
    else:
        theirs = foolbox("HopSkipJumpAttack", steps=steps or 17, constraint=norm)
    queries = round(measure(theirs, setting).forwards)
    equal = ours(attack, threat, queries=queries, tolerance=0.0)
    results = fastest({attack: equal, "Foolbox": theirs}, setting, options.repeats)
    mine, peer = results.values()
    yield from compared(results, median=1, hits=True)
    faster = mine.forwards / mine.seconds * peer.seconds / peer.forwards
    yield Claim("queries a second by Foolbox's", faster, 5, least=True)
    print(f"  without any cost of its own a search would reach {peer.seconds / peer.passes:.1f}")
    few = [250 * 2**i for i in range(9) if 250 * 2**i < queries]
    sooner(
        {f"{attack}, {n:,} queries": ours(attack, threat, queries=n) for n in few}, setting, peer
    )


def hits(result: Result, size: float) -> int:
    return int((result.distances <= size + TOLERANCE).sum())


def grid(options: Options, eps: str = "0.3", shifts: str = "") -> Section:
    """`strong` beside AutoAttack on every contrast shift that the blind-spots probe tries.

    One row is a shift of the test images, and a size: eps, or alpha eps. `strong` runs once for
    both sizes, as in an audit; the standard version of AutoAttack runs at each. Both attack the
    images that the network classifies correctly after the shift. `--set shifts="0.9,0.05;0.8,0"`
    takes some (alpha, beta) alone.
    """
    classifier, data = loaded(options, "mnist-small-pgd-03")
    network, claimed = classifier.module, Threat.parse(f"linf:{eps}")
    pairs = [tuple(map(float, each.split(","))) for each in shifts.split(";")] if shifts else []
    images, labels = first(data, options.images or 50)
    rows, mine, theirs, behind = [], 0.0, 0.0, 0
    for alpha, beta in pairs or contrast_shifts(data.name):
        transform = contrast_shift(alpha, beta)
        shifted = transform(images) if transform else images
        setting = Problem(network, *correct(network, shifted, labels))
        scaled = alpha * claimed.eps
        own = measure(ours("strong", claimed, until=scaled if alpha < 1 else 0.0), setting)
        mine += own.seconds
        for size in dict.fromkeys((claimed.eps, scaled)):
            peer = measure(autoattack(Threat("linf", size)), setting)
            theirs += peer.seconds
            both = hits(own, size), hits(peer, size)
            behind += both[0] < both[1] - 0.005 * own.n
            name = f"({alpha:g}, {beta:g})"
            rows.append([name, f"{size:.3g}", *(f"{fooled} of {own.n}" for fooled in both)])
            print(*rows[-1], f"{own.seconds:.0f} s, {peer.seconds:.0f} s", flush=True)
    intro = (
        f"{classifier.name}, {len(images)} images of {data.name}: `strong` takes "
        f"{mine / theirs:.2f} of AutoAttack's time and is behind by more than half a point in "
        f"{behind} of {len(rows)} rows."
    )
    return Section(intro, ["shift", "size", "strong", "AutoAttack"], rows)
