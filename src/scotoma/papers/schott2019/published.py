"""Schott et al. 2019, "Towards the first adversarially robust neural network model on MNIST" (ICLR
2019, arXiv 1805.09190).

The numbers are those of the curves that the authors published with their code
(github.com/jonasrauber/analysis-by-synthesis, figures/): over 1,000 test images of MNIST, the
minimum over all attacks, image by image. Percentages are rates in [0, 1] here.
"""

from __future__ import annotations

from typing import NamedTuple

from scotoma.papers.printed import table
from scotoma.threat import Threat

BOUNDS = {"l0": Threat("l0", 12), "l2": Threat("l2", 1.5), "linf": Threat("linf", 0.3)}
"""Bounds at which accuracies are compared (section 6)."""

LEVELS = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


class Published(NamedTuple):
    """A model in one norm: its accuracy at the norm's bound, and the distances at which accuracy
    has fallen to each of `LEVELS`."""

    accuracy: float
    distances: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median distance."""
        return self.distances[LEVELS.index(0.5)]


_CURVES = {
    "l0": """
        CNN:               0.19  2     5     6     7     8.667 10    11    12    15
        Binary CNN:        0.38  3.333 5.333 7     8.667 10.67 12    15    16.33 20.33
        Nearest neighbour: 0.34  1.333 5     7.333 9.333 10    11    13.33 15    20
        Madry et al.:      0     1     2     3     3     4     4     5     6     7
        Binary ABS:        0.77  4     10.67 15    17.67 21.33 25.67 35.33 39    48.67
        ABS:               0.69  4     8.333 12    15    16.33 19    21.67 26    32.67
    """,
    "l2": """
        CNN:               0.08  0.415 0.744 0.901 1     1.09  1.13  1.22  1.27  1.43
        Binary CNN:        0.03  0.359 0.557 0.673 0.76  0.856 0.95  1.04  1.15  1.23
        Nearest neighbour: 0.53  0.186 0.797 1.18  1.4   1.54  1.69  1.98  2.25  2.61
        Madry et al.:      0.35  0.455 0.888 1.08  1.22  1.36  1.43  1.57  1.62  1.79
        Binary ABS:        0.39  0.232 0.877 1.12  1.22  1.33  1.48  1.58  1.79  2.1
        ABS:               0.8   0.673 1.44  1.95  2.11  2.24  2.34  2.51  2.9   3.15
    """,
    "linf": """
        CNN:               0     0.0301 0.0564 0.0638 0.0703 0.0751 0.0802 0.0866 0.0941 0.104
        Binary CNN:        0.63  0.159  0.233  0.271  0.303  0.338  0.378  0.401  0.414  0.45
        Nearest neighbour: 0.22  0.0241 0.102  0.151  0.172  0.19   0.216  0.265  0.305  0.346
        Madry et al.:      0.87  0.212  0.314  0.33   0.335  0.341  0.348  0.355  0.361  0.376
        Binary ABS:        0.77  0.161  0.282  0.363  0.403  0.44   0.461  0.484  0.492  0.492
        ABS:               0.08  0.0806 0.166  0.203  0.22   0.232  0.25   0.268  0.279  0.296
    """,
}
CURVES = {
    norm: {model: Published(line[0], line[1:]) for model, line in table(text).items()}
    for norm, text in _CURVES.items()
}
"""By norm and model. L0 counts pixels; fractions of one are the authors'."""
