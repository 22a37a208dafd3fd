"""Tables and numbers of an audit, each computed again from the one below it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import polars as pl
import torch

from scotoma.results.verify.folder import IMAGE, NORMS, ONE, SLACK, Check, Folder
from scotoma.threat import Threat
from scotoma.utils.text import counted

DIGITS = 1e-5
"""Rounding of numbers in findings."""
Z = 1.959963984540054


def checks(run: Folder) -> Iterator[Check]:
    """Yield the checks that need the files alone."""
    yield from _files(run)
    yield _records(run)
    yield _ledger(run)
    yield from _rates(run)
    yield _digest(run)


def _files(run: Folder) -> Iterator[Check]:
    bad = [path.name for path, _, _, unchanged in run.units if not unchanged]
    detail = f"{len(run.units)} work units" + (f", altered: {', '.join(bad[:3])}" if bad else "")
    yield Check("files unchanged", not bad, detail)
    claimed, threat = run.findings["claim"], Threat.parse(run.claim["threat"])
    agrees = claimed["model"] == run.claim["model"] and claimed["data"] == run.claim["data"]
    agrees &= claimed["threat"]["norm"] == threat.norm
    agrees &= math.isclose(claimed["threat"]["eps"], threat.eps, rel_tol=1e-5)
    yield Check("claim", agrees, f"{claimed['model']} on {claimed['data']}, {run.claim['threat']}")


def _records(run: Folder) -> Check:
    """Compare records.parquet with the work units; transferred records have images alone there."""
    units = [table.drop(IMAGE) for _, table in run.of_kind("attack")]
    columns = [name for name in run.records.columns if name not in ONE]
    elsewhere = pl.col("attack").is_in(run.crafted)
    crafted, own = run.records.filter(elsewhere), run.records.filter(~elsewhere)
    agree = 0
    if units and len(own):
        unit_records = pl.concat(units).select(*ONE, *columns).unique()
        agree = len(own.join(unit_records, on=[*ONE, *columns], how="semi", nulls_equal=True))
    fooled = run.records.filter("success")
    missing = fooled.join(run.images, on=ONE, how="anti") if len(run.images) else fooled
    if not run.keeps_all:
        missing = missing.head(0)
    twice = len(run.records) - run.records.select(ONE).n_unique()
    detail = f"{agree:,} of {len(own):,} are those of the work units"
    if len(crafted):
        detail += f", {len(crafted):,} of examples made on other models"
    if len(missing):
        detail += f"; {len(missing):,} successes have no image"
    return Check("records", agree == len(own) and not len(missing) and not twice, detail)


def _joined(records: pl.DataFrame) -> pl.DataFrame:
    """Return the ledger of records: transform, index, label, prediction, sizes and attacks."""
    keys = ["transform", "index"]
    ordered = records.sort(*keys, "attack")
    rows = ordered.unique(keys, keep="first", maintain_order=True)
    rows = rows.select(*keys, "label", "prediction", "margin")
    correct = pl.col("prediction") == pl.col("label")
    for norm in NORMS:
        smallest = ordered.filter("success").sort(*keys, norm, "attack")
        smallest = smallest.unique(keys, keep="first", maintain_order=True)
        smallest = smallest.select(*keys, norm, pl.col("attack").alias(f"{norm}_attack"))
        rows = rows.join(smallest, on=keys, how="left").with_columns(
            pl.when(correct).then(pl.col(norm).fill_null(math.inf)).otherwise(0.0).alias(norm),
            pl.when(correct).then(f"{norm}_attack").alias(f"{norm}_attack"),
        )
    return rows


def _ledger(run: Folder) -> Check:
    columns = ["transform", "index", "label", "prediction", "margin"]
    columns += [f"{norm}{end}" for norm in NORMS for end in ("", "_attack")]
    if not len(run.records):
        return Check("ledger", not len(run.ledger), "no records")
    # records may have more images: those of the stratified estimate or of an interrupted audit
    computed = _joined(run.records).select(columns).filter(pl.col("index").is_in(_drawn(run)))
    stored = run.ledger.select(columns).cast(computed.schema)  # type: ignore[arg-type]
    order = columns[:2]
    agrees = computed.sort(order).equals(stored.sort(order)) and len(stored) > 0
    return Check("ledger", agrees, f"{counted(len(stored), 'row')} joined again from the records")


def _drawn(run: Folder) -> list[int]:
    """Return the test images that the audit drew with its seed; a ledger of others is chosen."""
    provenance, n = run.findings["provenance"], run.findings["claim"]["n"]
    generator = torch.Generator().manual_seed(provenance["seed"])
    return torch.randperm(provenance["data"]["test"], generator=generator)[:n].tolist()


def _interval(share: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of Wilson (1927)."""
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def _rates(run: Folder) -> Iterator[Check]:
    """Compare accuracy, robust accuracy and success of the robustness finding, with intervals."""
    finding = next((f for f in run.findings["findings"] if f["probe"] == "robustness"), None)
    if finding is None or not finding["numbers"]:
        return
    norm, bound = _bound(run)
    rows = run.ledger.filter(transform="none")
    n, size = finding["numbers"]["n"], rows[norm].to_numpy()
    correct = (rows["prediction"] == rows["label"]).to_numpy()
    values = {
        "clean_accuracy": correct,
        "robust_accuracy": size > bound,
        "attack_success": size[correct] <= bound,
    }
    faults = [] if n == len(rows) else [f"n is {n}, the ledger has {counted(len(rows), 'image')}"]
    for name, each in values.items():
        reported = [finding["numbers"][f"{name}{end}"] for end in ("", "_low", "_high")]
        share = float(each.mean()) if len(each) else math.nan
        computed = [share, *_interval(share, len(each))] if len(each) else [None] * 3
        if any(
            (a is None) != (b is None) or (a is not None and abs(a - b) > DIGITS)
            for a, b in zip(computed, reported, strict=True)
        ):
            faults.append(f"{name} is {reported[0]}, the ledger gives {share:.6g}")
    share = float((size > bound).mean()) if len(size) else math.nan
    detail = "; ".join(faults) or f"robust accuracy {share:.1%} of the {n:,} audited images"
    yield Check("rates and intervals", not faults, detail)
    if "test_set_robust_accuracy" in finding["numbers"]:
        yield _whole_set(run, finding)


