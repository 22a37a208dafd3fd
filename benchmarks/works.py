"""Work that is no contest of attacks, measured beside what it should cost at least."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import harness
from harness import Claim, Options, Problem, bare, clock, fresh, measure, peak, problem, timed
from page import table
from peers import ours
from scotoma.attacks import ATTACKS, takes
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
from scotoma.models.vae import ClassVAEs
from scotoma.training.evaluation import evaluate
from scotoma.training.loop import Schedule, train
from scotoma.utils.device import default_device
from scotoma.utils.errors import InputError

LINF, L2 = Threat("linf", 0.3), Threat("l2", 2.0)
NAMES = "pgd", "min-linf", "fmn-linf", "ddn", "square", "strong"
PROFILED: dict[str, Threat] = {name: L2 if name == "ddn" else LINF for name in NAMES}
LATENT = 20
"""Dimensions of the points behind features: those of images too lie near a surface of few."""
BLOCK = 1000
ALONE, CLOCKS = "openTSNE alone", ("wall", "processor")


@dataclass(frozen=True)
class Section:
    """A section of the page: an introduction, a table, and the claims that its values make."""

    intro: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    claims: Sequence[Claim] = ()

    def __str__(self) -> str:
        return f"{self.intro}\n\n{table(self.heads, self.rows)}"


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


def pace(attack: harness.Attack, setting: Problem) -> tuple[float, float]:
    """Passes over an image a second, in the attack and bare, after a run that warms up."""
    device = setting.images.device
    _, done = measure(attack, setting), measure(attack, setting)
    forwards, backwards = round(done.forwards), round(done.backwards)
    passes = done.n * (forwards + backwards)
    bare(setting, 1, 1)
    start = clock(device)
    bare(setting, forwards, backwards)
    return passes / done.seconds, passes / (clock(device) - start)


def throughput(options: Options, device: str = "", eps: float = LINF.eps) -> Section:
    """The attacks' passes a second beside those of a loop of bare passes, on an accelerator."""
    place = torch.device(device or default_device())
    if place.type == "cpu" and not device:
        raise InputError("there is no accelerator")
    setting, rows = problem(options, 1000, "mnist-pgd"), []
    images = setting.images.to(place, memory_format=torch.channels_last)
    model, labels = setting.model.to(place), setting.labels.to(place)
    setting = replace(setting, model=model, images=images, labels=labels)
    for name, threat in PROFILED.items():
        mine, alone = pace(ours(name, Threat(threat.norm, eps)), setting)
        rows.append([name, threat.norm, f"{mine:,.0f}", f"{alone:,.0f}", f"{mine / alone:.1%}"])
    intro = (
        "Forward and backward passes over an image a second, in the attack and in a loop of as "
        f"many bare passes in full batches of {len(setting.images)}; `madry-mnist`."
    )
    return Section(intro, ["attack", "norm", "in the attack", "bare", "share"], rows)


def cost(method: Attribution, setting: Problem) -> tuple[int, float, float]:
    """Passes an image, seconds of the maps, and seconds of as many bare passes."""
    model, maps, alone, passes = setting.model, 0.0, 0.0, 0
    method(model, setting.images[:1], setting.labels[:1])
    for rows in torch.arange(len(setting.images)).split(at_once(setting.images)):
        images, labels, sizes = setting.images[rows], setting.labels[rows], list[int]()
        hook = model.register_forward_hook(lambda _, x, __, sizes=sizes: sizes.append(len(x[0])))
        start = clock()
        method(model, images, labels)
        between = clock()
        hook.remove()
        passes, room = sum(sizes) // len(images), max(1, at_once(images) // len(images))
        for first in range(0, passes, room):
            together = min(room, passes - first)
            leaf = images.repeat(together, 1, 1, 1).requires_grad_()
            chosen = model(leaf).gather(1, labels.repeat(together)[:, None])
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


