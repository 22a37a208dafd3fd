"""Logits rounded to few decimals."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scotoma.models.defences.base import Defence


class LogitRounding(Defence):
    """Rounds logits to few decimals, which hides small changes and leaves no gradient.

    Source: rounded confidences, as Fredrikson, Jha and Ristenpart 2015, "Model inversion attacks
    that exploit confidence information and basic countermeasures", propose against
    another attack.
    Broken by: any attack that replaces the step by a straight line: BPDA of Athalye, Carlini and
    Wagner 2018, "Obfuscated gradients give a false sense of security", section 4.1; attacks by
    decisions.

    >>> LogitRounding(nn.Flatten())(torch.tensor([[[[0.24, 0.66]]]])).tolist()
    [[0.20000000298023224, 0.699999988079071]]
    """

    def __init__(self, network: nn.Module, decimals: int = 1):
        super().__init__(network)
        self.decimals = decimals

    def forward(self, images: Tensor) -> Tensor:
        return torch.round(self.network(images), decimals=self.decimals)
