"""What the blind-spot map found, as a finding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from scotoma.execution.run import Run, name
from scotoma.probes.base import columns, percent, sized
from scotoma.probes.blindspots.probe import BROKEN, HARMLESS
from scotoma.probes.blindspots.transformed import Spot, cell, worst
from scotoma.results.finding import Bars, Figure, Finding, Gallery, Heatmap, Row, Verdict
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.utils.stats import finite, rate

PROBE = "map"
PLANE = "scale-shift"
"""The family that is a plane and not a sweep."""
RULE = (
    f"a change is harmless if it costs at most {HARMLESS:.0%} of accuracy; broken if the 95% interval of success at alpha·eps lies "
    f"above {BROKEN:.0%} under some family's worst harmless change and not on the test set itself, weak if the interval of success "
    "at eps under one of them lies above the one on the test set itself, else holds; not applicable if the claim is broken on the "
    "test set itself; alpha is the contrast that scale-shift leaves, and 1 in every other family"
)
UNKNOWN = rate(np.zeros(0, bool))


@dataclass(frozen=True)
class Family:
    """A family's worst harmless change and its random control under the audit's attack; None where no change is harmless."""

    name: str
    worst: Spot | None
    control: Spot | None


@dataclass(frozen=True)
class Found:
    """All that was attacked: the test set itself and the families by the audit's attack, the rest by the cheap one."""

    base: Spot
    families: list[Family]
    plane: list[Spot]
    refined: list[Spot]
    sweeps: dict[str, list[Spot]]

    @property
    def verified(self) -> list[Spot]:
        """The worst harmless change of each family that has one."""
        return [family.worst for family in self.families if family.worst]

    @property
    def lowest(self) -> Family | None:
        """The family whose worst harmless change leaves the lowest robust accuracy."""
        chosen = worst(self.verified, self.base)
        return next(
            (family for family in self.families if family.worst and family.worst is chosen), None
        )


def nothing_right(question: str) -> Finding:
    """The finding on a model that is never right."""
    why = (
        "The model classifies none of the audited images correctly, so there is nothing to attack."
    )
    return Finding(PROBE, question, "not applicable", RULE, why)


def describe(found: Found, question: str, run: Run, attack: str, steps: int) -> Finding:
    """The finding of `found`, with images from the run."""
    shown = [(spot, row) for spot in found.verified if (row := spot.fallen())]
    return Finding(
        probe=PROBE,
        question=question,
        verdict=verdict(found.base, found.verified),
        rule=RULE,
        headline=headline(found.base, found.lowest),
        numbers=_numbers(found),
        tables=_tables(found),
        figures=(*_figures(found), *([_gallery(shown)] if shown else [])),
        notes=(
            f"Cheap attack: one minimum-norm search of {steps} steps on every cell and strength. Attack on the test set itself, on "
            f"the worst harmless change of each family and on its control: {attack}.",
            "The worst changes were chosen on the images on which they are reported; among equals the smallest change was.",
            "A control has, image by image, the mean absolute change of the one beside it, at random pixels, of random size and "
            "sign. Where it makes the attack as strong, the size of the change matters and not its direction; it may cost accuracy "
            "itself.",
        ),
        images={"worst": _images(run, shown)} if shown else {},
    )


def verdict(base: Spot, harmless: list[Spot]) -> Verdict:
    """The verdict of `RULE`."""
    if base.success.low > BROKEN:
        return "not applicable"
    if any(spot.scaled.low > BROKEN for spot in harmless):
        return "broken"
    return "weak" if any(spot.success.low > base.success.high for spot in harmless) else "holds"


def headline(base: Spot, lowest: Family | None) -> str:
    """What the worst harmless change costs, what it gives the attack, and what a random one of that size gives it."""
    if lowest is None or lowest.worst is None or lowest.control is None:
        return f"None of the changes tried is harmless: each costs over {HARMLESS:.0%} of accuracy."
    spot = lowest.worst
    cost = base.accuracy.value - spot.accuracy.value
    price = f"costs {cost:.1%} of accuracy" if cost > 0 else "costs no accuracy"
    within = (
        f" within eps, on {spot.scaled.value:.1%} within alpha·eps"
        if spot.contrast < 1
        else " within eps"
    )
    change, control = str(spot.transform), lowest.control
    random = (
        f"on {control.success.value:.1%} (accuracy {control.accuracy.value:.1%})"
        if control.success.n
        else "none is right"
    )
    return (
        f"{change[0].upper()}{change[1:]} {price} and the attack succeeds on {percent(spot.success)}{within}; on the test set "
        f"itself on {base.success.value:.1%}, after a random change of that size {random}."
    )


def _numbers(found: Found) -> dict[str, Any]:
    base, lowest = found.base, found.lowest
    numbers = {
        "n": base.accuracy.n,
        **columns("base_accuracy", base.accuracy),
        **columns("base_robust_eps", base.robust),
        **columns("base_success_eps", base.success),
    }
    if lowest is None or lowest.worst is None or lowest.control is None:
        return numbers
    spot = lowest.worst
    return numbers | {
        "worst_family": lowest.name,
        "worst_transform": name(spot.transform),
        "worst_parameters": asdict(spot.transform),  # type: ignore[call-overload]
        "worst_mean_change": finite(spot.change),
        **columns("worst_accuracy", spot.accuracy),
        **columns("worst_robust_eps", spot.robust),
        **columns("worst_robust_alpha_eps", spot.robust_scaled),
        **columns("worst_success_eps", spot.success),
        **columns("worst_success_alpha_eps", spot.scaled),
        **columns("control_success_eps", lowest.control.success),
        **columns("control_success_alpha_eps", lowest.control.scaled),
    }


