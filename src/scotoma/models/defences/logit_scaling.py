"""Logits so large that softmax saturates."""

from __future__ import annotations

from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class LogitScaling(Defence):
    """Multiplies logits, so that softmax gives 0 and 1 and cross-entropy has no gradient.

    Source: the saturation that Carlini and Wagner 2017, "Towards evaluating the robustness of
    neural networks", find in defensive distillation, without a training.
    Broken by: losses on logits in the same paper; the loss of logit differences, which no scale
    changes, of Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble
    of diverse parameter-free attacks".

    >>> import torch
    >>> layer = LogitScaling(nn.Flatten())
    >>> layer(torch.tensor([[[[0.2, 0.6]]]])).softmax(1).tolist()
    [[0.0, 1.0]]
    """

    def __init__(self, network: nn.Module, scale: float = 1000.0):
        super().__init__(network)
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.network(images)
