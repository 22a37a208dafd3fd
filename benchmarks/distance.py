"""The exact search for the nearest training images beside the plain matrix product of the same size.

    python benchmarks/distance.py                                   # 10,000 x 60,000 in 1,024 dimensions: a minute or two
    python benchmarks/distance.py --queries 3000 --train 20000

Both run in fresh processes with the same number of threads, one after the other, on the same features: those of a random ReLU
layer over points in 20 dimensions, since features of images too lie near a surface of few dimensions. Time by the wall clock and
by the processor (the one to trust where other programs run). Memory is the peak of the resident set over what it was with the
features made (Linux). Targets: at most twice the time of the product, less than 1 GiB. Some queries are checked against float64.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

from memory import forget_peak, resident
from scotoma.metrics.neighbours import nearest_distance

SLOWDOWN = 2.0
MIB = 1024
LATENT = 20
CHECKED = 20
BLOCK = 1000


def features(count: int, dimensions: int, seed: int) -> np.ndarray:
    """float32 (count, dimensions) of one random layer, the same for every seed, at points drawn with `seed`."""
    layer = np.random.default_rng(0)
    weight, bias = layer.normal(size=(LATENT, dimensions)), layer.normal(size=dimensions)
    points = np.random.default_rng(seed).normal(size=(count, LATENT))
    made = np.empty((count, dimensions), np.float32)
    for start in range(0, count, BLOCK):
        made[start : start + BLOCK] = np.maximum(points[start : start + BLOCK] @ weight + bias, 0)
    return made


def measure(what: str, queries: int, train: int, dimensions: int) -> dict[str, float]:
    """Seconds, processor seconds and MiB beyond the features of one piece of work; the search also its largest error."""
    known, asked = features(train, dimensions, 1), features(queries, dimensions, 2)
    forget_peak()  # of making them
    before, wall, processor = resident("VmRSS"), time.perf_counter(), time.process_time()
    distances = np.empty(0)
    if what == "search":
        distances = nearest_distance(known, asked)
    else:
        for start in range(0, queries, BLOCK):
            np.matmul(asked[start : start + BLOCK], known.T)
    spent = {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "mib": resident("VmHWM") - before,
    }
    if what == "search":
        exact = [
            np.sort(np.linalg.norm(known - query.astype(np.float64), axis=1))[:5].mean()
            for query in asked[:CHECKED]
        ]
        spent["error"] = float(np.max(abs(distances[:CHECKED] / exact - 1)))
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=10_000, help="test images (default: 10,000)")
    parser.add_argument(
        "--train", type=int, default=60_000, help="training images (default: 60,000)"
    )
    parser.add_argument(
        "--dimensions", type=int, default=1024, help="of the features (default: 1,024)"
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=int(os.environ.get("OMP_NUM_THREADS", "2")),
        help="CPU threads",
    )
    parser.add_argument("--only", choices=("search", "product"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = (options.queries, options.train, options.dimensions)
    if options.only:
        print(json.dumps(measure(options.only, *size)))
        return
    print("{:,} x {:,} x {:,}, {} threads".format(*size, options.threads), flush=True)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(options.threads),
        "OPENBLAS_NUM_THREADS": str(options.threads),
    }
    spent = {}
    for what in ("product", "search"):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--only", what],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
        )
        spent[what] = json.loads(done.stdout)
        print(
            "{:<8} {wall:7.1f} s  processor {processor:7.1f} s  {mib:6.0f} MiB".format(
                what, **spent[what]
            ),
            flush=True,
        )
    product, search = spent["product"], spent["search"]
    for clock in ("wall", "processor"):
        report(
            f"time of the search, share of the product's ({clock})",
            search[clock] / product[clock],
            SLOWDOWN,
        )
    report("memory beyond the features, MiB", search["mib"], MIB)
    report(f"largest relative error of {CHECKED} queries", search["error"], 1e-6)


def report(what: str, value: float, target: float) -> None:
    """One line: what was measured, beside its target."""
    print(f"{what:<58} {value:8.3g}  target {target:g}  {'' if value <= target else 'MISSED'}")


if __name__ == "__main__":
    main()
