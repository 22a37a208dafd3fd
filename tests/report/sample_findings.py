"""Findings as probes make them, small, with the nulls that real ones have."""

from __future__ import annotations

import numpy as np

from scotoma.results.finding import Bars, Curve, Finding, Gallery, RateOverHistogram, Row, Scatter

CLAIM = {
    "model": "mnist-challenge",
    "data": "digits",
    "threat": {"norm": "linf", "eps": 0.3},
    "n": 500,
}

PROVENANCE = {
    "command": (
        "scotoma audit --model zoo/mnist-challenge.safetensors --data digits "
        "--threat linf:0.3 --seed 0 --n 500"
    ),
    "notes": [
        "The model was saved without its name; it was read as the small CNN, since every "
        "tensor fits."
    ],
    "model": {"name": "mnist-challenge", "sha256": "9f2c" * 16, "parameters": 3274634},
    "data": {"sha256": "01ab" * 16, "train": 1297, "test": 500},
    "seed": 20190,
    "versions": {"scotoma": "0.1.0", "torch": "2.6.0"},
    "device": "cpu",
    "started": "2025-03-01T09:30:00Z",
    "seconds": 754.25,
    "digest": "77aa" * 16,
}


def interval(rate: float | None, half: float) -> tuple[float | None, float | None]:
    return (None, None) if rate is None else (max(0.0, rate - half), min(1.0, rate + half))


def robustness() -> Finding:
    eps = [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4]
    rates = {
        "worst of all": [0.984, 0.972, 0.958, 0.943, 0.932, 0.917, 0.892, 0.243, 0.0],
        "PGD, 40 steps": [0.984, 0.974, 0.964, 0.952, 0.944, 0.937, 0.921, 0.352, 0.012],
        "decision-based": [0.984, 0.976, 0.968, None, 0.951, 0.944, 0.93, 0.5, 0.11],
    }
    curve: list[Row] = []
    for attack, values in rates.items():
        for size, rate in zip(eps, values, strict=True):
            low, high = interval(rate, 0.02)
            curve.append(
                {
                    "attack": attack,
                    "eps": size,
                    "robust_accuracy": rate,
                    "robust_accuracy_low": low,
                    "robust_accuracy_high": high,
                    "n": 500,
                }
            )
    return Finding(
        probe="robustness",
        question="How robust is it, at every perturbation size?",
        verdict="holds",
        rule=(
            "holds: at the claimed eps at least 90% of the accuracy is left; weak: at least "
            "half of it; broken: less."
        ),
        headline=(
            "At the claimed size of 0.3 the model is right on 89.2% of images (86.2-91.6%); "
            "above it the accuracy collapses."
        ),
        numbers={
            "clean_accuracy": 0.984,
            "robust_accuracy": 0.892,
            "robust_accuracy_low": 0.862,
            "robust_accuracy_high": 0.9163,
            "median_minimal_linf": 0.3372,
            "forwards_per_image": 41250,
        },
        tables={"curve": curve},
        figures=(
            Curve(
                name="curve",
                caption="Robust accuracy at each size of perturbation, with 95% Wilson intervals.",
                table="curve",
                x="eps",
                y="robust_accuracy",
                x_label="perturbation size (L-inf)",
                y_label="robust accuracy",
                interval=True,
                group="attack",
                marks={"claimed eps": 0.3},
            ),
        ),
        notes=(
            "The worst case takes, image by image, the strongest of all attacks.",
            "PGD: 40 steps of 0.01, 5 random starts.",
        ),
    )


