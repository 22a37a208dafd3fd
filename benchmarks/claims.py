"""Claims on speed and strength, one by one, at full size: each is a value with a target.

    python benchmarks/claims.py                                  # all of them: hours
    python benchmarks/claims.py boundary divergence
    python benchmarks/claims.py strong --model mnist-pgd --images 500 --set eps=0.3

`--set NAME=VALUE` sets a keyword of the function with the claim's name below. `--model` is
"digits" (trained here), a name in `zoo/`, or as in `scotoma audit`. A distance is that of the
returned image if a float32 forward pass gives it another label; images that the model
misclassifies are omitted, and failures count as infinite.
"""

import argparse
import ast
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import scotoma
import synthesis
import training
import works
from false_alarms import false_alarms
from harness import ZOO, Attack, Claim, Options, Problem, Result, command, fastest, known, measure
from harness import problem as load
from page import Section

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "attacks"))
from linear import boxed_optimum, linear_model, saturated_images

from peers import art, autoattack, contenders, foolbox, ours
from rivals import ProbabilityMargin, adaptive_auto_attack, malt, super_deepfool
from scale import ranks, scale
from scotoma.attacks import ATTACKS, takes
from scotoma.attacks.min_linf import MinLinf
from scotoma.claim import Threat
from scotoma.papers.running import reproduce
from scotoma.probes.masking.probe import Masking
from scotoma.utils.device import pays_in_bf16
from scotoma.utils.errors import InputError

Claims = Iterable[Claim]
TIMED = ",".join(name for name in ATTACKS if name not in ("transfer", "latent-descent"))
"""Attacks that need nothing but the model."""
BOX = Threat("linf", 1)


def show(results: dict[str, Result]) -> dict[str, Result]:
    """Print what attacks did."""
    for name, r in results.items():
        reached = f"{r.fooled:>7.1%} fooled, median {r.median:.5g}, mean {r.mean:.5g}"
        spent = f"{r.forwards:,.0f} + {r.backwards:,.0f} passes, {r.seconds:.2f} s"
        print(f"  {name:<30}{reached}, {spent}, {r.passes / r.seconds:.0%} in passes", flush=True)
    return results


def sooner(costlier: dict[str, Attack], setting: Problem, peer: Result) -> None:
    """Print the time of the first attack that is as near as the peer."""
    for name, attack in costlier.items():
        (less,) = show({name: measure(attack, setting)}).values()
        if less.fooled >= peer.fooled and less.median <= peer.median:
            print(f"  as near as the peer in x{less.seconds / peer.seconds:.2f} of its time")
            break


def optimum(options: Options, models: int = 4, images: int = 25, peer_images: int = 2) -> Claims:
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
    ]
    rows = ("LInfFMNAttack", foolbox, images), ("CarliniLInfMethod", art, peer_images)
    for kind, peer, few in rows:
        try:
            table.append((f"{peer.__name__} {kind}", peer(kind), few, None))
        except InputError as error:
            print(f"  omitted: {error}")
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


def carlini(options: Options, art_iterations: int = 300) -> Claims:
    """`cw-linf` beside ART's, at its defaults and with many iterations at one constant."""
    setting = load(options)
    strong: dict[str, Any] = {"initial_const": 10.0, "largest_const": 20.0}
    attacks = {
        "cw-linf": ours("cw-linf", Threat("linf", 0.2)),
        "ART, defaults": art("CarliniLInfMethod"),
        "ART, strong": art("CarliniLInfMethod", max_iter=art_iterations, **strong),
    }
    (_, mine), *peers = show(fastest(attacks, setting)).items()
    for name, peer in peers:
        yield Claim(f"images fooled less those of {name}", mine.hits - peer.hits, 0, least=True)
        yield Claim(f"median by that of {name}", mine.median / peer.median, 1)
        yield Claim(f"times as fast as {name}", peer.seconds / mine.seconds, 20, least=True)


def stated(setting: Problem, eps: float) -> Threat:
    """The L-inf threat of this size; at 0 that of the model's training."""
    trained = (setting.card or {}).get("threat")
    if not eps and not trained:
        raise InputError("the model does not say what it was trained for; give --set eps=0.3")
    return Threat("linf", eps) if eps else Threat.parse(trained)  # type: ignore[arg-type]


