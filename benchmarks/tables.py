"""Time of Tables 2 and 3 of Zhang et al. 2019, scaled to the paper's 2,000 images, beside what they should take at most.

    python benchmarks/tables.py --table table2 --attack strong --images 250

Needs MNIST or Fashion-MNIST and the reference model. Run it on a quiet machine: the targets are for two cores.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from scotoma.papers.running import reproduce
from scotoma.papers.zhang2019 import published

MINUTES = {"strong": 20.0, "cw-linf": 60.0}
"""The most that a table of 2,000 images should take on two cores."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", default="table2", choices=["table2", "table3"])
    parser.add_argument("--attack", default="strong", choices=list(MINUTES))
    parser.add_argument("--images", type=int, default=250, help="attacked in each cell")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wall, processor = time.monotonic(), time.process_time()
        (finished,) = reproduce(
            f"zhang2019/{given.table}",
            Path(folder),
            attack=given.attack,
            limit=given.images,
            say=print,
        )
        wall, processor = time.monotonic() - wall, time.process_time() - processor
        finished.show()
    scaled = wall / 60 * published.IMAGES / given.images
    print(
        f"{given.table}, {given.attack}, {given.images} images a cell, {torch.get_num_threads()} threads"
    )
    print(f"wall {wall:.0f} s, processor {processor:.0f} s")
    print(
        f"2,000 images: {scaled:.1f} min, {scaled / MINUTES[given.attack]:.2f} of the most that it should take "
        f"({MINUTES[given.attack]:.0f} min)"
    )


if __name__ == "__main__":
    main()
