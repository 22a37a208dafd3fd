"""Logits that saturate, are rounded, or have no gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import scipy.linalg
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scotoma.models.defences.base import Defence, Fitted, train

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


SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Rows and columns by which the copies are shifted; the first one decides a tie with its weight."""


class Vote(Defence):
    """Counts the votes of shifted copies of the image: logits are whole numbers.

    The copy that is not shifted has one and a half votes, so that fewer votes are equal.

    Source: the vote of Cao and Gong 2017, "Mitigating evasion attacks to deep neural networks via
    region-based classification", over shifts instead of random points.
    Broken by: He, Li and Song 2018, "Decision boundary analysis of adversarial examples" (examples
    with a margin against the whole region).

    >>> from torch import nn
    >>> Vote(nn.Flatten())(torch.eye(3)[None, None, 1:2]).sum().item()
    5.5
    """

    def forward(self, images: Tensor) -> Tensor:
        shifted = [torch.roll(images, shift, dims=(2, 3)) for shift in SHIFTS]
        logits = [self.network(copy) for copy in shifted]
        votes = [F.one_hot(each.argmax(1), each.shape[1]).to(each.dtype) for each in logits]
        return torch.stack(votes).sum(0) + 0.5 * votes[0]


def hadamard(size: int) -> Tensor:
    """Return the Hadamard matrix of Sylvester, whose `size` is a power of 2.

    >>> hadamard(2).tolist()
    [[1.0, 1.0], [1.0, -1.0]]
    """
    return torch.from_numpy(scipy.linalg.hadamard(size)).float()


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


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.clone()

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Tensor:
        return torch.zeros_like(gradient[0])


class ZeroBackward(Defence):
    """Returns the logits unchanged, but zeros as their gradient.

    Source: the plainest form of gradient masking, as described by Papernot, McDaniel, Goodfellow,
    Jha, Celik and Swami 2017, "Practical black-box attacks against machine learning".
    Broken by: the same paper, with examples of a substitute network; every attack without
    gradients.

    >>> from torch import nn
    >>> images = torch.rand(1, 1, 1, 2, requires_grad=True)
    >>> ZeroBackward(nn.Flatten())(images).sum().backward()
    >>> images.grad.abs().sum().item()
    0.0
    """

    def forward(self, images: Tensor) -> Tensor:
        return _NoGradient.apply(self.network(images))  # type: ignore[return-value]


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
