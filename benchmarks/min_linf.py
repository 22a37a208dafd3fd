"""`min-linf` beside other attacks that look for the smallest L-inf perturbation: same model, images, threads, process and passes.

    python benchmarks/min_linf.py
    python benchmarks/min_linf.py --model zoo/mnist-pgd.safetensors --data mnist --images 50
    python benchmarks/min_linf.py --model zoo/fashion-pgd.safetensors --data fashion-mnist --steps 300

Every attack may spend the forward and backward passes of `--steps` gradient steps on an image. What cannot stop exactly there is
rounded up by a few; the table says what each took. They are: Foolbox's FMN; FAB of pyautoattack, untargeted and towards
the one or three likeliest classes; APGD-T of pyautoattack at sizes found by bisection for each image, from random points or from
the nearest example so far; and `cw-linf`, once cut off at the same passes with the nearest image that it has asked about, and
once as it ends by itself, which takes several times as many and is not counted among the peers. All search in float32; where
audits would search in bf16, as on larger models, a run of `min-linf` that does so is shown as well: it asks again in float32
what is nearly fooled, more passes in less time.

No attack is believed: distances are those of the images returned, inside [0, 1], where a plain float32 forward pass gives
another label. An image not fooled counts with the distance 1; images that the model has wrong are left out. The mean counts,
since it takes in the images that are hard. The interval is the bootstrap's over images, both attacks on the same ones.

Time is the processor's, which other programs disturb less; seconds by the clock, in all and in the model's passes, stand beside it.

Targets: a mean no larger than the best peer's, in less time.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peers import Attack, Problem, clocked, foolbox, parser, problem
from scotoma.attacks.carlini_wagner import CarliniWagnerLinf
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import column, size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.min_linf import MinLinf
from scotoma.claim import Threat
from scotoma.utils.device import pays_in_bf16
from scotoma.utils.errors import InputError

THREAT = Threat("linf", 1)
OURS, BF16, FULL = "min-linf", "min-linf, in bf16", "cw-linf, to its end"
WIDEST = 0.5
"""Where the bisection of APGD-T begins, the first radius of `min-linf`."""
SIZES = 10
"""That it tries; the steps are shared out among them."""
RESAMPLES = 10_000


@dataclass(frozen=True)
class Result:
    """Distances (n,), 1 where not fooled; mean passes an image; seconds of the processor, and by the clock in all and in the
    model's passes."""

    distances: np.ndarray
    fooled: float
    forwards: float
    backwards: float
    processor: float
    seconds: float
    passes: float


def main() -> None:
    options = parse()
    least = MinLinf.restarts * MinLinf.restart_steps + 10
    if options.steps < least:
        raise InputError(
            f"--steps {options.steps} leaves min-linf less than its restarts take; give at least {least}"
        )
    setting = problem(options, "linf")
    classes = setting.model(setting.images[:1]).shape[1]
    attacks = contenders(options.steps, classes)
    if not pays_in_bf16(setting.model, setting.images):
        del attacks[BF16]
    rounds = [
        {name: measure(attack, setting, name == BF16) for name, attack in attacks.items()}
        for _ in range(options.repeats)
    ]
    results = {
        name: min((taken[name] for taken in rounds), key=lambda result: result.processor)
        for name in attacks
    }
    columns = f"{'forwards':>10}{'backwards':>11}{'processor':>11}{'seconds':>9}{'in passes':>11}"
    print(f"\n{'attack':<22}{'fooled':>8}{'mean':>9}{'median':>9}{columns}")
    for name, result in results.items():
        print(row(name, result))
    mine = results.pop(OURS)
    print(
        f"\n{'min-linf against':<22}{'ratio of means':>15}{'95% interval':>18}{'nearer':>9}{'farther':>9}{'time':>8}"
    )
    for name, peer in results.items():
        print(comparison(name, mine, peer))
    peers = {name: result for name, result in results.items() if name not in (BF16, FULL)}
    best = min(peers, key=lambda name: peers[name].distances.mean())
    print("\n" + verdict(best, mine, peers[best]))


