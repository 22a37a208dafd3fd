"""The predicted class alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from scotoma.models.defences.base import Defence


class HardLabel(Defence):
    """Returns 1 for the predicted class and 0 for the others, without confidences or gradients.

    Source: the classifier that shows only labels, as Papernot, McDaniel, Goodfellow, Jha, Celik and
    Swami 2017, "Practical black-box attacks against machine learning", attack it.
    Broken by: the same paper; Brendel, Rauber and Bethge 2018, "Decision-based adversarial attacks:
    reliable attacks against black-box machine learning models".

    >>> import torch
    >>> from torch import nn
    >>> HardLabel(nn.Flatten())(torch.tensor([[[[0.2, 0.7]]]])).tolist()
    [[0.0, 1.0]]
    """

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits.dtype)
