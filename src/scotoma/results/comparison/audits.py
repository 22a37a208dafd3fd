"""The audits of a comparison: read from their run folders, and paired by image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from scotoma.execution.records import is_correct
from scotoma.execution.run import Run
from scotoma.results.finding import Finding
from scotoma.results.ledger import SCHEMA, UNCHANGED, Ledger, read_table
from scotoma.results.report import LEDGER, RECORDS, Report, read_report
from scotoma.results.verdicts import blind
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.files import read_json


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Args:
        name: what the comparison calls it: the model, with the folder where names are equal.
        identity: claim.json of its folder.
        ledger: the ledger of the images that are compared, in the same order in all audits.
        attacks: transform to the names of the attacks on it; see `attack_name`.
        audited: number of images in the audit itself.
    """

    name: str
    report: Report
    identity: dict[str, Any]
    ledger: Ledger
    attacks: dict[str, frozenset[str]]
    audited: int

    @cached_property
    def rows(self) -> pl.DataFrame:
        """Rows of the ledger for the test set itself."""
        return self.ledger.rows()

    @property
    def threat(self) -> Threat:
        return Threat.parse(self.identity["threat"])

    def finding(self, probe: str) -> Finding | None:
        """Return the finding of a probe, if it ran."""
        return next((each for each in self.report.findings if each.probe == probe), None)

    @property
    def bounds(self) -> dict[str, float]:
        """Norms that the probe `norms` measured, with the size of its robust accuracy."""
        finding = self.finding("norms")
        return finding.numbers.get("bounds", {}) if finding else {}

    @property
    def hidden(self) -> bool:
        """Whether the gradient is masked and no attack got around it: attacks then say little."""
        return blind(self.report.findings)

    @property
    def model_sha256(self) -> str:
        """Hash of the model; "" in folders that do not say."""
        return self.identity.get("model_sha256", "")

    def tried_less(self, other: Audit, transform: str = UNCHANGED) -> bool:
        """Return whether this audit may look more robust than another because it tried less.

        It needs `strong`, or every attack of the other except transferred examples, which differ
        with the sources.
        """
        own, theirs = (
            {name for name in audit.attacks.get(transform, ()) if ") on " not in name}
            for audit in (self, other)
        )
        return "strong" not in own and not theirs <= own

    def correct(self, transform: str = UNCHANGED) -> np.ndarray:
        """Return which images are classified correctly before an attack, bool (n,)."""
        return is_correct(self.ledger.rows(transform))

    def sizes(self, norm: str, transform: str = UNCHANGED) -> np.ndarray:
        """Return the smallest perturbations, (n,): 0 for clean errors, infinite for failures."""
        return self.ledger.rows(transform)[norm].to_numpy().astype(float)


@dataclass(frozen=True)
class Audits:
    """Audits that can be compared: same data, same threat, and the images that all audited."""

    each: tuple[Audit, ...]
    threat: Threat
    indices: np.ndarray

    def __iter__(self):
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)

    @property
    def names(self) -> list[str]:
        return [audit.name for audit in self.each]

    @property
    def data(self) -> str:
        return self.each[0].identity["data"]

    @property
    def n(self) -> int:
        return len(self.indices)

    def transforms(self) -> list[str]:
        """Return the names of the transforms that all audits attacked."""
        attacked = [set(audit.ledger.table["transform"].unique()) - {UNCHANGED} for audit in self]
        return sorted(set.intersection(*attacked))

    def same_models(self) -> list[tuple[Audit, Audit]]:
        """Return the pairs of audits of one model."""
        return [(a, b) for a, b in combinations(self.each, 2) if is_same_model(a, b)]

    def same_attacks(self, transform: str = UNCHANGED) -> bool:
        """Return whether all audits ran the same attacks on the images after a transform."""
        return len({audit.attacks.get(transform) for audit in self}) == 1


def is_same_model(one: Audit, other: Audit) -> bool:
    """Return whether two audits are of one model, by its hash."""
    return one.model_sha256 != "" and one.model_sha256 == other.model_sha256


def read_audits(folders: Sequence[str | Path]) -> Audits:
    """Read at least two finished audits and pair their images.

    Raises:
        InputError: a folder holds no finished audit or is given twice, or the audits have no data,
            threat or images in common; the message says what differs.
    """
    paths = [Path(folder).expanduser() for folder in folders]
    if len(paths) < 2:
        raise InputError("a comparison needs the folders of at least two audits")
    for number, path in enumerate(paths):
        if path.resolve() in [earlier.resolve() for earlier in paths[:number]]:
            raise InputError(f"{path}: is given twice; compare it with another audit")
    return pair([read_audit(path) for path in paths])