def strong(options: Options, attack: str = "strong", eps: float = 0, batch: int = 256) -> Claims:
    """An attack of ours beside AutoAttack's standard version; clean errors count as errors."""
    setting = load(options, 500)
    threat = stated(setting, eps)

    def batches(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        rows = torch.arange(len(images)).split(batch)
        one = ours(attack, threat)
        return torch.cat([one(model, images[part], labels[part]) for part in rows])

    setting = replace(setting, eps=threat.eps)
    both = {attack: batches, "AutoAttack": autoattack(threat, batch=batch)}
    mine, peer = show(fastest(both, setting, reduced=False)).values()
    points = 100 * (peer.hits - mine.hits) / setting.drawn
    yield Claim("points of robust accuracy above AutoAttack's", points, 0.5)
    yield Claim("time by AutoAttack's", mine.seconds / peer.seconds, 1 / 3)


def rivals(options: Options, eps: float = 0) -> Claims:
    """`strong` beside single attacks of later papers, written here (marked *), on ten classes."""
    setting = load(options, 200)
    threat = stated(setting, eps)
    setting = replace(setting, eps=threat.eps)
    attacks = {
        "strong": ours("strong", threat),
        "MALT*": malt(threat),
        "PMA*": ProbabilityMargin(threat),
        "PMA*, 10 starts": ProbabilityMargin(threat, restarts=10),
        "A3*": adaptive_auto_attack(threat),
    }
    (_, mine), *others = show(fastest(attacks, setting)).items()
    for name, other in others:
        yield Claim(f"images fooled less those of {name}", mine.hits - other.hits, 0, least=True)
        yield Claim(f"time by that of {name}", mine.seconds / other.seconds, 0.5)
    setting = replace(setting, norm="l2", eps=math.inf)
    nearest = {"min-l2": ours("min-l2", Threat("l2", 1)), "SuperDeepFool*": super_deepfool()}
    mine, other = show(fastest(nearest, setting)).values()
    yield Claim("median in L2 by that of SuperDeepFool", mine.median / other.median, 1)
    yield Claim("time by that of SuperDeepFool", mine.seconds / other.seconds, 0.5)


MINIMUM = {
    "ddn": ("l2", "DDNAttack"),
    "fmn-l2": ("l2", "L2FMNAttack"),
    "fmn-linf": ("linf", "LInfFMNAttack"),
    "fmn-l1": ("l1", "L1FMNAttack"),
    "sigma-zero": ("l0", "L0FMNAttack"),
    "pointwise": ("l0", "PointwiseAttack"),
}
"""Norm and Foolbox's class; that of `sigma-zero` is another attack, FMN for L0."""


def minimum(options: Options, steps: int = 100, attacks: str = ",".join(MINIMUM)) -> Claims:
    """Minimum-norm attacks beside Foolbox's, then with fewer steps if not twice as fast."""
    setting = load(options)
    for name in attacks.split(","):
        norm, peer = MINIMUM[name]
        more = {"l2_binary_search": False} if name == "pointwise" else {"steps": steps}
        part, threat = replace(setting, norm=norm), Threat(norm, 1)
        pair = {name: ours(name, threat, steps=steps), f"Foolbox {peer}": foolbox(peer, **more)}
        mine, theirs = show(fastest(pair, part, options.repeats)).values()
        yield Claim(f"{name}: median by Foolbox's", mine.median / theirs.median, 1)
        yield Claim(f"{name}: time by Foolbox's", mine.seconds / theirs.seconds, 0.5)
        if mine.seconds <= theirs.seconds / 2 or not takes(name, "steps"):
            continue
        few = [max(1, round(share * steps)) for share in (0.1, 0.2, 0.5)]
        sooner({f"{name}, {n} steps": ours(name, threat, steps=n) for n in few}, part, theirs)


def linf(options: Options, steps: int = 100) -> Claims:
    """`min-linf` beside the best peer at equal passes, by mean distance; all in float32."""
    least = MinLinf.restarts * MinLinf.restart_steps + 10
    if steps < least:
        raise InputError(f"steps={steps} leaves no steps after the restarts; give at least {least}")
    setting = load(replace(options, threads=1), 50)
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
) -> Claims:
    """A decision-based attack beside Foolbox's at equal queries, then with fewer."""
    setting, threat = replace(load(options, 20), norm=norm), Threat(norm, 1)
    if attack == "boundary":
        theirs = foolbox("BoundaryAttack", steps=steps or 5000)
    else:
        theirs = foolbox("HopSkipJumpAttack", steps=steps or 17, constraint=norm)
    queries = round(measure(theirs, setting).forwards)
    equal = ours(attack, threat, queries=queries, tolerance=0.0)
    both = fastest({"Foolbox": theirs, attack: equal}, setting, options.repeats)
    peer, mine = show(both).values()
    faster = mine.forwards / mine.seconds * peer.seconds / peer.forwards
    yield Claim("median by Foolbox's", mine.median / peer.median, 1)
    yield Claim("images fooled less Foolbox's", mine.hits - peer.hits, 0, least=True)
    yield Claim("queries a second by Foolbox's", faster, 5, least=True)
    print(f"  without any cost of its own a search would reach {peer.seconds / peer.passes:.1f}")
    few = [250 * 2**i for i in range(9) if 250 * 2**i < queries]
    sooner(
        {f"{attack}, {n:,} queries": ours(attack, threat, queries=n) for n in few}, setting, peer
    )


