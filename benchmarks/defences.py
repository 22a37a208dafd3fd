"""Attacks on the broken defences of `scotoma list defences`, beside those of other libraries.

    python benchmarks/defences.py                                  # all of them: hours
    python benchmarks/defences.py --defences jpeg,ripple --methods bare,ours --limit 20
    python benchmarks/defences.py --network mnist-pgd --sizes 0.3
    python benchmarks/defences.py --network mnist-pgd --sizes 0.3 --defences none   # honest
    python benchmarks/defences.py --network cifar-robust --data cifar-10 --sizes 8/255

Each defence stands around the same network. A cell is the robust accuracy: the share of all the
images that the defended network classifies correctly before and after the attack, in the worst of
the attacks of that method. What an attack reports is not used: its images are classified again by
the defended network, by most of 64 fresh draws if it is randomised, and count if they lie in [0, 1]
and within eps. The methods:

* bare: `strong` on the network without the defence, judged by it: how robust it is itself
* transfer: the same perturbations enlarged to eps, judged by the defended network
* ours: `strong`, as in an audit, which looks at the defended network by itself
* autoattack: the standard version, or `rand` with 20 draws a gradient if the defence is randomised
* foolbox: PGD and FMN for L-inf, 100 steps each
* art: Auto-PGD on logit differences, and random search over squares with 1,000 queries

Peers get the defence as it is, except that a missing gradient becomes one of zeros, which some of
them do not take otherwise. Passes are forward passes of an image through the network inside the
defence, so that votes, draws and test-time steps count; time is in seconds an image.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from harness import Attack, allowed, attempt, command, first, in_zoo, known
from measuring import clock
from page import table
from peers import art, autoattack, foolbox, ours
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.oracle import Counted
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.execution.records import verified_logits
from scotoma.models.classifier import is_randomised
from scotoma.models.defences import DEFENCES
from scotoma.models.defences.base import Defence
from scotoma.models.loading import load_model
from scotoma.threat import Threat
from scotoma.utils.device import pays_in_bf16

NONE = "none"
"""The name that stands for the network without a defence."""


class Connected(nn.Module):
    """A model whose logits always have a gradient by the images, if only zeros."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        cut = images.requires_grad and not logits.requires_grad
        return logits + 0 * images.flatten(1).sum(1, keepdim=True) if cut else logits


@dataclass(frozen=True)
class Row:
    """A defended network under one size of perturbation.

    Args:
        defence: name of the defence.
        threat: L-inf and its size.
        network: the network without the defence.
        raw: the defended network.
        judge: the same as an audit evaluates it.
        images, labels: all the images, also those that it misclassifies.
    """

    defence: str
    threat: Threat
    network: nn.Module
    raw: nn.Module
    judge: nn.Module
    images: Tensor
    labels: Tensor

    @property
    def inside(self) -> nn.Module:
        """The network inside the defence, or the network itself where there is none."""
        return self.raw.network if isinstance(self.raw, Defence) else self.raw

    def right(self, judge: nn.Module, images: Tensor) -> Tensor:
        """Return which images the model classifies correctly, from the same draws every time."""
        torch.manual_seed(0)
        with torch.no_grad():
            return verified_logits(judge, images).argmax(1) == self.labels


def strong(row: Row) -> list[Attack]:
    return [ours("strong", row.threat)]


def transferred(row: Row) -> list[Attack]:
    (search,) = strong(row)

    def enlarged(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        change = search(model, images, labels) - images
        factor = row.threat.eps / size(change, "linf").clamp_min(1e-6)
        return (images + change * column(factor)).clamp(0, 1)

    return [enlarged]


def standard(row: Row) -> list[Attack]:
    version = "rand" if is_randomised(row.judge) else "standard"
    attack = autoattack(row.threat, version=version)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)  # it warns of each zero gradient
    return [attack]


def foolboxes(row: Row) -> list[Attack]:
    eps = row.threat.eps
    pgd = foolbox("LinfPGD", epsilon=eps, steps=100, abs_stepsize=eps / 40)
    return [pgd, foolbox("LInfFMNAttack", steps=100)]


