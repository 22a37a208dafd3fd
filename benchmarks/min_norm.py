"""Our minimum-norm attacks beside Foolbox's: same model, images, threads and process, at the same number of steps.

    python benchmarks/min_norm.py
    python benchmarks/min_norm.py --attacks ddn,fmn-l2 --images 20 --threads 1
    python benchmarks/min_norm.py --model model.safetensors --data mnist --images 40

Each runs from its own start with its own settings, but for the number of steps: Foolbox's default, 100, or `--steps`. Distances and
successes are measured on the images returned; a failure counts as infinite, and images that the model has wrong are left out. The
attacks take turns, and the fastest of `--repeats` runs counts.

The peers are Foolbox's attacks of the same name. Two things to know: `sigma-zero` has none there, and adv-lib, which has it, needs
torchvision, which this project does without, so that it runs against FMN for L0 and, where numba is installed, Brendel and
Bethge's attack for L0 with its own 1,000 steps. And the L2 FMN of Foolbox 3.3.4 divides the norm by itself where it projects, so
that nothing is projected; for L2 `ddn` is the harder comparison.

Target: no larger median, at most half the time. Where that is missed, ours runs with fewer steps as well, a tenth, a fifth and half
as many, until it is as near as the peer: the time of that run is what a user saves. The column "in passes" is the share of the
time inside the model: where it is more than half of the peer's, no attack that asks as often can take half its time.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from typing import Any

from peers import Result, compare, foolbox, parser, problem
from scotoma.attacks import make, takes
from scotoma.claim import Threat
from scotoma.utils.errors import InputError

TIME = 0.5
SHARES = (0.1, 0.2, 0.5)
PEERS = {
    "ddn": ("l2", ["DDNAttack"]),
    "fmn-l2": ("l2", ["L2FMNAttack"]),
    "fmn-linf": ("linf", ["LInfFMNAttack"]),
    "fmn-l1": ("l1", ["L1FMNAttack"]),
    "sigma-zero": ("l0", ["L0FMNAttack", "L0BrendelBethgeAttack"]),
    "pointwise": ("l0", ["PointwiseAttack"]),
}
"""The norm and Foolbox's classes for each of our attacks."""


def main() -> None:
    options = parse()
    try:
        chosen = {name: PEERS[name] for name in options.attacks.split(",")}
    except KeyError as unknown:
        raise InputError(
            f"no benchmark of the attack {unknown}; known: {', '.join(PEERS)}"
        ) from None
    setting = problem(options, "l2")
    print(
        f"\n{'attack':<28}{'fooled':>8}{'median':>9}{'forwards':>10}{'backwards':>11}{'seconds':>9}{'in passes':>11}"
    )
    verdicts = []
    for name, (norm, peers) in chosen.items():
        peers = [
            peer for peer in peers if "Bethge" not in peer or importlib.util.find_spec("numba")
        ]
        attacks = [
            make(name, Threat(norm, 1), steps=options.steps),
            *(foolbox(peer, **settings(peer, options)) for peer in peers),
        ]
        mine, *theirs = compare(replace(setting, norm=norm), attacks, options.repeats)
        print(row(name, mine))
        for peer, result in zip(peers, theirs, strict=True):
            print(row(f"Foolbox {peer}", result), flush=True)
            verdicts.append(verdict(f"{name} / {peer}", mine, result))
            if met(mine, result) or not takes(name, "steps"):
                continue
            for share in SHARES:
                attack = make(name, Threat(norm, 1), steps=max(1, round(share * options.steps)))
                (fewer,) = compare(replace(setting, norm=norm), [attack], options.repeats)
                print(row(f"{name}, {attack.steps} steps", fewer), flush=True)
                if near(fewer, result):
                    verdicts.append(
                        f"{'':<32} as near in {attack.steps} steps and x{fewer.seconds / result.seconds:.2f} of the time"
                    )
                    break
    print("\n" + "\n".join(verdicts))


def parse() -> Any:
    made = parser(__doc__)
    made.add_argument(
        "--attacks", default=",".join(PEERS), help="names with commas between (default: all)"
    )
    made.add_argument(
        "--steps", type=int, default=100, help="of both (default: 100, Foolbox's own)"
    )
    return made.parse_args()


def settings(peer: str, options: Any) -> dict[str, Any]:
    """Foolbox's defaults but for the steps, and no search for a smaller L2 distance after L0."""
    if peer == "PointwiseAttack":
        return {"l2_binary_search": False}
    return {} if "Bethge" in peer else {"steps": options.steps}


def row(name: str, result: Result) -> str:
    return (
        f"{name:<28}{result.fooled:>8.1%}{result.median:>9.4g}{result.forwards:>10,.0f}{result.backwards:>11,.0f}"
        f"{result.seconds:>9.2f}{result.passes / result.seconds:>11.0%}"
    )


def near(mine: Result, peer: Result) -> bool:
    return mine.fooled >= peer.fooled and mine.median <= peer.median


def met(mine: Result, peer: Result) -> bool:
    return near(mine, peer) and mine.seconds <= TIME * peer.seconds


def verdict(name: str, mine: Result, peer: Result) -> str:
    said = f"{name:<32} median x{mine.median / peer.median:.3f}, time x{mine.seconds / peer.seconds:.2f}"
    return f"{said} (target: 1, {TIME})  {'met' if met(mine, peer) else 'MISSED'}"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
