"""Duan et al. 2023, "Inequality phenomenon in l_inf-adversarial training, and its unrealized
threats" (ICLR 2023, arXiv 2303.09182).

The numbers of Tables 1 to 3 and those on noise in the text. Percentages are rates in [0, 1] here.
The paper measures on ImageNet (ResNet-18, ResNet-50, Wide ResNet-50-2) and on CIFAR-10 (ResNet-18,
DenseNet), not on MNIST. Its table on Cutout is unknown to us.
"""

from __future__ import annotations

from typing import NamedTuple

from scotoma.papers.printed import rates, table

IMAGES = 1000
"""Test images that all compared models classify correctly (from a page about the paper)."""

EPS = {"natural": 0.0} | {f"{size}/255": size / 255 for size in (1, 2, 4, 8)}
"""Columns of Tables 1 and 2: natural training, and L-inf adversarial training at growing size."""

GINI = {
    ("CIFAR-10", "ResNet-18", "global"): (0.58, 0.65, 0.67, 0.69, 0.73),
    ("CIFAR-10", "DenseNet", "global"): (0.57, 0.66, 0.67, 0.69, 0.72),
    ("CIFAR-10", "ResNet-18", "regional"): (0.79, 0.87, 0.87, 0.88, 0.88),
    ("CIFAR-10", "DenseNet", "regional"): (0.79, 0.85, 0.86, 0.87, 0.88),
    ("ImageNet", "ResNet-18", "global"): (0.60, 0.69, 0.79, 0.92, 0.95),
    ("ImageNet", "ResNet-50", "global"): (0.62, 0.75, 0.86, 0.92, 0.94),
    ("ImageNet", "Wide ResNet-50-2", "global"): (0.62, 0.74, 0.79, 0.88, 0.94),
    ("ImageNet", "ResNet-18", "regional"): (0.80, 0.83, 0.88, 0.95, 0.97),
    ("ImageNet", "ResNet-50", "regional"): (0.84, 0.91, 0.95, 0.96, 0.97),
    ("ImageNet", "Wide ResNet-50-2", "regional"): (0.81, 0.86, 0.88, 0.93, 0.97),
}
"""Table 1: mean Gini coefficient of integrated gradients, by data, network and what it is taken
over, in the order of `EPS`.

Global numbers fit absolute values; regional ones fit sums by region, without those below 0 (our
inference)."""

FITS = {"global": "absolute", "regional": "net"}
"""Conventions of `metrics.inequality` that published numbers fit."""

SIDE = 224
VALUES = 3 * SIDE**2
COUNTS = (500, 1_000, 5_000, 10_000, 20_000)
"""Noised sub-pixels, of `VALUES`."""
MIDDLE = 5_000 / VALUES
"""Share of noised sub-pixels where a single number is given; the default of the authors' code."""

RANDOM_NOISE = rates(18.8, 73.4)
"""Error of ResNet-50 on ImageNet, natural and 8/255, under noise on the largest count of random
sub-pixels."""
NOISE_I = rates(34.5, 94.0)
"""Error of the same models under noise of type I on the most important sub-pixels."""

SETTINGS = ((5, 10), (10, 20))
"""Table 2: most squares, and their largest radius in pixels, on images of `SIDE` x `SIDE`."""

OCCLUSION = {
    ((5, 10), "gray"): rates(23.5, 31.6, 38.4, 32.4, 54.0),
    ((5, 10), "white"): rates(28.3, 48.4, 57.5, 61.3, 71.7),
    ((5, 10), "black"): rates(31.6, 51.5, 53.3, 48.9, 64.6),
    ((10, 20), "gray"): rates(30.1, 48.2, 56.3, 100, 100),
    ((10, 20), "white"): rates(40.1, 59.1, 73.3, 100, 100),
    ((10, 20), "black"): rates(41.2, 70.2, 72.2, 100, 100),
}
"""Table 2: error of ResNet-50 on ImageNet under occlusion, in the order of `EPS`."""


class Ablation(NamedTuple):
    """Half a line of Table 3: global Gini coefficient, errors under noise on the most important
    sub-pixels, errors under occlusion."""

    gini: float
    noise_i: float
    noise_ii: float
    black: float
    gray: float
    white: float


_TABLE3 = table("""
    input-x-gradient:     0.63 16.1 45.0 24.7 16.8 23.5   0.93 60.9 90.4 63.3 51.2 63.2
    gradient-shap:        0.62 19.8 54.7 31.5 24.1 29.9   0.93 62.3 93.7 64.8 53.3 71.6
    smoothgrad:           0.75 63.5 45.0 32.3 25.6 30.3   0.98 82.5 98.3 61.6 49.7 60.8
    integrated-gradients: 0.62 16.5 55.5 31.6 23.5 28.3   0.94 63.9 95.5 64.6 54.0 71.7
""")
TABLE3 = {
    method: tuple(Ablation(half[0], *rates(*half[1:])) for half in (line[:6], line[6:]))
    for method, line in _TABLE3.items()
}
"""Table 3: ResNet-50 on ImageNet, natural and adversarial, by attribution method. The paper does
not give the count of noised sub-pixels."""
