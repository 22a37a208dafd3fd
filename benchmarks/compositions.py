"""The search over compositions beside random search and CMA-ES, at equal passes of the model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from harness import Options, claimed, known
from page import Section
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
TENTHS = np.linspace(0.1, 1, 10)


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
    scores = list(best_so_far(objective.visits))
    ends = passes * TENTHS
    return np.array([min((s for n, s in scores if n <= end), default=np.nan) for end in ends])


def draw(curves: dict[str, list[np.ndarray]], passes: int, out: str) -> None:
    """Draw the median curve of each searcher, and all of its seeds faintly."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for number, (name, all_seeds) in enumerate(curves.items()):
        for each in all_seeds:
            axes.plot(passes * TENTHS, each, color=f"C{number}", alpha=0.3, linewidth=1)
        # NaN, and so no line, before all seeds have a score
        median = np.median(all_seeds, 0)
        axes.plot(passes * TENTHS, median, color=f"C{number}", label=name, linewidth=2)
    axes.set(
        xlabel="forward and backward passes",
        ylabel="lowest score so far (smallest perturbation / budget)",
        ylim=(0, 2),
    )
    axes.legend()
    figure.tight_layout()
    figure.savefig(out)


def compositions(
    options: Options,
    threat: str = "linf:0.3",
    passes: int = 100_000,
    seeds: int = 3,
    searchers: str = ",".join(SEARCHERS),
    out: str = "compositions.svg",
) -> Section:
    """The search over compositions beside random search and CMA-ES, at equal passes of the model.

    For each searcher and seed it prints the lowest score at tenths of the passes, and it draws the
    curves. All searchers score points in the same way, on the same images
    (`scotoma.probes.blindspots.search`), and the passes that gradients take count.
    """
    names = known(searchers.split(","), SEARCHERS, "--set searchers: no")
    curves: dict[str, list[np.ndarray]] = {name: [] for name in names}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(claimed(options, threat), Path(folder) / "run", limit=options.images or 100)
        for name in names:
            for seed in range(seeds):
                objective = searched(run, name, passes, seed)
                curves[name].append(curve(objective, passes))
                best = objective.best
                scores = " ".join(f"{each:.2f}" for each in curves[name][-1])
                at = f"{objective.space.at(best.point)} (cost {best.cost:.3f})"
                rows.append([name, f"{seed}", scores, f"{objective.passes:,}", at])
                print(*rows[-1], sep="  ", flush=True)
    draw(curves, passes, out)
    heads = ["searcher", "seed", "lowest score at tenths", "passes", "best"]
    return Section(f"{run.claim.model.name} at {threat}, {len(run.indices)} images.", heads, rows)
