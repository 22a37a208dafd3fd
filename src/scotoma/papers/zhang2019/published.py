"""Zhang et al. 2019, "The limitations of adversarial training and the blind-spot attack" (ICLR
2019, arXiv 1901.04684).

Every number that the paper prints, with its table or figure. Percentages are rates in [0, 1] here.
The published version adds tables on the provable defences of Wong and Kolter and of Sinha et al.;
their numbers are unknown to us.
"""

from __future__ import annotations

from typing import NamedTuple

from scotoma.papers.printed import rates, table

IMAGES = 2000
"""Attacked images, all classified correctly. The paper does not give the number; every success rate
of Tables 2 and 3 is a multiple of 1/2000."""

TABLE1 = table("""
    fashion-mnist: 0.046 0.064 0.861
    mnist:         0.119 0.097 0.982
    cifar-10:      0.571 0.379 0.870
""")
"""Average K-L divergence between training and test set, attack success, accuracy, by data set."""


class Cell(NamedTuple):
    """A cell of Tables 2 and 3.

    Args:
        alpha, beta: x' = alpha x + beta on the paper's [-0.5, 0.5].
        accuracy: accuracy on the transformed test images.
        success: attack success rate at eps, on images that are classified correctly.
        scaled: attack success rate at alpha·eps; None at alpha 1, where it is the same.
    """

    alpha: float
    beta: float
    accuracy: float
    success: float
    scaled: float | None = None


def _cells(text: str) -> tuple[Cell, ...]:
    places = ((name.split(), numbers) for name, numbers in table(text).items())
    return tuple(Cell(float(a), float(b), *rates(*numbers)) for (a, b), numbers in places)


TABLE2 = _cells("""
    1.0 0.0:  98.2  9.70
    0.9 0.0:  98.3 75.20 15.20
    0.9 0.05: 98.5 93.65 82.50
    0.8 0.0:  98.4 94.85 52.30
    0.8 0.1:  98.5 99.55 95.45
    0.7 0.0:  98.4 98.60 82.45
    0.7 0.15: 98.1 99.95 99.95
""")
"""MNIST, eps 0.3. Every beta > 0 is (1 - alpha) / 2, which keeps white at white."""

TABLE3 = _cells("""
    1.0  0.0:   86.1  6.40
    0.95 0.0:   86.1 11.25  9.05
    0.95 0.025: 86.4 22.55 18.55
    0.9  0.0:   86.1 25.70 19.15
    0.9  0.05:  86.2 62.60 55.95
""")
"""Fashion-MNIST, eps 0.1."""

FIGURE4 = {
    "fashion-mnist": {(1.0, 0.0): 0.218, (0.9, 0.0): 0.099, (0.9, 0.05): 0.070},
    "mnist": {(1.0, 0.0): 0.338, (0.8, 0.0): 0.229, (0.8, 0.1): 0.129},
}
"""L-inf distance of the one adversarial image shown at each (alpha, beta)."""

FIGURE5 = {"mnist": (0.7, 0.0), "fashion-mnist": (0.9, 0.0)}
"""(alpha, beta) whose distances are drawn beside those of the test set."""