def _bound(run: Folder) -> tuple[str, float]:
    """Return the norm of the claim, and the largest size within its eps."""
    norm, eps = run.findings["claim"]["threat"]["norm"], run.findings["claim"]["threat"]["eps"]
    return norm, eps + SLACK * max(1.0, eps)


def _whole_set(run: Folder, finding: dict[str, Any]) -> Check:
    """Compare the rates of the whole test set with its strata, and these with the records.

    The strata come from scores that need the model; neither they nor the intervals are computed
    again.
    """
    numbers, strata = finding["numbers"], finding["tables"]["strata"]
    n_images = numbers["test_set_images"]
    norm, bound = _bound(run)
    correct = pl.col("prediction") == pl.col("label")
    fooled = pl.col("success") & (pl.col(norm) <= bound)
    images = run.records.filter(transform="none").group_by("index")
    images = images.agg(right=correct.first(), fooled=fooled.any()).filter("right")
    size = sum(row["images"] for row in strata)
    attacked = sum(row["attacked"] for row in strata)
    hits = sum(round(row["attacked"] * (row["success"] or 0)) for row in strata)
    success = sum(row["images"] * (row["success"] or 0) for row in strata) / max(size, 1)
    robust = size / n_images * (1 - success)
    pairs = {
        "attacked": (numbers["test_set_attacked"], attacked, len(images)),
        "fooled": (hits, int(images["fooled"].sum())),
        "clean accuracy": (numbers["test_set_clean_accuracy"], size / n_images),
        "success": (numbers["test_set_attack_success"] or 0.0, success),
        "robust accuracy": (numbers["test_set_robust_accuracy"], robust),
    }
    faults = [
        f"{name} is {values[0]:g}, strata and records give "
        + " and ".join(f"{x:g}" for x in values[1:])
        for name, values in pairs.items()
        if max(values) - min(values) > 2 * DIGITS
    ]
    detail = (
        f"robust accuracy {robust:.1%} of all {n_images:,} test images, from {attacked:,} attacked"
    )
    return Check("rates of the whole test set", not faults, "; ".join(faults) or detail)


def _digest(run: Folder) -> Check:
    findings = run.findings["findings"]
    text = json.dumps(findings, sort_keys=True, allow_nan=False)
    code = hashlib.sha256(text.encode()).hexdigest()[:16]
    recorded = run.findings["provenance"]["digest"]
    differ = []
    for entry in findings:
        path = run.folder / "findings" / f"{entry['probe']}.json"
        try:
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            content = {}
        if any(content.get(key) != value for key, value in entry.items()):
            differ.append(entry["probe"])
    detail = code if code == recorded else f"{code}, findings.json says {recorded}"
    if differ:
        detail += f"; differs from the report's: {', '.join(differ)}"
    return Check("digest of findings", code == recorded and not differ, detail)
