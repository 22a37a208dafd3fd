"""The audited model on the stored images, in plain PyTorch."""

from __future__ import annotations

import importlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import torch
from torch import Tensor

from scotoma.data.dataset import Dataset
from scotoma.models.classifier import Classifier
from scotoma.results.examples import EXAMPLE, unpack
from scotoma.results.verify.folder import NORMS, ONE, SLACK, Check, Folder
from scotoma.utils.logits import magnitude
from scotoma.utils.random import own_numbers

SIZE = 1e-4
"""Relative difference of two computations of a size."""
TIE = 1e-4
"""Difference of two logits, relative to the largest, that another kernel can undo."""
BATCH = 100
CLASSIFIED = re.compile(r"\bclassified as (\d+)\b")
"""What the caption of an adversarial image in the report says of it."""
DRAWS = 64
"""Predictions of a randomised model on an image, as in an audit."""
UNSURE = 0.22
"""Distance from one half up to which the share of `DRAWS` predictions decides nothing: if both are
equally likely, one image in 10,000 lies farther off."""


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

    def _lead(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lead of the labels, and how much of it rounding or chance may change.

        The lead is the logit of the label less the largest other logit, or for a randomised model
        the share of correct predictions less one half.
        """
        if not self.randomised:
            logits = self._logits(images)
            own = logits.gather(1, labels[:, None])[:, 0]
            others = logits.scatter(1, labels[:, None], -math.inf).amax(1)
            return own - others, TIE * magnitude(logits)
        with own_numbers(0):
            correct = [self._logits(images).argmax(1) == labels for _ in range(DRAWS)]
        share = torch.stack(correct).float().mean(0)
        return share - 0.5, torch.full_like(share, UNSURE)

    def checks(self) -> Iterator[Check]:
        stored, records = self.run.images, self.run.records
        if not len(records):
            return
        if len(stored):
            joined = records.join(stored, on=ONE, how="left")
        else:
            joined = records.with_columns(pl.lit(None).alias(EXAMPLE), change=pl.lit("null"))
        changes = self._changes()
        wrong = clean = checked = skipped = 0
        faults: Counter[str] = Counter()
        for (transform,), group in joined.group_by("transform", maintain_order=True):
            if transform not in changes:
                skipped += len(group)
                continue
            change = changes[str(transform)]
            images = group.unique(["index", "label", "prediction"]).sort("index")
            clean += len(images)
            wrong += sum(self._clean(rows, change) for rows in images.iter_slices(BATCH))
            fooled = group.filter(pl.col("success") & pl.col(EXAMPLE).is_not_null())
            for rows in fooled.iter_slices(BATCH):
                checked += len(rows)
                faults.update(self._faults(rows, change))
        later = f"; {skipped:,} records after unknown transforms are not checked" if skipped else ""
        yield Check("clean predictions", not wrong, f"{clean - wrong:,} of {clean:,} agree{later}")
        if not self.run.keeps_all and not checked:
            yield from self._shown()
            return
        fooling = checked - faults["correct"] - faults["broken"]
        agrees = not (faults["correct"] or faults["outside"] or faults["broken"])
        detail = f"{fooling:,} of {checked:,} stored images are misclassified"
        if faults["outside"]:
            detail += f"; {faults['outside']:,} leave [0, 1]"
        if self.randomised:
            detail += f", or nearly as often as not: the model was asked {DRAWS} times"
        yield Check("successes", agrees, detail)
        sized = checked - faults["size"] - faults["broken"]
        detail = f"{sized:,} of {checked:,} agree with records"
        yield Check("sizes in all norms", sized == checked, detail)

    def _shown(self) -> Iterator[Check]:
        """Check the pictures of the report where the audit kept no other adversarial images."""
        reason = f"not checked: the audit kept no adversarial images (--keep {self.run.keep})"
        if self.run.keep == "shown":
            agree = n = 0
            for images, classes in self._pictures():
                n += len(classes)
                lead, doubt = self._lead(images, classes)
                agree += int((lead >= -doubt).sum())
            yield Check(
                "shown images",
                agree == n,
                f"{agree:,} of {n:,} adversarial images in the report are classified as it says",
            )
            reason = "not checked: only the images shown in the report were kept (--keep shown)"
        yield Check("successes", None, reason)
        yield Check("sizes in all norms", None, reason)

    def _pictures(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the adversarial images of each gallery, and the class that its captions name."""
        for captions, pictures in self.run.galleries():
            captioned = [
                (row, column, int(match[1]))
                for row, texts in enumerate(captions)
                for column, text in enumerate(texts)
                if (match := CLASSIFIED.search(text))
            ]
            if captioned:
                rows, columns, classes = map(list, zip(*captioned, strict=True))
                yield torch.from_numpy(pictures[rows, columns]).float(), torch.tensor(classes)

    def _changes(self) -> dict[str, Callable[[Tensor], Tensor] | None]:
        """Return the transforms that can be made again, by their names in records."""
        transforms: dict[str, Callable[[Tensor], Tensor] | None] = {"none": None}
        if len(self.run.images):
            for name, text in self.run.images.select("transform", "change").unique().iter_rows():
                if name != "none" and (change := _transform(json.loads(text))) is not None:
                    transforms[name] = change
        return transforms

    def _attacked(self, index: pl.Series, change: Callable[[Tensor], Tensor] | None) -> Tensor:
        images = self.data.test.images(torch.tensor(index.to_list()))
        return change(images) if change else images

    def _clean(self, rows: pl.DataFrame, change: Callable | None) -> int:
        """Return the number of images with a wrong label or correctness in the records."""
        labels = torch.tensor(rows["label"].to_list())
        lead, doubt = self._lead(self._attacked(rows["index"], change), labels)
        true = self.data.test.labels[torch.tensor(rows["index"].to_list())]
        recorded = torch.tensor((rows["prediction"] == rows["label"]).to_list())
        return int(((labels != true) | ((recorded != (lead > 0)) & (lead.abs() > doubt))).sum())

    def _faults(self, rows: pl.DataFrame, change: Callable | None) -> dict[str, int]:
        """Return the number of stored images that are no successes, by reason."""
        before = self._attacked(rows["index"], change)
        try:
            stored = unpack(rows, before.flatten(1).numpy())[EXAMPLE].to_numpy(writable=True)
        except ValueError:
            return {"broken": len(rows)}
        after = torch.from_numpy(stored).view_as(before)
        labels = torch.tensor(rows["label"].to_list())
        inside = ((after >= 0) & (after <= 1)).flatten(1).all(1)
        lead, doubt = self._lead(after, labels)
        fools = lead <= doubt if self.randomised else lead < 0
        delta = (after.double() - before.double()).abs()
        pixels, flat = delta.amax(1).flatten(1), delta.flatten(1)
        sizes = {"l1": flat.sum(1), "l2": flat.norm(dim=1), "linf": flat.amax(1)}
        recorded = {norm: torch.tensor(rows[norm].to_list()).double() for norm in NORMS}
        sizes_agree = torch.ones(len(rows), dtype=torch.bool)
        for norm, size in sizes.items():
            sizes_agree &= (size - recorded[norm]).abs() <= SIZE * size + 10 * SLACK
        # a change that rounding makes or removes does not count
        sizes_agree &= (pixels > 2 * SLACK).sum(1) <= recorded["l0"]
        sizes_agree &= recorded["l0"] <= (pixels > SLACK / 2).sum(1).clamp_min(1)  # one at least
        return {
            "outside": int((~inside).sum()),
            "correct": int((~fools).sum()),
            "size": int((~sizes_agree).sum()),
        }


def _transform(config: Any) -> Any:
    """Make a transform from the configuration of a work unit; None for one of another package."""
    if not isinstance(config, dict):
        return None
    module, _, kind = config["type"].rpartition(".")
    if not module.startswith("scotoma.transforms."):
        return None
    settings = {
        key: _transform(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key != "type"
    }
    return getattr(importlib.import_module(module), kind)(**settings)
