"""Work that is no contest of attacks, measured beside what it should cost at least."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import (
    DIGITS,
    ZOO,
    Attack,
    Claim,
    Options,
    Problem,
    bare,
    clock,
    forget_peak,
    fresh,
    measure,
    peak,
    problem,
    resident,
    timed,
)
from page import table
from peers import ours
from scotoma.attacks import ATTACKS, takes
from scotoma.attacks.core.oracle import Counted
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.method import Attribution, at_once
from scotoma.claim import Threat
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.metrics.class_divergence import by_class, kde_comparison
from scotoma.metrics.embedding import PERPLEXITY, embed
from scotoma.metrics.neighbours import nearest_distance
from scotoma.metrics.resampling import Comparison, average
from scotoma.metrics.two_sample import classifier_comparison, knn_comparison
from scotoma.models import ARCHITECTURES
from scotoma.models.loading import load_model
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import LATENT as CODE
from scotoma.training.evaluation import Epoch, evaluate
from scotoma.training.loop import Schedule, train
from scotoma.utils.device import default_device, pays_in_bf16
from scotoma.utils.errors import InputError

LINF, L2 = Threat("linf", 0.3), Threat("l2", 2.0)
PROFILED = {"pgd": LINF, "min-linf": LINF, "fmn-linf": LINF, "ddn": L2, "square": LINF}
PROFILED |= {"strong": LINF}
LATENT = 20
"""Dimensions of the points behind features: those of images too lie near a surface of few."""
BLOCK = 1000


@dataclass(frozen=True)
class Section:
    """A section of the page: an introduction, a table, and the claims that its values make."""

    intro: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    claims: Sequence[Claim] = ()

    def __str__(self) -> str:
        return f"{self.intro}\n\n{table(self.heads, self.rows)}"


# Passes: the share of an attack's time inside the model.


def passes(
    options: Options, models: str = "mnist-wong,mnist-pgd", attacks: str = "", eps: float = 0
) -> Section:
    """The share of an attack's time inside the model's forward and backward passes.

    At a tiny eps nothing is fooled in the first steps, after which an attack would end.
    """
    rows, claims = [], []
    for file in models.split(","):
        setting = problem(options, 64, file)
        bare(setting, 2, 1)  # kernels are chosen at the first pass of a shape
        for name in attacks.split(",") if attacks else PROFILED:
            norms = getattr(ATTACKS[name], "norms", ("linf",))
            small = Threat(norms[0], 1 if norms[0] == "l0" else eps) if eps else LINF
            threat = small if eps else PROFILED.get(name, LINF)
            settings = {"queries": 1000} if takes(name, "queries") else {}
            spent = measure(ours(name, threat, **settings), replace(setting, norm=threat.norm))
            claim = Claim(f"{file}, {name}: in passes", spent.passes / spent.seconds, 0.9, True)
            claims.append(claim)
            seconds, below = f"{spent.seconds:.2f}", "" if claim.met else "below"
            rows.append([file, name, f"{claim.value:.1%}", seconds, below])
            print(f"{file:<14}{name:<10}{claim.value:>8.1%}{seconds:>8} s", flush=True)
    intro = (
        "The share of an attack's time inside the model's forward and backward passes, in one "
        "batch of MNIST; the rest is the attack's own. The claim is at least 90%: it holds for "
        f"{sum(claim.met for claim in claims)} of {len(rows)}. `mnist-wong` is the smallest "
        "network that is used on MNIST, and so the hardest case; square has 1,000 queries."
    )
    return Section(intro, ["network", "attack", "in passes", "seconds", "90%"], rows, claims)


# Throughput: the passes of an attack beside as many bare passes in full batches.


def pace(attack: Attack, setting: Problem) -> tuple[float, float]:
    """Passes over an image a second, in the attack and bare, after a run that warms up."""
    n, device = len(setting.images), setting.images.device
    reduced = pays_in_bf16(setting.model, setting.images)
    spent, counted = 0.0, Counted(setting.model, n, device, reduced).eval()
    for _ in range(2):
        counted = Counted(setting.model, n, device, reduced).eval()
        start = clock(device)
        attack(counted, setting.images, setting.labels)
        spent = clock(device) - start
    forwards, backwards = (
        round(float(count.float().mean())) for count in (counted.forwards, counted.backwards)
    )
    bare(setting, 1, 1)
    start = clock(device)
    bare(setting, forwards, backwards)
    passes = n * (forwards + backwards)
    return passes / spent, passes / (clock(device) - start)


def on(device: torch.device, setting: Problem) -> Problem:
    """The problem on a device."""
    images = setting.images.to(device, memory_format=torch.channels_last)
    model, labels = setting.model.to(device), setting.labels.to(device)
    return replace(setting, model=model, images=images, labels=labels)


def throughput(options: Options, device: str = "", eps: float = LINF.eps) -> Section:
    """The attacks' passes a second beside those of a loop of bare passes, on an accelerator."""
    place = torch.device(device or default_device())
    if place.type == "cpu" and not device:
        raise InputError("there is no accelerator")
    setting, rows = on(place, problem(options, 1000, "mnist-pgd")), []
    for name, threat in PROFILED.items():
        mine, alone = pace(ours(name, Threat(threat.norm, eps)), setting)
        rows.append([name, threat.norm, f"{mine:,.0f}", f"{alone:,.0f}", f"{mine / alone:.1%}"])
    intro = (
        "Forward and backward passes over an image a second, in the attack and in a loop of as "
        f"many bare passes in full batches of {len(setting.images)}; `madry-mnist`."
    )
    return Section(intro, ["attack", "norm", "in the attack", "bare", "share"], rows)


