"""The curves of a study: inequality, noise and squares."""

from __future__ import annotations

from scotoma.attribution.noise import TYPES
from scotoma.papers.duan2023 import claims
from scotoma.papers.duan2023.measured import Found
from scotoma.results.finding import Curve


def figures(found: Found) -> tuple[Curve, ...]:
    """Those that are drawn from the tables of a study."""
    each = next(iter(found.values()))
    first, *_, last = found
    gini = Curve(
        "gini",
        "Mean Gini coefficient of attribution against the size of the perturbations trained for, by what it is taken over and the "
        "convention, with 95% intervals. 0 is natural training.",
        table="gini",
        x="eps",
        y="gini",
        low="gini_low",
        high="gini_high",
        group="line",
        x_label="eps of training",
        y_label="Gini coefficient",
    )
    lorenz = Curve(
        "lorenz",
        "Mean Lorenz curves: the share of all evidence, by absolute value, that the least important values have together.",
        table="lorenz",
        x="values",
        y="evidence",
        group="trained_for",
        x_label="share of the values, least important first",
        y_label="share of the evidence",
    )
    noise = [
        Curve(
            f"noise_{kind}",
            f"Error under Gaussian noise of type {kind} against the number of values noised, for the models of {first} and {last}: "
            "the most important values, random ones, and the least important.",
            table=f"noise_{kind}",
            x="k",
            y="error",
            low="error_low",
            high="error_high",
            group="model",
            x_label=f"values noised, of {each.run.claim.data.test.images(each.run.indices[:1]).numel()}",
            y_label="error",
        )
        for kind in TYPES
    ]
    squares = [
        Curve(
            f"occlusion_{number}",
            f"Error under {claims.told(*setting)} over important and over random places, against the size trained for.",
            table=f"occlusion_{number}",
            x="eps",
            y="error",
            low="error_low",
            high="error_high",
            group="line",
            x_label="eps of training",
            y_label="error",
        )
        for number, setting in enumerate(each.settings)
    ]
    return gini, lorenz, *noise, *squares
