"""From a look at a model to a plan: which gradients an attack follows, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from scotoma.attacks.adaptive.look import TOLERATED, Look, look
from scotoma.attacks.adaptive.views import View, Viewed, inner_classifiers
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.oracle import Oracle, select
from scotoma.attacks.pgd import PGD
from scotoma.claim import Threat
from scotoma.utils.random import Randomness

DRAWS = 8
"""Draws of a random answer whose gradients are averaged."""
STEPS = 20
SMALLER = 0.4
"""The other size at which views are compared, in units of eps."""
GAIN = 0.05
"""Share of the images that a view must fool beyond the views chosen before it."""
VIEWS = 2
"""Largest number of views in a plan."""
BLIND = "no gradient"

MECHANISMS = {
    "missing": "the gradient is cut",
    "random": "answers are random",
    "batch": "answers depend on the other images of a batch",
    "steps": "the input is quantised",
    "zero": "gradients are 0",
    "unfaithful": "gradients do not predict the change that a small step makes",
    "hidden": "random search finds what gradients do not",
}
"""Defects by the fields of `Look`, as reports name them."""


@dataclass(frozen=True)
class Plan:
    """What an adapted attack does beyond following the exact gradient.

    Args:
        views: the views that it follows, the best first; none means that the exact gradient is
            good, and the plan changes nothing.
        mechanisms: what hides the gradient, in words.
        pilot: share of the images of the look that a short attack within eps and within
            `SMALLER` eps fools on average, by view.
        look: what was seen.

    >>> Plan().clean
    True
    """

    views: tuple[View, ...] = ()
    mechanisms: tuple[str, ...] = ()
    pilot: tuple[tuple[str, float], ...] = ()
    look: Look | None = None

    @property
    def clean(self) -> bool:
        """Whether the exact gradient is good enough alone."""
        return not self.views

    @property
    def random(self) -> bool:
        """Whether the model's answers are random."""
        return bool(self.look and self.look.random > TOLERATED)

    def __str__(self) -> str:
        if self.clean:
            return "The exact gradient leads attacks."
        reasons = "; ".join(self.mechanisms)
        return f"Attacks follow {', then '.join(map(str, self.views))}, because {reasons}."

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON values, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the plan that `as_json` wrote."""
        views = tuple(View(**{**view, "inner": tuple(view["inner"])}) for view in values["views"])
        seen = values["look"]
        return cls(
            views,
            tuple(values["mechanisms"]),
            tuple((name, share) for name, share in values["pilot"]),
            seen and Look(**{**seen, "gates": tuple(seen["gates"])}),
        )


CLEAN = Plan()
"""The plan that follows the exact gradient alone."""


def make_plan(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, random: Randomness
) -> Plan:
    """Look at a model, and compare views in short attacks if the look is not clean.

    Args:
        model: any module.
        images: correctly classified images (n, c, h, w), of which the first few are used.
        labels: int64 (n,).
        threat: the claimed threat.
        random: random numbers of the images.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images = torch.rand(8, 1, 2, 2)
    >>> labels = model(images).argmax(1)
    >>> make_plan(model, images, labels, Threat("linf", 0.1), Randomness.default(images)).clean
    True
    """
    if not len(images):
        return Plan()
    seen = look(model, images, labels, threat, random.fork(0))
    if seen.clean:
        return Plan(look=seen)
    few = torch.arange(seen.images, device=images.device)
    model, images, labels = select(model, few), images[few], labels[few]
    views = list(_candidates(model, images, labels, threat, seen))
    successes: list[Tensor] = []
    for view in views:
        stream = random.fork(1).select(few)
        successes.append(_pilot(model, images, labels, threat, view, stream))
    shares = [float(each.mean()) for each in successes]
    chosen = _cover(successes)
    gates = [f"functions of the model {what}" for what in seen.gates]
    named = [text for field, text in MECHANISMS.items() if getattr(seen, field) > TOLERATED]
    gained = chosen[0] and shares[chosen[0]] > shares[0] + GAIN
    if not named and not gained:
        return Plan(look=seen, pilot=_named(views, shares))  # gates that hide nothing
    return Plan(
        tuple(views[number] for number in chosen),
        (*named, *(gates if gained else [])) or (MECHANISMS["hidden"],),
        _named(views, shares),
        seen,
    )


def _candidates(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, seen: Look
) -> Iterator[View]:
    """Yield the views that may help, the exact gradient first."""
    random = seen.random > TOLERATED
    reach = threat.eps if threat.norm == "linf" else threat.eps / images[0].numel() ** 0.5
    base = View(draws=DRAWS if random else 1, random=random, reach=reach)
    yield base
    if seen.gates or seen.missing or seen.zero > TOLERATED or seen.steps > TOLERATED:
        yield replace(base, steps="straight")
        yield replace(base, steps="open")
        yield replace(base, steps="skip")
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if inner := inner_classifiers(model, images, labels, classes):
        yield replace(base, steps="inner", inner=inner)
    if not random and (seen.unfaithful > TOLERATED or seen.hidden > TOLERATED):
        yield replace(base, draws=DRAWS, sigma=reach / 2)


def _pilot(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, view: View, random: Randomness
) -> Tensor:
    """Return for each image the share of two sizes at which the view leads to success."""
    found = []
    for number, size in enumerate((1.0, SMALLER)):
        attack = Viewed(PGD(Threat(threat.norm, size * threat.eps), STEPS, loss=margin), view)
        try:
            adversarial = attack(model, images, labels, generator=random.fork(number))
        except (RuntimeError, TypeError, ValueError):  # the model's code does not allow this view
            return torch.zeros(len(images), device=images.device)
        judge = attack.wrap(model, images, random)
        found.append(Oracle(judge, labels).fooled(adversarial))
    return torch.stack(found).float().mean(0)


def _cover(successes: list[Tensor]) -> list[int]:
    """Return the numbers of the views that together fool most, the best first."""
    best = torch.zeros_like(successes[0])
    chosen: list[int] = []
    while len(chosen) < VIEWS:
        totals = [float(torch.maximum(best, each).mean()) for each in successes]
        number = max(range(len(totals)), key=lambda each: (totals[each], -each))
        if chosen and totals[number] < float(best.mean()) + GAIN:
            break
        chosen.append(number)
        best = torch.maximum(best, successes[number])
    return chosen


def _named(views: list[View], shares: list[float]) -> tuple[tuple[str, float], ...]:
    return tuple(zip(map(str, views), shares, strict=True))
