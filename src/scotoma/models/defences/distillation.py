"""A network distilled at a high temperature and used at temperature 1."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Fitted, train

BATCH = 250


class Distillation(Fitted):
    """Distils the network at a high temperature; the student's logits saturate at temperature 1.

    Teacher and student are trained with softmax(logits / T), so their logits are about T times
    those of ordinary training; here this factor stands behind the last layer. The student begins
    with the teacher's weights and a fresh last layer, and learns the teacher's probabilities.
    Without training images the teacher is its own student: this has the least distillation loss.

    Source: Papernot, McDaniel, Wu, Jha and Swami 2016, "Distillation as a defense to adversarial
    perturbations against deep neural networks".
    Broken by: Carlini and Wagner 2016, "Defensive distillation is not robust to adversarial
    examples", and 2017, "Towards evaluating the robustness of neural networks".

    >>> images = torch.tensor([[[[0.2, 0.6]]]])
    >>> Distillation(nn.Flatten(), temperature=1000)(images).softmax(1).tolist()
    [[0.0, 1.0]]
    """

    works_unfitted: ClassVar[bool] = True

    def __init__(self, network: nn.Module, temperature: float = 100.0, steps: int = 100):
        super().__init__(network)
        self.temperature = temperature
        self.steps = steps

    def fit(self, images: Tensor, labels: Tensor) -> None:
        """Train the student on the teacher's probabilities for the images."""
        with torch.no_grad():
            soft = torch.cat([self.network(part).softmax(1) for part in images.split(BATCH)])
        linear = [part for part in self.network.modules() if isinstance(part, nn.Linear)]
        if linear:
            linear[-1].reset_parameters()
        # the cross-entropy of softmax(student / T), where the student is T * network
        train(self.network, images, soft, F.cross_entropy, steps=self.steps)

    def forward(self, images: Tensor) -> Tensor:
        return self.temperature * self.network(images)
