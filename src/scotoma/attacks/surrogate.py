"""Examples from a small network fitted to the model's answers (Papernot et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import BoundedAttack
from scotoma.attacks.core.losses import GUARD, cross_entropy, margin
from scotoma.attacks.core.nearest import TINY, column
from scotoma.attacks.core.oracle import Oracle, select
from scotoma.attacks.iterative import MIM
from scotoma.attacks.square import Square
from scotoma.models.layers import Shape
from scotoma.utils.random import Randomness

CRAFTED = 10
"""Gradient steps of an example, each a quarter of eps."""
BATCH, RATE = 64, 3e-3
"""Images of a training step, and Adam's first step size, which falls to 0 in each round."""
FIRST = 0.45
"""Share of the queries for noise and mixtures, before the first examples."""
NOISE = 2.0
"""Width of that noise, in units of eps."""
LARGEST = 1e4
"""Bound on the logits that the network is fitted to, for models with infinite ones."""


@dataclass(frozen=True)
class Surrogate(BoundedAttack):
    """Fits a small network to the model's answers, and tries examples crafted on the network.

    Papernot et al. 2017, "Practical black-box attacks against machine learning", with the images
    under attack as the only data. The network first learns the model's logits on these images, on
    noise around them and on mixtures of two of them. In each round it is attacked, the examples are
    tried on the model, and it learns from those answers too. Where the logits say nothing but the
    class (votes), it learns the classes. The images that withstand go to `Square`, from the example
    with the largest margin.

    It is for few queries: with 1,000, `Square` fools more where the logits say more than the class,
    and `HopSkipJump` on votes (docs/log.md). The network is shared by the images of a call, so an
    image's result depends on the others: more images make a better network. Images that it does not
    fool are returned unchanged.

    Args:
        threat: the ball, L-inf or L2.
        queries: forward passes an image, except those of `search`.
        rounds: trainings and attacks of the network.
        steps: training steps of a round; the first has twice as many.
        search: further passes of an image for `Square`, if the logits say more than the class.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> attack = Surrogate("linf:0.2", queries=20, rounds=2, steps=100)
    >>> attack(nn.Flatten(), images, labels).argmax().item()
    1
    """

    id: ClassVar[str] = "surrogate"
    norms: ClassVar = ("linf", "l2")
    gradients: ClassVar = False
    queries: int = 80
    rounds: int = 6
    steps: int = 150
    search: int = 0

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial, eps = images.clone(), self.threat.eps
        nothing = torch.full_like(labels, -torch.inf, dtype=torch.float32)
        state = _State(Oracle(model, labels), random, images, images, nothing)
        answers = _Answers(self, adversarial)
        answers.ask(state, images)
        first = min(self.queries - 1, int(FIRST * self.queries))
        for number in range(first):
            if not len(state):
                return adversarial
            mixed = number % 2 == 1 and len(state) > 1
            answers.ask(state, _mixed(state) if mixed else self._noisy(state, NOISE * eps))
        network = None
        left = self.queries - 1 - first
        for number in range(self.rounds):
            if not len(state):
                return adversarial
            network = answers.fit(network, self.steps if network else 2 * self.steps, random)
            for example in range(left * number // self.rounds, left * (number + 1) // self.rounds):
                if not len(state):
                    return adversarial
                loss = (cross_entropy, margin)[example % 2]
                craft = MIM(self.threat, CRAFTED, eps / 4, loss=loss, until_fooled=False)
                start = self._noisy(state, eps)
                answers.ask(state, craft(network, state.clean, state.oracle.labels, start=start))
        if self.search and len(state) and not answers.votes:
            rows = state.rows
            square = Square(self.threat, queries=self.search)
            adversarial[rows] = square(
                select(model, rows),
                images[rows],
                labels[rows],
                start=state.best,
                generator=state.random,
            )
        return adversarial

    def _noisy(self, state: _State, eps: float) -> Tensor:
        noise = 2 * state.random.uniform(state.clean) - 1
        if self.norm == "l2":
            noise = noise / column(noise.flatten(1).norm(dim=1).clamp_min_(TINY))
        return (state.clean + eps * noise).clamp_(0, 1)


def _mixed(state: _State) -> Tensor:
    """Return mixtures of each image with another one, in random proportions."""
    chance = state.random.uniform(state.clean.new_empty(len(state), 2))
    other = state.clean[chance[:, 0].argsort()]
    return state.clean.lerp(other, column(chance[:, 1]))


class _Answers:
    """What the model said so far, and the images that it was asked about."""

    def __init__(self, attack: Surrogate, adversarial: Tensor):
        self.threat = attack.threat
        self.adversarial = adversarial
        self.images: list[Tensor] = []
        self.logits: list[Tensor] = []
        self.votes = True
        """whether every answer so far was only a class: all others have the same logit"""

    def ask(self, state: _State, x: Tensor) -> None:
        """Evaluate the model, and drop the images that are fooled inside the ball."""
        logits = state.oracle.logits(x)
        self.images.append(x)
        self.logits.append(logits)
        if self.votes and len(logits):
            tied = logits.shape[1] > 2 and logits.topk(2, dim=1).values[:, 1] == logits.amin(1)
            self.votes = bool(torch.as_tensor(tied).all())
        gain = margin(logits, state.oracle.labels)
        inside = self.threat.project(x, state.clean).sub_(x).abs().flatten(1).amax(1) < 1e-6
        better = inside & (gain > state.gain)
        state.best = torch.where(column(better), x, state.best)
        state.gain = torch.where(better, gain, state.gain)
        state.finish(inside & (gain > GUARD * logits.abs().amax(1)), x, self.adversarial)

    def fit(self, network: nn.Module | None, steps: int, random: Randomness) -> nn.Module:
        """Train the network, or a new one, on all answers."""
        images, logits = torch.cat(self.images), torch.cat(self.logits)
        targets = logits.argmax(1) if self.votes else _standardised(logits)
        number = random.fork(len(self.images)).uniform(images.new_empty(len(self.images[0]), 1))[0]
        seed = int(number * 2**24)
        if network is None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                _, channels, height, width = images.shape
                network = small_network((channels, height, width), logits.shape[1])
            network = network.to(images.device)
        order = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(network.parameters(), RATE)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = RATE * (1 - step / steps)
            rows = torch.randint(len(images), (BATCH,), generator=order).to(images.device)
            with torch.enable_grad():
                out = network(images[rows])
                loss = (F.cross_entropy if self.votes else F.mse_loss)(out, targets[rows])
                optimiser.zero_grad()
                loss.backward()
            optimiser.step()
        return network


def small_network(shape: Shape, classes: int) -> nn.Sequential:
    """Return two convolutions with stride 2 and two dense layers, for images of any size."""
    channels, height, width = shape
    values = 32 * -(-height // 4) * -(-width // 4)
    return nn.Sequential(
        nn.Conv2d(channels, 16, 5, 2, 2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(values, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )


def _standardised(logits: Tensor) -> Tensor:
    """Return logits of mean 0 and deviation 1 in each image, since models differ in scale."""
    logits = logits.nan_to_num(0, LARGEST, -LARGEST).clamp_(-LARGEST, LARGEST)
    logits = logits - logits.mean(1, keepdim=True)
    length = logits.norm(dim=1, keepdim=True).clamp_min_(TINY)
    return logits * (math.sqrt(logits.shape[1]) / length)


@dataclass
class _State(Active):
    random: Randomness
    clean: Tensor
    best: Tensor
    """image inside the ball with the largest margin, (n, c, h, w)"""
    gain: Tensor
    """its margin, (n,)"""
