"""Work that is no contest of attacks, measured beside what it should cost at least."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from harness import L2, LINF, Attack, Claim, Options, Problem, bare, measure, problem
from measuring import Spent, clock, fresh, spending
from page import Section
from peers import ours
from scotoma.attacks import ATTACKS, takes
from scotoma.attribution import ATTRIBUTIONS
from scotoma.attribution.method import Attribution, at_once
from scotoma.metrics.class_divergence import by_class, kde_comparison
from scotoma.metrics.embedding import PERPLEXITY, embed
from scotoma.metrics.neighbours import nearest_distance
from scotoma.metrics.resampling import Comparison, average
from scotoma.metrics.two_sample import classifier_comparison, knn_comparison
from scotoma.threat import Threat
from scotoma.utils.device import default_device
from scotoma.utils.errors import InputError

NAMES = "pgd", "min-linf", "fmn-linf", "ddn", "square", "strong"
PROFILED: dict[str, Threat] = {name: L2 if name == "ddn" else LINF for name in NAMES}
LATENT = 20
"""Dimensions of the points behind features: those of images too lie near a surface of few."""
BLOCK = 1000
CLOCKS = ("wall", "processor")


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
            threat = PROFILED.get(name, LINF)
            if eps:
                norm = ATTACKS[name].norms[0]
                threat = Threat(norm, 1 if norm == "l0" else eps)
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


def pace(attack: Attack, setting: Problem) -> tuple[float, float]:
    """Passes over an image a second, in the attack and bare, after a run that warms up."""
    _, done = measure(attack, setting), measure(attack, setting)
    forwards, backwards = round(done.forwards), round(done.backwards)
    passes = done.n * (forwards + backwards)
    bare(setting, 1, 1)
    with spending(setting.images.device) as spent:
        bare(setting, forwards, backwards)
    return passes / done.seconds, passes / spent.seconds


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
        with model.register_forward_hook(lambda _, x, __, sizes=sizes: sizes.append(len(x[0]))):
            start = clock()
            method(model, images, labels)
            between = clock()
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


def random_layer(points: np.ndarray, wide: int) -> np.ndarray:
    """float32 (n, wide): one random ReLU layer at the points."""
    layer = np.random.default_rng(0)
    weight, bias = layer.normal(size=(points.shape[1], wide)), layer.normal(size=wide)
    blocks = np.array_split(points, -(-len(points) // BLOCK))
    return np.concatenate([np.maximum(b @ weight + bias, 0).astype(np.float32) for b in blocks])


def neighbours(what: str, queries: int, train: int, wide: int) -> dict[str, float]:
    """Seconds, processor seconds and MiB beyond the features of the "product" or the "search", of
    which also the largest relative error of 20 distances against float64."""
    known, query = (
        random_layer(np.random.default_rng(seed).normal(size=(count, LATENT)), wide)
        for seed, count in ((1, train), (2, queries))
    )
    distances = np.empty(0)
    with spending() as spent:
        if what == "search":
            distances = nearest_distance(known, query)
        else:
            for start in range(0, queries, BLOCK):
                np.matmul(query[start : start + BLOCK], known.T)
    few = query[: min(20, len(distances))].astype(np.float64)
    exact = [np.sort(np.linalg.norm(known - each, axis=1))[:5].mean() for each in few]
    return vars(spent) | {"error": float(abs(distances[:20] / exact - 1).max(initial=0))}


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


@contextmanager
def part(name: str, parts: dict[str, Spent]) -> Iterator[None]:
    """Note and print what is spent inside."""
    with spending() as parts[name]:
        yield
    print(f"{name:<30}{parts[name]}", flush=True)


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

    parts: dict[str, Spent] = {}
    with part("openTSNE alone", parts):
        TSNE(perplexity=int(PERPLEXITY), n_jobs=options.threads, random_state=0).fit(made)
    with part("t-SNE, exact neighbours", parts):
        plane = embed(made)
    with part("densities", parts):
        kl = classwise(plane, kde_comparison)
    with part("nearest neighbours", parts):
        knn = classwise(made, knn_comparison)
    with part("classifier", parts):
        auc = classifier_comparison(made[train], made[test])
    for name, each in (("K-L divergence", kl), ("by neighbours", knn), ("AUC", auc)):
        print(f"{name}: {each.value:.3f} ({each.low:.3f} to {each.high:.3f})")
    alone, *own = parts.values()
    whole = Spent(**{c: sum(getattr(each, c) for each in own) for c in CLOCKS})
    ratios = {c: getattr(whole, c) / getattr(alone, c) for c in CLOCKS}
    claims = [Claim(f"{c} time by openTSNE's", ratio, 1.2) for c, ratio in ratios.items()]
    rows = [
        [name, "", f"{each.processor:.1f}", f"{each.processor / alone.processor:.2f}"]
        for name, each in (parts | {"**ours, in all**": whole}).items()
    ]
    intro = (
        "Embedding on exact neighbours, densities, the nearest-neighbour estimator and the "
        "classifier, all with intervals and null distributions, beside openTSNE's embedding "
        f"alone; {points:,} points of {wide:,} features. The claim is at most 1.2 times its time "
        "on 70,000 points: on few, the other parts weigh more."
    )
    return Section(intro, ["part", "", "processor seconds", "time, ratio"], rows, claims)
