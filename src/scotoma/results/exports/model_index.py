"""Evaluation results for the metadata of a model card on Hugging Face (`model-index`)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from scotoma.results.comparison.audits import Audit
from scotoma.results.exports.measured import Quantity, in_other_norms, quantities
from scotoma.utils.stats import finite

DATASETS = {"mnist": "mnist", "fashion-mnist": "fashion_mnist", "cifar-10": "cifar10"}
"""Data to their identifiers on the hub; other data keep their name."""
NAMES = {"accuracy": "Accuracy", "robust accuracy": "Robust accuracy"}


def render(audit: Audit) -> str:
    """Return YAML to paste into the metadata of a model card.

    Robust accuracies are upper bounds: attacks can only lower them. Those of the whole test set are
    estimated from the images `attacked`; others are of the attacked images alone. The arguments of
    a metric have the threat, the number of images, the 95% interval and how it was measured.

    Source:
        The model card specification of huggingface/hub-docs (modelcard.md).
    """
    data = audit.identity["data"]
    results = {
        "task": {"type": "image-classification", "name": "Image Classification"},
        "dataset": {"type": DATASETS.get(data, data), "name": data, "split": "test"},
        "metrics": [_metric(audit, each) for each in _shown(audit)],
    }
    index = [{"name": audit.name, "results": [results]}]
    return "\n".join(["model-index:", *yaml(index)]) + "\n"


def _shown(audit: Audit) -> list[Quantity]:
    return [each for each in (*quantities(audit), *in_other_norms(audit)) if each.name in NAMES]


def _metric(audit: Audit, quantity: Quantity) -> dict[str, Any]:
    rate, under = quantity.value, quantity.threat
    name = f"{NAMES[quantity.name]} (upper bound, {under})" if under else NAMES[quantity.name]
    about = audit.report.provenance
    own = {"attack": about.get("attack")} if under == audit.threat else {}
    attack = {"threat": str(under), **own, "seed": about.get("seed")}
    return {
        "type": "accuracy",
        "value": finite(rate.value),
        "name": name,
        "args": {
            **(attack if under else {}),
            "images": quantity.of or rate.n,
            **({"attacked": rate.n} if quantity.of and under else {}),
            "low": finite(rate.low),
            "high": finite(rate.high),
            "confidence": 0.95,
            "scotoma": about.get("versions", {}).get("scotoma"),
            "data_sha256": audit.identity["data_sha256"],
        },
    }


def yaml(value: Any, indent: int = 0) -> Iterator[str]:
    """Yield the lines of JSON values as block YAML; strings are quoted as in JSON.

    >>> print(*yaml([{"name": "a: b", "metrics": [{"value": 1e-05}]}]), sep="\\n")
    - name: "a: b"
      metrics:
      - value: 0.00001
    """
    space = " " * indent
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                yield f"{space}{key}:"
                yield from yaml(inner, indent + 2 * isinstance(inner, dict))
            else:
                yield f"{space}{key}: {_scalar(inner)}"
    elif not isinstance(value, list) or not value:
        yield space + _scalar(value)
    else:
        for inner in value:
            first, *rest = yaml(inner, indent + 2)
            yield f"{space}- {first.lstrip()}"
            yield from rest


def _scalar(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return np.format_float_positional(value, trim="0")  # 1e-05 is a string to some parsers
    return json.dumps(value, ensure_ascii=False)
