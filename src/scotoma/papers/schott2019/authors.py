"""The authors' own attacks: one gradient, successive steps, DeepFool, and a substitute network.

They run with the model's gradients and with finite differences of its scores.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from scotoma.attacks.core.base import MinimumNormAttack
from scotoma.attacks.core.losses import cross_entropy
from scotoma.attacks.core.nearest import shortened
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.deepfool import DeepFool
from scotoma.attacks.estimated import Estimated
from scotoma.attacks.iterative import MIM
from scotoma.attacks.transfer import craft
from scotoma.execution.records import is_correct
from scotoma.execution.run import Attack, Run
from scotoma.models.classifier import Classifier
from scotoma.probes.norms.analysis import AttackRecords, NormAnalysis
from scotoma.probes.norms.gradients import Gradients
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.utils.random import Randomness
from scotoma.utils.stats import Rate

FARTHEST = {"l2": 6.0, "linf": 0.5}
"""Largest size that is tried; grey is L-inf 0.5 from every image."""
SUBSTITUTE = "mnist-small-natural"
"""The separate network that examples are transferred from."""
ESTIMATED, TRANSFERRED = "estimate", "transferred"
"""Names of gradients that are not the model's."""

Point = Callable[[float, Oracle], Tensor]
"""Function from a size and the open images to the points (m, c, h, w) that an attack tries."""


@dataclass(frozen=True)
class Growing(MinimumNormAttack, ABC):
    """Tries growing sizes, and bisects between the image and the first point that fools.

    Args:
        norm: the norm to minimise.
        farthest: the largest size.
        sizes: sizes to try, in equal steps.
        halvings: bisections.
    """

    norms: ClassVar = ("linf", "l2")
    farthest: float = 1.0
    sizes: int = 20
    halvings: int = 10

    @abstractmethod
    def path(self, oracle: Oracle, images: Tensor, random: Randomness) -> Point:
        """Return the function that gives the points to try for the open images of an oracle."""

    def run(self, model: nn.Module, images: Tensor, labels: Tensor, random: Randomness) -> Tensor:
        adversarial, oracle = images.clone(), Oracle(model, labels)
        point = self.path(oracle, images, random)
        for number in range(1, self.sizes + 1):
            if not len(oracle):
                break
            x = point(self.farthest * number / self.sizes, oracle)
            fooled = oracle.fooled(x)
            hit = oracle.select(fooled)
            adversarial[hit.rows] = shortened(hit, images[hit.rows], x[fooled], self.halvings)
            oracle = oracle.select(~fooled)
        return adversarial


@dataclass(frozen=True)
class OneGradient(Growing):
    """The fast gradient (sign) method at growing sizes along the gradient at the image.

    Source: Goodfellow et al. 2015; Schott et al. 2019, section 5.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> OneGradient("linf")(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "one-gradient"

    def path(self, oracle: Oracle, images: Tensor, random: Randomness) -> Point:
        gradient = oracle.value_and_grad(images, cross_entropy).gradient

        def point(size: float, oracle: Oracle) -> Tensor:
            ball, clean = Threat(self.norm, size), images[oracle.rows]
            return ball.project(clean + ball.steepest(gradient[oracle.rows]), clean)

        return point


@dataclass(frozen=True)
class Steps(Growing):
    """The basic iterative method: equal steps along successive gradients until one fools.

    Source: Kurakin et al. 2017, section 2.2; Schott et al. 2019, section 5.

    >>> import torch
    >>> images, labels = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])
    >>> Steps("l2", sizes=5)(nn.Flatten(), images, labels).round(decimals=2)
    tensor([[[[0.5000, 0.5000]]]])
    """

    id: ClassVar[str] = "basic-iterative"

    def path(self, oracle: Oracle, images: Tensor, random: Randomness) -> Point:
        x, step = images.clone(), Threat(self.norm, self.farthest / self.sizes)

        def point(size: float, oracle: Oracle) -> Tensor:
            points = x[oracle.rows]
            gradient = oracle.value_and_grad(points, cross_entropy).gradient
            x[oracle.rows] = (points + step.steepest(gradient)).clamp_(0, 1)
            return x[oracle.rows]

        return point


@dataclass(frozen=True)
class FromSubstitute(Growing):
    """Momentum iterations on another network, at growing sizes; the model is only evaluated.

    Source: Schott et al. 2019, section 5.

    Args:
        source: the other network.
    """

    id: ClassVar[str] = "from-substitute"
    gradients: ClassVar = False
    source: Classifier | None = None

    def path(self, oracle: Oracle, images: Tensor, random: Randomness) -> Point:
        labels, source = oracle.labels, self.source
        assert source is not None

        def point(size: float, oracle: Oracle) -> Tensor:
            rows = oracle.rows
            attack = MIM(Threat(self.norm, size), until_fooled=False)
            return craft(attack, source, images[rows], labels[rows], random.select(rows))

        return point


def by_gradients(
    run: Run, norm: str, gradients: Gradients, source: Classifier
) -> tuple[AttackRecords, ...]:
    """Run the attacks of a norm with the model's gradients, and those from another network."""
    attacks = [
        *((name, gradients.name, gradients.applied_to(a)) for name, a in _attacks(norm).items()),
        ("MIM", TRANSFERRED, FromSubstitute(norm, FARTHEST[norm], source=source)),
    ]
    return tuple(_run(run, norm, *each) for each in attacks)


def by_scores(run: Run, norm: str) -> tuple[AttackRecords, ...]:
    """Run the attacks of a norm by finite differences of the scores along every pixel.

    DeepFool considers the likeliest wrong class only.
    """
    cheap = _attacks(norm) | {"DeepFool": DeepFool(norm, steps=5, classes=2, returns=0)}
    return tuple(_run(run, norm, name, ESTIMATED, Estimated(each)) for name, each in cheap.items())


def _attacks(norm: str) -> dict[str, Attack]:
    size = FARTHEST[norm]
    return {"FGSM": OneGradient(norm, size), "BIM": Steps(norm, size), "DeepFool": DeepFool(norm)}


def _run(run: Run, norm: str, name: str, gradient: str, attack: Attack) -> AttackRecords:
    records = run.attack(attack, what=f"{name} in {norm}, {gradient}")
    return AttackRecords(f"{name} ({gradient})", "gradient", gradient, attack, records)


def extended(reading: NormAnalysis, records: tuple[AttackRecords, ...]) -> NormAnalysis:
    """Return an analysis over its own attacks and more."""
    attacks = (*reading.attacks, *records)
    rows = Ledger.of(each.records for each in attacks).on(reading.rows["index"].to_numpy()).rows()
    return replace(reading, attacks=attacks, rows=rows)


def decisions_nearer(reading: NormAnalysis, gradient: tuple[AttackRecords, ...]) -> Rate:
    """Return the share of images that decisions fool much nearer than attacks by gradients.

    Images are those of the records of `gradient`, all of them the same.
    """
    records = gradient[0].records
    index = records.select("index")
    decisions = (
        replace(each, records=index.join(each.records, on="index", maintain_order="left"))
        for each in reading.attacks
        if each.kind == "decision"
    )
    attacks = (*gradient, *decisions)
    nearer = replace(reading, attacks=attacks, correct=is_correct(records)).decision_nearer
    assert nearer is not None
    return nearer
