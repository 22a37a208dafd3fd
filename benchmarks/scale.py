"""What an audit costs in time and memory against images, classes, dimensions and ranks.

All but ranks is measured in a fresh process, in processor time; everything with one thread a
process. Memory is the peak of the resident set over what it was before (Linux).
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import scotoma
from harness import DIGITS, THREAT, Claim, Options, digits_model
from measuring import fresh, peak
from peers import ours
from scotoma.attacks.core.oracle import Counted
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.metrics import approximate
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.classifier import freeze
from works import LATENT, random_layer

SIDE, LABELLED = 32, 100
Costs = dict[str, float]
Sizes = int | tuple[int, ...]


@contextmanager
def measured(costs: Costs, name: str, each: int = 1) -> Iterator[None]:
    """Write processor seconds (microseconds for each of `each`) and the peak in MiB to `costs`."""
    with peak(torch.device("cpu")) as mib:
        start = time.process_time()
        yield
        seconds = time.process_time() - start
    costs |= {f"{name} us each": 1e6 * seconds / each} if each > 1 else {f"{name} s": seconds}
    costs[f"{name} MiB"] = mib[0]


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def images(count: int) -> Costs:
    """Costs of opening a folder of `count` files, reading its training images, and an audit."""
    costs: Costs = {}
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "images"
        for part, share in (("train", 0.9), ("test", 0.1)):
            for label in range(10):
                folder, first = root / part / f"class{label:04d}", root / f"{part}-{label}.png"
                folder.mkdir(parents=True)
                Image.fromarray(np.full((SIDE, SIDE, 3), 10 + 25 * label, np.uint8)).save(first)
                for i in range(round(share * count / 10)):
                    (folder / f"image_{i:08d}.png").hardlink_to(first)
        load_data("digits")  # what reading data imports
        with measured(costs, "open", count):
            data = load_data(f"folder:{root}")
        assert data.train is not None
        with measured(costs, "read", len(data.train)):
            for batch in torch.arange(len(data.train)).split(256):
                data.train.images(batch)
        # one hidden layer, which separates ten shades of grey
        shades, wide = (10 + 25 * torch.arange(10)) / 255, 3 * SIDE**2
        hidden = linear(torch.full((64, wide), 1 / wide), torch.zeros(64))
        output = linear((40 * shades[:, None] / 64).expand(10, 64), -20 * shades**2)
        model = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), output)
        probes, out = ["robustness", "distance"], Path(made) / "run"
        with measured(costs, "audit"):
            scotoma.audit(model, data, "linf:0.03", out=out, probes=probes, attack="pgd", limit=50)
    return costs


def classes(count: int) -> Costs:
    """Costs of attacks on a linear model of `count` classes that no attack fools."""
    random = np.random.default_rng(0).uniform(0.3, 0.7, (count, SIDE**2))
    templates = torch.from_numpy(random.astype(np.float32))
    labels = torch.arange(LABELLED) % count
    pictures = templates[labels].view(-1, 1, SIDE, SIDE)
    model = nn.Sequential(nn.Flatten(), linear(2 * templates, -templates.square().sum(1)))
    freeze(model)
    costs: Costs = {}
    for name in ("pgd", "strong"):
        counted = Counted(model, LABELLED, pictures.device, False)
        attack = ours(name, Threat("linf", 0.01))
        with measured(costs, name):
            attack(counted, pictures.clone(), labels)
        spent = (counted.forwards + counted.backwards).float().mean()
        costs[f"{name} passes an image"] = float(spent)
    return costs


def dimensions(wide: int, train: int, queries: int) -> Costs:
    """Costs of the search, exact and by the index, and the slowness of a distance in the index."""
    centres = 1.5 * np.random.default_rng(0).normal(size=(100, LATENT))
    sets = []
    for seed, count in ((1, train), (2, queries)):
        random = np.random.default_rng(seed)
        points = centres[random.integers(100, size=count)] + random.normal(size=(count, LATENT))
        sets.append(random_layer(points, wide))
    known, query = sets
    costs: Costs = {}
    import faiss

    faiss.knn(query[:100], known[:1000], 5)
    with measured(costs, "exact"):
        exact = nearest_distance(known, query)
    work = 2 * train * queries * wide / 1e9
    costs["exact GFlop/s"] = work / costs["exact s"]
    approximate.EXACT = approximate.FEW = 0
    with measured(costs, "index"):
        near = approximate.nearest_neighbours(known, query)
    if near.recall:
        costs |= {"recall": near.recall.value, "recall low": near.recall.low}
    costs["mean excess"] = float((near.distance / exact - 1).mean())
    cells = approximate._cells(train, queries)
    shown = known[:: max(1, train // (64 * cells))]
    index = approximate._build(known, shown, np.zeros(wide, np.float32), cells)
    index.nprobe = 8
    start = time.process_time()
    index.search(query, 16)
    speed = work * 8 / cells / (time.process_time() - start)
    slowness = costs["exact GFlop/s"] / speed
    return costs | {"cells": cells, "index GFlop/s": speed, "slowness": slowness}


def scale(
    _: Options,
    images: Sizes = (2000, 10_000),
    classes: Sizes = (10, 100, 1000),
    dimensions: Sizes = (64, 256),
    train: int = 200_000,
    queries: int = 4000,
) -> list[Claim]:
    """Costs against files in a folder, classes, and dimensions of features; no target.

    Images: a folder of 32x32 PNG files (one for each class, hard-linked under many names) is
    opened, read and audited: 50 test images, by PGD and the distance probe. Classes: 100 images of
    a linear model are attacked by PGD and by `strong`. Dimensions: the search for the 5 nearest of
    `train` points, exact and by the index, and the speed of both in multiplications and additions.
    """
    for what, sizes in (("images", images), ("classes", classes), ("dimensions", dimensions)):
        for size in (sizes,) if isinstance(sizes, int) else sizes:
            more = (train, queries) if what == "dimensions" else ()
            costs = fresh("scale", what, size, *more)
            values = ", ".join(f"{name} {value:.4g}" for name, value in costs.items())
            print(f"{size:>9,} {what}: {values}", flush=True)
    return []


def ranks(options: Options, counts: Sizes = (1, 2, 4)) -> list[Claim]:
    """Wall-clock time of an audit of noisy digits on so many processes, with start; no target."""
    digits_model()  # makes the file if it is missing
    images = options.images or 10_000
    digits, random = load_data("digits"), np.random.default_rng(0)
    rows = torch.from_numpy(random.integers(len(digits.test), size=images))
    noise = random.normal(scale=0.02, size=(images, *digits.shape))
    test = (digits.test.images(rows).numpy() + noise).clip(0, 1).astype(np.float32)
    labels, alone = digits.test.labels[rows].numpy(), 0.0
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for count in (counts,) if isinstance(counts, int) else counts:
        with tempfile.TemporaryDirectory() as made:
            train: dict[str, Any] = {"x_train": test[:100], "y_train": labels[:100]}
            np.savez(Path(made) / "digits.npz", **train, x_test=test, y_test=labels)
            launch = f"-m torch.distributed.run --standalone --nproc-per-node {count} -m scotoma"
            data = f"--data npz:{made}/digits.npz --out {made}/run"
            audit = f"audit {DIGITS} {data} --threat {THREAT} --probes robustness"
            command = [sys.executable, *launch.split(), *audit.split()]
            start = time.perf_counter()
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
        alone = alone or seconds * count
        share = alone / seconds / count
        print(f"{count:>9,} ranks: {seconds:.1f} s, efficiency {share:.2f}", flush=True)
    return []