def tiles(rows: int, columns: int, channels: int, size: int) -> np.ndarray:
    """Stripes in [0.2, 0.8]: a drawing that stretched them to their own range would show."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    row, column, channel = np.ogrid[0:rows, 0:columns, 0:channels]
    phase = (row + 2 * column + channel)[..., None, None]
    return (0.5 + 0.3 * np.sin(6 * x + 4 * y + phase)).astype(np.float32)


def blindspots() -> Finding:
    measured = [
        (1.0, 0.0, 0.984, 0.098),
        (0.9, 0.05, 0.984, 0.532),
        (0.8, 0.1, 0.985, 0.994),
        (0.7, 0.0, 0.981, 0.874),
        (0.7, 0.15, 0.98, 1.0),
        (0.5, 0.2, 0.61, None),
    ]
    moves: list[Row] = []
    for alpha, beta, accuracy, success in measured:
        row: Row = {"move": f"contrast {alpha}, background {beta}", "alpha": alpha, "beta": beta}
        for name, rate in (("accuracy", accuracy), ("success", success)):
            low, high = interval(rate, 0.03)
            row |= {name: rate, f"{name}_low": low, f"{name}_high": high}
        moves.append(row)
    return Finding(
        probe="blindspots",
        question="Do harmless changes of contrast and background void it?",
        verdict="broken",
        rule=(
            "broken: some move keeps 95% of the accuracy and the attack succeeds on over half "
            "of the images."
        ),
        headline=(
            "At alpha 0.8, beta 0.1 accuracy is 98.5% and the attack succeeds on 99.4% of "
            "images (97.4-99.9%)."
        ),
        numbers={
            "worst_move": {"alpha": 0.8, "beta": 0.1},
            "success": 0.994,
            "success_low": 0.974,
            "success_high": 0.9988,
            "beyond": None,
        },
        tables={"moves": moves},
        figures=(
            Bars(
                name="moves",
                caption=(
                    "Accuracy before, and attack success after, each move. Below 95% accuracy "
                    "the attack is not run."
                ),
                table="moves",
                label="move",
                series={
                    "accuracy": "accuracy",
                    "attack success": "success",
                },
                y_label="rate",
            ),
            Gallery(
                name="examples",
                caption=(
                    "Images that the model reads rightly before and after the move, until the "
                    "attack."
                ),
                images="examples",
                columns=["original", "moved", "attacked", "difference"],
                captions=[
                    [f"{i}, right", f"{i}, right", f"read as {i + 3}, L-inf 0.240", "of both"]
                    for i in range(3)
                ],
            ),
        ),
        images={"examples": tiles(3, 4, 1, 8)},
    )


def distance() -> Finding:
    random = np.random.default_rng(0)
    edges = [0.5 * i for i in range(9)]
    counts = [0, 12, 71, 143, 152, 83, 31, 8]
    rates = [None, 0.0, 0.03, 0.05, 0.09, 0.17, 0.29, 0.5]
    bins: list[Row] = []
    for left, right, n, rate in zip(edges[:-1], edges[1:], counts, rates, strict=True):
        low, high = interval(rate, 0.6 / max(n, 1) ** 0.5)
        share = n / sum(counts)
        bins.append(
            {
                "left": left,
                "right": right,
                "n": n,
                "share": share,
                "rate": rate,
                "rate_low": low,
                "rate_high": high,
            }
        )
    points: list[Row] = [
        {
            "index": i,
            "distance": float(far),
            "linf": None if random.random() < 0.15 else float(0.5 / far * random.uniform(0.6, 1.2)),
        }
        for i, far in enumerate(random.gamma(9, 0.22, 200))
    ]
    return Finding(
        probe="distance",
        question="Does it fail on test images far from its training data?",
        verdict="weak",
        rule=(
            "weak: success rises with distance (rank correlation above 0.2, p below 0.01) and "
            "stays below half."
        ),
        headline="Attacks succeed on 0% of the nearest and 50% of the farthest test images.",
        numbers={"rank_correlation": 0.4137, "p_value": 3.2e-9, "n": 500, "neighbours": 5},
        tables={"bins": bins, "points": points},
        figures=(
            RateOverHistogram(
                name="bins",
                caption=(
                    "Attack success rate over the distance to the training set (eq. 2), above "
                    "the share of images."
                ),
                table="bins",
                x_label="distance to the training set",
                y_label="attack success rate",
            ),
            Scatter(
                name="points",
                caption=(
                    "Each image: how far from the training set, and how small a perturbation "
                    "fools the model."
                ),
                table="points",
                x="distance",
                y="linf",
                x_label="distance to the training set",
                y_label="minimal perturbation (L-inf)",
            ),
        ),
        notes=(
            "Distances are in the embedding of the model's last hidden layer, mean over 5 "
            "neighbours.",
        ),
    )


def inequality() -> Finding:
    return Finding(
        probe="inequality",
        question="Does a handful of pixels carry the prediction?",
        verdict="not applicable",
        rule="not applicable: the images have fewer than 16 x 16 pixels.",
        headline="Images of 8 x 8 pixels are too small for regions; nothing was measured.",
    )


def findings() -> list[Finding]:
    return [robustness(), blindspots(), distance(), inequality()]
