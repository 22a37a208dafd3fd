"""Adversarial training that asks for one answer to two changes of an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.nn import Module

from scotoma.threat import Threat
from scotoma.training.pgd import PGDTraining
from scotoma.training.transformed import ComposedTraining
from scotoma.transforms.composition import Composition
from scotoma.transforms.scale_shift import ScaleShift


@dataclass(frozen=True)
class ConsistentTraining(ComposedTraining):
    """PGD training after two random compositions of each image, with equal answers to both.

    Every image is attacked twice, after two compositions as in `ComposedTraining`; one of the two
    of the first group is the image itself. The loss is the mean cross-entropy of both attacked
    images and the Jensen-Shannon divergence of the answers to them. A batch takes twice the passes.

    Args:
        weight: of the divergence beside the cross-entropy.
        temperature: by which logits are divided before the divergence is taken.

    Source:
        Tack et al. 2022, "Consistency regularization for adversarial robustness", with the changes
        of the map in place of the augmentations of training.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
    >>> images, labels = torch.rand(8, 1, 8, 8), torch.tensor(4 * [0, 2])
    >>> recipe = ConsistentTraining(Threat("linf", 0.1))
    >>> recipe(model, images, labels, 0.5, torch.Generator()).shape
    torch.Size([])
    """

    weight: float = 1.0
    temperature: float = 0.5

    def __call__(
        self, model: Module, images: Tensor, labels: Tensor, progress: float, generator: Generator
    ) -> Tensor:
        pairs = []
        for number, rows in enumerate(torch.arange(len(images)).chunk(self.groups)):
            changes: list[ScaleShift | Composition] = [self.change(generator) for _ in range(2)]
            if not number:
                changes[0] = ScaleShift(1.0, 0.0)
            ends = []
            for change in changes:
                ball = Threat(self.threat.norm, change.contrast * self.threat.eps)
                attack = PGDTraining(ball, self.steps, self.warmup)
                moved = change(images[rows])
                ends.append(attack.perturb(model, moved, labels[rows], progress, generator))
            pairs.append(torch.stack(ends))
        logits = model(torch.cat(pairs, 1).flatten(0, 1)).float()
        loss = F.cross_entropy(logits, labels.repeat(2))
        return loss + self.weight * divergence(*(logits / self.temperature).chunk(2))


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean Jensen-Shannon divergence of the softmax of two logits (n, classes), in nats.

    >>> divergence(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])).item()
    0.0
    """
    logs = torch.stack([first, second]).log_softmax(2)
    middle = logs.logsumexp(0) - torch.log(torch.tensor(2.0))
    return F.kl_div(middle.expand_as(logs), logs, reduction="sum", log_target=True) / len(first) / 2
