"""From a look at a model to a plan: which gradients an attack follows, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from scotoma.attacks.adaptive.look import DEFECTS, FEWEST, IMAGES, Look, look
from scotoma.attacks.adaptive.views import View, Viewed, inner_classifiers, root
from scotoma.attacks.core.batch import Batch
from scotoma.attacks.core.losses import margin
from scotoma.attacks.core.oracle import Oracle
from scotoma.attacks.pgd import PGD
from scotoma.models.black_box import is_black_box
from scotoma.threat import Threat
from scotoma.utils.random import Randomness

DRAWS = 8
"""Draws of a random answer whose gradients are averaged."""
STEPS = 20
SMALLER = 0.4
"""The other size at which views are compared, in units of eps."""
GAIN = 0.05
"""Share of the images that a view must fool beyond the views chosen before it."""
SHORT, NEARER = 2, 0.01
"""Steps after which a view must be ahead of the exact gradient to be compared at all, and by which
share of the margin of the image itself."""
VIEWS = 2
"""Largest number of views in a plan."""
BLIND = View("estimate", draws=32)
"""The view of a model without any gradient."""


@dataclass(frozen=True)
class Plan:
    """What an adapted attack does beyond following the exact gradient.

    Args:
        views: the views that it follows, the best first; none means that the exact gradient is
            good, and the plan changes nothing.
        mechanisms: what hides the gradient, in words.
        pilot: share of the images of the look that a short attack within eps and within
            `SMALLER` eps fools on average, by view.
        look: the measurements behind the plan.
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
    def blind(self) -> bool:
        """Whether no gradient of the model helps, so that attacks use its outputs alone."""
        return any(view.steps == "estimate" for view in self.views)

    def __str__(self) -> str:
        if self.clean:
            return "The exact gradient leads attacks."
        reasons = "; ".join(self.mechanisms)
        if self.blind:
            followed = ", ".join(map(str, self.views))
            return f"Attacks use random search, {followed}, and decisions, because {reasons}."
        return f"Attacks follow {', then '.join(map(str, self.views))}, because {reasons}."

    def as_json(self) -> dict[str, Any]:
        """Return the plan as JSON values, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the plan that `as_json` wrote."""
        views = tuple(View(**{**view, "inner": tuple(view["inner"])}) for view in values["views"])
        look_values = values["look"]
        return cls(
            views,
            tuple(values["mechanisms"]),
            tuple((name, share) for name, share in values["pilot"]),
            look_values and Look(**{**look_values, "gates": tuple(look_values["gates"])}),
        )


CLEAN = Plan()
"""The plan that follows the exact gradient alone."""


def make_plan(
    model: nn.Module, images: Tensor, labels: Tensor, threat: Threat, random: Randomness
) -> Plan:
    """Look at a model, and compare views in short attacks if the look is not clean.

    The images are correctly classified, and only the first `IMAGES` are used.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> images = torch.rand(8, 1, 2, 2)
    >>> labels = model(images).argmax(1)
    >>> make_plan(model, images, labels, Threat("linf", 0.1), Randomness.default(images)).clean
    True
    """
    if not len(images):
        return Plan()
    few = torch.arange(min(IMAGES, len(images)), device=images.device)
    batch = Batch(model, images, labels, random).select(few)
    result = look(batch.fork(0), threat)
    if result.clean:
        return Plan(look=result)
    if is_black_box(root(model)):
        return Plan((BLIND,), ("the model is a black box",), look=result)
    mechanisms = [text for field, text in DEFECTS.items() if result.shows(field)]
    views = list(_candidates(batch, threat, result))
    if not mechanisms:  # many honest networks compare or detach something without any effect
        views[1:] = _others(batch.fork(2), threat, views)
        if len(views) == 1:
            return Plan(look=result)
    successes = [_pilot(batch.fork(1), threat, view) for view in views]
    shares = [float(each.mean()) for each in successes]
    numbers = _cover(successes)
    gates = [f"functions of the model {effect}" for effect in result.gates]
    pilot = tuple(zip(map(str, views), shares, strict=True))
    if result.missing and max(shares) <= shares[0]:  # no view leads anywhere
        return Plan((BLIND,), tuple(mechanisms), pilot, result)
    gained = numbers[0] and _gains(successes[numbers[0]], successes[0])
    if not mechanisms and not gained:
        return Plan(look=result, pilot=pilot)  # gates that hide nothing
    return Plan(
        tuple(views[number] for number in numbers),
        (*mechanisms, *(gates if gained else [])) or (DEFECTS["hidden"],),
        pilot,
        result,
    )


