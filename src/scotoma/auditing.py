"""The audit: runs probes on a claim, one after another, and reports their findings."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import nn

from scotoma._version import __version__
from scotoma.attacks.core.gradient import declared_gradient
from scotoma.claim import Claim, Threat
from scotoma.data import load_data
from scotoma.data.dataset import Dataset
from scotoma.data.memory import Images, from_memory, source_name
from scotoma.execution.budget import Budget
from scotoma.execution.ranks import ranks
from scotoma.execution.run import Run
from scotoma.execution.schedule import measure
from scotoma.execution.store import read_json, write_json, write_parquet, write_whole
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.probes import PROBES
from scotoma.probes.base import Probe, Settings, load_others, model_facts
from scotoma.results.finding import (
    Bars,
    Boxes,
    Curve,
    Finding,
    Gallery,
    Heatmap,
    RateOverHistogram,
    Scatter,
)
from scotoma.results.ledger import Ledger
from scotoma.results.summary import summarise
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress
from scotoma.utils.text import norm_name

SCHEMA = 1
AUDITED = ("linf", "l2")
"""Norms of the claims that can be audited."""
RECORDS, LEDGER = "records.parquet", "ledger.parquet"
FIGURES = {
    kind.__name__: kind
    for kind in (Curve, Bars, RateOverHistogram, Scatter, Boxes, Heatmap, Gallery)
}


@dataclass(frozen=True)
class Report:
    """The findings of an audit; `report["norms"]` is the `Finding` of the norms probe.

    Args:
        folder: the run folder, with report.html, findings.json and the records.
        claim: `{"model": str, "data": str, "threat": {"norm": str, "eps": float}, "n": int}`.
        findings: one finding a probe, in the order of the report.
        provenance: seed, versions, hashes and settings of the audit.

    >>> finding = Finding("norms", "Does it?", "holds", "a rule", "It does.", {"n": 3})
    >>> report = Report(Path("runs/mine"), {}, [finding], {})
    >>> report["norms"].headline, report["norms"].numbers
    ('It does.', {'n': 3})
    """

    folder: Path
    claim: dict[str, Any]
    findings: list[Finding]
    provenance: dict[str, Any]

    def __getitem__(self, probe: str) -> Finding:
        for finding in self.findings:
            if finding.probe == probe:
                return finding
        names = ", ".join(finding.probe for finding in self.findings)
        raise KeyError(f"no finding of probe {probe!r}; there are: {names}")

    @property
    def summary(self) -> str:
        """One sentence on all findings: what holds, what breaks, and the worst number."""
        return summarise(self.findings)

    @property
    def errors(self) -> list[str]:
        """What makes the evidence contradict itself, a sentence each; see `Ledger.errors`."""
        return self.provenance.get("errors", [])

    @property
    def html(self) -> Path:
        """Path of the report for people."""
        return self.folder / "report.html"

    @property
    def records(self) -> pl.DataFrame:
        """All records of the run, see `Run.records`."""
        return pl.read_parquet(self.folder / RECORDS)

    @property
    def ledger(self) -> Ledger:
        """The records joined by image: the smallest perturbation that any attack gave."""
        return Ledger(pl.read_parquet(self.folder / LEDGER))

    def show(self) -> None:
        """Print the summary, the verdicts and the path of the report."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        colours = {"holds": "green", "weak": "yellow", "broken": "red", "not applicable": "dim"}
        table = Table(
            title=describe_claim(self.claim),
            title_justify="left",
            title_style="bold",
            show_lines=True,
        )
        for heading in ("probe", "verdict", "result"):
            table.add_column(heading)
        for finding in self.findings:
            verdict = f"[{colours[finding.verdict]}]{finding.verdict}[/]"
            table.add_row(finding.probe, verdict, finding.headline)
        console = Console()
        for error in self.errors:
            console.print(f"[bold red]error[/] {escape(error)}", soft_wrap=True)
        console.print(self.summary, soft_wrap=True)
        console.print(table)
        for note in self.provenance["notes"]:
            console.print(f"[yellow]note[/] {note}", soft_wrap=True)
        console.print(f"report: {self.html}", soft_wrap=True)