def random_layer(points: np.ndarray, wide: int, seed: int = 0) -> np.ndarray:
    """float32 (n, wide): one random ReLU layer at the points."""
    layer = np.random.default_rng(seed)
    weight, bias = layer.normal(size=(points.shape[1], wide)), layer.normal(size=wide)
    blocks = np.array_split(points, -(-len(points) // BLOCK))
    return np.concatenate([np.maximum(b @ weight + bias, 0).astype(np.float32) for b in blocks])


def neighbours(what: str, queries: int, train: int, wide: int) -> dict[str, float]:
    """Seconds, processor seconds and MiB beyond the features of the "product" or the "search", and
    the largest relative error of 20 distances against float64."""
    known, query = (
        random_layer(np.random.default_rng(seed).normal(size=(count, LATENT)), wide)
        for seed, count in ((1, train), (2, queries))
    )
    clocks, distances = dict[str, tuple[float, float]](), np.empty(0)
    with peak(torch.device("cpu")) as mib, timed(what, clocks):
        if what == "search":
            distances = nearest_distance(known, query)
        else:
            for start in range(0, queries, BLOCK):
                np.matmul(query[start : start + BLOCK], known.T)
    few = query[: 20 if what == "search" else 0].astype(np.float64)
    exact = [np.sort(np.linalg.norm(known - each, axis=1))[:5].mean() for each in few]
    error = float(np.max(abs(distances[: len(few)] / exact - 1), initial=0))
    return dict(zip(CLOCKS, clocks[what], strict=True)) | {"mib": mib[0], "error": error}


def distance(options: Options, queries: int = 2000, train: int = 20_000) -> Section:
    """The exact search for neighbours beside the matrix product, each in a fresh process."""
    sizes, n = (queries, train, 1024), options.threads
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
        "most twice its time. The largest relative error of 20 against float64 is {:.1e}."
    ).format(*sizes, search["error"])
    heads = ["work", "", "processor seconds", "MiB beyond the features", "time, ratio"]
    rows = []
    for name, each in (("matrix product", product), ("ours", search)):
        share = each["processor"] / product["processor"]
        rows.append([name, "", f"{each['processor']:.2f}", f"{each['mib']:,.0f}", f"{share:.2f}"])
    return Section(intro, heads, rows, claims)


def divergence(options: Options, points: int = 2100, wide: int = 1024) -> Section:
    """The divergence probe on ten clusters beside openTSNE; 70,000 points take half an hour."""
    import faiss
    from openTSNE import TSNE

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    weight, centres = rng.normal(size=(LATENT, wide)), 1.5 * rng.normal(size=(10, LATENT))
    labels = rng.integers(0, 10, points)
    latent = (centres[labels] + rng.normal(size=(points, LATENT))).astype(np.float32)
    made = np.maximum(latent @ weight.astype(np.float32), 0)
    test, train = np.split(np.arange(points), [points // 7])
    print(f"{len(train):,} training and {len(test):,} test points, {wide:,} features", flush=True)

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
    both = (spent | {"**ours, in all**": whole}).items()
    rows = [[part, "", f"{each[1]:.1f}", f"{each[1] / alone[1]:.2f}"] for part, each in both]
    intro = (
        "Embedding on exact neighbours, densities, the nearest-neighbour estimator and the "
        "classifier, all with intervals and null distributions, beside openTSNE's embedding "
        f"alone; {points:,} points of {wide:,} features. The claim is at most 1.2 times its time "
        "on 70,000 points: on few, the other parts weigh more."
    )
    return Section(intro, ["part", "", "processor seconds", "time, ratio"], rows, claims)


class Loop:
    """The best of the samples, then Adam on one latent through the plain decoder of one class."""

    @torch.no_grad()
    def __init__(self, model: AnalysisBySynthesis):
        bank, self.model = model._kept.bank, model
        assert bank is not None, "the model has made the samples' images before"
        self.samples, latents = bank.samples, bank.samples.view(-1, CODE, 1, 1).split(100)
        self.decoders = [decoder_of(model.vaes, label) for label in range(model.vaes.classes)]
        self.made = [torch.cat([decoder(part) for part in latents]) for decoder in self.decoders]
        self.costs = model.beta / 2 * self.samples.square().sum(1)

    def losses(self, images: Tensor) -> Tensor:
        """(n, classes)."""
        classes = range(self.model.vaes.classes)
        rows = [[self.loss(image, label) for label in classes] for image in images]
        return torch.tensor(rows) * self.model.scales

    def loss(self, image: Tensor, label: int) -> float:
        def bound(z: Tensor) -> Tensor:
            made = self.decoders[label](z.view(1, CODE, 1, 1))
            return (image - made).square().sum() + self.model.beta / 2 * z.square().sum()

        missed = (self.made[label] - image).square().sum((1, 2, 3))
        z = self.samples[(missed + self.costs).argmin()].clone().requires_grad_()
        optimizer = torch.optim.Adam([z], self.model.rate)
        for _ in range(self.model.steps):
            optimizer.zero_grad()
            bound(z).backward()
            optimizer.step()
            with torch.no_grad():
                z.mul_(self.model.radius / z.norm().clamp_min(self.model.radius))
        with torch.no_grad():
            return float(bound(z))


def decoder_of(vaes: ClassVAEs, label: int) -> nn.Module:
    """The decoder of one class, as a plain network."""
    alone = ClassVAEs(vaes.shape, 1).decoder
    state = vaes.decoder.state_dict().items()
    alone.load_state_dict({k: v.chunk(vaes.classes)[label] if v.ndim else v for k, v in state})
    return alone.eval().requires_grad_(False)


def synthesis_model(data: str | None, root: str | None) -> tuple[Dataset, AnalysisBySynthesis]:
    """MNIST with `mnist-abs`; the digits with a model trained here if that is missing or named."""
    file, loaded = harness.ZOO / "mnist-abs.safetensors", None
    with contextlib.suppress(*() if data else (InputError,)):
        loaded = None if data == "digits" else load_data("mnist", Path(root) if root else None)
    if loaded is None or not file.exists():
        file, loaded = harness.DIGITS.with_name("digits-abs.safetensors"), load_data("digits")
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
    return harness.resident("VmHWM") / 1024


def prediction(options: Options, count: int = 50, looped: int = 2, memory: bool = False) -> Section:
    """Analysis by synthesis in batches beside the loop over images and classes."""
    torch.set_num_threads(options.threads)
    root = str(options.data_root) if options.data_root else None
    data, model = synthesis_model(options.data, root)
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
        given = count, options.threads, options.data, root
        gib = fresh("works", "synthesis_peak", *given, threads=options.threads)
        claims.append(Claim("peak memory, GiB", gib, 3))
    intro = (
        f"The `abs` model of {data.name}: {model.samples:,} samples and {model.steps} steps for "
        f"each class. The plain loop over images and classes, on {looped} images, beside the "
        f"batched prediction of {count}; {equal} of {looped} labels agree."
    )
    mine = f"{each * 1000:,.0f}", f"{mib:,.0f}", f"{each / alone:.4f}"
    rows = [["loop", "", f"{alone * 1000:,.0f}", "", "1"], ["ours", "", *mine]]
    heads = ["prediction", "", "ms an image", "MiB", "time, ratio"]
    return Section(intro, heads, rows, claims)


ROBUST, ENOUGH, ARCH = LINF, 0.85, "wong-small"


def training(options: Options, recipe: str = "pgd", epochs: int = 4, rate: float = 3e-3) -> Section:
    """Time to a robust network beside a plain loop, each until it is robust enough or ends."""
    data, schedule = load_data("mnist", options.data_root), Schedule(epochs=epochs, peak=rate)
    torch.set_num_threads(options.threads)
    rows, plain = [], 0.0
    for name in ("plain loop", recipe):
        log, start = list[tuple[float, float]](), clock()

        def watch(accuracy: float | None, log: list = log, start: float = start) -> bool:
            log.append((accuracy or 0.0, clock() - start))
            print("  {:.1%} after {:.0f} s".format(*log[-1]), flush=True)
            return log[-1][0] >= ENOUGH

        if name == recipe:
            said = partial(lambda see, epoch: see(epoch.robust_accuracy), watch)
            with tempfile.TemporaryDirectory() as made:
                out = Path(made) / "model.safetensors"
                train(recipe, data, ARCH, ROBUST, out, schedule=schedule, log=said)
        else:
            plain_loop(data, schedule, watch)
        count = next((i for i, (robust, _) in enumerate(log, 1) if robust >= ENOUGH), len(log))
        accuracy, seconds = log[count - 1]
        plain = plain or seconds
        values = f"{accuracy:.1%}", f"{count}", f"{seconds:.0f}", f"{seconds / plain:.2f}"
        rows.append([name, "", *values])
    intro = (
        f"`{recipe}` training of `wong-small` on MNIST at {ROBUST} until {ENOUGH:.0%} of the first "
        "1,000 test images withstand PGD-20, evaluated after every epoch, beside Madry et al. "
        "2018 written down: equal network, batches, rates and rise of eps."
    )
    heads = ["training", "", "PGD-20 accuracy", "epochs", "seconds", "time, ratio"]
    return Section(intro, heads, rows)


def plain_loop(data: Dataset, schedule: Schedule, watch: Callable[[float | None], bool]) -> None:
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
            optimizer.param_groups[0]["lr"] = schedule.rate(progress)
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
        if watch(evaluate(model, data.test, ROBUST, device).robust_accuracy):
            break
