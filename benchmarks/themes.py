"""The sections of the suite that are not contests: each runs the measuring functions of another benchmark, and says it in words.

Every function takes the suite's options and returns Markdown; `InputError` where data or a model are missing.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import faiss
import torch

import attribution as attribution_benchmark
import distance as distance_benchmark
import divergence as divergence_benchmark
import passes as passes_benchmark
import synthesis
import throughput as throughput_benchmark
import training as training_benchmark
from libraries import ours
from memory import peak
from page import table
from peers import Problem, clock, problem
from scotoma.attacks import ATTACKS, takes
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.method import at_once
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.training.loop import Schedule
from scotoma.utils.device import default_device, pays_in_bf16
from scotoma.utils.errors import InputError

ZOO = Path(__file__).resolve().parents[1] / "zoo"
NETWORKS = {"wong-small": "mnist-wong", "madry-mnist": "mnist-pgd"}
"""The smallest network that is used on MNIST and the one of the claims, by their files."""
LINF = Threat("linf", 0.3)
PROFILED = {
    "pgd": LINF,
    "min-linf": LINF,
    "fmn-linf": LINF,
    "ddn": Threat("l2", 2.0),
    "square": LINF,
    "strong": LINF,
}


def asked(options: argparse.Namespace, model: str, data: str, images: int) -> argparse.Namespace:
    """What `peers.problem` wants to know."""
    return argparse.Namespace(
        model=model, data=data, images=images, data_root=options.data_root, threads=options.threads
    )


def warm_up(setting: Problem) -> None:
    """Kernels are chosen at the first pass of a shape: that is nobody's time."""
    throughput_benchmark.bare(setting, 2, 1, pays_in_bf16(setting.model, setting.images))


def passes(options: argparse.Namespace) -> str:
    """The share of the main attacks' time inside the model."""
    count, rows, missed = 64, [], 0
    for arch, file in NETWORKS.items():
        setting = problem(asked(options, str(ZOO / f"{file}.safetensors"), "mnist", count), "linf")
        warm_up(setting)
        for name, threat in PROFILED.items():
            settings = {"queries": 1000} if takes(name, "queries") else {}
            attack = ATTACKS[name](threat, **settings)
            part, seconds = passes_benchmark.share(
                attack, setting.model, setting.images, setting.labels
            )
            held = part >= passes_benchmark.TARGET
            missed += not held
            rows.append([arch, name, f"{part:.1%}", f"{seconds:.2f}", "" if held else "below"])
            print(f"{arch:<14}{name:<10}{part:>8.1%}{seconds:>8.2f} s", flush=True)
    said = (
        f"The share of an attack's time inside the model's forward and backward passes, {count} images of MNIST at once; the "
        f"rest is the attack's own. At least {passes_benchmark.TARGET:.0%} is the claim: it holds for {len(rows) - missed} of "
        f"{len(rows)}. "
        "`wong-small` is the smallest network that is used on MNIST, and so the hardest case; square has 1,000 queries."
    )
    return f"{said}\n\n{table(['network', 'attack', 'in passes', 'seconds', f'{passes_benchmark.TARGET:.0%}'], rows)}"


def throughput(options: argparse.Namespace) -> str:
    """The attacks' passes a second beside those of a loop of bare passes."""
    device = default_device()
    if device.type == "cpu":
        raise InputError("no accelerator is at hand")
    found = problem(asked(options, str(ZOO / "mnist-pgd.safetensors"), "mnist", 1000), "linf")
    setting, rows = throughput_benchmark.on(device, found), []
    for name, norm in throughput_benchmark.ATTACKS.items():
        rate = throughput_benchmark.throughput(ours(name, Threat(norm, LINF.eps)), setting)
        rows.append([name, norm, f"{rate.attack:,.0f}", f"{rate.bare:,.0f}", f"{rate.share:.1%}"])
    said = (
        f"Forward and backward passes over an image a second, in the attack and in a loop of as many bare passes in full batches "
        f"of {len(setting.images)}; `madry-mnist`."
    )
    return f"{said}\n\n{table(['attack', 'norm', 'in the attack', 'bare', 'share'], rows)}"


def prediction(options: argparse.Namespace) -> str:
    """Analysis by synthesis in batches beside the loop over images and classes."""
    data, model = synthesis.load(None, options.data_root)
    images, looped = data.test.images(torch.arange(50)), 2
    model(images[:1])  # makes the samples' images, which both use
    loop = synthesis.Loop(model)
    with peak(images.device) as held, torch.no_grad():
        start = clock()
        losses, _ = synthesis.timed(model, images)
        seconds = clock() - start
    start = clock()
    expected = loop.losses(images[:looped])
    alone = (clock() - start) / looped
    same = int((expected.argmin(1) == losses[:looped].argmin(1)).sum())
    each = seconds / len(images)
    said = (
        f"The `abs` model of {data.name}: {model.samples:,} samples and {model.steps} steps for each class. The straightforward "
        f"loop over images and classes, on {looped} images, beside the batched prediction of {len(images)}; {same} of {looped} "
        "labels are the same."
    )
    rows = [
        ["loop", "", f"{alone * 1000:,.0f}", "", "1"],
        ["ours", "", f"{each * 1000:,.0f}", f"{held[0]:,.0f}", f"{each / alone:.4f}"],
    ]
    return f"{said}\n\n{table(['prediction', '', 'ms an image', 'MiB', 'time, ratio'], rows)}"