def audit(
    model: nn.Module | Classifier | str,
    data: str | Dataset | Images,
    threat: str | Threat,
    *,
    train: Images | None = None,
    out: str | Path | None = None,
    probes: Sequence[str | Probe] | None = None,
    attack: str | Settings = "strong",
    limit: int | None = None,
    seed: int = 0,
    budget: str | float | None = None,
    progress: Progress | None = None,
    command: str | None = None,
) -> Report:
    """Audit the claim that a model classifies images correctly under every small perturbation.

    The same call continues an audit that was interrupted, if `out` names its folder.

    Args:
        model: any module from images (n, c, h, w) in [0, 1] to logits (n, classes), or what
            `load_model` reads. A module is put into eval mode and its parameters are frozen.
        data: test images and labels: two tensors `(images, labels)`, images (n, c, h, w) as floats
            in [0, 1] or as uint8, labels (n,) as integers from 0; a `torch.utils.data.Dataset` of
            such pairs or a `DataLoader`; a name or path that `load_data` reads.
        threat: the perturbations, as "linf:0.3", "linf:8/255" or "l2:0.5"; other norms cannot be
            audited.
        train: training images and labels, of the same kinds as tensors, data set or loader in
            `data`; data that is loaded by name brings its own. Without them the probes that compare
            test and training images do not apply.
        out: the run folder; None makes a temporary one. Finished work in it is reused.
        probes: names of `scotoma.probes.PROBES`, or probes with options:
            `["norms", Distance(layer="fc2")]`; None runs all of `PROBES`.
        attack: a name of `scotoma.attacks.ATTACKS`, or `Settings("transfer", sources)` for the
            attack that needs other models.
        limit: number of test images to audit, drawn at random; None means all.
        seed: seed for all random numbers, from 0.
        budget: time after which the audit stops and reports what was measured: "20m", "90s", "2h"
            or a number of seconds; None means no limit.
        progress: where to show progress; None shows nothing.
        command: the command that the report prints for repeating the audit; None prints this call.

    Raises:
        InputError: an argument cannot be used; the message names it. Nothing has been written.

    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    >>> images = torch.rand(20, 1, 4, 4)
    >>> labels = model(images).argmax(1)
    >>> report = audit(model, (images, labels), "linf:0.1", probes=["robustness"], attack="fgsm")
    >>> report["robustness"].numbers["clean_accuracy"]
    1.0
    """
    started, clock = datetime.now(UTC), time.monotonic()
    time_left = Budget() if budget is None else Budget.parse(budget)
    threat = Threat.parse(threat)
    if threat.norm not in AUDITED:
        name = "fmn-l1" if threat.norm == "l1" else "sigma-zero"
        raise InputError(
            f"threat={threat}: audits support L-inf and L2; attack {name} supports "
            f"{norm_name(threat.norm)}"
        )
    options = {
        "train": train,
        "out": out and str(out),
        "probes": probes,
        "limit": limit,
        "attack": attack,
        "seed": seed,
        "budget": budget,
    }
    claim = make_claim(model, data, threat, train)
    prepared = {key: probe.prepare(claim) for key, probe in _named(probes or [*PROBES])}
    settings = _settings(attack, claim)
    if out is None and ranks().world > 1:
        raise InputError("give an out=FOLDER that all processes share")
    folder = Path(tempfile.mkdtemp(prefix="scotoma-")) if out is None else Path(out).expanduser()
    run = Run(claim, folder, limit=limit, seed=seed, progress=progress, budget=time_left)
    with run.store.locked():
        outcome = measure(prepared, claim, run, settings)
        if not ranks().leads:
            return _published_by_the_first(folder)
        ledger = run.ledger
        findings = outcome.findings(ledger)
        for finding in findings:
            save_finding(folder, finding)
        write_parquet(folder / RECORDS, run.records)
        write_parquet(folder / LEDGER, ledger.table)
        summary = {
            "model": claim.model.name,
            "data": claim.data.name,
            "threat": {"norm": claim.threat.norm, "eps": claim.threat.eps},
            "n": len(run.indices),
        }
        provenance = {
            **({"errors": errors} if (errors := ledger.errors()) else {}),
            "command": command or repeat(model, data, claim.threat, **options),
            "notes": [
                *claim.model.notes,
                *_chance(run.records),
                *([] if outcome.whole else [outcome.shortfall(time_left)]),
            ],
            "seed": seed,
            **({"budget": time_left.seconds} if time_left.seconds else {}),
            "attack": settings.attack,
            "gradient": settings.gradient,
            "model": model_facts(claim.model),
            **_merged(probe.provenance() for probe in prepared.values()),
            "data": {
                "sha256": claim.data.sha256,
                "train": 0 if claim.data.train is None else len(claim.data.train),
                "test": len(claim.data.test),
            },
            "passes": run.passes,
            **({"processes": ranks().world} if ranks().world > 1 else {}),
            **machine(run.device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 1),
        }
        report = publish(folder, summary, findings, provenance)
        ranks().done(f"published {folder}")
        ranks().leave()
        return report