# Attribution: maps beside the forward and backward passes that they need, batch by batch in turn.


class Seen(nn.Module):
    """A model that counts the images that pass through it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.images = model, 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return self.model(images)


def cost(method: Attribution, setting: Problem) -> tuple[int, float, float]:
    """Passes an image, seconds of the maps, and seconds of as many bare passes."""
    model, maps, alone, passes = setting.model, 0.0, 0.0, 0
    method(model, setting.images[:1], setting.labels[:1])
    for rows in torch.arange(len(setting.images)).split(at_once(setting.images)):
        images, labels, seen = setting.images[rows], setting.labels[rows], Seen(model)
        start = clock()
        method(seen, images, labels)
        between = clock()
        passes = seen.images // len(images)
        room = max(1, at_once(images) // len(images))
        for first in range(0, passes, room):
            together = min(room, passes - first)
            leaf, targets = images.repeat(together, 1, 1, 1).requires_grad_(), labels
            chosen = model(leaf).gather(1, targets.repeat(together)[:, None])
            torch.autograd.grad(chosen.sum(), leaf)
        maps, alone = maps + between - start, alone + clock() - between
    return passes, maps, alone


METHODS = "input-x-gradient,integrated-gradients,smoothgrad,gradient-shap"


def attribution(options: Options, methods: str = METHODS) -> Section:
    """Attribution maps beside the passes that they need, on one thread."""
    setting, rows, claims = problem(replace(options, threads=1), 64, "mnist-pgd"), [], []
    bare(setting, 2, 1)
    for name in methods.split(","):
        count, maps, alone = cost(ATTRIBUTIONS[name](), setting)
        rows.append([name, "", f"{count}", *(f"{v:.2f}" for v in (maps, alone, maps / alone))])
        if name == "integrated-gradients":
            claims.append(Claim("time of the maps by that of their passes", maps / alone, 1.15))
    intro = (
        f"Maps beside as many bare forward and backward passes; {len(setting.images)} images of "
        "MNIST, `madry-mnist`. The claim for integrated gradients is at most 1.15 times their time."
    )
    heads = ["maps", "", "passes", "processor seconds", "bare", "time, ratio"]
    return Section(intro, heads, rows, claims)


# Distance: the exact search for neighbours beside the matrix product of its size.


def random_layer(points: np.ndarray, wide: int, seed: int = 0) -> np.ndarray:
    """float32 (n, wide): one random ReLU layer at the points."""
    layer = np.random.default_rng(seed)
    weight, bias = layer.normal(size=(points.shape[1], wide)), layer.normal(size=wide)
    made = np.empty((len(points), wide), np.float32)
    for start in range(0, len(points), BLOCK):
        made[start : start + BLOCK] = np.maximum(points[start : start + BLOCK] @ weight + bias, 0)
    return made


def neighbours(what: str, queries: int, train: int, wide: int) -> dict[str, float]:
    """Seconds, processor seconds and MiB beyond the features of the "product" or the "search", and
    the largest relative error of 20 distances against float64."""
    known, query = (
        random_layer(np.random.default_rng(seed).normal(size=(count, LATENT)), wide)
        for seed, count in ((1, train), (2, queries))
    )
    forget_peak()  # of making them
    before, wall, processor = resident("VmRSS"), time.perf_counter(), time.process_time()
    distances = np.empty(0)
    if what == "search":
        distances = nearest_distance(known, query)
    else:
        for start in range(0, queries, BLOCK):
            np.matmul(query[start : start + BLOCK], known.T)
    spent = {
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "mib": resident("VmHWM") - before,
    }
    few = query[: 20 if what == "search" else 0].astype(np.float64)
    exact = [np.sort(np.linalg.norm(known - each, axis=1))[:5].mean() for each in few]
    return spent | {"error": float(np.max(abs(distances[: len(few)] / exact - 1), initial=0))}


def distance(
    options: Options, queries: int = 2000, train: int = 20_000, wide: int = 1024
) -> Section:
    """The exact search for neighbours beside the matrix product, each in a fresh process."""
    sizes, n = (queries, train, wide), options.threads
    product, search = (
        fresh("works", "neighbours", what, *sizes, threads=n) for what in ("product", "search")
    )
    claims = [
        *(Claim(f"{c} time by the product's", search[c] / product[c], 2) for c in CLOCKS),
        Claim("memory beyond the features, MiB", search["mib"], 1024),
        Claim("largest relative error of 20 queries", search["error"], 1e-6),
    ]
    intro = (
        "The mean distance to the five nearest training images, exact, beside the plain matrix "
        "product of that size: {:,} test and {:,} training images, {:,} features. The claim is at "
        "most twice its time. ".format(*sizes)
        + f"The largest relative error of 20 against float64 is {search['error']:.1e}."
    )
    heads = ["work", "", "processor seconds", "MiB beyond the features", "time, ratio"]
    rows = []
    for name, each in (("matrix product", product), ("ours", search)):
        share = each["processor"] / product["processor"]
        rows.append([name, "", f"{each['processor']:.2f}", f"{each['mib']:,.0f}", f"{share:.2f}"])
    return Section(intro, heads, rows, claims)


# Divergence: the work of the probe beside openTSNE's on the same features.

ALONE, CLOCKS = "openTSNE alone", ("wall", "processor")


def divergence(options: Options, points: int = 2100, wide: int = 1024) -> Section:
    """The divergence probe's work beside openTSNE's; 70,000 points take half an hour.

    One point in seven is a test point; the points lie in ten clusters.
    """
    import faiss
    from openTSNE import TSNE

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    weight, centres = rng.normal(size=(LATENT, wide)), 1.5 * rng.normal(size=(10, LATENT))
    labels = rng.integers(0, 10, points)
    latent = (centres[labels] + rng.normal(size=(points, LATENT))).astype(np.float32)
    made = np.maximum(latent @ weight.astype(np.float32), 0)
    tests = points // 7
    test, train = np.arange(tests), np.arange(tests, points)
    print(f"{len(train):,} training and {tests:,} test points, {wide:,} features", flush=True)

    def classwise(space: np.ndarray, compare: Callable[..., Comparison | None]) -> Comparison:
        each = by_class(space[train], labels[train], space[test], labels[test], compare)
        return average(list(each.values()))

    clocks: dict[str, tuple[float, float]] = {}
    with timed(ALONE, clocks):
        TSNE(perplexity=int(PERPLEXITY), n_jobs=options.threads, random_state=0).fit(made)
    with timed("t-SNE, exact neighbours", clocks):
        plane = embed(made)
    with timed("densities", clocks):
        kl = classwise(plane, kde_comparison)
    with timed("nearest neighbours", clocks):
        knn = classwise(made, knn_comparison)
    with timed("classifier", clocks):
        auc = classifier_comparison(made[train], made[test])
    for name, each in (("K-L divergence", kl), ("by neighbours", knn), ("AUC", auc)):
        print(f"{name}: {each.value:.3f} ({each.low:.3f} to {each.high:.3f})")
    spent = {part: np.array(seconds) for part, seconds in clocks.items()}
    alone, whole = spent[ALONE], sum(spent.values()) - spent[ALONE]
    ratios = zip(CLOCKS, whole / alone, strict=True)
    claims = [Claim(f"{name} time by openTSNE's", float(each), 1.2) for name, each in ratios]
    rows = [
        [part, "", f"{each[1]:.1f}", f"{each[1] / alone[1]:.2f}"]
        for part, each in (spent | {"**ours, in all**": whole}).items()
    ]
    intro = (
        "Embedding on exact neighbours, densities, the nearest-neighbour estimator and the "
        "classifier, all with intervals and null distributions, beside openTSNE's embedding "
        f"alone; {points:,} points of {wide:,} features. The claim is at most 1.2 times its time "
        "on 70,000 points: on few, the other parts weigh more."
    )
    return Section(intro, ["part", "", "processor seconds", "time, ratio"], rows, claims)


# Analysis by synthesis in batches beside the paper written down: one image, class and latent.


class Loop:
    """The best of the samples, then Adam on one latent through the plain decoder of one class."""

    @torch.no_grad()
    def __init__(self, model: AnalysisBySynthesis):
        self.model = model
        bank = model._kept.bank
        assert bank is not None, "the model has made the samples' images before"
        self.samples = bank.samples
        self.decoders = [_decoder(model, label) for label in range(model.vaes.classes)]
        latents = self.samples.view(-1, CODE, 1, 1).split(100)
        self.made = [torch.cat([decoder(part) for part in latents]) for decoder in self.decoders]
        self.costs = model.beta / 2 * self.samples.square().sum(1)

    def losses(self, images: Tensor) -> Tensor:
        """(n, classes)."""
        classes = range(self.model.vaes.classes)
        rows = [[self._loss(image, label) for label in classes] for image in images]
        return torch.tensor(rows) * self.model.scales

    def _loss(self, image: Tensor, label: int) -> float:
        missed = (self.made[label] - image).square().sum((1, 2, 3))
        z = self.samples[(missed + self.costs).argmin()].clone().requires_grad_()
        optimizer = torch.optim.Adam([z], self.model.rate)
        for _ in range(self.model.steps):
            optimizer.zero_grad()
            self._bound(image, label, z).backward()
            optimizer.step()
            with torch.no_grad():
                z.mul_(self.model.radius / z.norm().clamp_min(self.model.radius))
        with torch.no_grad():
            return float(self._bound(image, label, z))

    def _bound(self, image: Tensor, label: int, z: Tensor) -> Tensor:
        made = self.decoders[label](z.view(1, CODE, 1, 1))
        return (image - made).square().sum() + self.model.beta / 2 * z.square().sum()


def _decoder(model: AnalysisBySynthesis, label: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    classes = model.vaes.classes
    for layer in model.vaes.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            channels = layer.in_channels // classes, layer.out_channels // classes
            shape: Any = layer.kernel_size, layer.stride
            alone: nn.Module = nn.ConvTranspose2d(*channels, *shape)
        elif isinstance(layer, nn.BatchNorm2d):
            alone = nn.BatchNorm2d(layer.num_features // classes, layer.eps)
        else:
            layers.append(layer)
            continue
        state = layer.state_dict().items()
        alone.load_state_dict({k: v.chunk(classes)[label] if v.ndim else v for k, v in state})
        layers.append(alone)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def synthesis_model(
    data: str | None, root: Path | str | None = None
) -> tuple[Dataset, AnalysisBySynthesis]:
    """MNIST with `mnist-abs`; the digits with a model trained here if that is missing or named."""
    file, loaded = ZOO / "mnist-abs.safetensors", None
    try:
        loaded = None if data == "digits" else load_data("mnist", Path(root) if root else None)
    except InputError:
        if data:
            raise
    if loaded is None or not file.exists():
        file, loaded = DIGITS.with_name("digits-abs.safetensors"), load_data("digits")
        if not file.exists():
            print(f"training the digits model into {file}")
            schedule = Schedule(epochs=20, peak=3e-3)
            train("abs", loaded, "abs", Threat("l2", 1.5), file, schedule=schedule)
    module = load_model(str(file)).module
    assert isinstance(module, AnalysisBySynthesis)
    return loaded, module


def synthesis_peak(images: int, threads: int, data: str | None, root: str | None) -> float:
    """Peak memory in GiB of this process after a prediction of so many images."""
    torch.set_num_threads(threads)
    loaded, model = synthesis_model(data, root)
    model(loaded.test.images(torch.arange(images)))
    return resident("VmHWM") / 1024


def prediction(options: Options, count: int = 50, looped: int = 2, memory: bool = False) -> Section:
    """Analysis by synthesis in batches beside the loop over images and classes."""
    torch.set_num_threads(options.threads)
    data, model = synthesis_model(options.data, options.data_root)
    images = data.test.images(torch.arange(count))
    model(images[:1])  # makes the samples' images, which both use
    loop, seconds, losses, mib = Loop(model), {}, {}, 0.0
    for race in (True, False) if memory else (True,):
        model.race = race
        with peak(images.device) as more, torch.no_grad():
            start = clock()
            losses[race] = model(images)[:looped] / -model.sharpness
            seconds[race] = (clock() - start) / count
        mib = mib or more[0]
    start = clock()
    expected = loop.losses(images[:looped])
    alone, each = (clock() - start) / looped, seconds[True]
    for race, found in losses.items():
        apart = (expected.sort(1).values - found.sort(1).values).abs()[:, : 2 if race else None]
        print(f"{seconds[race]:.4f} s an image, losses differ by up to {apart.max():.2g}")
    equal = int((expected.argmin(1) == losses[True].argmin(1)).sum())
    claims = [
        Claim("times as fast as the loop", alone / each, 20, True),
        Claim("labels that are those of the loop", equal, looped, True),
    ]
    if memory:
        root = str(options.data_root) if options.data_root else None
        given = count, options.threads, options.data, root
        gib = fresh("works", "synthesis_peak", *given, threads=options.threads)
        claims.append(Claim("peak memory, GiB", gib, 3))
    intro = (
        f"The `abs` model of {data.name}: {model.samples:,} samples and {model.steps} steps for "
        f"each class. The plain loop over images and classes, on {looped} images, beside the "
        f"batched prediction of {count}; {equal} of {looped} labels agree."
    )
    rows = [
        ["loop", "", f"{alone * 1000:,.0f}", "", "1"],
        ["ours", "", f"{each * 1000:,.0f}", f"{mib:,.0f}", f"{each / alone:.4f}"],
    ]
    heads = ["prediction", "", "ms an image", "MiB", "time, ratio"]
    return Section(intro, heads, rows, claims)


# Training: time until a network withstands PGD-20, beside Madry et al. 2018 written down.

ROBUST = Threat("linf", 0.3)
ENOUGH = 0.85
ARCH = "wong-small"


@dataclass(eq=False)
class Reached(Exception):  # noqa: N818 - ends a training
    """Robust accuracy after so many epochs and seconds, whether or not it is enough."""

    accuracy: float
    epochs: int
    seconds: float


def training(options: Options, recipe: str = "pgd", epochs: int = 4, rate: float = 3e-3) -> Section:
    """Time to a robust network beside a plain loop, each until it is robust enough or ends."""
    data, schedule = load_data("mnist", options.data_root), Schedule(epochs=epochs, peak=rate)
    torch.set_num_threads(options.threads)
    results: dict[str, Reached] = {}
    for name, run in (("plain loop", _plain), (recipe, _ours)):
        start = clock()

        def watch(epoch: int, accuracy: float | None, name: str = name, start: float = start):
            robust, seconds = accuracy or 0.0, clock() - start
            print(f"{name:<10} epoch {epoch:>2}: {robust:.1%} after {seconds:.0f} s", flush=True)
            if robust >= ENOUGH or epoch == epochs:
                raise Reached(robust, epoch, seconds)

        try:
            run(data, recipe, schedule, watch)
        except Reached as reached:
            results[name] = reached
    plain, rows = results["plain loop"].seconds, []
    for name, each in results.items():
        values = f"{each.accuracy:.1%}", f"{each.epochs}", f"{each.seconds:.0f}"
        rows.append([name, "", *values, f"{each.seconds / plain:.2f}"])
    intro = (
        f"`{recipe}` training of `wong-small` on MNIST at {ROBUST} until {ENOUGH:.0%} of the first "
        "1,000 test images withstand PGD-20, evaluated after every epoch, beside Madry et al. "
        "2018 written down: equal network, batches, rates and rise of eps."
    )
    heads = ["training", "", "PGD-20 accuracy", "epochs", "seconds", "time, ratio"]
    return Section(intro, heads, rows)


def _ours(data: Dataset, recipe: str, schedule: Schedule, watch: Callable[..., None]) -> None:
    with tempfile.TemporaryDirectory() as made:
        file = Path(made) / "model.safetensors"

        def log(epoch: Epoch) -> None:
            watch(epoch.epoch, epoch.robust_accuracy)

        train(recipe, data, ARCH, ROBUST, file, schedule=schedule, log=log)


def _plain(data: Dataset, recipe: str, schedule: Schedule, watch: Callable[..., None]) -> None:
    """PGD-7 from a random start at every step, Adam, float32; eps rises as in our recipe."""
    assert data.train is not None
    torch.manual_seed(0)
    device = default_device()
    model = ARCHITECTURES[ARCH](data.shape, len(data.classes)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=schedule.peak)
    for epoch in range(schedule.epochs):
        model.train()
        batches = torch.randperm(len(data.train)).split(schedule.batch)
        for number, rows in enumerate(batches):
            progress = (epoch + number / len(batches)) / schedule.epochs
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(progress)
            images, labels = data.train.images(rows).to(device), data.train.labels[rows].to(device)
            eps = ROBUST.eps * min(1.0, progress / 0.3)
            x = (images + eps * (2 * torch.rand_like(images) - 1)).clamp(0, 1)
            for _ in range(7):
                x.requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
                x = x.detach() + 2.5 * eps / 7 * gradient.sign()
                x = torch.min(torch.max(x, images - eps), images + eps).clamp(0, 1)
            optimizer.zero_grad()
            F.cross_entropy(model(x.detach()), labels).backward()
            optimizer.step()
        watch(epoch + 1, evaluate(model, data.test, ROBUST, device).robust_accuracy)