def _candidates(batch: Batch, threat: Threat, result: Look) -> Iterator[View]:
    """Yield the views that may help, the exact gradient first."""
    model, images = batch.model, batch.images
    random = result.shows("random")
    reach = threat.eps if threat.norm == "linf" else threat.eps / images[0].numel() ** 0.5
    base = View(draws=DRAWS if random else 1, random=random, reach=reach)
    yield base
    if result.gates or any(map(result.shows, ("missing", "zero", "steps"))):
        yield replace(base, steps="straight")
        yield replace(base, steps="open")
        yield replace(base, steps="skip")
    with torch.no_grad():
        classes = model(images[:1]).shape[1]
    if inner := inner_classifiers(model, images, batch.labels, classes):
        yield replace(base, steps="inner", inner=inner)
    if not random and (result.shows("unfaithful") or result.shows("hidden")):
        yield replace(base, draws=DRAWS, sigma=reach / 2)


def _others(batch: Batch, threat: Threat, views: list[View]) -> list[View]:
    """Return the views that are ahead of the first, the exact gradient, after a few steps."""
    images = batch.images

    def final_margins(view: View) -> Tensor:
        """Return the margins after the steps, 0 where an image is fooled."""
        viewed = view.wrap(batch.model, images, batch.random)
        oracle, x = Oracle(viewed, batch.labels), images
        for _ in range(SHORT):
            gradient = oracle.value_and_grad(x, margin).gradient
            x = threat.project(x + threat.steepest(gradient) / SHORT, images)
        return margin(oracle.logits(x), batch.labels).clamp_max(0)

    with torch.no_grad():
        least = NEARER * margin(batch.model(images).float(), batch.labels).abs()
    exact, ahead = final_margins(views[0]), []
    for view in views[1:]:
        try:
            lead = final_margins(view) - exact
        except (RuntimeError, TypeError, ValueError):  # the model's code does not allow this view
            continue
        if int((lead > least).sum() - (lead < -least).sum()) >= min(FEWEST, len(images)):
            ahead.append(view)
    return ahead


def _gains(view: Tensor, exact: Tensor) -> bool:
    """Return whether a view fools more than the exact gradient, on more images than by chance."""
    more = int((view > exact).sum() - (view < exact).sum())
    return float((view - exact).mean()) > GAIN and more >= min(FEWEST, len(exact))


def _pilot(batch: Batch, threat: Threat, view: View) -> Tensor:
    """Return for each image the share of two sizes at which the view leads to success."""
    successes = []
    for number, size in enumerate((1.0, SMALLER)):
        attack = Viewed(PGD(Threat(threat.norm, size * threat.eps), STEPS, loss=margin), view)
        try:
            adversarial = batch.fork(number).attacked(attack)
        except (RuntimeError, TypeError, ValueError):  # the model's code does not allow this view
            return torch.zeros_like(batch.labels, dtype=torch.float32)
        judge = view.wrap(batch.model, batch.images, batch.random)
        successes.append(Oracle(judge, batch.labels).fooled(adversarial))
    return torch.stack(successes).float().mean(0)


def _cover(successes: list[Tensor]) -> list[int]:
    """Return the numbers of the views that together fool most, the best first."""
    covered = torch.zeros_like(successes[0])
    numbers: list[int] = []
    while len(numbers) < VIEWS:
        totals = [float(torch.maximum(covered, each).mean()) for each in successes]
        number = max(range(len(totals)), key=lambda each: (totals[each], -each))
        if numbers and totals[number] < float(covered.mean()) + GAIN:
            break
        numbers.append(number)
        covered = torch.maximum(covered, successes[number])
    return numbers