def _published_by_the_first(folder: Path) -> Report:
    """Return the report that the leading process has written."""
    ranks().wait(f"published {folder}")
    report = read_report(folder)
    ranks().leave()
    return report


def _named(probes: Sequence[str | Probe]) -> Iterator[tuple[str, Probe]]:
    """Yield name and probe. Raises `InputError` for one probe with two settings."""
    asked: dict[str, str | Probe] = {}
    for probe in probes:
        key = probe if isinstance(probe, str) else type(probe).__name__.lower()
        if asked.setdefault(key, probe) != probe:
            raise InputError(f"probes: {key} is given twice; a report has one finding of a probe")
        yield key, PROBES[probe]() if isinstance(probe, str) else probe


def _chance(records: pl.DataFrame) -> list[str]:
    """Return a note if the model classifies no more images correctly than a constant one would."""
    images = records.filter(transform="none").unique("index") if len(records) else records
    if not len(images):
        return []
    correct = int((images["prediction"] == images["label"]).sum())
    if correct > max(images["label"].value_counts()["count"]):
        return []
    return [
        f"The model classifies {correct} of {len(images)} images correctly, no more than if it "
        "always gave the same label: check its weights, the scale of its images and the order of "
        "its classes."
    ]


def _settings(attack: str | Settings, claim: Claim) -> Settings:
    """Return the settings of the audit; unknown names are errors before the work begins."""
    gradient = declared_gradient(claim.model.module)
    if isinstance(attack, str):
        settings = Settings(attack, gradient=gradient)
    else:
        settings = replace(
            attack, sources=load_others(attack.sources, claim.data), gradient=gradient
        )
    settings.make_attack(claim.threat)
    return settings


