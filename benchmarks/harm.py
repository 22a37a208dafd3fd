"""The composition that `scotoma map` finds beside the worst contrast shift, at no more harm."""

from pathlib import Path

import numpy as np
import torch

from harness import Options, claimed
from page import Section
from scotoma.attacks import ATTACKS
from scotoma.execution import records as rec
from scotoma.execution.run import Run, Transform
from scotoma.execution.sampling import shuffled
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.map_result import COMPOSED, PLANE
from scotoma.probes.blindspots.transformed import Scout, TransformedSet
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.composition import Composition
from scotoma.transforms.control import contrast
from scotoma.transforms.space import Space
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress
from scotoma.utils.stats import Estimate, paired_difference, rate

ATTACK, STEPS = "min-linf", 100
SHARES = np.arange(1, 0.39, -0.05)
"""Sizes of a composition, tried in turn."""
PARTS = (1.0, 0.6, 0.3)
"""Shares of the scaled budget."""


def cost(run: Run, change: Transform) -> Estimate:
    """Return the accuracy that a change costs on the whole test set."""
    before, after = (rec.is_correct(run.predictions(each)) for each in (None, change))
    return paired_difference(before, after)


def sizes(run: Run, change: Transform) -> np.ndarray:
    """Return the smallest perturbations by the scaled budget, (n,); 0 where it errs without."""
    norm, eps = run.claim.threat.norm, run.claim.threat.eps
    records = run.attack(ATTACKS[ATTACK](norm, steps=STEPS), change)
    return records[norm].to_numpy() / (contrast(change) * eps)


def row(run: Run, name: str, change: Transform) -> list[str]:
    """Return what a change does to the model, measured on the images of the run."""
    found, percent = sizes(run, change), [100 * each for each in cost(run, change)[:3]]
    left = [str(rate(rec.beyond(found, part))) for part in PARTS]
    cells = [name, str(change), "{:.2f} ({:.2f} to {:.2f})".format(*percent), *left]
    print(*cells, f"{np.median(found):.2f}", sep="  ", flush=True)
    return [*cells, f"{np.median(found):.2f}"]


def reduced(found: Composition, most: float, run: Run) -> Composition:
    """Return the worst composition from a found one that costs no more accuracy than `most`."""
    space = Space(tuple(TRANSFORMS), run.claim.data.shape[0])
    kinds = {TRANSFORMS[name]: name for name in space.parts}
    names = [kinds[type(part)] for part in found.parts]
    points = [part.point for part in found.parts]  # type: ignore[attr-defined]
    places = list(map(space.place, names, points))
    best: list[tuple[float, Composition]] = []
    for first in range(len(places)):
        for share in SHARES:
            change = space.at(share * np.sum(places[first:], 0))
            if change.parts and cost(run, change).value <= most:
                best.append((float(np.median(sizes(run, change))), change))
                print(f"without {first} parts, at {share:.2f}: {best[-1][0]:.2f}", flush=True)
                break
    if not best:
        raise InputError("no part of the composition costs as little as the shift")
    return min(best, key=lambda each: each[0])[1]


def harm(options: Options, threat: str = "linf:0.3", out: str = "map", limit: int = 100) -> Section:
    """The composition that `scotoma map` finds beside the worst contrast shift, at no more harm.

    Continues or reads the run of `scotoma map MODEL --limit 100 --attack min-linf` in the folder
    `out`. The composition usually costs more accuracy than the shift, though less than a point. So
    its first parts are left out, one more each time, and all others are made smaller until the
    whole test set loses no more images than after the shift. On the images that transforms were
    chosen on, the lowest median of smallest perturbations by budgets picks one of these. Robust
    accuracies within shares of the scaled budget are on `--images` (200) others.
    """
    run = Run(claimed(options, threat), Path(out), limit=limit, progress=Progress())
    with run.store.locked():
        result = BlindSpotMap().search(Scout(run, Settings(ATTACK), BlindSpotMap.steps))
        worst: dict[str, TransformedSet | None] = {e.name: e.worst for e in result.families}
        shift, found = (worst.get(name) for name in (PLANE, COMPOSED))
        if shift is None or found is None or shift.transform is None:
            raise InputError(f"out={out}: the map has no harmless contrast shift or composition")
        composition = found.transform
        assert isinstance(composition, Composition)
        order = shuffled(len(run.claim.data.test), run.seed)
        others = run.apart().subset(order[limit : limit + (options.images or 200)].sort().values)
        chosen_on = run.apart().subset(torch.tensor(result.chosen_on))
        most = cost(run, shift.transform).value
        rows = [
            row(others, "contrast shift", shift.transform),
            row(others, "composition", composition),
            row(others, "composition, no more harm", reduced(composition, most, chosen_on)),
        ]
    intro = f"{run.claim.model.name}, {len(others.indices)} images, shares of the scaled budget."
    left = [f"left at {part:g}" for part in PARTS]
    return Section(intro, ["", "change", "cost in points", *left, "median"], rows)
