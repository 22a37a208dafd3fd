"""Classes as code words of bits, which are decoded by correlation."""

from __future__ import annotations

import torch
from torch import Tensor

from scotoma.models.defences.base import Defence


def hadamard(size: int) -> Tensor:
    """Return the Hadamard matrix of Sylvester, whose `size` is a power of 2.

    >>> hadamard(2).tolist()
    [[1.0, 1.0], [1.0, -1.0]]
    """
    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.kron(torch.tensor([[1.0, 1.0], [1.0, -1.0]]), matrix)
    return matrix


class ErrorCorrectingCode(Defence):
    """Predicts the bits of a Hadamard code word, saturates them, and decodes by correlation.

    A class is a row of a Hadamard matrix without its constant column. The authors train a network
    for each group of bits. Here a bit's logit is that of the network: log P(bit = 1) / P(bit = -1)
    by its class probabilities. As theirs, bits pass a tanh, and the output is the positive part of
    their correlation with the code words.

    Source: Verma and Swami 2019, "Error correcting output codes improve probability estimation and
    adversarial robustness of deep neural networks".
    Broken by: Tramer, Carlini, Brendel and Madry 2020, "On adaptive attacks to adversarial example
    defenses".

    >>> from torch import nn
    >>> layer = ErrorCorrectingCode(nn.Flatten())
    >>> layer(torch.tensor([[[[0.0, 50.0, 0.0]]]])).tolist()
    [[0.0, 3.0, 0.0]]
    """

    def code(self, classes: int) -> Tensor:
        """Return the code words (classes, bits) of 1 and -1."""
        size = 1 << (classes - 1).bit_length()
        return hadamard(size)[:classes, 1:]

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        code = self.code(logits.shape[1]).to(logits)
        scores = logits[:, :, None].expand(-1, -1, code.shape[1])
        ones = scores.masked_fill(code < 0, -1e4).logsumexp(1)
        others = scores.masked_fill(code > 0, -1e4).logsumexp(1)
        return torch.relu(torch.tanh(ones - others) @ code.T)
