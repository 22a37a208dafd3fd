"""Run folders of audits whose outcome is known, made without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scotoma.execution.store import write_parquet
from scotoma.results.finding import Finding
from scotoma.results.ledger import Ledger
from scotoma.results.report import LEDGER, RECORDS, SCHEMA, digest, public, save_finding
from scotoma.threat import Threat
from scotoma.utils.files import write_json

STRONG = "Strong(threat=Threat(norm='linf', eps=0.1), until=0.0, look=False)"
PROVENANCE = {
    "command": "scotoma audit model --data digits --threat linf:0.1",
    "notes": [],
    "seed": 0,
    "attack": "strong",
    "gradient": "exact",
    "model": {"sha256": "5e" * 32},
    "data": {"sha256": "da" * 32, "train": 0, "test": 500},
    "passes": {"forwards": 800, "backwards": 700},
    "device": "cpu",
    "threads": 1,
    "versions": {"scotoma": "0.1.0", "torch": "2.13.0"},
    "started": "2026-11-29T10:00:00+00:00",
    "seconds": 3.5,
}
"""As an audit writes it."""


def records(sizes: Sequence[float], transform: str, attack: str, start: int = 0) -> pl.DataFrame:
    """Records of an attack: a size for each image, 0 for a clean error, infinite for a failure."""
    linf = np.array(sizes, np.float32)
    correct, success = linf > 0, (linf > 0) & np.isfinite(linf)
    index = np.arange(start, start + len(linf))
    other_norms = {
        f"l{p}": np.where(success, linf * 10, linf).astype(np.float32) for p in (0, 1, 2)
    }
    return pl.DataFrame(
        {
            "index": index,
            "label": index % 10,
            "prediction": np.where(correct, index, index + 1) % 10,
            "margin": np.where(correct, 1.0, -1.0).astype(np.float32),
            "adversarial_prediction": np.where(success, index + 2, index) % 10,
            "success": success,
            **other_norms,
            "linf": linf,
            "forwards": np.full(len(linf), 8),
            "backwards": np.full(len(linf), 7),
        }
    ).with_columns(attack=pl.lit(attack), transform=pl.lit(transform))


def made_audit(
    folder: Path,
    sizes: Sequence[float] | Mapping[str, Sequence[float]],
    *,
    model: str | None = None,
    threat: str = "linf:0.1",
    data_sha256: str = "da" * 32,
    attack: str = STRONG,
    start: int = 0,
    findings: Sequence[Finding] | None = None,
    **provenance: Any,
) -> Path:
    """Write the folder of an audit that found these smallest perturbations, by transform."""
    under = sizes if isinstance(sizes, Mapping) else {"none": sizes}
    parts = [records(each, name, attack, start) for name, each in under.items()]
    name, bounds = model or folder.name, Threat.parse(threat)
    identity = {"model": name, "model_sha256": sha256(name.encode()).hexdigest(), "data": "digits"}
    write_json(
        folder / "claim.json",
        {**identity, "data_sha256": data_sha256, "threat": threat},
    )
    write_parquet(folder / RECORDS, pl.concat(parts))
    write_parquet(folder / LEDGER, Ledger.of(parts).table)
    entries = findings or [Finding("robustness", "How robust?", "weak", "a rule", "Half of it.")]
    for finding in entries:
        save_finding(folder, finding)
    claim = {
        "model": name,
        "data": "digits",
        "threat": {"norm": bounds.norm, "eps": bounds.eps},
        "n": len(next(iter(under.values()))),
    }
    content = {"schema": SCHEMA, "claim": claim, "findings": [public(each) for each in entries]}
    content["provenance"] = {**PROVENANCE, **provenance, "digest": digest(content["findings"])}
    write_json(folder / "findings.json", content)  # as `publish` does, which also draws the page
    return folder