def parse() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument(
        "--steps",
        type=int,
        default=100,
        help="gradient steps an image, whose passes all may spend (default: 100)",
    )
    made.set_defaults(images=50, threads=1, repeats=1)
    return made.parse_args()


def contenders(steps: int, classes: int) -> dict[str, Attack]:
    passes = 2 * steps + 1
    return {
        OURS: MinLinf(THREAT, steps=steps),
        BF16: MinLinf(THREAT, steps=steps),
        "cw-linf": capped(CarliniWagnerLinf(THREAT), passes),
        FULL: CarliniWagnerLinf(THREAT),
        "Foolbox FMN": foolbox("LInfFMNAttack", steps=steps),
        "FAB": fab(rounded_up(passes, classes + 2), 0),
        "FAB-T, 1 class": fab(rounded_up(passes, 3), 1),
        "FAB-T, 3 classes": fab(rounded_up(passes, 9), 3),
        "APGD-T, random start": apgd(rounded_up(steps, SIZES), warm=False),
        "APGD-T, warm start": apgd(rounded_up(steps, SIZES), warm=True),
    }


def rounded_up(whole: int, part: int) -> int:
    return -(-whole // part)


def fab(iterations: int, targets: int) -> Attack:
    """FAB with as many iterations towards each of the likeliest classes, as many as `targets`; 0 goes to whichever is near.

    An iteration takes two forward passes and one backward pass, without targets one for each class.
    """
    kind = peer("fab_pt", "FABAttack_PT")

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(0)
        attack = kind(model, n_iter=iterations, targeted=bool(targets), device=images.device)
        found = images.clone()
        for target in range(2, max(targets, 1) + 2):
            attack.target_class = target
            keep_nearer(
                images, attack.attack_single_run(images, labels, is_targeted=bool(targets)), found
            )
        return found

    return run


def keep_nearer(images: Tensor, adversarial: Tensor, found: Tensor) -> None:
    """Write what is nearer into `found`; FAB returns the image itself where it fails."""
    distance, best = size(adversarial - images, "linf"), size(found - images, "linf")
    better = (distance > 0) & ((best == 0) | (distance < best))
    found[better] = adversarial[better]


def apgd(iterations: int, warm: bool) -> Attack:
    """APGD towards the likeliest class at `SIZES` sizes of each image's own, halfway between those that failed and succeeded."""
    kind = peer("autopgd_base", "APGDAttack_targeted")

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        torch.manual_seed(0)
        found = images.clone()
        low, high = torch.zeros(len(images)), torch.full((len(images),), torch.inf)
        with torch.no_grad():
            likely = model(images).scatter(1, labels[:, None], -torch.inf).argmax(1)
        for _ in range(SIZES):
            eps = column(torch.where(high.isinf(), WIDEST, (low + high) / 2))
            attack = kind(model, n_iter=max(1, iterations - 1), eps=eps, device=images.device)
            attack.init_hyperparam(images)
            attack.y_target = likely
            start = (
                images + (found - images).clamp(-eps, eps)
                if warm and bool(high.isfinite().any())
                else None
            )
            _, stands, _, adversarial = attack.attack_single_run(images, labels, x_init=start)
            found[~stands] = adversarial[~stands]
            high = torch.where(stands, high, size(found - images, "linf"))
            low = torch.where(stands & high.isfinite(), eps.flatten(), low)
        return found

    return run


def peer(module: str, name: str) -> Any:
    """A class of pyautoattack."""
    try:
        return getattr(__import__(f"pyautoattack.{module}", fromlist=[name]), name)
    except ImportError:
        raise InputError("pyautoattack is not installed; pip install 'scotoma[peers]'") from None


class SpentError(Exception):
    """Every image has had its passes."""


class Capped(Counted):
    """A model that keeps the nearest fooling image it is asked about while an image has passes left, and then answers no more."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, passes: int):
        super().__init__(model, len(images), images.device)
        self.images, self.labels, self.left = images, labels, passes
        self.found, self.best = images.clone(), torch.full((len(images),), torch.inf)

    def forward(self, images: Tensor) -> Tensor:
        spent = self.forwards + self.backwards >= self.left
        if bool(spent.all()):
            raise SpentError
        owners = torch.arange(len(self.images)) if self.rows is None else self.rows
        logits = super().forward(images)
        distance = size(images.detach() - self.images[owners], "linf")
        nearer = (
            fooled(logits.detach(), self.labels[owners])
            & (distance < self.best[owners])
            & ~spent[owners]
        )
        self.found[owners[nearer]], self.best[owners[nearer]] = (
            images.detach()[nearer],
            distance[nearer],
        )
        return logits


def capped(attack: Attack, passes: int) -> Attack:
    """One of our attacks, cut off after as many passes an image, its result the nearest image that it has asked about."""

    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        asked = Capped(model, images, labels, passes)
        with contextlib.suppress(SpentError):
            attack(asked, images, labels)
        return asked.found

    return run


def measure(attack: Attack, setting: Problem, reduced: bool = False) -> Result:
    """One run, with each image's distance; `reduced` lets an attack of ours search in bf16."""
    images, labels = setting.images, setting.labels
    with clocked(setting.model) as (model, spent):
        counted = Counted(model, len(images), images.device, reduced).eval()
        start, worked = time.perf_counter(), time.process_time()
        adversarial = attack(counted, images, labels).detach()
        seconds, processor = time.perf_counter() - start, time.process_time() - worked
    with torch.no_grad():
        wrong = setting.model(adversarial).argmax(1) != labels
    wrong &= (adversarial.flatten(1).amin(1) >= 0) & (adversarial.flatten(1).amax(1) <= 1)
    distances = torch.where(wrong, size(adversarial - images, "linf"), 1.0).double().numpy()
    # the mean over images, since a peer does not say which image a pass belongs to
    forwards, backwards = (
        count.double().mean().item() for count in (counted.forwards, counted.backwards)
    )
    return Result(
        distances, wrong.double().mean().item(), forwards, backwards, processor, seconds, sum(spent)
    )


def row(name: str, result: Result) -> str:
    return (
        f"{name:<22}{result.fooled:>8.1%}{result.distances.mean():>9.5f}{np.median(result.distances):>9.5f}{result.forwards:>10,.0f}"
        f"{result.backwards:>11,.0f}{result.processor:>11.2f}{result.seconds:>9.2f}{result.passes:>11.2f}"
    )


def comparison(name: str, mine: Result, peer: Result) -> str:
    ratio, low, high = ratio_of_means(mine.distances, peer.distances)
    nearer, farther = (
        (mine.distances < peer.distances).sum(),
        (mine.distances > peer.distances).sum(),
    )
    share = f"x{mine.processor / peer.processor:.2f}"
    return (
        f"{name:<22}{ratio:>15.4f}{f'{low:.4f} to {high:.4f}':>18}{nearer:>9}{farther:>9}{share:>8}"
    )


def ratio_of_means(mine: np.ndarray, peer: np.ndarray) -> tuple[float, float, float]:
    """With its 95% interval by the percentiles of the bootstrap, images resampled for both at once."""
    chosen = np.random.default_rng(0).integers(len(mine), size=(RESAMPLES, len(mine)))
    low, high = np.quantile(mine[chosen].mean(1) / peer[chosen].mean(1), (0.025, 0.975))
    return float(mine.mean() / peer.mean()), float(low), float(high)


def verdict(name: str, mine: Result, peer: Result) -> str:
    ratio, faster = mine.distances.mean() / peer.distances.mean(), mine.processor / peer.processor
    met = ratio <= 1 and faster < 1
    return f"best peer: {name}; mean x{ratio:.4f}, time x{faster:.2f} (targets: 1, 1)  {'met' if met else 'MISSED'}"


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
