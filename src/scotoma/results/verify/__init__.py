"""An independent check of a finished audit, from the run folder, the model and the data.

Nothing here runs an attack or imports one. Each recorded success is evaluated again from its stored
image with plain PyTorch, and every table is computed again from the one below it: records from work
units, the ledger from records, rates from the ledger, the digest from findings.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from scotoma.data.dataset import Dataset
from scotoma.models.classifier import Classifier
from scotoma.models.loading import fitted
from scotoma.results.verify import tables
from scotoma.results.verify.evaluation import Evaluation
from scotoma.results.verify.folder import Check, Folder
from scotoma.utils.errors import InputError

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, pl.exceptions.PolarsError)
"""Errors of reading files whose contents have another form."""


def verify(
    folder: Path, model: Classifier | None = None, data: Dataset | None = None
) -> list[Check]:
    """Check a finished audit.

    Args:
        folder: the run folder.
        model, data: what was audited; None omits what needs model or data.

    Raises:
        InputError: the folder is not that of a finished audit.
    """
    run = Folder(folder)
    try:
        checks = list(tables.checks(run))
    except MALFORMED as error:
        raise InputError(
            f"{folder}: claim.json, findings.json or a table is not as an audit writes it "
            f"({type(error).__name__}: {error}), so nothing can be said of it"
        ) from None
    if model is None or data is None:
        reason = "not checked without the model and the data"
        return [*checks, Check("model, data, successes", None, reason)]
    data = fitted(data, model)
    hashes = {"model": model.sha256, "data": data.sha256}
    for name, sha256 in hashes.items():
        audited = run.claim.get(f"{name}_sha256", "none")
        detail = f"sha256 {sha256[:16]}" + (
            "" if sha256 == audited else f", the audit has {audited[:16]}"
        )
        checks.append(Check(name, sha256 == audited, detail))
    if not checks[-1].agrees:
        return [*checks, Check("successes", None, "not checked on other data")]
    return [*checks, *Evaluation(run, model.checked(data), data).checks()]
