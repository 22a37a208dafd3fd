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
from scotoma.report.figures import draw
from scotoma.results.finding import Curve, Finding
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.space import Space

TENTHS = np.linspace(0.1, 1, 10)
HIGHEST = 2.0
"""Scores above are drawn here."""


def ours(objective: Objective, passes: int, seed: int) -> None:
    starts = [objective.space.place("scale-shift", each) for each in STARTS]
    gradient_search(objective, starts, passes, seed)


SEARCHERS = {"ours": ours, "cma-es": evolution, "random": random_search}


def curve(objective: Objective, passes: int) -> np.ndarray:
    """Return the lowest score so far at each tenth of the passes; NaN before the first."""
    scores = list(best_so_far(objective.visits))
    ends = passes * TENTHS
    return np.array([min((s for n, s in scores if n <= end), default=np.nan) for end in ends])


def drawn(curves: dict[str, list[np.ndarray]], passes: int) -> str:
    """Return an SVG document with the median curve of each searcher and the range of its seeds."""
    rows = []
    for name, seeds in curves.items():
        for end, scores in zip(passes * TENTHS, np.minimum(seeds, HIGHEST).T, strict=True):
            ends = {"score_low": scores.min(), "score_high": scores.max()}
            rows.append({"searcher": name, "passes": end, "score": np.median(scores), **ends})
    name, score = "compositions", "lowest score so far (smallest perturbation / budget)"
    columns = "passes", "score", "forward and backward passes", score, "searcher"
    figure = Curve(name, "Median and range over seeds.", name, *columns, interval=True)
    return draw(figure, Finding(name, "", "not applicable", "", "", tables={name: rows}))


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
        space = Space(tuple(TRANSFORMS), run.claim.data.shape[0])
        screen = shuffled(len(run.claim.data.test), run.seed)
        for name in names:
            for seed in range(seeds):
                objective = Objective(run, space, run.indices, screen)
                SEARCHERS[name](objective, passes, seed)
                curves[name].append(curve(objective, passes))
                best = objective.best
                scores = " ".join(f"{each:.2f}" for each in curves[name][-1])
                at = f"{objective.space.at(best.point)} (cost {best.cost:.3f})"
                rows.append([name, f"{seed}", scores, f"{objective.passes:,}", at])
                print(*rows[-1], sep="  ", flush=True)
    Path(out).write_text(drawn(curves, passes))
    heads = ["searcher", "seed", "lowest score at tenths", "passes", "best"]
    return Section(f"{run.claim.model.name} at {threat}, {len(run.indices)} images.", heads, rows)