def arts(row: Row) -> list[Attack]:
    eps, classes = row.threat.eps, row.judge(row.images[:1]).shape[1]
    loss = {"loss_type": "difference_logits_ratio", "nb_random_init": 1}
    apgd = art("AutoProjectedGradientDescent", classes, eps=eps, eps_step=2 * eps, **loss)
    return [apgd, art("SquareAttack", classes, eps=eps, max_iter=1000)]


METHODS: dict[str, Callable[[Row], list[Attack]]] = {
    "bare": strong,
    "transfer": transferred,
    "ours": strong,
    "autoattack": standard,
    "foolbox": foolboxes,
    "art": arts,
}


def attacked(row: Row, method: str) -> str:
    """Return robust accuracy, passes and seconds after the attacks of a method.

    Each attack runs on the images that are still classified correctly.
    """
    judge, target, inside = row.judge, Connected(row.raw), row.inside
    if method in ("bare", "transfer"):
        target = inside = row.network
    elif method == "ours":
        target = row.judge
    if method == "bare":
        judge = row.network
    right = row.right(judge, row.images)
    count, seconds, best = 0, 0.0, row.images.clone()

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal count
        count += len(inputs[0])

    for attack in METHODS[method](row):
        rows = right.nonzero().squeeze(1)
        if not len(rows):
            break
        images, labels = row.images[rows], row.labels[rows]
        seen = Counted(target, len(rows), images.device, pays_in_bf16(target, images)).eval()
        with inside.register_forward_pre_hook(add):
            torch.manual_seed(0)
            start = clock(images.device)
            made = attack(seen, images, labels).detach()
            seconds += clock(images.device) - start
        valid = allowed(made, images, "linf", row.threat.eps)
        best[rows[valid]] = made[valid]
        right &= row.right(judge, best)
    n = len(row.images)
    return f"{int(right.sum()) / n:.1%}, {count / n:,.0f} passes, {seconds / n:.2f} s"


def rows(
    names: list[str], spec: str, data: Dataset, threats: list[Threat], limit: int
) -> Iterator[Row]:
    """Yield the rows of each defence; it is fitted once for all sizes."""
    network = load_model(spec).checked(data).module
    images, labels = first(data, limit)
    for name in names:
        named = spec if name == NONE else f"defence:{name}:{spec}"
        defended = load_model(named, data=data)
        judge = defended.checked(data).module
        for threat in threats:
            yield Row(name, threat, network, defended.module, judge, images, labels)


def main(parser: argparse.ArgumentParser) -> None:
    everything = ",".join(DEFENCES)
    parser.add_argument("--defences", default=everything, help="names (default: all)")
    parser.add_argument("--methods", default="bare,transfer,ours,autoattack,foolbox")
    parser.add_argument("--network", default="mnist-natural", help="a name in zoo/, or a model")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--sizes", default="0.1,0.2", help="of L-inf (default: 0.1,0.2)")
    parser.add_argument("--limit", type=int, default=100, help="images (default: 100)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = known(given.defences.split(","), [NONE, *DEFENCES], "--defences: no")
    methods = known(given.methods.split(","), METHODS, "--methods: no")
    threats = [Threat.parse(f"linf:{eps}") for eps in given.sizes.split(",")]
    data = load_data(given.data, given.data_root)
    limit = min(given.limit, len(data.test))
    heads = ["defence", "eps", "clean", *methods]
    lines = []
    with threadpool_limits(given.threads):
        for row in rows(names, in_zoo(given.network), data, threats, limit):
            clean = row.right(row.judge, row.images).float().mean().item()
            cells = [attempt(attacked, row, method) for method in methods]
            lines.append([row.defence, f"{row.threat.eps:.3g}", f"{clean:.1%}", *cells])
            print(*lines[-1], sep="  ", flush=True)
    print(f"\n{given.network}, {limit} images of {data.name}\n\n{table(heads, lines)}")


if __name__ == "__main__":
    start = time.perf_counter()
    command(main, __doc__)
    print(f"\n{time.perf_counter() - start:.0f} s")
