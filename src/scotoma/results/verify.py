"""An independent check of a finished audit, from the run folder, the model and the data.

Nothing here runs an attack or imports one. Each recorded success is evaluated again from its stored
image with plain PyTorch, and every table is computed again from the one below it: records from work
units, the ledger from records, rates from the ledger, the digest from findings.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.models.classifier import Classifier
from scotoma.results.examples import EXAMPLE, decode
from scotoma.utils.errors import InputError

NORMS = ("l0", "l1", "l2", "linf")
SLACK = 1e-6
"""Rounding of a perturbation, and of its size where that is above 1: more."""
SIZE = 1e-4
"""Relative difference of two computations of a size."""
TIE = 1e-4
"""Difference of two logits, relative to the largest, that another kernel can undo."""
DIGITS = 1e-5
"""Rounding of numbers in findings."""
Z = 1.959963984540054
BATCH = 100
ONE = ("attack", "transform", "index")


@dataclass(frozen=True)
class Check:
    """One line of the result: what was compared, whether it agrees (None: not decided), details."""

    name: str
    agrees: bool | None
    detail: str


def verify(
    folder: Path, model: Classifier | None = None, data: Dataset | None = None
) -> list[Check]:
    """Check a finished audit.

    Args:
        folder: the run folder.
        model: the audited model, as `load_model` returns it; None omits what needs model or data.
        data: the audited data.

    Raises:
        InputError: the folder is not that of a finished audit.
    """
    run = Folder(folder)
    checks = [*_files(run), _records(run), _ledger(run), *_rates(run), _digest(run)]
    if model is None or data is None:
        why = "not checked without the model and the data"
        return [*checks, Check("model, data, successes", None, why)]
    hashes = {"model": model.sha256, "data": data.sha256}
    for name, found in hashes.items():
        told = run.claim.get(f"{name}_sha256")
        detail = f"sha256 {found[:16]}" + ("" if found == told else f", the audit has {told[:16]}")
        checks.append(Check(name, found == told, detail))
    if not checks[-1].agrees:
        return [*checks, Check("successes", None, "not checked on other data")]
    return [*checks, *Evaluation(run, model.checked(data), data).checks()]


class Folder:
    """The files of a run, read without trust in their names."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.claim, self.findings = self._json("claim.json"), self._json("findings.json")
        self.records, self.ledger = self._table("records"), self._table("ledger")

    def _json(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.folder / name).read_text("utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{self.folder / name}: no such file; is {self.folder} the folder of a finished "
                "audit?"
            ) from None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.folder / name}: cannot be read ({error})") from None

    def _table(self, name: str) -> pl.DataFrame:
        path = self.folder / f"{name}.parquet"
        try:
            return pl.read_parquet(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; run the audit again") from None
        except (OSError, pl.exceptions.PolarsError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None

    @cached_property
    def units(self) -> list[tuple[Path, dict[str, Any] | None, pl.DataFrame | None, bool]]:
        """Path, configuration, table, and whether the name is that of the content; of each unit."""
        found = []
        for path in sorted((self.folder / "units").glob("*.parquet")):
            content = path.read_bytes()
            try:
                text = pl.read_parquet_metadata(io.BytesIO(content))["scotoma"]
                config, table = json.loads(text), pl.read_parquet(io.BytesIO(content))
            except (KeyError, ValueError, OSError, pl.exceptions.PolarsError):
                found.append((path, None, None, False))
                continue
            key, code = (hashlib.sha256(each).hexdigest() for each in (text.encode(), content))
            named = path.name == f"{key[:32]}.{code[:16]}.parquet"
            found.append((path, config, table, named))
        return found

    def of_kind(self, kind: str) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
        """Yield configuration and table of the units of a kind."""
        for _, config, table, _ in self.units:
            if config is not None and table is not None and config.get("kind") == kind:
                yield config, table

    @cached_property
    def images(self) -> pl.DataFrame:
        """Stored images of records: attack, transform, index, code, config of the transform."""
        parts = []
        for config, table in self.of_kind("attack"):
            made = table.filter(pl.col(EXAMPLE).is_not_null())
            change = json.dumps(config.get("transform"))
            parts.append(made.select(*ONE, EXAMPLE, change=pl.lit(change)))
        labels = self.records["attack"].unique().to_list() if len(self.records) else []
        for config, table in self.of_kind("crafted"):
            # a record names the attack, and the source with the first digits of its hash
            head, tail = f"{table['attack'][0]} on ", f" {config['model'][:8]}"
            for label in labels:
                if label.startswith(head) and label.endswith(tail):
                    named = {"attack": label, "transform": "none", "change": "null"}
                    made = table.with_columns(
                        pl.lit(text).alias(key) for key, text in named.items()
                    )
                    parts.append(made.select(*ONE, EXAMPLE, "change"))
        return pl.concat(parts).unique(ONE, keep="first") if parts else pl.DataFrame()


def _files(run: Folder) -> Iterator[Check]:
    bad = [path.name for path, _, _, named in run.units if not named]
    detail = f"{len(run.units)} work units" + (f", altered: {', '.join(bad[:3])}" if bad else "")
    yield Check("files unchanged", not bad, detail)
    claimed, threat = run.findings["claim"], run.claim["threat"]
    same = claimed["model"] == run.claim["model"] and claimed["data"] == run.claim["data"]
    norm, _, size = threat.partition(":")
    top, _, bottom = size.partition("/")
    eps = float(top) / float(bottom or 1)
    same &= claimed["threat"]["norm"] == norm and math.isclose(
        claimed["threat"]["eps"], eps, rel_tol=1e-6
    )
    yield Check("claim", same, f"{claimed['model']} on {claimed['data']}, {threat}")


def _records(run: Folder) -> Check:
    """Compare records.parquet with the work units; transferred records have images alone there."""
    stored = [table.drop(EXAMPLE) for _, table in run.of_kind("attack")]
    columns = [name for name in run.records.columns if name not in ONE]
    crafted = run.records.filter(pl.col("attack").str.contains(" on ", literal=True))
    own = run.records
    if len(run.images):
        made = run.images.select("attack").unique()
        crafted = crafted.join(made, on="attack", how="semi")
        own = run.records.join(crafted.select("attack").unique(), on="attack", how="anti")
    agree = 0
    if stored and len(own):
        same = pl.concat(stored).select(*ONE, *columns).unique()
        agree = len(own.join(same, on=[*ONE, *columns], how="semi", nulls_equal=True))
    fooled = run.records.filter("success")
    missing = fooled.join(run.images, on=ONE, how="anti") if len(run.images) else fooled
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
    # records of an interrupted audit may be of more images
    mine = _joined(run.records).select(columns).join(run.ledger, on="index", how="semi")
    told = run.ledger.select(columns).cast(dict(mine.schema))
    order = columns[:2]
    same = mine.sort(order).equals(told.sort(order)) and len(told) > 0
    return Check("ledger", same, f"{len(told):,} rows joined again from the records")


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
    threat, rows = run.findings["claim"]["threat"], run.ledger.filter(transform="none")
    n, size = found["numbers"]["n"], rows[threat["norm"]].to_numpy()
    bound = threat["eps"] + SLACK * max(1.0, threat["eps"])
    correct = (rows["prediction"] == rows["label"]).to_numpy()
    values = {
        "clean_accuracy": correct,
        "robust_accuracy": size > bound,
        "attack_success": size[correct] <= bound,
    }
    wrong = [] if n == len(rows) else [f"n is {n}, the ledger has {len(rows)} images"]
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
    detail = "; ".join(wrong) or f"robust accuracy {share:.1%} on {n:,} images"
    yield Check("rates and intervals", not wrong, detail)


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
    detail = f"{code}" + ("" if code == told else f", findings.json says {told}")
    if differ:
        detail += f"; differs from the report's: {', '.join(differ)}"
    return Check("digest of findings", code == told and not differ, detail)


class Evaluation:
    """The model on the stored images."""

    def __init__(self, run: Folder, model: Classifier, data: Dataset):
        self.run, self.data = run, data
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module = model.module.to(self.device).eval()
        first = data.test.images(torch.arange(min(len(data.test), 8)))
        self.randomised = not torch.equal(self._logits(first), self._logits(first))

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Tensor:
        return self.module(images.to(self.device)).float().cpu()

    def checks(self) -> Iterator[Check]:
        images, records = self.run.images, self.run.records
        if not len(records):
            return
        kept = records.join(images, on=ONE, how="left") if len(images) else records
        if not len(images):
            kept = kept.with_columns(pl.lit(None, pl.Binary).alias(EXAMPLE), change=pl.lit("null"))
        changes = self._changes()
        clean, faults = [0, 0], {"outside": 0, "correct": 0, "size": 0, "broken": 0}
        checked = skipped = 0
        for (transform,), part in kept.group_by("transform", maintain_order=True):
            if transform not in changes:
                skipped += len(part)
                continue
            change = changes[str(transform)]
            wrong, n = self._clean(part, change)
            clean[0], clean[1] = clean[0] + wrong, clean[1] + n
            fooled = part.filter(pl.col("success") & pl.col(EXAMPLE).is_not_null())
            for rows in fooled.iter_slices(BATCH):
                checked += len(rows)
                for name, count in self._faults(rows, change).items():
                    faults[name] += count
        later = f"; {skipped:,} records after unknown transforms are not checked" if skipped else ""
        yield Check(
            "clean predictions",
            None if self.randomised else not clean[0],
            f"{clean[1] - clean[0]:,} of {clean[1]:,} agree{later}",
        )
        fooling = checked - faults["correct"] - faults["broken"]
        agrees = not (faults["correct"] or faults["outside"] or faults["broken"])
        told = f"{fooling:,} of {checked:,} stored images are misclassified"
        if faults["outside"]:
            told += f"; {faults['outside']:,} leave [0, 1]"
        if self.randomised:
            told += "; the model is randomised, so that they cannot all be repeated"
        yield Check("successes", None if self.randomised and agrees is False else agrees, told)
        sized = checked - faults["size"] - faults["broken"]
        yield Check(
            "sizes in all norms", sized == checked, f"{sized:,} of {checked:,} agree with records"
        )

    def _changes(self) -> dict[str, Callable[[Tensor], Tensor] | None]:
        """Return the transforms that can be made again, by their names in records."""
        made: dict[str, Callable[[Tensor], Tensor] | None] = {"none": None}
        if len(self.run.images):
            for name, text in self.run.images.select("transform", "change").unique().iter_rows():
                if name != "none" and (change := _made(json.loads(text))) is not None:
                    made[name] = change
        return made

    def _attacked(self, index: pl.Series, change: Callable[[Tensor], Tensor] | None) -> Tensor:
        images = self.data.test.images(torch.tensor(index.to_list()))
        return change(images) if change else images

    def _clean(self, part: pl.DataFrame, change: Callable | None) -> tuple[int, int]:
        """Return how many images the records call right or wrong and are not, and their number."""
        rows = part.unique(["index", "label", "prediction"]).sort("index")
        wrong = 0
        for each in rows.iter_slices(BATCH):
            logits = self._logits(self._attacked(each["index"], change))
            labels = torch.tensor(each["label"].to_list())
            true = self.data.test.labels[torch.tensor(each["index"].to_list())]
            told = torch.tensor((each["prediction"] == each["label"]).to_list())
            lead = _lead(logits, labels)
            tied = lead.abs() <= TIE * logits.abs().amax(1)
            wrong += int(((labels != true) | ((told != (lead > 0)) & ~tied)).sum())
        return wrong, len(rows)

    def _faults(self, rows: pl.DataFrame, change: Callable | None) -> dict[str, int]:
        """Return how many stored images are no successes, by why."""
        before = self._attacked(rows["index"], change)
        try:
            flat = decode(rows[EXAMPLE].to_list(), before.flatten(1).numpy())
        except ValueError:
            return {"broken": len(rows)}
        after = torch.from_numpy(flat).view_as(before)
        labels = torch.tensor(rows["label"].to_list())
        inside = ((after >= 0) & (after <= 1)).flatten(1).all(1)
        fools = _lead(self._logits(after), labels) < 0
        delta = (after.double() - before.double()).abs()
        pixels = delta.amax(1).flatten(1)
        sizes = {
            "l1": delta.flatten(1).sum(1),
            "l2": delta.flatten(1).norm(dim=1),
            "linf": delta.flatten(1).amax(1),
        }
        told = {norm: torch.tensor(rows[norm].to_list()).double() for norm in NORMS}
        same = torch.ones(len(rows), dtype=torch.bool)
        for norm, size in sizes.items():
            same &= (size - told[norm]).abs() <= SIZE * size + 10 * SLACK
        # a change that rounding makes or removes does not count
        same &= (pixels > 2 * SLACK).sum(1) <= told["l0"]
        same &= told["l0"] <= (pixels > SLACK / 2).sum(1)
        return {
            "outside": int((~inside).sum()),
            "correct": int((~fools).sum()),
            "size": int((~same).sum()),
        }


def _lead(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logit of the label less the largest of the others."""
    own = logits.gather(1, labels[:, None])[:, 0]
    return own - logits.scatter(1, labels[:, None], -math.inf).amax(1)


def _made(config: Any) -> Any:
    """Make a transform from the configuration of a work unit; None for one of another package."""
    if not isinstance(config, dict):
        return None
    module, _, kind = config["type"].rpartition(".")
    if not module.startswith("scotoma.transforms."):
        return None
    settings = {
        key: _made(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key != "type"
    }
    return getattr(importlib.import_module(module), kind)(**settings)
