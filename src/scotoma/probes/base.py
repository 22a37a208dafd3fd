"""The base of all probes, and the settings that they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor

from scotoma.attacks import follows_gradients, make
from scotoma.attacks.adaptive.adapted import Adapted
from scotoma.attacks.adaptive.plan import CLEAN, Plan
from scotoma.attacks.core.gradient import with_gradient
from scotoma.attacks.estimated import Estimated
from scotoma.attacks.strong import Strong
from scotoma.claim import Claim
from scotoma.data.dataset import Dataset
from scotoma.execution.effort import LEAST, Effort, Least, scaled
from scotoma.execution.run import Attack, Run
from scotoma.models.classifier import Classifier
from scotoma.models.features import LOGITS, default_layer, features
from scotoma.models.loading import ModelLike, load_model
from scotoma.results.finding import Finding, Row
from scotoma.results.finding import columns as columns
from scotoma.results.ledger import Ledger
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.stats import Rate, finite
from scotoma.utils.text import norm_name

VISIBLE = 0.05
"""Changes of pixels below this are magnified to be seen."""
OF_CORRECT = "of correctly classified images"
Conclusion = Callable[[Ledger], Finding]
"""Function from the ledger, after all probes have measured, to the finding of a probe."""


@dataclass(frozen=True)
class Settings:
    """The attack that every probe of an audit uses.

    Args:
        attack: a name of `scotoma.attacks.ATTACKS`.
        sources: the models on which the attack makes its examples, where it is `transfer`.
        gradient: "exact", "bpda" or "estimate" (`attacks.core.gradient.with_gradient`), for an
            attack other than `strong` that follows gradients.
        directions: random directions of an estimated gradient; None means every value in turn.
        plan: how the attack `strong` adapts to the model (`execution.planning`).
        share: share of the passes that `strong` takes beyond its search (`execution.effort`).
    """

    attack: str = "strong"
    sources: tuple[Classifier, ...] = ()
    gradient: str = "exact"
    plan: Plan = CLEAN
    directions: int | None = None
    share: float = 1.0

    @property
    def followed(self) -> str:
        """The gradients that the attack follows: `gradient`, or "adapted" to the model."""
        if self.attack == "strong":
            return "exact" if self.plan.clean else "adapted"
        return self.gradient

    def make_attack(self, threat: Threat, until: float = 0.0) -> Attack:
        """Make the attack for a threat.

        Args:
            threat: the norm and the size of the perturbations.
            until: perturbation size below which an attack may stop on an image; 0 means never.
        """
        if self.attack == "strong":
            if self.plan.clean:
                return Strong(threat, until, look=False, share=self.share)
            return Adapted(threat, until, self.plan, self.share)
        attack = make(self.attack, threat, until=until, sources=self.sources)
        if not follows_gradients(attack):
            return attack
        if self.gradient == "estimate" and self.directions:
            return Estimated(attack, directions=self.directions)
        return with_gradient(attack, self.gradient)


class Probe(ABC):
    """A question about a claim. A subclass is a dataclass whose fields are its options.

    `thresholds` names the fields that decide the verdict, each a share from 0 to 1. A probe with
    `compares_train` compares with training images and does not apply without them. `leasts` names
    the options that are scaled down for a slow model, and how far.
    """

    question: str
    thresholds: ClassVar[tuple[str, ...]] = ()
    compares_train: ClassVar[bool] = False
    leasts: ClassVar[Mapping[str, Least]] = {}

    def prepare(self, claim: Claim) -> Self:
        """Return the probe with its options checked, and with the models that they name loaded.

        Raises:
            InputError: an option does not fit the claim. The audit has written nothing so far.
        """
        return self

    def within(self, effort: Effort) -> tuple[Self, list[str]]:
        """Return the probe with the passes that a slow model can afford, and what they are.

        Options that the user has set stay as they are.
        """
        smaller, notes = scaled(self, self.leasts, effort)
        return replace(self, **smaller) if smaller else self, notes  # type: ignore[type-var]

    def first_look(self) -> Self:
        """Return the probe with so few passes that it says something within seconds."""
        return self.within(Effort(LEAST))[0]

    def provenance(self) -> dict[str, Any]:
        """Return the options that belong in the report, as JSON values, after `prepare`."""
        return {}

    @abstractmethod
    def measure(self, claim: Claim, run: Run, settings: Settings) -> Conclusion:
        """Obtain evidence from the run, and return a function from the ledger to the finding.

        Only this method evaluates the model, within the budget. The function is called later with
        the ledger of the images of `run`, to which all probes have added their records. It may read
        images from the run (`Run.examples`).
        """

    def finding(self, claim: Claim, run: Run, settings: Settings) -> Finding:
        """Measure and report at once, from the records that this probe asks for and no others."""
        alone = run.alone()
        report = self.measure(claim, alone, settings)
        return report(alone.ledger)


def check_order(holds: float, broken: float) -> None:
    """Raise `InputError` unless the thresholds are shares, and a rate cannot be on both sides.

    >>> check_order(holds=0.9, broken=0.4)
    Traceback (most recent call last):
        ...
    scotoma.utils.errors.InputError: holds=0.9 lies above broken=0.4: a rate between them would ...
    """
    for name, share in {"holds": holds, "broken": broken}.items():
        if not 0 < share < 1:
            raise InputError(f"{name}={share:g}: want a share between 0 and 1")
    if holds > broken:
        raise InputError(
            f"holds={holds:g} lies above broken={broken:g}: a rate between them would hold and be "
            "broken; a threshold that is not set has its usual value (docs/claims.md)"
        )


def load_other(model: ModelLike, data: Dataset) -> Classifier:
    """Load a model that an option names, and check it on the data."""
    return load_model(model, data=data).checked(data)


def load_others(models: Sequence[ModelLike], data: Dataset) -> tuple[Classifier, ...]:
    """Load several models that an option names, and check each on the data."""
    return tuple(load_other(model, data) for model in models)


def prepared(models: Sequence[ModelLike]) -> tuple[Classifier, ...]:
    """Return the models of an option after `Probe.prepare` has loaded them."""
    assert all(map(is_prepared, models)), "call `Probe.prepare` first"
    return tuple(model for model in models if isinstance(model, Classifier))


def is_prepared(model: ModelLike | None) -> TypeGuard[Classifier | None]:
    """Return whether a model is one that `load_other` returned, or None."""
    return model is None or isinstance(model, Classifier)


def model_facts(model: Classifier) -> dict[str, Any]:
    """Return what the report says of a model: its hash and its card."""
    return {"sha256": model.sha256, **model.card}


def check_layer(model: Classifier, data: Dataset, layer: str | None) -> None:
    """Raise `InputError` if the model has no such layer for features; None is the default layer."""
    if layer is not None:
        try:
            features(model.module, _first_image(model, data), layer)
        except InputError as error:
            raise InputError(f"{model.name}: {error}") from None


def feature_layer(model: Classifier, data: Dataset, layer: str | None) -> tuple[str | None, str]:
    """Return the layer whose features a probe uses, as `Run.features` takes it, and its name."""
    if layer:
        return layer, layer
    try:
        return None, default_layer(model.module, _first_image(model, data))
    except InputError:
        return LOGITS, "the logits (the model has no dense layer)"


def _first_image(model: Classifier, data: Dataset) -> Tensor:
    device = next(model.module.parameters(), torch.empty(0)).device
    return data.test.images(torch.arange(1)).to(device)


def worst_rate(rate: Rate, says: str) -> tuple[float, str] | None:
    """Return a rate and what it means as `Finding.worst` takes them; None for no images."""
    return (finite(rate.value) or 0.0, says) if rate.n else None


def percent(rate: Rate) -> str:
    """Return a rate for a sentence: "99.4% of images (97.4–99.9%)"."""
    return f"{rate.value:.1%} of images ({100 * rate.low:.1f}–{rate.high:.1%})"


def correct(rate: Rate) -> str:
    """Return a rate with its denominator: "12.0% of correctly classified images (9.1–15.5%)"."""
    return percent(rate).replace("of images", OF_CORRECT)


def sized_threat(threat: Threat) -> str:
    """Return a threat for a sentence: "L-inf 0.3", "L-inf 8/255"."""
    return f"{norm_name(threat.norm)} {str(threat).partition(':')[2]}"


def sized(record: Row, norm: str) -> str:
    """Return the size of a perturbation for the text below an image: "L-inf 0.123".

    >>> sized({"linf": 0.1234}, "linf"), sized({"linf": 0.00028}, "linf")
    ('L-inf 0.123', 'L-inf 0.00028')
    """
    size = record[norm]
    return f"{norm_name(norm)} {size:.3f}" if size >= 0.01 else f"{norm_name(norm)} {size:.2g}"


def evenly(n: int, most: int) -> np.ndarray:
    """Return the indices of at most `most` of n rows, from the first to the last, int64.

    >>> evenly(9, 3).tolist(), evenly(0, 3).tolist()
    ([0, 4, 8], [])
    """
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


def as_picture(change: np.ndarray) -> np.ndarray:
    """Return changes of images as images: grey where nothing changes, faint ones magnified.

    Args:
        change: (k, c, h, w) in [-1, 1].

    >>> as_picture(np.array([[[[0.5, -1.0]]], [[[0.001, -0.002]]]])).round(3).tolist()
    [[[[0.75, 0.0]]], [[[0.625, 0.25]]]]
    """
    largest = np.abs(change).max((1, 2, 3), keepdims=True)
    times = np.where(largest < VISIBLE, 0.5 / np.maximum(largest, 1e-12), 1.0)
    return 0.5 + change * times / 2
