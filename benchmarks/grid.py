"""`strong` beside AutoAttack on every contrast shift that the blind-spots probe tries.

    python benchmarks/grid.py --network mnist-small-pgd-03 --eps 0.3
    python benchmarks/grid.py --network panel.py:trades_mnist --eps 0.3 --limit 100

One row is a shift of the test images, and a size: eps, or alpha eps. `strong` runs once for both
sizes, as in an audit; the standard version of AutoAttack runs at each. Both attack the images that
the network classifies correctly after the shift; the images that they return are classified again.
"""

import argparse

import torch
from threadpoolctl import threadpool_limits

from harness import Problem, Result, command, correct, first, in_zoo, measure
from page import table
from peers import autoattack, ours
from scotoma.claim import TOLERANCE, Threat
from scotoma.data import load_data
from scotoma.models.loading import load_model
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.transformed import contrast_shift


def hits(result: Result, size: float) -> int:
    return int((result.distances <= size + TOLERANCE).sum())


def main(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network", default="mnist-small-pgd-03", help="a name in zoo/, or a model"
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--eps", default="0.3", help="claimed size in L-inf (default: 0.3)")
    parser.add_argument("--shifts", help="alpha,beta of some shifts: 0.9,0.05;0.8,0 (default: all)")
    parser.add_argument("--limit", type=int, default=50, help="images (default: 50)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    data = load_data(given.data, given.data_root)
    network = load_model(in_zoo(given.network)).checked(data).module
    claimed = Threat.parse(f"linf:{given.eps}")
    shifts = contrast_shifts(data.name)
    if given.shifts:
        shifts = [tuple(map(float, each.split(","))) for each in given.shifts.split(";")]
    images, labels = first(data, given.limit)
    lines, spent, behind = [], [0.0, 0.0], 0
    with threadpool_limits(given.threads):
        for alpha, beta in shifts:
            transform = contrast_shift(alpha, beta)
            shifted = transform(images) if transform else images
            setting = Problem(network, *correct(network, shifted, labels))
            scaled = alpha * claimed.eps
            own = measure(ours("strong", claimed, until=scaled if alpha < 1 else 0.0), setting)
            spent[0] += own.seconds
            for size in dict.fromkeys((claimed.eps, scaled)):
                peer = measure(autoattack(Threat("linf", size)), setting)
                spent[1] += peer.seconds
                fooled, theirs = hits(own, size), hits(peer, size)
                behind += fooled < theirs - 0.005 * own.n
                name = f"({alpha:g}, {beta:g})"
                lines.append([name, f"{size:.3g}", *(f"{k} of {own.n}" for k in (fooled, theirs))])
                print(*lines[-1], f"{own.seconds:.0f} s, {peer.seconds:.0f} s", flush=True)
    heads = ["shift", "size", "strong", "AutoAttack"]
    print(f"\n{given.network}, {len(images)} images of {data.name}\n\n{table(heads, lines)}")
    print(f"\n`strong` takes {spent[0] / spent[1]:.2f} of AutoAttack's time and is behind ", end="")
    print(f"by more than half a point in {behind} of {len(lines)} rows")


if __name__ == "__main__":
    command(main, __doc__)
