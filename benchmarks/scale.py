"""What an audit costs in time and memory against images, classes, dimensions and ranks, and beside
other programs.

Parts of an audit are measured in a fresh process, in processor time, with one thread. Memory is the
peak of the resident set over what it was before (Linux).
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
from measuring import Spent, fresh, spending
from page import Section
from peers import ours
from scotoma import demo
from scotoma.attacks.core.oracle import Counted
from scotoma.data import load_data
from scotoma.metrics import approximate
from scotoma.metrics.neighbours import nearest_distance
from scotoma.models.classifier import freeze
from scotoma.threat import Threat
from scotoma.utils.threads import POLICY
from works import LATENT, random_layer

SIDE, LABELLED = 32, 100
SETTLED = 20.0
"""Seconds after which the mean load tells that other programs run."""
Costs = dict[str, float]


def costs_of(name: str, spent: Spent, each: int = 1) -> Costs:
    """Return processor seconds (microseconds for each of `each`) and the peak in MiB."""
    cost = {f"{name} us each": 1e6 * spent.processor / each}
    return (cost if each > 1 else {f"{name} s": spent.processor}) | {f"{name} MiB": spent.mib}


def linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def images(count: int) -> Costs:
    """Costs of opening a folder of `count` files, reading its training images, and an audit."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made) / "images"
        # test images are a little brighter, since an audit refuses those that are training images
        for part, share, brighter in (("train", 0.9, 0), ("test", 0.1, 3)):
            for label in range(10):
                folder, first = root / part / f"class{label:04d}", root / f"{part}-{label}.png"
                folder.mkdir(parents=True)
                grey = np.full((SIDE, SIDE, 3), 10 + 25 * label + brighter, np.uint8)
                Image.fromarray(grey).save(first)
                for i in range(round(share * count / 10)):
                    (folder / f"image_{i:08d}.png").hardlink_to(first)
        load_data("digits")  # what reading data imports
        with spending() as spent:
            data = load_data(f"folder:{root}")
        costs = costs_of("open", spent, count)
        assert data.train is not None
        with spending() as spent:
            for batch in torch.arange(len(data.train)).split(256):
                data.train.images(batch)
        costs |= costs_of("read", spent, len(data.train))
        # one hidden layer, which separates ten shades of grey
        shades, wide = (10 + 25 * torch.arange(10)) / 255, 3 * SIDE**2
        hidden = linear(torch.full((64, wide), 1 / wide), torch.zeros(64))
        output = linear((40 * shades[:, None] / 64).expand(10, 64), -20 * shades**2)
        model = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), output)
        probes, out = ["robustness", "distance"], Path(made) / "run"
        with spending() as spent:
            scotoma.audit(model, data, "linf:0.03", out=out, probes=probes, attack="pgd", limit=50)
    return costs | costs_of("audit", spent)


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
        with spending() as spent:
            attack(counted, pictures.clone(), labels)
        passes = (counted.forwards + counted.backwards).float().mean()
        costs |= costs_of(name, spent) | {f"{name} passes an image": float(passes)}
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
    import faiss

    faiss.knn(query[:100], known[:1000], 5)
    with spending() as spent:
        exact = nearest_distance(known, query)
    work = 2 * train * queries * wide / 1e9
    costs = costs_of("exact", spent) | {"exact GFlop/s": work / spent.processor}
    approximate.EXACT = approximate.FEW = 0
    with spending() as spent:
        near = approximate.nearest_neighbours(known, query)
    costs |= costs_of("index", spent)
    if near.recall:
        costs |= {"recall": near.recall.value, "recall low": near.recall.low}
    costs["mean excess"] = float((near.distance / exact - 1).mean())
    cells = approximate._cells(train, queries)
    shown = known[:: max(1, train // (64 * cells))]
    index = approximate._build(known, shown, np.zeros(wide, np.float32), cells)
    index.nprobe = 8
    with spending() as spent:
        index.search(query, 16)
    speed = work * 8 / cells / spent.processor
    slowness = costs["exact GFlop/s"] / speed
    return costs | {"cells": cells, "index GFlop/s": speed, "slowness": slowness}


def scale(
    _: Options,
    images: str = "2000,10000",
    classes: str = "10,100,1000",
    dimensions: str = "64,256",
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
        for size in filter(None, sizes.split(",")):
            more = (train, queries) if what == "dimensions" else ()
            costs = fresh("scale", what, int(size), *more)
            values = ", ".join(f"{name} {value:.4g}" for name, value in costs.items())
            print(f"{int(size):>9,} {what}: {values}", flush=True)
    return []


def audit(*options: str, module: str = "scotoma", **environment: str) -> float:
    """Return the wall-clock time of an audit in a process of its own, with start."""
    with tempfile.TemporaryDirectory() as folder, spending() as spent:
        command = [sys.executable, "-m", *module.split(), "audit", *options, "--out", folder]
        others = {name: value for name, value in os.environ.items() if name != POLICY}
        subprocess.run(command, check=True, env=others | environment, stdout=subprocess.DEVNULL)
    return spent.wall


def ranks(options: Options, counts: str = "1,2,4") -> list[Claim]:
    """Wall-clock time of an audit of noisy digits on so many processes, with start; no target."""
    digits_model()  # makes the file if it is missing
    images = options.images or 10_000
    digits, random = load_data("digits"), np.random.default_rng(0)
    rows = torch.from_numpy(random.integers(len(digits.test), size=images))
    noise = random.normal(scale=0.02, size=(images, *digits.shape))
    test = (digits.test.images(rows).numpy() + noise).clip(0, 1).astype(np.float32)
    labels, alone = digits.test.labels[rows].numpy(), 0.0
    for count in map(int, counts.split(",")):
        with tempfile.TemporaryDirectory() as made:
            # any others than the test images, which an audit refuses
            train: dict[str, Any] = {"x_train": 1 - test[:100], "y_train": labels[:100]}
            np.savez(Path(made) / "digits.npz", **train, x_test=test, y_test=labels)
            torchrun = f"torch.distributed.run --standalone --nproc-per-node {count} -m scotoma"
            data = f"{DIGITS} --data npz:{made}/digits.npz --threat {THREAT} --probes robustness"
            one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            seconds = audit(*data.split(), module=torchrun, **one)
        alone = alone or seconds * count
        share = alone / seconds / count
        print(f"{count:>9,} ranks: {seconds:.1f} s, efficiency {share:.2f}", flush=True)
    return []


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Run programs that take a core each."""
    endless = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(endless) for _ in range(programs)]
    try:
        if programs:
            time.sleep(SETTLED)
        yield
    finally:
        for each in running:
            each.kill()


def shared_machine(_: Options) -> Section:
    """How much longer an audit takes beside other busy programs: minutes where threads spin.

    The audit of the demo, with `robustness` and `masking` on 20 digits, runs alone and beside two
    processes that do nothing but compute, each time as a new process with what the command line
    sets by itself (`utils.threads`) and with OpenMP's own policy. Times are wall times, the shorter
    of two.
    """
    small = f"{demo.MODEL} --data digits --threat {demo.THREAT} --limit 20".split()
    policies = {"as the command line sets it": {}, "threads that spin": {POLICY: "ACTIVE"}}
    times: dict[str, list[float]] = {name: [] for name in policies}
    for programs in (0, 2):
        with busy(programs):
            for name, policy in policies.items():
                runs = [audit(*small, "--probes", "robustness,masking", **policy) for _ in range(2)]
                times[name].append(min(runs))
    rows = [
        [name, f"{alone:.1f} s", f"{beside:.1f} s", f"{beside / alone:.1f}"]
        for name, (alone, beside) in times.items()
    ]
    return Section("", ["threads", "alone", "beside two programs", "ratio"], rows)
