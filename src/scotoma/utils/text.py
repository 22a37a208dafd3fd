"""Names and numbers as text for people."""

from __future__ import annotations

import math
import re
from typing import Any

NONE = "–"
SIGNIFICANT = 4

_TERMS = {
    "linf": "L-inf",
    "l0": "L0",
    "l1": "L1",
    "l2": "L2",
    "sha256": "SHA-256",
    "pgd": "PGD",
    "fgsm": "FGSM",
    "auroc": "AUROC",
    "auc": "AUC",
    "kl": "K-L",
    "knn": "k-NN",
}
_TERMS |= {name: name for name in ("n", "p", "eps")}
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def humanise(name: str) -> str:
    """Return a key as words.

    >>> humanise("robust_accuracy"), humanise("linf")
    ('Robust accuracy', 'L-inf')
    """
    words = [_TERMS.get(word, word) for word in re.split(r"[_\s]+", str(name)) if word]
    text = " ".join(words)
    return text if words and words[0] in _TERMS.values() else text[:1].upper() + text[1:]


def norm_name(norm: str) -> str:
    """Return the usual name of a norm.

    >>> norm_name("linf")
    'L-inf'
    """
    return _TERMS.get(norm, norm)


def number(value: float) -> str:
    """Return four significant digits, with a power of ten only if very large or small.

    >>> number(0.123456), number(12345.6), number(1.5e-7)
    ('0.1235', '12,346', '1.5 × 10⁻⁷')
    """
    if not math.isfinite(value):
        return NONE if math.isnan(value) else ("∞" if value > 0 else "−∞")
    if isinstance(value, int):
        text = f"{value:,}" if abs(value) >= 10_000 else str(value)
    elif value != 0 and not 1e-4 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g} × 10{str(int(exponent)).translate(_RAISED)}".replace("-", "−")
    elif abs(value) >= 10 ** (SIGNIFICANT - 1):
        text = f"{value:,.0f}"
    else:
        text = f"{value:.{SIGNIFICANT}g}"
    return text.replace("-", "−")


def counted(n: int, noun: str) -> str:
    """Return a number with what it counts, in the singular if it is one.

    >>> counted(1, "test image"), counted(1200, "test image")
    ('1 test image', '1,200 test images')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def percentage(share: float) -> str:
    """Return a threshold as a percentage with all its digits.

    >>> percentage(0.15), percentage(0.004), percentage(0.9995)
    ('15%', '0.4%', '99.95%')
    """
    return f"{100 * share:.6g}%"


def scalar(value: Any) -> str:
    """Return any JSON scalar as text; null is an en dash."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else str(value)
