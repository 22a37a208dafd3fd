"""The search over compositions beside random search and CMA-ES, at equal passes of the model.

    python benchmarks/compositions.py zoo/mnist-pgd.safetensors --data mnist --threat linf:0.3

For each searcher and seed it prints the lowest score at tenths of the passes, and it draws the
curves. All searchers score points in the same way, on the same images
(`scotoma.probes.blindspots.search`), and the passes that gradients take count.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from harness import command, known
from scotoma.auditing import make_claim
from scotoma.data import load_data
from scotoma.execution.run import Run
from scotoma.execution.sampling import shuffled
from scotoma.probes.blindspots.map import STARTS
from scotoma.probes.blindspots.search import (
    Objective,
    best_so_far,
    evolution,
    gradient_search,
    random_search,
)
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.space import Space

SEARCHERS = ("ours", "cma-es", "random")
POINTS = 10


def searched(run: Run, searcher: str, passes: int, seed: int) -> Objective:
    """Return what a searcher visits."""
    space = Space(tuple(TRANSFORMS), run.claim.data.shape[0])
    screen = shuffled(len(run.claim.data.test), run.seed)
    objective = Objective(run, space, run.indices, screen)
    if searcher == "ours":
        starts = [space.place("scale-shift", each) for each in STARTS]
        gradient_search(objective, starts, passes, seed)
    elif searcher == "cma-es":
        evolution(objective, passes, seed)
    else:
        random_search(objective, passes, seed)
    return objective


def curve(objective: Objective, passes: int) -> np.ndarray:
    """Return the lowest score so far at each tenth of the passes; NaN before the first."""
    known = list(best_so_far(objective.visits))
    ends = np.linspace(0, passes, POINTS + 1)[1:]
    return np.array([min((s for n, s in known if n <= end), default=np.nan) for end in ends])


def draw(curves: dict[str, list[np.ndarray]], passes: int, out: Path) -> None:
    """Draw the median curve of each searcher, and all of its seeds faintly."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    at = np.linspace(0, passes, POINTS + 1)[1:]
    for number, (name, all_seeds) in enumerate(curves.items()):
        for each in all_seeds:
            axes.plot(at, each, color=f"C{number}", alpha=0.3, linewidth=1)
        # NaN, and so no line, before all seeds have a score
        axes.plot(at, np.median(all_seeds, 0), color=f"C{number}", label=name, linewidth=2)
    axes.set(
        xlabel="forward and backward passes",
        ylabel="lowest score so far (smallest perturbation / budget)",
        ylim=(0, 2),
    )
    axes.legend()
    figure.tight_layout()
    figure.savefig(out)


def main(parser: argparse.ArgumentParser) -> None:
    """Run the searchers and print their curves."""
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--threat", required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--passes", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--searchers", default=",".join(SEARCHERS))
    parser.add_argument("--out", type=Path, default=Path("compositions.svg"))
    options = parser.parse_args()
    claim = make_claim(options.model, load_data(options.data, options.data_root), options.threat)
    searchers = known(options.searchers.split(","), SEARCHERS, "--searchers: no")
    curves: dict[str, list[np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as folder:
        run = Run(claim, Path(folder) / "run", limit=options.limit)
        for searcher in searchers:
            for seed in range(options.seeds):
                objective = searched(run, searcher, options.passes, seed)
                curves.setdefault(searcher, []).append(curve(objective, options.passes))
                best = objective.best
                scores = " ".join(f"{each:.2f}" for each in curves[searcher][-1])
                print(
                    f"{searcher}, seed {seed}: {scores} after {objective.passes:,} passes; best "
                    f"{objective.space.at(best.point)} (cost {best.cost:.3f})",
                    flush=True,
                )
    draw(curves, options.passes, options.out)


if __name__ == "__main__":
    command(main, __doc__, threads=None)
