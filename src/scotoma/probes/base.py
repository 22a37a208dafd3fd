"""What a probe is, and what the audit may set in every one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from scotoma.attacks import follows_gradients, make
from scotoma.attacks.core.gradient import with_gradient
from scotoma.claim import Claim, Threat
from scotoma.data.dataset import Dataset
from scotoma.execution.run import Attack, Run
from scotoma.models.classifier import Classifier
from scotoma.models.features import LOGITS, default_layer
from scotoma.results.finding import Finding, Row
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Correlation, Estimate, Median, Rate, finite
from scotoma.utils.text import norm_name


@dataclass(frozen=True)
class Settings:
    """What the user may choose.

    Args:
        attack: a name of `ATTACKS`.
        layer: where features are read; None is the input of the last dense layer.
        extractor: another model, whose features give a second distance to the training data.
        sources: other models, on which examples are made that are then shown to the audited one; none means that a probe looks
            for some itself.
        bounds: one a norm other than the claim's, at which accuracy is told there; where there is none, that of the data counts.
        reference: a naturally trained model, beside which the inequality probe measures; none means that it looks for one itself.
        gradient: which the attack follows, where it follows any; see `attacks.gradient.with_gradient`.
    """

    attack: str = "strong"
    layer: str | None = None
    extractor: Classifier | None = None
    sources: tuple[Classifier, ...] = ()
    bounds: tuple[Threat, ...] = ()
    reference: Classifier | None = None
    gradient: str = "exact"

    def make_attack(self, threat: Threat, until: float = 0.0) -> Attack:
        """The attack for a threat; one that can stop early leaves images whose perturbation is smaller than `until`."""
        attack = make(self.attack, threat, until=until, sources=self.sources)
        return with_gradient(attack, self.gradient) if follows_gradients(attack) else attack

    def feature_layer(self, model: Classifier, data: Dataset) -> tuple[str | None, str]:
        """The layer of `model` to read features from, as `Run.features` takes it, and how to name it to people."""
        if self.layer:
            return self.layer, self.layer
        try:
            device = next(model.module.parameters(), torch.empty(0)).device
            return None, default_layer(model.module, data.test.images(torch.arange(1)).to(device))
        except InputError:
            return LOGITS, "the logits (there is no dense layer to read)"


class Probe(Protocol):
    """One question asked of a claim."""

    question: str

    def measure(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        """Ask the run for records and turn them into a finding."""
        ...


def columns(name: str, rate: Rate | Median | Correlation | Estimate) -> dict[str, Any]:
    """A value with its interval as the columns `name`, `name_low` and `name_high` of a table or of numbers."""
    return {
        name: finite(rate.value),
        f"{name}_low": finite(rate.low),
        f"{name}_high": finite(rate.high),
    }


def percent(rate: Rate) -> str:
    """A rate in a sentence: "99.4% of images (97.4–99.9%)"."""
    return f"{rate.value:.1%} of images ({100 * rate.low:.1f}–{rate.high:.1%})"


def sized(record: Row, norm: str) -> str:
    """How large the perturbation of a record is, under an image: "L-inf 0.123"."""
    return f"{norm_name(norm)} {record[norm]:.3f}"