def masking(options: Options) -> Claims:
    """Time of the masking probe on a robust MNIST model, whose images stay to the end."""
    model, count = options.model or str(ZOO / "mnist-pgd.safetensors"), options.images or 500
    sources = [str(ZOO / f"{name}.safetensors") for name in ("tramer-b", "tramer-d")]
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        probes = [Masking(sources)]
        report = scotoma.audit(model, "mnist", "linf:0.3", out=out, probes=probes, limit=count)
        seconds = time.perf_counter() - start
    spent = {kind: round(total / count) for kind, total in report.provenance["passes"].items()}
    print(f"  {report['masking'].headline} Passes an image: {spent}")
    yield Claim("seconds for 500 images on two cores", seconds * 500 / count, 180)


def tables(options: Options, names: str = "table2,table3") -> Claims:
    """Time of Tables 2 and 3 of Zhang et al. 2019 for 2,000 images, on two cores."""
    count = options.images or 100
    for name in names.split(","):
        for attack, minutes in (("strong", 20.0), ("cw-linf", 60.0)):
            start = time.monotonic()
            with tempfile.TemporaryDirectory() as out:
                item = f"zhang2019/{name}"
                (done,) = reproduce(item, Path(out), attack=attack, limit=count, say=print)
                scaled = (time.monotonic() - start) / 60 * 2000 / count
                done.show()
            yield Claim(f"{name}, {attack}: minutes for 2,000 images", scaled, minutes)


def work(section: Callable[..., Section], **size: Any) -> Callable[..., Claims]:
    """The claims of a section of the page, at this size."""

    def claims(options: Options, **settings: Any) -> Claims:
        done = section(options, **size | settings)
        print("\n".join("  " + "  ".join(filter(None, row)) for row in done.rows), flush=True)
        yield from done.claims

    claims.__doc__ = section.__doc__
    return claims


GROUPS: dict[str, Callable[..., Claims]] = {
    "optimum": optimum,
    "carlini": carlini,
    "strong": strong,
    "rivals": rivals,
    "minimum": minimum,
    "linf": linf,
    "boundary": boundary,
    "synthesis": work(synthesis.prediction, count=100, looped=4, memory=True),
    "attribution": work(works.attribution, methods="integrated-gradients"),
    "passes": work(works.passes, models="mnist-wong", attacks=TIMED, eps=1e-4),
    "masking": masking,
    "false-alarms": false_alarms,
    "distance": work(works.distance, queries=10_000, train=60_000),
    "divergence": work(works.divergence, points=7_000),
    "tables": tables,
    "throughput": work(works.throughput),
    "training": work(training.training, epochs=6),
    "scale": scale,
    "ranks": ranks,
}
UNTARGETED = ("throughput", "training", "scale", "ranks")
"""Without a target; only when named."""


def value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def main(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", help=f"of {', '.join(GROUPS)}")
    for name, kind in (("model", str), ("data", str), ("images", int)):
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--repeats", type=int, default=2, help="the fastest run counts")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    given = vars(parser.parse_args())
    names = given.pop("names") or [name for name in GROUPS if name not in UNTARGETED]
    settings = {name: value(text) for name, text in (each.split("=") for each in given.pop("set"))}
    for name in known(names, GROUPS, "no claims"):
        print(f"{name}: {GROUPS[name].__doc__}", flush=True)
        start = time.perf_counter()
        try:
            for claim in GROUPS[name](Options(**given), **settings):
                print(claim, flush=True)
        except InputError as error:
            if len(names) == 1:
                raise
            print(f"  omitted: {error}")
        print(f"  {time.perf_counter() - start:.0f} s\n", flush=True)


if __name__ == "__main__":
    command(main, __doc__, threads=2)
