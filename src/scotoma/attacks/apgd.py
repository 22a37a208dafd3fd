"""Auto-PGD: gradient ascent with momentum that adapts its own step size (Croce and Hein 2020)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from scotoma.attacks.core.active import Active
from scotoma.attacks.core.base import BoundedAttack
from scotoma.attacks.core.losses import cross_entropy, fooled, targeted_dlr, wrong_logits
from scotoma.attacks.core.nearest import column
from scotoma.attacks.core.oracle import Oracle
from scotoma.threat import Threat
from scotoma.utils.device import batch_size
from scotoma.utils.random import Randomness

MOMENTUM = 0.75
"""Share of the new step (alpha of Algorithm 1); the rest repeats the last change."""
RISING = 0.75
"""Share of steps that must raise the loss for the step size to stay (rho of Algorithm 1)."""


def checkpoints(steps: int) -> list[int]:
    """Return the steps at which the step size is judged, ceil(p_j steps) (section 3.3)."""
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return [math.ceil(share * steps - 1e-9) for share in shares[1:-1]]


@dataclass(frozen=True)
class _AutoPGD(BoundedAttack, ABC):
    """Algorithm 1 for any loss; a subclass defines the loss and the target class of each start.

    A few images climb from several starts at once, to fill the processor, with equal results.
    """

    norms: ClassVar = ("linf", "l2")
    steps: int = 100
    restarts: int = 1

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        return self.run_from(_noise(images, random, self.threat), model, images, labels, random)

    def run_from(
        self, start: Tensor, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness
    ) -> Tensor:
        adversarial = images.clone()
        oracle = Oracle(model, labels)
        logits = oracle.logits(images)
        goals = self._goals(logits, labels)
        standing = _Standing(oracle, random, images, goals)
        standing.drop(fooled(logits, labels))
        fill, number = batch_size(images.device, images[:1].numel() or 1), 0
        while number < goals.shape[1] and len(standing):
            count = max(1, min(goals.shape[1] - number, fill // len(standing)))
            starts = [] if number else [start[standing.rows]]
            while len(starts) < count:
                starts.append(_noise(standing.clean, standing.random, self.threat))
            x = self.threat.project(torch.cat(starts), standing.clean.repeat(count, 1, 1, 1))
            climb = _Climb.begin(standing, standing.goals[:, number : number + count], x)
            won = self._climb(climb, torch.full_like(labels, count), adversarial) < count
            standing.drop(won[standing.rows])
            number += count
        return adversarial

    @abstractmethod
    def _goals(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the target class of each start of each image, int64 (n, starts)."""

    @staticmethod
    @abstractmethod
    def _loss(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
        """Return the loss of each image towards its target, (n,)."""

    def _climb(self, climb: _Climb, winner: Tensor, adversarial: Tensor) -> Tensor:
        """Run several starts of each image at once, and write the first that fools it.

        Return its number in `winner`, int64 (n,), which is at first more than any. The starts after
        it leave with it.
        """

        def loss(logits: Tensor, labels: Tensor) -> Tensor:
            return self._loss(logits, labels, climb.goal)

        def harvest(done: Tensor) -> None:
            if bool(done.any()):
                rows = climb.rows
                winner.scatter_reduce_(0, rows[done], climb.number[done], "amin")
                lowest = winner[rows]
                winners = done & (climb.number == lowest)
                adversarial[rows[winners]] = climb.x[winners]
                climb.drop(climb.number >= lowest)

        last_mark, marks = 0, checkpoints(self.steps)
        for step in range(self.steps):
            gradient, value, done = climb.oracle.value_and_grad(climb.x, loss)
            climb.rises += value > climb.loss
            climb.loss, climb.direction = value, self.threat.steepest(gradient)
            harvest(done)
            if not len(climb):
                return winner
            climb.remember()
            if step in marks:
                climb.judge(step - last_mark)
                last_mark = step
            climb.move(MOMENTUM if step else 1.0, self.threat)
        harvest(climb.oracle.fooled(climb.x))
        return winner


@dataclass(frozen=True)
class APGD(_AutoPGD):
    """Auto-PGD on the cross-entropy (Croce and Hein 2020, Algorithm 1).

    `start` replaces the first random start.

    Args:
        threat: the ball, L-inf or L2.
        steps: gradient steps from each start.
        restarts: random starts; an image that is fooled leaves.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> APGD("linf:0.2")(nn.Flatten(), images, labels)  # the brighter pixel is the class
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "apgd-ce"

    def _goals(self, logits: Tensor, labels: Tensor) -> Tensor:
        return labels[:, None].expand(-1, self.restarts)

    @staticmethod
    def _loss(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
        return cross_entropy(logits, labels)


@dataclass(frozen=True)
class APGDT(_AutoPGD):
    """Auto-PGD towards each likely wrong class in turn (Croce and Hein 2020, eq. 7 and section 5).

    `start` replaces the first random start.

    Args:
        threat: the ball, L-inf or L2.
        steps: gradient steps towards each target.
        restarts: passes through the list of targets, each from new random starts.
        targets: wrong classes to try, the likeliest on the clean image first; at most all.

    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> APGDT("linf:0.2", steps=10)(nn.Flatten(), images, labels)
    tensor([[[[0.4000, 0.6000]]]])
    """

    id: ClassVar[str] = "apgd-t"
    targets: int = 9

    def _goals(self, logits: Tensor, labels: Tensor) -> Tensor:
        count = min(self.targets, logits.shape[1] - 1)
        return wrong_logits(logits, labels).topk(count).indices.repeat(1, self.restarts)

    @staticmethod
    def _loss(logits: Tensor, labels: Tensor, goals: Tensor) -> Tensor:
        return targeted_dlr(logits, labels, goals)


@dataclass
class _Standing(Active):
    """State that outlives a start."""

    random: Randomness
    clean: Tensor
    goals: Tensor


@dataclass
class _Climb(Active):
    """The variables of Algorithm 1. One number an image has the shape (n,)."""

    number: Tensor
    """number of the start among those of its image that climb together, int64"""
    goal: Tensor
    clean: Tensor
    x: Tensor
    previous: Tensor
    direction: Tensor
    """steepest perturbation of size eps at `x`"""
    best: Tensor
    best_direction: Tensor
    loss: Tensor
    best_loss: Tensor
    judged_loss: Tensor
    """best loss when the step size was last judged"""
    rises: Tensor
    """steps since then that raised the loss"""
    step_size: Tensor
    """in units of eps"""
    halved: Tensor
    """whether the step size was halved then"""

    @classmethod
    def begin(cls, standing: _Standing, goals: Tensor, x: Tensor) -> _Climb:
        """Return the climbs of n images from k starts `x`, (k n, c, h, w), towards goals (n, k)."""
        n, starts = goals.shape
        copies = torch.arange(n, device=x.device).repeat(starts)
        nothing = torch.zeros(len(x), device=x.device)
        return cls(
            oracle=standing.oracle.select(copies),
            number=torch.arange(starts, device=x.device).repeat_interleave(n),
            goal=goals.T.flatten(),
            clean=standing.clean.repeat(starts, 1, 1, 1),
            x=x,
            previous=x.clone(),
            direction=x,
            best=x.clone(),
            best_direction=x.clone(),
            loss=nothing + torch.inf,
            best_loss=nothing - torch.inf,
            judged_loss=nothing - torch.inf,
            rises=torch.zeros(len(x), dtype=torch.int64, device=x.device),
            step_size=nothing + 2,
            halved=nothing.bool(),
        )

    def remember(self) -> None:
        """Keep the best point so far and its direction, so that returning there costs no pass."""
        better = self.loss > self.best_loss
        self.best_loss = torch.where(better, self.loss, self.best_loss)
        # lerp by 0 or 1 chooses exactly, and takes a tenth of the time of torch.where
        mask = column(better.float())
        self.best.lerp_(self.x, mask)
        self.best_direction.lerp_(self.direction, mask)

    def judge(self, steps: int) -> None:
        """Halve the step size where it stopped helping and return to the best point there."""
        stuck = ~self.halved & (self.best_loss == self.judged_loss)
        self.halved = (self.rises < RISING * steps) | stuck
        self.step_size = torch.where(self.halved, self.step_size / 2, self.step_size)
        mask = column(self.halved.float())
        self.x.lerp_(self.best, mask)
        self.direction.lerp_(self.best_direction, mask)
        self.loss = torch.where(self.halved, self.best_loss, self.loss)
        self.judged_loss = self.best_loss
        self.rises = torch.zeros_like(self.rises)

    def move(self, momentum: float, threat: Threat) -> None:
        """Set x to a z + (1 - a) (2 x - previous), inside ball and box; z is the gradient step."""
        step = torch.addcmul(self.x, self.direction, column(self.step_size))
        z = threat.project(step, self.clean)
        x = threat.project(self.previous.lerp_(self.x, 2.0).lerp_(z, momentum), self.clean)
        self.x, self.previous = x, self.x


def _noise(images: Tensor, random: Randomness, threat: Threat) -> Tensor:
    """Return the images with uniform noise of size eps in every value."""
    return random.uniform(images).mul_(2).sub_(1).mul_(threat.eps).add_(images)