def _tables(found: Found) -> dict[str, list[Row]]:
    verified = {spot.transform: spot for spot in (found.base, *found.verified)}

    def on_the_plane(spots: Iterable[Spot]) -> list[Row]:
        rows = []
        for spot in spots:
            (alpha, beta), strong = cell(spot.transform), verified.get(spot.transform)
            rows.append(
                {
                    "alpha": alpha,
                    "beta": beta,
                    "n": spot.accuracy.n,
                    **columns("accuracy", spot.accuracy),
                    **columns("robust_alpha_eps", spot.robust_scaled),
                    **columns("robust_eps", spot.robust),
                    **columns("strong_alpha_eps", strong.robust_scaled if strong else UNKNOWN),
                    **columns("strong_eps", strong.robust if strong else UNKNOWN),
                    "harmless": spot.is_harmless(found.base),
                }
            )
        return rows

    sweeps = [
        {
            "family": family,
            "transform": name(spot.transform),
            "mean_change": finite(spot.change),
            "n": spot.accuracy.n,
            **columns("accuracy", spot.accuracy),
            **columns("robust_eps", spot.robust),
            "harmless": spot.is_harmless(found.base),
        }
        for family, spots in found.sweeps.items()
        for spot in spots
    ]
    families = [_family(Family("none", found.base, None)), *map(_family, found.families)]
    return {
        "families": families,
        "plane": on_the_plane(found.plane),
        "refined": on_the_plane(found.refined),
        "sweeps": sweeps,
    }


def _family(family: Family) -> Row:
    spot, control = family.worst, family.control
    change = (
        "the test set itself" if spot and spot.transform is None else spot and str(spot.transform)
    )
    return {
        "family": family.name,
        "change": change or f"{family.name}: none is harmless",
        "transform": name(spot.transform) if spot else None,
        "mean_change": finite(spot.change) if spot else None,
        "n": spot.accuracy.n if spot else None,
        **columns("accuracy", spot.accuracy if spot else UNKNOWN),
        **columns("success_eps", spot.success if spot else UNKNOWN),
        **columns("success_alpha_eps", spot.scaled if spot else UNKNOWN),
        **columns("control_accuracy", control.accuracy if control else UNKNOWN),
        **columns("control_success_eps", control.success if control else UNKNOWN),
        **columns("control_success_alpha_eps", control.scaled if control else UNKNOWN),
    }


def _figures(found: Found) -> tuple[Figure, ...]:
    bars = Bars(
        "families",
        "Success of the attack at alpha·eps under the worst harmless change of each family and under a random change of the same "
        "size, with 95% intervals. alpha is the contrast that scale-shift leaves; for the other families the size is eps itself.",
        table="families",
        label="change",
        series={
            "the change": ("success_alpha_eps", "success_alpha_eps_low", "success_alpha_eps_high"),
            "its random control": (
                "control_success_alpha_eps",
                "control_success_alpha_eps_low",
                "control_success_alpha_eps_high",
            ),
        },
        y_label="attack success rate",
    )
    if not found.plane:
        return (bars,)
    worst_cells = [
        cell(spot.transform) for spot in found.verified if isinstance(spot.transform, ScaleShift)
    ]
    robust = Heatmap(
        "robust",
        "Robust accuracy in percent under the cheap attack at alpha·eps, after x' = alpha x + beta on [-0.5, 0.5]. Beyond the "
        "triangle pixels would leave the range. The border is around what costs at most a point of accuracy.",
        table="plane",
        x="alpha",
        y="beta",
        value="robust_alpha_eps",
        x_label="alpha",
        y_label="beta",
        value_label="robust accuracy",
        region="harmless",
        marks={"worst harmless change": worst_cells[0]} if worst_cells else {},
    )
    caption = "Accuracy in percent without an attack, on the same plane."
    return (
        bars,
        robust,
        replace(robust, name="accuracy", caption=caption, value="accuracy", value_label="accuracy"),
    )


def _gallery(shown: list[tuple[Spot, Row]]) -> Gallery:
    return Gallery(
        "worst",
        "A test image, the same after the worst harmless change of each family, which the model still classifies correctly, and "
        "the adversarial image near it.",
        images="worst",
        columns=["original", "changed", "adversarial"],
        captions=[
            [
                f"{row['label']}",
                f"{spot.transform}",
                f"taken for {row['adversarial_prediction']}, {sized(row, spot.threat.norm)}",
            ]
            for spot, row in shown
        ],
    )


def _images(run: Run, shown: list[tuple[Spot, Row]]) -> np.ndarray:
    """(families, 3, c, h, w)."""
    rows = [run.examples(spot.attack, spot.transform, [row["index"]]) for spot, row in shown]
    return np.concatenate([np.stack(row, axis=1) for row in rows])