def distance(options: argparse.Namespace) -> str:
    """The exact search for neighbours beside the matrix product of its size."""
    faiss.omp_set_num_threads(options.threads)
    size = (2000, 20_000, 1024)
    product, search = (distance_benchmark.measure(what, *size) for what in ("product", "search"))
    said = (
        "The mean distance to the five nearest training images, exact, beside the plain matrix product of the same size: "
        "{:,} test and {:,} training images, {:,} features. At most {:g} times its time is the claim. ".format(
            *size, distance_benchmark.SLOWDOWN
        )
        + f"The largest relative error of {distance_benchmark.CHECKED} of them against float64 is {search['error']:.1e}."
    )
    rows = [
        [
            name,
            "",
            f"{spent['processor']:.2f}",
            f"{spent['mib']:,.0f}",
            f"{spent['processor'] / product['processor']:.2f}",
        ]
        for name, spent in (("matrix product", product), ("ours", search))
    ]
    return f"{said}\n\n{table(['work', '', 'processor seconds', 'MiB beyond the features', 'time, ratio'], rows)}"


def divergence(options: argparse.Namespace) -> str:
    """The divergence probe's work beside openTSNE's."""
    points = 2100
    clocks, _ = divergence_benchmark.compare(points, 1024, options.threads)
    alone, whole = clocks[divergence_benchmark.ALONE], divergence_benchmark.whole(clocks)
    said = (
        f"Embedding on exact neighbours, densities, the nearest-neighbour estimator and the classifier, all with intervals and "
        f"null distributions, beside openTSNE's embedding alone; {points:,} points of 1,024 features. At most "
        f"{divergence_benchmark.SLOWDOWN:g} times its time is the claim, on 70,000 points: on few, the other parts weigh more."
    )
    rows = [
        [part, "", f"{spent[1]:.1f}", f"{spent[1] / alone[1]:.2f}"]
        for part, spent in clocks.items()
    ]
    rows.append(["**ours, in all**", "", f"{whole[1]:.1f}", f"{whole[1] / alone[1]:.2f}"])
    return f"{said}\n\n{table(['part', '', 'processor seconds', 'time, ratio'], rows)}"


def attribution(options: argparse.Namespace) -> str:
    """Attribution maps beside the passes that they need."""
    setting = problem(asked(options, str(ZOO / "mnist-pgd.safetensors"), "mnist", 64), "linf")
    warm_up(setting)
    rows = []
    for name in ("input-x-gradient", "integrated-gradients", "smoothgrad", "gradient-shap"):
        cost = attribution_benchmark.Cost()
        ATTRIBUTIONS[name]()(setting.model, setting.images[:1], setting.labels[:1])
        for part in torch.arange(len(setting.images)).split(at_once(setting.images)):
            cost.add(
                ATTRIBUTIONS[name](), setting.model, setting.images[part], setting.labels[part]
            )
        each = partial("{:.2f}".format)
        rows.append(
            [
                name,
                "",
                f"{cost.passes}",
                each(cost.maps),
                each(cost.bare),
                each(cost.maps / cost.bare),
            ]
        )
    said = (
        f"Maps beside as many bare forward and backward passes; {len(setting.images)} images of MNIST, `madry-mnist`. At most "
        f"{attribution_benchmark.TARGET} times their time is the claim for integrated gradients."
    )
    return f"{said}\n\n{table(['maps', '', 'passes', 'processor seconds', 'bare', 'time, ratio'], rows)}"


def training(options: argparse.Namespace) -> str:
    """Time to a robust network beside a straightforward loop."""
    schedule = Schedule(epochs=4, peak=3e-3)
    mine, theirs = training_benchmark.race(load_data("mnist", options.data_root), "pgd", schedule)
    rows = [
        [
            name,
            "",
            f"{each.accuracy:.1%}",
            f"{each.epochs}",
            f"{each.seconds:.0f}",
            f"{each.seconds / theirs.seconds:.2f}",
        ]
        for name, each in (("straightforward loop", theirs), ("ours", mine))
    ]
    said = (
        f"PGD training of `wong-small` on MNIST at {training_benchmark.THREAT} until {training_benchmark.ENOUGH:.0%} of the first "
        "1,000 test images withstand PGD-20, judged after every epoch, beside Madry et al. 2018 written down: the same network, "
        "batches, rates and rise of eps."
    )
    return f"{said}\n\n{table(['training', '', 'PGD-20 accuracy', 'epochs', 'seconds', 'time, ratio'], rows)}"