def _merged(facts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the facts of all probes; dictionaries under the same name are joined."""
    merged: dict[str, Any] = {}
    for key, value in (item for each in facts for item in each.items()):
        merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
    return merged


def machine(device: torch.device) -> dict[str, Any]:
    """Return the device, the threads and the versions of the installed packages."""
    versions = {"scotoma": __version__, "python": platform.python_version()}
    for package in ("torch", "numpy", "scipy", "polars", "faiss-cpu", "openTSNE"):
        with suppress(PackageNotFoundError):  # only some probes need faiss and openTSNE
            versions[package] = version(package)
    return {"device": str(device), "threads": torch.get_num_threads(), "versions": versions}


def publish(
    folder: Path, claim: dict[str, Any], findings: list[Finding], provenance: dict[str, Any]
) -> Report:
    """Write findings.json and the report of findings that `save_finding` has kept in `folder`.

    Args:
        folder: the run folder.
        claim: `{"model": str, "data": str, "threat": {"norm": str, "eps": float}, "n": int}`, where
            n is the number of audited images.
        findings: in the order of the report.
        provenance: how the findings were made; their digest is added.
    """
    content = {
        "schema": SCHEMA,
        "claim": claim,
        "findings": [public(finding) for finding in findings],
        "provenance": {**provenance, "digest": digest(findings)},
    }
    write_json(folder / "findings.json", content)
    return draw(folder)


def make_claim(
    model: nn.Module | Classifier | str,
    data: str | Dataset | Images,
    threat: str | Threat,
    train: Images | None = None,
) -> Claim:
    """Make the claim, with the model checked on the data (`Classifier.checked`); see `audit`."""
    threat = Threat.parse(threat)
    if not isinstance(data, str | Dataset):
        loaded = from_memory(data, train)
    elif train is None:
        loaded = load_data(data)
    else:
        raise InputError("train: data that is loaded by name brings its own training images")
    return Claim(load_model(model, data=loaded).checked(loaded), loaded, threat)


def draw(folder: Path) -> Report:
    """Draw the report of a finished run again, without the model.

    Raises `InputError` if the folder has no finished run.
    """
    from scotoma.report.html import write_report

    report = read_report(folder)
    write_report(folder, report.claim, report.findings, report.provenance)
    return report


def read_report(folder: Path) -> Report:
    """Read the report of a finished run. Raises `InputError` if the folder has none."""
    content = read_json(folder / "findings.json")
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise InputError(
            f"{folder / 'findings.json'}: schema {schema!r}, this version reads {SCHEMA}"
        )
    findings = [read_finding(folder, entry["probe"]) for entry in content["findings"]]
    for finding, entry in zip(findings, content["findings"], strict=True):
        if public(finding) != entry:
            raise InputError(
                f"{folder}: the {finding.probe} probe was run again, but that audit was stopped; "
                "finish it first"
            )
    return Report(folder, content["claim"], findings, content["provenance"])


def public(finding: Finding) -> dict[str, Any]:
    """Return the part of a finding that other tools read."""
    return {
        key: getattr(finding, key)
        for key in ("probe", "verdict", "rule", "headline", "numbers", "tables")
    }


def digest(findings: list[Finding]) -> str:
    """Return a hash of the findings: two machines that agree print the same one."""
    text = json.dumps([public(finding) for finding in findings], sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def save_finding(folder: Path, finding: Finding) -> None:
    """Write a finding with its figures and images, so that the report can be drawn again."""
    images = {key: np.ascontiguousarray(array) for key, array in finding.images.items()}
    write_whole(folder / "findings" / f"{finding.probe}.safetensors", save(images))
    plain = asdict(replace(finding, images={}, figures=()))
    plain["figures"] = [
        {"kind": type(figure).__name__, **asdict(figure)} for figure in finding.figures
    ]
    write_json(folder / "findings" / f"{finding.probe}.json", plain)


def read_finding(folder: Path, probe: str) -> Finding:
    """Read a finding that `save_finding` wrote."""
    plain = read_json(folder / "findings" / f"{probe}.json")
    figures = tuple(FIGURES[figure.pop("kind")](**figure) for figure in plain.pop("figures"))
    path = folder / "findings" / f"{probe}.safetensors"
    try:
        images = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the audit again") from None
    worst = plain.get("worst") and tuple(plain["worst"])
    drawn = {"figures": figures, "images": images, "notes": tuple(plain["notes"]), "worst": worst}
    return Finding(**plain | drawn)


def repeat(
    model: Any,
    data: str | Dataset | Images,
    threat: Threat,
    train: Images | None = None,
    **options: Any,
) -> str:
    """Return the Python call that repeats an audit, without options that are None or empty."""
    arguments = {"data": _source(data), "threat": repr(str(threat))}
    arguments |= {"train": _source(train)} if train is not None else {}
    chosen = {key: value for key, value in options.items() if value not in (None, (), [])}
    arguments |= {key: _as_code(value) for key, value in chosen.items()}
    settings = "".join(f", {key}={value}" for key, value in arguments.items())
    return f"scotoma.audit({_as_code(model)}{settings})"


def _source(data: str | Dataset | Images) -> str:
    if isinstance(data, str | Dataset):
        return repr(data if isinstance(data, str) else data.name)
    name = source_name(data)
    return "(images, labels)" if name == "tensors" else name


def _as_code(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_code, value))}]"
    if isinstance(value, Probe | Settings) and is_dataclass(value):
        options = [each.name for each in fields(value) if not _is_default(value, each)]
        inside = ", ".join(f"{key}={_as_code(getattr(value, key))}" for key in options)
        return f"{type(value).__name__}({inside})"
    if isinstance(value, str | int | float):
        return repr(value)
    return getattr(value, "name", type(value).__name__)


def _is_default(thing: Any, field: Field) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return getattr(thing, field.name) == default


def describe_claim(claim: dict[str, Any]) -> str:
    """The claim in a line."""
    threat = Threat(**claim["threat"])
    return f"{claim['model']} on {claim['data']} under {threat}, {claim['n']} test images"
