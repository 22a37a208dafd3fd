"""An entry for RobustBench: the fields of its model_info files, and the adversarial images."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.execution.records import fallen
from scotoma.results.comparison.audits import Audit
from scotoma.results.exports.measured import kinds_of_attacks, quantities, stated
from scotoma.results.stored import Stored
from scotoma.utils.errors import InputError
from scotoma.utils.text import counted

DATASETS = {"cifar-10": "cifar10"}
UNKNOWN = ("link", "name", "authors", "additional_data", "number_forward_passes")
"""Fields that an audit does not know, before those that it knows; null here."""


def render(audit: Audit) -> str:
    """Return the JSON of an entry; what an audit does not know is null.

    Our robust accuracy is `external`, the field of evaluations other than AutoAttack; `footnote`
    says how it was measured. `reported` is the number that the claim states, if it states one.

    Source:
        RobustBench/robustbench, model_info/cifar10/Linf.
    """
    return json.dumps(entry(audit), indent=2, ensure_ascii=False) + "\n"


def entry(audit: Audit) -> dict[str, Any]:
    """Return the fields of an entry."""
    about, data = audit.report.provenance, audit.identity["data"]
    accuracy, robustness = quantities(audit)[:2]
    clean, robust, of = accuracy.value, robustness.value, robustness.of
    images = counted(robust.n, "test image")
    if of:
        images = f"all {of:,} test images, estimated from {robust.n:,} attacked"
    return {
        **dict.fromkeys(UNKNOWN),
        "dataset": DATASETS.get(data, data),
        "venue": None,
        "architecture": about.get("model", {}).get("arch"),
        "eps": audit.threat.size,
        "clean_acc": _percent(clean.value),
        "reported": _reported(audit),
        "autoattack_acc": None,
        "external": _percent(robust.value),
        "footnote": (
            f"{_percent(robust.value)}% robust accuracy is due to the attacks of Scotoma "
            f"{about.get('versions', {}).get('scotoma')} ({', '.join(kinds_of_attacks(audit))}; "
            f"seed {about.get('seed')}) on {images}, 95% interval "
            f"{_percent(robust.low)}–{_percent(robust.high)}%."
        ),
    }


def adversarial_images(audit: Audit, data: Dataset) -> Tensor:
    """Return what the leaderboard's form asks for: a tensor as large as the test set.

    It has the smallest stored adversarial image where the model was fooled within eps, and the test
    image itself elsewhere.

    Raises:
        InputError: the data are not those that were audited, or an image was not stored.
    """
    if data.sha256 != audit.identity["data_sha256"]:
        raise InputError(f"data={data.name}: are not the data of this audit")
    bound, stored = audit.threat, Stored(audit.report.folder)
    images = data.test.images(torch.arange(len(data.test))).clone()
    fooled = audit.rows.filter(fallen(audit.rows, bound.eps, bound.norm))
    for index, attack in fooled.select("index", f"{bound.norm}_attack").iter_rows():
        adversarial = stored.adversarial(attack, index, images[index].numpy())
        if adversarial is None:
            raise InputError(
                f"{audit.report.folder}: the adversarial image of test image {index} is not "
                "stored; run `scotoma verify`"
            )
        images[index] = torch.from_numpy(adversarial.copy())
    return images


def _reported(audit: Audit) -> str | None:
    name = f"robust accuracy within {audit.threat}"
    numbers = [row["claimed"] for row in stated(audit) if row["claim"] == name]
    return _percent(numbers[0]) if numbers else None


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