def pair(audits: Sequence[Audit]) -> Audits:
    """Pair the images of audits that `read_audit` or `of_run` returned.

    Raises:
        InputError: they have no data, threat or images in common; the message says what differs.
    """
    _check_same(audits, "data", "data_sha256", "the same test images and labels")
    _check_same(audits, "threat", "threat", "the same norm and eps")
    shared = set.intersection(*(set(audit.rows["index"]) for audit in audits))
    if not shared:
        folders = " and ".join(str(audit.report.folder) for audit in audits)
        raise InputError(
            f"{folders}: no image was audited by all; audits of one seed draw the same images"
        )
    order = np.array([index for index in audits[0].rows["index"] if index in shared])
    pairs = zip(_names(audits), audits, strict=True)
    paired = [replace(audit, name=name, ledger=_on(audit.ledger, order)) for name, audit in pairs]
    return Audits(tuple(paired), audits[0].threat, order)


def attack_name(text: str) -> str:
    """Return what identifies an attack in two audits of different models.

    The attack `strong` has another name in records after it adapts to the model.

    >>> attack_name("Adapted(threat=Threat(norm='linf', eps=0.3), until=0.0)")
    'strong'
    """
    return "strong" if re.match(r"(Strong|Adapted)\(", text) else text


def read_audit(folder: Path) -> Audit:
    """Read a finished audit, with all the images that it attacked.

    Raises:
        InputError: the folder holds no finished audit, or one without attacks.
    """
    report, identity = read_report(folder), read_json(folder / "claim.json")
    needed = {"model", "data", "data_sha256", "threat"}
    if not isinstance(identity, dict) or not needed <= identity.keys():
        raise InputError(f"{folder / 'claim.json'}: is not that of an audit of this version")
    ledger, records = read_table(folder / LEDGER), read_table(folder / RECORDS)
    if dict(ledger.schema) != dict(SCHEMA):
        raise InputError(f"{folder / LEDGER}: has other columns than this version writes")
    rows = Ledger(ledger).rows()
    if not len(rows):
        raise InputError(
            f"{folder}: no attack on the test images; run a probe that attacks them, such as "
            "robustness"
        )
    return Audit(identity["model"], report, identity, Ledger(ledger), _attacks(records), len(rows))


def of_run(run: Run) -> Audit:
    """Return the audit of a run that has attacked the test set, but may have no report."""
    folder = run.store.folder
    identity, report = read_json(folder / "claim.json"), Report(folder, {}, [], {})
    attacks, n = _attacks(run.records), len(run.indices)
    return Audit(identity["model"], report, identity, run.ledger, attacks, n)


def _attacks(records: pl.DataFrame) -> dict[str, frozenset[str]]:
    """Return the names of the attacks on each transform."""
    return {
        str(transform): frozenset(map(attack_name, rows["attack"].unique()))
        for (transform,), rows in records.group_by("transform")
    }


def _check_same(audits: Sequence[Audit], what: str, key: str, shared: str) -> None:
    """Raise `InputError` if a value of claim.json is not that of the first audit."""
    first = audits[0]
    for other in audits[1:]:
        if other.identity[key] != first.identity[key]:
            first_name, other_name = first.identity[what], other.identity[what]
            if first_name == other_name:  # equal names of different data
                first_name, other_name = (
                    f"{first_name} {audit.identity[key][:8]}" for audit in (first, other)
                )
            raise InputError(
                f"{first.report.folder} and {other.report.folder} have different {what} "
                f"({first_name}, {other_name}); compare audits of {shared}"
            )


def _names(audits: Sequence[Audit]) -> list[str]:
    """Return a name for each audit, no longer than needed for all to differ."""
    for names in (
        [audit.name for audit in audits],
        [f"{audit.name} ({audit.report.folder.name})" for audit in audits],
    ):
        if len(set(names)) == len(names):
            return names
    return [f"{audit.name} ({audit.report.folder})" for audit in audits]


def _on(ledger: Ledger, indices: np.ndarray) -> Ledger:
    """Return the ledger of these images, without transforms under which one of them is missing."""
    subset = ledger.on(indices)
    complete = pl.len().over("transform") == len(indices)
    return Ledger(subset.table.filter(complete))
