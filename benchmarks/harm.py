"""The composition that `scotoma map` finds beside the worst contrast shift, at no more harm.

    python benchmarks/harm.py zoo/mnist-pgd.safetensors --data mnist --threat linf:0.3 --out MAP

Continues or reads the run of `scotoma map MODEL --limit 100 --attack min-linf` in the folder. The
composition usually costs more accuracy than the shift, though less than a point. So its first parts
are left out, one more each time, and all others are made smaller until the whole test set loses no
more images than after the shift. On the images that transforms were chosen on, the lowest median of
smallest perturbations by budgets picks one of these. Robust accuracies within shares of the scaled
budget are on images that no transform was chosen on.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness import command
from page import table
from scotoma.attacks import ATTACKS
from scotoma.auditing import make_claim
from scotoma.data import load_data
from scotoma.execution.run import Run, Transform
from scotoma.execution.sampling import shuffled
from scotoma.probes.base import Settings
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.map_result import COMPOSED, PLANE
from scotoma.probes.blindspots.transformed import Scout, TransformedSet
from scotoma.transforms import TRANSFORMS
from scotoma.transforms.composition import Composition
from scotoma.transforms.space import Space
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress
from scotoma.utils.stats import Estimate, paired_difference, rate

ATTACK, STEPS = "min-linf", 100
SHARES = np.arange(1, 0.39, -0.05)
"""Sizes of a composition, tried in turn."""
PARTS = (1.0, 0.6, 0.3)
"""Shares of the scaled budget."""
BATCH = 500


class Table:
    """What changes do to a model, a line for each."""

    def __init__(self, run: Run, rows: Tensor):
        self.run, self.rows, test = run, rows, run.claim.data.test
        self.model, self.labels = run.claim.model.module, test.labels
        self.images = test.images(torch.arange(len(test)))
        self.before = self.correct(None)
        self.lines: list[list[str]] = []

    def correct(self, change: Transform | None) -> np.ndarray:
        """Return which test images are classified correctly after a change, bool (n,)."""
        parts = zip(self.images.split(BATCH), self.labels.split(BATCH), strict=True)
        with torch.no_grad():
            each = [self.model(change(x) if change else x).argmax(1) == y for x, y in parts]
        return torch.cat(each).numpy()

    def cost(self, change: Transform) -> Estimate:
        return paired_difference(self.before, self.correct(change))

    def sizes(self, change: Transform, rows: Tensor) -> np.ndarray:
        """Return the smallest perturbations by the scaled budget, (n,); 0 where it errs without."""
        images, labels = change(self.images[rows]), self.labels[rows]
        attack = ATTACKS[ATTACK](self.run.claim.threat.norm, steps=STEPS)
        adversarial = attack(self.model, images, labels)
        sizes = (adversarial - images).abs().flatten(1).amax(1)
        with torch.no_grad():
            sizes[self.model(adversarial).argmax(1) == labels] = torch.inf
            sizes[self.model(images).argmax(1) != labels] = 0
        budget = self.run.claim.threat.eps * getattr(change, "contrast", 1.0)
        return (sizes / budget).numpy()

    def add(self, name: str, change: Transform) -> Estimate:
        """Measure a change on the images of the table, and return its cost."""
        cost, sizes = self.cost(change), self.sizes(change, self.rows)
        left = [str(rate(sizes > part + 1e-6)) for part in PARTS]
        self.lines.append([name, str(change), in_points(cost), *left, f"{np.median(sizes):.2f}"])
        print(*self.lines[-1], sep="  ", flush=True)
        return cost


def in_points(cost: Estimate) -> str:
    value, low, high = (100 * each for each in (cost.value, cost.low, cost.high))
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def reduced(found: Composition, most: float, made: Table, chosen_on: Tensor) -> Composition:
    """Return the worst composition from a found one that costs no more accuracy than `most`."""
    space = Space(tuple(TRANSFORMS), made.images.shape[1])
    kinds = {TRANSFORMS[name]: name for name in space.parts}
    names = [kinds[type(part)] for part in found.parts]
    points = [part.point for part in found.parts]  # type: ignore[attr-defined]
    places = list(map(space.place, names, points))
    best: list[tuple[float, Composition]] = []
    for first in range(len(places)):
        for share in SHARES:
            change = space.at(share * np.sum(places[first:], 0))
            if change.parts and made.cost(change).value <= most:
                best.append((float(np.median(made.sizes(change, chosen_on))), change))
                print(f"without {first} parts, at {share:.2f}: {best[-1][0]:.2f}", flush=True)
                break
    if not best:
        raise InputError("no part of the composition costs as little as the shift")
    return min(best, key=lambda each: each[0])[1]


def main(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--threat", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run of the map")
    parser.add_argument("--limit", type=int, default=100, help="images of the map (default: 100)")
    parser.add_argument("--images", type=int, default=200, help="images here (default: 200)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    claim = make_claim(given.model, load_data(given.data, given.data_root), given.threat, None)
    run = Run(claim, given.out, limit=given.limit, progress=Progress())
    with run.store.locked():
        result = BlindSpotMap().search(Scout(run, Settings(ATTACK), BlindSpotMap.steps))
    worst: dict[str, TransformedSet | None] = {each.name: each.worst for each in result.families}
    shift, found = (worst.get(name) for name in (PLANE, COMPOSED))
    if shift is None or found is None or shift.transform is None:
        raise InputError(f"out={given.out}: the map has no harmless contrast shift or composition")
    order = shuffled(len(claim.data.test), run.seed)
    made = Table(run, order[given.limit : given.limit + given.images].sort().values)
    most = made.add("contrast shift", shift.transform).value
    composition = found.transform
    assert isinstance(composition, Composition)
    made.add("composition", composition)
    smaller = reduced(composition, most, made, torch.tensor(result.chosen_on))
    made.add("composition, no more harm", smaller)
    heads = ["", "change", "cost in points", *(f"left at {part:g}" for part in PARTS), "median"]
    print(f"\n{given.model}, {len(made.rows)} images, shares of the scaled budget\n")
    print(table(heads, made.lines))


if __name__ == "__main__":
    command(main, __doc__)
