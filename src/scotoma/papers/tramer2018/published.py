"""Tramer et al. 2018, "Ensemble adversarial training: attacks and defenses" (ICLR 2018,
arXiv 1705.07204).

Numbers that the paper prints on ImageNet, with their tables. Percentages are rates in [0, 1] here;
errors are over all test images, with those that a model misclassifies without an attack. The
appendix measures models A to D on MNIST; its numbers are unknown to us.
"""

from __future__ import annotations

from typing import NamedTuple

from scotoma.papers.printed import rates, table
from scotoma.threat import Threat

IMAGENET_THREAT = Threat("linf", 16 / 256)
"""The paper divides by 256."""

IMAGES = 10_000
"""Test images of Table 4."""

NETWORKS = {
    "v4": "Inception v4",
    "v3": "Inception v3",
    "v3adv": "Inception v3, adversarially trained",
    "v3adv-ens3": "Inception v3, ensemble adversarially trained on three models",
    "v3adv-ens4": "Inception v3, ensemble adversarially trained on four models",
    "irv2": "Inception ResNet v2",
    "irv2adv": "Inception ResNet v2, adversarially trained",
    "irv2adv-ens": "Inception ResNet v2, ensemble adversarially trained",
}
"""The paper's short names. Adversarial training is on Step-LL, for half of each batch."""


SOURCES = ("v4", "v3", "v3adv", "irv2", "irv2adv")
"""Columns of Table 1: models on which the examples are made."""

_TABLES = table("""
    v4:      60.2 39.2 31.1 36.6 30.9   60.2 70.5
    v3:      43.8 69.6 36.4 42.1 35.1   69.6 80.0
    v3adv:   36.3 35.6 26.6 35.2 35.9   26.6 64.8
    irv2:    38.0 38.0 30.8 50.7 31.9   50.7 56.3
    irv2adv: 31.0 30.3 25.7 30.6 21.4   21.4 37.5
""")
TABLE1 = {network: rates(*line[:5]) for network, line in _TABLES.items()}
"""Top-1 error under Step-LL made on each of `SOURCES`, by the evaluated model; a model's own
column is white-box."""
TABLE1_TOP5 = {
    network: rates(*line)
    for network, line in table("""
    v4:      31.0 14.9 10.2 13.6  9.9
    v3:      18.7 42.7 13.0 17.8 12.8
    v3adv:   13.6 13.5  9.0 13.0 14.5
    irv2:    14.1 14.8  9.9 24.0 10.6
    irv2adv: 10.3 10.5  7.7 10.4  5.8
    """).items()
}
"""Top-5 error under Step-LL made on each of `SOURCES`, by the evaluated model."""
TABLE2_TOP5 = dict(zip(_TABLES, rates(42.8, 57.1, 37.1, 29.3, 15.0), strict=True))
"""White-box top-5 error under R+Step-LL; that under Step-LL is a model's own column of Table 1."""
TABLE2 = {network: rates(*line[5:]) for network, line in _TABLES.items()}
"""White-box top-1 error under Step-LL and under R+Step-LL, alpha = eps / 2."""


class Errors(NamedTuple):
    """A line of Table 4.

    Args:
        clean, step_ll: top-1 error without an attack and under white-box Step-LL.
        black_box: largest top-1 error under 15 attacks on held-out models (five on each of three).
        clean_top5, step_ll_top5, black_box_top5: the same three as top-5 errors.
    """

    clean: float
    step_ll: float
    black_box: float
    clean_top5: float
    step_ll_top5: float
    black_box_top5: float


_TRAININGS = table("""
    v3:          22.0 69.6 51.2   6.1 42.7 24.5   19
    v3adv:       22.0 26.6 40.8   6.1  9.0 17.4    7
    v3adv-ens3:  23.6 30.0 34.0   7.6 10.1 11.2   13
    v3adv-ens4:  24.2 43.3 33.4   7.8 19.4 10.7   18
    irv2:        19.6 50.7 44.4   4.8 24.0 17.8   17
    irv2adv:     19.8 21.4 34.5   4.9  5.8 11.7    8
    irv2adv-ens: 20.2 26.0 27.0   5.1  7.6  7.9   14
""")
TABLE4 = {network: Errors(*rates(*line[:6])) for network, line in _TRAININGS.items()}
"""Ensemble adversarial training on ImageNet."""
LOSS_RATIO = {network: rates(line[6])[0] for network, line in _TRAININGS.items()}
"""Mean loss under a single step over that under an iterated attack (the paper writes "within 19%"
for the ratio 0.19)."""

COSINE = {"v3": 0.13, "v3adv": 0.02}
"""Mean cosine between the perturbations of one step and of many."""

GRADIENT_NORMS = {"v3": 0.10, "v3adv": 0.17}
"""Mean norms of the gradient by the image: larger after single-step training, so the loss is not
simply flat there."""


FIGURE2_EPS = (4 / 256, 10 / 256, 16 / 256)
"""Sizes of the gradient-aligned orthogonal directions of Figure 2 that change the label."""
FIGURE2_IMAGES = 500
"""Correctly classified images of Figure 2."""
FIGURE2_NATURAL = (50, 0.30)
"""v3 has more than this many such directions, at this share of images."""
FIGURE2_ADVERSARIAL = (0.80, 90)
"""About this share of images have none for v3adv; most others have at least this many."""

RAND_FGSM_EPOCHS = 100
RAND_FGSM_ACCURACY = 0.90
"""Accuracy of model A on MNIST after R+FGSM training, under R+FGSM: more than this."""
RAND_FGSM_PGD_ACCURACY = 0.180
"""Accuracy of the same model under PGD with 20 steps."""
