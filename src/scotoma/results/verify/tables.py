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
    bad = [path.name for path, _, _, named in run.units if not named]
    detail = f"{len(run.units)} work units" + (f", altered: {', '.join(bad[:3])}" if bad else "")
    yield Check("files unchanged", not bad, detail)
    claimed, threat = run.findings["claim"], Threat.parse(run.claim["threat"])
    same = claimed["model"] == run.claim["model"] and claimed["data"] == run.claim["data"]
    same &= claimed["threat"]["norm"] == threat.norm
    same &= math.isclose(claimed["threat"]["eps"], threat.eps, rel_tol=1e-5)
    yield Check("claim", same, f"{claimed['model']} on {claimed['data']}, {run.claim['threat']}")


def _records(run: Folder) -> Check:
    """Compare records.parquet with the work units; transferred records have images alone there."""
    stored = [table.drop(IMAGE) for _, table in run.of_kind("attack")]
    columns = [name for name in run.records.columns if name not in ONE]
    elsewhere = pl.col("attack").is_in(run.crafted)
    crafted, own = run.records.filter(elsewhere), run.records.filter(~elsewhere)
    agree = 0
    if stored and len(own):
        same = pl.concat(stored).select(*ONE, *columns).unique()
        agree = len(own.join(same, on=[*ONE, *columns], how="semi", nulls_equal=True))
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
        best = ordered.filter("success").sort(*keys, norm, "attack")
        best = best.unique(keys, keep="first", maintain_order=True)
        best = best.select(*keys, norm, pl.col("attack").alias(f"{norm}_attack"))
        rows = rows.join(best, on=keys, how="left").with_columns(
            pl.when(correct).then(pl.col(norm).fill_null(math.inf)).otherwise(0.0).alias(norm),
            pl.when(correct).then(f"{norm}_attack").alias(f"{norm}_attack"),
        )
    return rows


def _ledger(run: Folder) -> Check:
    columns = ["transform", "index", "label", "prediction", "margin"]
    columns += [f"{norm}{end}" for norm in NORMS for end in ("", "_attack")]
    if not len(run.records):
        return Check("ledger", not len(run.ledger), "no records")
    # records may be of more images: those that tell most, and those of an interrupted audit
    mine = _joined(run.records).select(columns).filter(pl.col("index").is_in(_drawn(run)))
    told = run.ledger.select(columns).cast(mine.schema)  # type: ignore[arg-type]
    order = columns[:2]
    same = mine.sort(order).equals(told.sort(order)) and len(told) > 0
    return Check("ledger", same, f"{counted(len(told), 'row')} joined again from the records")


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
    found = next((f for f in run.findings["findings"] if f["probe"] == "robustness"), None)
    if found is None or not found["numbers"]:
        return
    norm, bound = _bound(run)
    rows = run.ledger.filter(transform="none")
    n, size = found["numbers"]["n"], rows[norm].to_numpy()
    correct = (rows["prediction"] == rows["label"]).to_numpy()
    values = {
        "clean_accuracy": correct,
        "robust_accuracy": size > bound,
        "attack_success": size[correct] <= bound,
    }
    wrong = [] if n == len(rows) else [f"n is {n}, the ledger has {counted(len(rows), 'image')}"]
    for name, each in values.items():
        told = [found["numbers"][f"{name}{end}"] for end in ("", "_low", "_high")]
        share = float(each.mean()) if len(each) else math.nan
        mine = [share, *_interval(share, len(each))] if len(each) else [None] * 3
        if any(
            (a is None) != (b is None) or (a is not None and abs(a - b) > DIGITS)
            for a, b in zip(mine, told, strict=True)
        ):
            wrong.append(f"{name} is {told[0]}, the ledger gives {share:.6g}")
    share = float((size > bound).mean()) if len(size) else math.nan
    detail = "; ".join(wrong) or f"robust accuracy {share:.1%} of the {n:,} audited images"
    yield Check("rates and intervals", not wrong, detail)
    if "test_set_robust_accuracy" in found["numbers"]:
        yield _whole_set(run, found)


def _bound(run: Folder) -> tuple[str, float]:
    """Return the norm of the claim, and the largest size within its eps."""
    norm, eps = run.findings["claim"]["threat"]["norm"], run.findings["claim"]["threat"]["eps"]
    return norm, eps + SLACK * max(1.0, eps)


def _whole_set(run: Folder, found: dict[str, Any]) -> Check:
    """Compare the rates of the whole test set with its strata, and these with the records.

    The strata themselves come from scores that take the model, and are not computed again; neither
    are the intervals.
    """
    numbers, strata = found["numbers"], found["tables"]["strata"]
    whole = numbers["test_set_images"]
    norm, bound = _bound(run)
    right = pl.col("prediction") == pl.col("label")
    fooled = pl.col("success") & (pl.col(norm) <= bound)
    images = run.records.filter(transform="none").group_by("index")
    images = images.agg(right=right.first(), fooled=fooled.any()).filter("right")
    size = sum(row["images"] for row in strata)
    attacked = sum(row["attacked"] for row in strata)
    hits = sum(round(row["attacked"] * (row["success"] or 0)) for row in strata)
    success = sum(row["images"] * (row["success"] or 0) for row in strata) / max(size, 1)
    robust = size / whole * (1 - success)
    pairs = {
        "attacked": (numbers["test_set_attacked"], attacked, len(images)),
        "fooled": (hits, int(images["fooled"].sum())),
        "clean accuracy": (numbers["test_set_clean_accuracy"], size / whole),
        "success": (numbers["test_set_attack_success"] or 0.0, success),
        "robust accuracy": (numbers["test_set_robust_accuracy"], robust),
    }
    wrong = [
        f"{name} is {told[0]:g}, strata and records give {' and '.join(f'{x:g}' for x in told[1:])}"
        for name, told in pairs.items()
        if max(told) - min(told) > 2 * DIGITS
    ]
    detail = (
        f"robust accuracy {robust:.1%} of all {whole:,} test images, from {attacked:,} attacked"
    )
    return Check("rates of the whole test set", not wrong, "; ".join(wrong) or detail)


def _digest(run: Folder) -> Check:
    findings = run.findings["findings"]
    text = json.dumps(findings, sort_keys=True, allow_nan=False)
    code = hashlib.sha256(text.encode()).hexdigest()[:16]
    told = run.findings["provenance"]["digest"]
    differ = []
    for entry in findings:
        path = run.folder / "findings" / f"{entry['probe']}.json"
        try:
            kept = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            kept = {}
        if any(kept.get(key) != value for key, value in entry.items()):
            differ.append(entry["probe"])
    detail = code if code == told else f"{code}, findings.json says {told}"
    if differ:
        detail += f"; differs from the report's: {', '.join(differ)}"
    return Check("digest of findings", code == told and not differ, detail)
