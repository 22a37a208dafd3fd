"""What an audit costs in time and memory against images, classes, dimensions and ranks.

    python benchmarks/scale.py                                   # images, classes and dimensions: some minutes
    python benchmarks/scale.py --images 2000,8000,32000 --classes "" --dimensions ""
    python benchmarks/scale.py --ranks 1,2,4                     # and an audit of 10,000 digits on so many processes

Images: a folder of 32x32 PNG files (one for each class, hard-linked under many names) is opened, read and audited: 50 test images,
by PGD and the distance probe. Classes: 100 images of a linear model of so many classes are attacked by PGD and by `strong`.
Dimensions: the search for the 5 nearest of `--train` points, exact and by the index, and the speed of both in multiplications and
additions; the points are clustered, near a surface of 20 dimensions. All but ranks is measured in a fresh process, in processor
time; everything with one thread a process. Memory is the peak of the resident set over what it was before (Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import scotoma
from digits import THREAT, digits_model
from memory import forget_peak, resident
from scotoma.attacks import ATTACKS
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.metrics import approximate
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.classifier import freeze
from scotoma.utils.random import Randomness

SIDE = 32
LATENT = 20
CLUSTERS = 100
AUDITED = 50
TEST = 0.1
"""Share of test images."""
LABELLED = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--images", default="2000,10000", help="files in the folder (default: 2000,10000)"
    )
    parser.add_argument("--classes", default="10,100,1000", help="classes (default: 10,100,1000)")
    parser.add_argument("--dimensions", default="64,256", help="of the features (default: 64,256)")
    parser.add_argument(
        "--train",
        type=int,
        default=200_000,
        help="training points of the search (default: 200,000)",
    )
    parser.add_argument("--queries", type=int, default=4000, help="of the search (default: 4,000)")
    parser.add_argument(
        "--ranks",
        default="",
        help="processes of torch.distributed.run that share an audit (default: none)",
    )
    parser.add_argument(
        "--shared", type=int, default=10_000, help="test images of that audit (default: 10,000)"
    )
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        what, size = options.only
        sizes = (options.train, options.queries) if what == "dimensions" else ()
        print(json.dumps(PARTS[what](int(size), *sizes)))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for what in PARTS:
        for size in filter(None, getattr(options, what).split(",")):
            asked = [sys.executable, __file__, *sys.argv[1:], "--only", what, size]
            done = subprocess.run(asked, env=environment, check=True, stdout=subprocess.PIPE)
            told = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{int(size):>9,} {what}: "
                + ", ".join(f"{name} {value:.4g}" for name, value in told.items()),
                flush=True,
            )
    alone = 0.0
    for count in map(int, filter(None, options.ranks.split(","))):
        seconds = ranks(count, options.shared, environment)
        alone = alone or seconds * count
        print(
            f"{count:>9,} ranks: {seconds:.1f} s, efficiency {alone / seconds / count:.2f}",
            flush=True,
        )


@contextmanager
def measured(told: dict[str, float], name: str, each: int = 1):
    """Write the processor seconds (for each of `each`, in microseconds where there are many) and the peak in MiB into `told`."""
    forget_peak()
    held, start = resident("VmRSS"), time.process_time()
    yield
    seconds = time.process_time() - start
    told |= {f"{name} us each": 1e6 * seconds / each} if each > 1 else {f"{name} s": seconds}
    told[f"{name} MiB"] = resident("VmHWM") - held


def images(count: int) -> dict[str, float]:
    """To open a folder of `count` files, to read all its training images, and to audit it."""
    told: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "images"
        for part, share in (("train", 1 - TEST), ("test", TEST)):
            for label in range(10):
                (root / part / f"class{label:04d}").mkdir(parents=True)
                first = root / f"{part}-{label}.png"
                Image.fromarray(np.full((SIDE, SIDE, 3), 10 + 25 * label, np.uint8)).save(first)
                for i in range(round(share * count / 10)):
                    (root / part / f"class{label:04d}" / f"image_{i:08d}.png").hardlink_to(first)
        load_data("digits")  # what reading data imports
        with measured(told, "open", count):
            data = load_data(f"folder:{root}")
        assert data.train is not None
        with measured(told, "read", len(data.train)):
            for batch in torch.arange(len(data.train)).split(256):
                data.train.images(batch)
        with measured(told, "audit"):
            scotoma.audit(
                brightness(),
                data,
                "linf:0.03",
                out=Path(made) / "run",
                probes=["robustness", "distance"],
                attack="pgd",
                limit=AUDITED,
            )
    return told


def brightness() -> nn.Module:
    """A network of one hidden layer that tells ten shades of grey apart, on images of three channels."""
    shades = (10 + 25 * torch.arange(10)) / 255
    hidden, answer = nn.Linear(3 * SIDE**2, 64), nn.Linear(64, 10)
    with torch.no_grad():
        hidden.weight.copy_(torch.full((64, 3 * SIDE**2), 1 / (3 * SIDE**2)))
        hidden.bias.zero_()
        answer.weight.copy_((40 * shades[:, None] / 64).expand(10, 64))
        answer.bias.copy_(-20 * shades**2)
    return nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), answer)


def classes(count: int) -> dict[str, float]:
    """To attack images of `count` classes, all of which a linear model has right."""
    random = np.random.default_rng(0)
    templates = torch.from_numpy(random.uniform(0.3, 0.7, (count, SIDE**2)).astype(np.float32))
    labels = torch.arange(LABELLED) % count
    pictures = templates[labels].view(-1, 1, SIDE, SIDE)
    answer = nn.Linear(SIDE**2, count)
    with torch.no_grad():
        answer.weight.copy_(2 * templates)
        answer.bias.copy_(-templates.square().sum(1))
    model = nn.Sequential(nn.Flatten(), answer)
    freeze(model)
    told: dict[str, float] = {}
    for name in ("pgd", "strong"):
        counted = Counted(model, LABELLED, pictures.device, False)
        attack = ATTACKS[name](Threat("linf", 0.01))
        with measured(told, name):
            attack(
                counted,
                pictures.clone(),
                labels,
                generator=Randomness(0, torch.arange(LABELLED), name),
            )
        told[f"{name} passes an image"] = float(
            (counted.forwards + counted.backwards).float().mean()
        )
    return told


def dimensions(count: int, train: int, queries: int) -> dict[str, float]:
    """To search, exactly and by the index; and how much longer the index takes for a distance."""
    known, asked = clustered(train, count, 1), clustered(queries, count, 2)
    told: dict[str, float] = {}
    import faiss

    faiss.knn(asked[:100], known[:1000], 5)
    with measured(told, "exact"):
        exact = nearest_distance(known, asked)
    told["exact GFlop/s"] = 2 * train * queries * count / told["exact s"] / 1e9
    approximate.EXACT = approximate.FEW = 0
    with measured(told, "index"):
        found = approximate.nearest_neighbours(known, asked)
    if found.recall:
        told |= {"recall": found.recall.value, "recall low": found.recall.low}
    told["mean excess"] = float((found.distance / exact - 1).mean())
    cells = approximate._cells(train, queries)
    index = approximate._built(
        known, known[:: max(1, train // (64 * cells))], np.zeros(count, np.float32), cells
    )
    index.nprobe = 8
    start = time.process_time()
    index.search(asked, 16)
    scanned = 2 * train * queries * count * 8 / cells / (time.process_time() - start) / 1e9
    return told | {
        "cells": cells,
        "index GFlop/s": scanned,
        "slowness": told["exact GFlop/s"] / scanned,
    }


def clustered(count: int, wide: int, seed: int) -> np.ndarray:
    """float32 (count, wide): a random ReLU layer, the same for every seed, at points in clusters."""
    layer = np.random.default_rng(0)
    weight, bias = (layer.normal(size=shape).astype(np.float32) for shape in ((LATENT, wide), wide))
    centres = 1.5 * layer.normal(size=(CLUSTERS, LATENT))
    random, made = np.random.default_rng(seed), np.empty((count, wide), np.float32)
    for start in range(0, count, 10_000):
        here = made[start : start + 10_000]
        points = centres[random.integers(CLUSTERS, size=len(here))] + random.normal(
            size=(len(here), LATENT)
        )
        here[:] = np.maximum(points.astype(np.float32) @ weight + bias, 0)
    return made


def ranks(count: int, images: int, environment: dict[str, str]) -> float:
    """Wall-clock seconds of an audit of `images` digits, slightly noisy ones, on so many processes, start included."""
    digits_model()  # makes the file where it is missing
    file = Path(tempfile.gettempdir()) / "scotoma-benchmarks" / "digits-pgd-0.2.safetensors"
    digits, random = load_data("digits"), np.random.default_rng(0)
    rows = torch.from_numpy(random.integers(len(digits.test), size=images))
    noisy = digits.test.images(rows).numpy() + random.normal(
        scale=0.02, size=(images, *digits.shape)
    )
    with tempfile.TemporaryDirectory() as made:
        data, test = Path(made) / "digits.npz", noisy.clip(0, 1).astype(np.float32)
        np.savez(
            data,
            x_train=test[:100],
            y_train=digits.test.labels[rows][:100],
            x_test=test,
            y_test=digits.test.labels[rows],
        )
        launch = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(count),
            "-m",
            "scotoma",
        ]
        asked = [
            "audit",
            str(file),
            "--data",
            f"npz:{data}",
            "--threat",
            str(THREAT),
            "--probes",
            "robustness",
        ]
        start = time.perf_counter()
        subprocess.run(
            [*launch, *asked, "--out", f"{made}/run"],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


PARTS: dict[str, Callable[..., dict[str, float]]] = {
    "images": images,
    "classes": classes,
    "dimensions": dimensions,
}

if __name__ == "__main__":
    main()
