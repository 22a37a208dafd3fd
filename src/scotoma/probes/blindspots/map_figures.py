"""The figures of the blind-spot map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from scotoma.probes.blindspots.definition import HARMLESS, points
from scotoma.probes.blindspots.map_result import SearchResult
from scotoma.probes.blindspots.search import MOST
from scotoma.probes.blindspots.transformed import SCREEN, TransformedSet, alpha_beta, gallery
from scotoma.results.finding import Bars, Curve, Figure, Heatmap
from scotoma.transforms.scale_shift import ScaleShift


def figures(result: SearchResult) -> tuple[Figure, ...]:
    """Return the figures of a search: families, what is left, the search, the plane."""
    panels: tuple[Figure, ...] = (_bars(), _robustness())
    if result.visits:
        panels = (*panels, _search())
    return (*panels, *_heatmaps(result)) if result.plane else panels


def _search() -> Figure:
    return Curve(
        "search",
        "Search over compositions: the lowest score so far against the passes of the model that it "
        "took. The score is the mean smallest perturbation on the images chosen on, as a share of "
        f"the scaled budget and at most {MOST:g}; a lower one is a worse blind spot. A cost of "
        "accuracy beyond what is harmless has a price in it.",
        "search",
        x="passes",
        y="score",
        x_label="forward and backward passes",
        y_label="lowest score so far",
    )


def _bars() -> Figure:
    return Bars(
        "families",
        "Success rate of the attack at alpha·eps after the worst harmless transform of each family "
        "and after a random change of the same size, with 95% intervals. alpha is the contrast "
        "that scale-shift leaves, and 1 for the other families. Each transform was chosen on other "
        "images than those of the rates.",
        table="families",
        label="change",
        series={
            "the transform": "success_alpha_eps",
            "its random control": "control_success_alpha_eps",
        },
        y_label="attack success rate",
    )


def _robustness() -> Figure:
    return Bars(
        "left",
        "Robust accuracy after the worst harmless transform of each family, at alpha·eps: what the "
        "test set alone predicts (images that withstood the attack before and are still classified "
        "correctly), and what is left, with 95% intervals. A gap between the two is a blind spot.",
        table="families",
        label="change",
        series={"predicted": "predicted_robust", "left": "robust_alpha_eps"},
        y_label="robust accuracy",
    )


def _heatmaps(result: SearchResult) -> tuple[Figure, ...]:
    cells = [each.transform for each in result.verified if isinstance(each.transform, ScaleShift)]
    robust = Heatmap(
        "robust",
        "Robust accuracy in percent under the cheap attack at alpha·eps, after x' = alpha x + beta "
        "on [-0.5, 0.5]. Outside the triangle pixels would leave the range. The border encloses "
        f"the cells that seem harmless: on up to {SCREEN:,} test images they cost at most "
        f"{points(HARMLESS)} of accuracy. The ring is the worst of those that are shown to be "
        "harmless, by the rule, among these cells and those of the finer grids between them.",
        table="plane",
        x="alpha",
        y="beta",
        value="cheap_robust_alpha_eps",
        x_label="alpha",
        y_label="beta",
        value_label="robust accuracy",
        region="seems_harmless",
        marks={"worst that is shown to be harmless": alpha_beta(cells[0])} if cells else {},
    )
    caption, key = "Accuracy in percent without an attack, on the same plane.", "accuracy"
    return robust, replace(robust, name=key, caption=caption, value=key, value_label=key)


def worst_images(
    examples: list[tuple[TransformedSet, pl.DataFrame]], classes: Sequence[str]
) -> Figure:
    """Describe one image for each family."""
    galleries = [
        gallery(
            "worst",
            "A test image; the same image after the worst harmless transform of each family, which "
            "the model still classifies correctly; and an adversarial image near that.",
            rows.head(1),
            each.name,
            each.threat.norm,
            classes,
        )
        for each, rows in examples
    ]
    return replace(galleries[0], captions=[each.captions[0] for each in galleries])
