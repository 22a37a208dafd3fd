"""Our decision-based attacks beside Foolbox's: same model, images, threads and process.

    python benchmarks/boundary.py
    python benchmarks/boundary.py --attack hop-skip-jump --norm linf
    python benchmarks/boundary.py --model model.safetensors --data mnist --images 40

Each runs from its own start. Ours gets as many queries as Foolbox's took, and uses them all: with its own tolerance `boundary`
would leave most of them. Then it runs as it is with 250, 500, 1,000 and so on until it is as near as Foolbox's was: the time of
that run is what a user saves. A query is one image through the model. Distances and successes are measured on the images returned;
a failure counts as infinite, and images that the model has wrong are left out.

Target: at least 5 times Foolbox's queries a second, no larger median. The bound says how often Foolbox's rate a search without any
cost of its own would reach with Foolbox's passes; passes over larger batches can be a little cheaper.
"""

from __future__ import annotations

import sys
from typing import Any

from peers import Result, compare, foolbox, parser, problem
from scotoma.attacks import make
from scotoma.claim import Threat
from scotoma.utils.errors import InputError

SPEED = 5


def main() -> None:
    options = parse()
    norm = "l2" if options.attack == "boundary" else options.norm
    setting = problem(options, norm)
    count, threat = len(setting.images), Threat(norm, 1)
    if options.attack == "boundary":
        theirs = foolbox("BoundaryAttack", steps=options.steps or 5000)
    else:
        theirs = foolbox("HopSkipJumpAttack", steps=options.steps or 17, constraint=norm)
    print(
        f"\n{'attack':<28}{'fooled':>8}{'median':>9}{'queries':>10}{'seconds':>9}{'in passes':>11}{'queries a second':>18}"
    )
    (peer,) = compare(setting, [theirs], 1)
    equal = make(options.attack, threat, queries=round(peer.forwards), tolerance=0.0)
    peer, mine = compare(setting, [theirs, equal], options.repeats)
    print(row("Foolbox", peer, count) + "\n" + row(options.attack, mine, count))
    faster, bound = (
        mine.forwards / mine.seconds * peer.seconds / peer.forwards,
        peer.seconds / peer.passes,
    )
    met = mine.median <= peer.median and mine.fooled >= peer.fooled and faster >= SPEED
    print(
        f"\nmedian x{mine.median / peer.median:.2f}, {faster:.1f} times Foolbox's queries a second",
        end=" ",
    )
    print(f"(target: {SPEED}, bound: {bound:.1f})  {'met' if met else 'MISSED'}\n")

    queries, as_near = 250, mine
    while queries < peer.forwards:
        (as_near,) = compare(
            setting, [make(options.attack, threat, queries=queries)], options.repeats
        )
        print(row(f"{options.attack}, {queries:,} queries", as_near, count), flush=True)
        if as_near.median <= peer.median:
            break
        queries, as_near = queries * 2, mine
    if as_near.median <= peer.median:
        print(
            f"as near as Foolbox in {as_near.forwards / peer.forwards:.2f} of its queries and",
            end=" ",
        )
        print(
            f"{as_near.seconds / peer.seconds:.2f} of its time: {peer.seconds / as_near.seconds:.1f} times as fast"
        )


def parse() -> Any:
    made = parser(__doc__)
    made.add_argument("--attack", choices=["boundary", "hop-skip-jump"], default="boundary")
    made.add_argument(
        "--norm", choices=["l2", "linf"], default="l2", help="of hop-skip-jump (default: l2)"
    )
    made.add_argument(
        "--steps",
        type=int,
        help="of Foolbox's attack (default: 5000 of boundary, 17 of hop-skip-jump)",
    )
    return made.parse_args()


def row(name: str, result: Result, images: int) -> str:
    return (
        f"{name:<28}{result.fooled:>8.1%}{result.median:>9.4g}{result.forwards:>10,.0f}{result.seconds:>9.2f}"
        f"{result.passes / result.seconds:>11.0%}{result.forwards * images / result.seconds:>18,.0f}"
    )


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
