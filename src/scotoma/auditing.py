"""The audit: runs probes on a claim, one after another, and reports their findings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from scotoma.attacks.core.gradient import declared_gradient, estimated_directions
from scotoma.audit_notes import (
    at_chance,
    doubt_of,
    other_seed,
    undefined_near,
    with_scaling_noted,
    without_train,
)
from scotoma.claim import Claim, Stated
from scotoma.data.dataset import Dataset
from scotoma.data.duplicates import with_duplicates_noted
from scotoma.data.memory import Images, from_memory
from scotoma.execution.budget import Budget, OutOfTimeError
from scotoma.execution.effort import find_effort
from scotoma.execution.keeping import KEPT, check_kept, drop_images, without_pictures
from scotoma.execution.keeping import note as kept_note
from scotoma.execution.planning import find_plan
from scotoma.execution.ranks import ranks
from scotoma.execution.run import Run
from scotoma.execution.sampling import sample_size
from scotoma.execution.store import write_parquet
from scotoma.models.classifier import Classifier
from scotoma.models.diagnosis import scale_note, stop_at_chance
from scotoma.models.loading import ModelLike, fitted, load_model, load_pair
from scotoma.models.modes import leaving_the_model
from scotoma.probes import PROBES
from scotoma.probes.base import Probe, Settings, load_others, model_facts
from scotoma.probes.forecast import WORTH_SAYING, forecast
from scotoma.probes.robustness.probe import Robustness
from scotoma.probes.schedule import measure
from scotoma.report.publishing import publish
from scotoma.results.audited import facts
from scotoma.results.judging import judged_before
from scotoma.results.provenance import machine, merged, repeat
from scotoma.results.report import LEDGER, RECORDS, Report, read_report, save_finding
from scotoma.results.verdicts import withheld
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.inference import ordinary_module, outside_inference_mode
from scotoma.utils.progress import Progress
from scotoma.utils.text import norm_name

AUDITED = ("linf", "l2")
"""Norms of the claims that can be audited."""


@leaving_the_model
@outside_inference_mode()
def audit(
    model: ModelLike,
    data: str | Dataset | Images,
    threat: str | Threat,
    *,
    train: Images | str | Dataset | None = None,
    out: str | Path | None = None,
    probes: str | Probe | Sequence[str | Probe] | None = None,
    attack: str | Settings = "strong",
    limit: int | None = None,
    precision: float | None = None,
    seed: int = 0,
    budget: str | float | None = None,
    thorough: bool = False,
    keep: str = KEPT[0],
    stated: Stated | None = None,
    force: bool = False,
    progress: Progress | None = None,
    command: str | None = None,
) -> Report:
    """Audit the claim that a model classifies images correctly under every small perturbation.

    The same call continues an audit that was interrupted, if `out` names its folder.

    Args:
        model: any module or other callable from images (n, c, h, w) in [0, 1] to logits
            (n, classes), or what `load_model` reads. A module is put into eval mode and its
            parameters are frozen; a callable without gradients is a black box.
        data: test images and labels: two tensors `(images, labels)`, images (n, c, h, w) as floats
            in [0, 1] or as uint8, labels (n,) as integers from 0; a `torch.utils.data.Dataset` of
            such pairs or a `DataLoader`; a name or path that `load_data` reads.
        threat: the perturbations, as "linf:0.3", "linf:8/255" or "l2:0.5"; other norms cannot be
            audited.
        train: training images and labels, of the same kinds as tensors, data set or loader in
            `data`; data that is loaded by name brings its own, or takes another name here. Without
            them the probes that compare test and training images do not apply.
        out: the run folder; None makes a temporary one. Finished work in it is reused.
        probes: names of `scotoma.probes.PROBES`, or probes with options:
            `["norms", Distance(layer="fc2")]`; None runs all of `PROBES`.
        attack: a name of `scotoma.attacks.ATTACKS`, or `Settings("transfer", sources)` for the
            attack that needs other models.
        limit: number of test images to audit, drawn at random; None means all, or 200 if a
            precision is asked for.
        precision: half of the width of the interval of the robust accuracy on the whole test set,
            between 0 and 0.5: the robustness probe attacks images beside the `limit` until it is
            reached; None attacks no others.
        seed: seed for all random numbers, from 0.
        budget: time after which the audit stops and reports what was measured: "20m", "90s", "2h"
            or a number of seconds; None means no limit.
        thorough: whether a slow model gets all passes. Otherwise queries, restarts and searches are
            scaled to the time of one pass, which the report says; quick models get all.
        keep: what stays of adversarial images once the report is written: "examples", all of them;
            "shown", those in its pictures; "none". Without them `verify` cannot evaluate successes.
        stated: accuracies that are claimed, `Stated(robust=0.91)`: the robustness probe then says
            whether they hold; None claims no number.
        force: go on with a model that classifies no more images correctly than chance, which is an
            error otherwise.
        progress: where to show progress; None shows nothing.
        command: the command that the report prints for repeating the audit; None prints this call.

    Raises:
        InputError: an argument cannot be used; the message names it. Nothing has been written.

    >>> import torch
    >>> from torch import nn
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
        "precision": precision,
        "attack": attack,
        "seed": seed,
        "budget": budget,
        "thorough": thorough or None,
        "keep": None if keep == KEPT[0] else keep,
        "stated": stated,
        "force": force or None,
    }
    if stated is not None and not isinstance(stated, Stated):
        raise InputError(f"stated={stated!r}: want scotoma.Stated(robust=0.9)")
    claim = replace(make_claim(model, data, threat, train), stated=stated or Stated())
    if not force:
        stop_at_chance(claim.model, claim.data)
    named = dict(_named([*PROBES] if probes is None else probes))
    if precision is not None:
        named = _precise(named, precision)
    prepared = {key: probe.prepare(claim) for key, probe in named.items()}
    settings = _settings(attack, claim)
    missing = without_train(prepared, claim)
    if out is None and ranks().world > 1:
        raise InputError("give an out=FOLDER that all processes share")
    folder = Path(tempfile.mkdtemp(prefix="scotoma-")) if out is None else Path(out).expanduser()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"out={out}: is a file; want a folder")
    run = Run(
        claim,
        folder,
        limit=sample_size(limit, getattr(named.get("robustness"), "precision", None)),
        seed=seed,
        progress=progress,
        budget=time_left,
        keep=check_kept(keep),
    )
    missing += other_seed(folder, seed)
    for note in missing:
        run.progress.keep(note)
    with run.store.locked():
        effort = find_effort(run, thorough)
        if (expected := forecast(run, prepared, effort)).total > WORTH_SAYING:
            run.progress.keep(str(expected))
        settings = replace(settings, share=effort.share)
        fitting = {name: probe.within(effort) for name, probe in prepared.items()}
        prepared = {name: probe for name, (probe, _) in fitting.items()}
        if settings.attack == "strong":
            with suppress(OutOfTimeError):
                settings = replace(settings, plan=find_plan(run))
        outcome = measure(prepared, run, settings)
        if not ranks().leads:
            ranks().wait(f"published {folder}")
            report = read_report(folder)
            ranks().leave()
            return report
        ledger = run.ledger
        scaled = {name: said for name, (_, said) in fitting.items()}
        undefined, undefined_notes = undefined_near(run, ledger)
        doubt = undefined or doubt_of(settings, claim, "masking" in prepared)
        drawn = with_scaling_noted(outcome.findings(ledger), effort, scaled, claim, settings)
        findings = withheld(drawn, "strong" if undefined else settings.attack, doubt)
        if keep == "none":
            findings = without_pictures(findings)
        for finding in findings:
            save_finding(folder, finding)
        findings += judged_before(folder, findings)
        write_parquet(folder / RECORDS, run.records)
        write_parquet(folder / LEDGER, ledger.table)
        summary = {
            "model": claim.model.name,
            "data": claim.data.name,
            "threat": {"norm": claim.threat.norm, "eps": claim.threat.eps},
            "n": len(run.indices),
            **({"stated": said} if (said := claim.stated.numbers(claim.threat)) else {}),
        }
        provenance = {
            **({"errors": errors} if (errors := [*outcome.errors, *ledger.errors()]) else {}),
            **({"stopped": True} if outcome.stopped else {}),
            **({"doubt": doubt} if doubt else {}),
            "command": command or repeat(model, data, claim.threat, **options),
            "notes": [
                *claim.model.notes,
                *claim.data.notes,
                *missing,
                *at_chance(run.records),
                *undefined_notes,
                *([kept_note(keep)] if keep != KEPT[0] else []),
                *([] if outcome.whole else [outcome.shortfall()]),
            ],
            "seed": seed,
            **({"budget": time_left.seconds} if time_left.seconds else {}),
            "attack": settings.attack,
            "gradient": settings.followed,
            **({} if settings.plan.clean else {"plan": str(settings.plan)}),
            **({} if effort.whole else {"effort": asdict(effort)}),
            **({"keep": keep} if keep != KEPT[0] else {}),
            "model": model_facts(claim.model),
            **merged(probe.provenance() for probe in prepared.values()),
            "data": facts(claim.data),
            "passes": run.passes,
            **({"processes": ranks().world} if ranks().world > 1 else {}),
            **machine(run.device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 1),
        }
        report = publish(folder, summary, findings, provenance)
        if keep != KEPT[0] and outcome.whole:  # what is not finished continues from its images
            drop_images(run.store.units)
        ranks().done(f"published {folder}")
        ranks().leave()
        return report


def _named(probes: str | Probe | Sequence[str | Probe]) -> Iterator[tuple[str, Probe]]:
    """Yield name and probe. Raises `InputError` for one probe with two settings."""
    asked: dict[str, str | Probe] = {}
    if not isinstance(probes, str | Probe) and not len(probes):
        raise InputError("probes is empty; name probes, or leave it out for all of them")
    for probe in [probes] if isinstance(probes, str | Probe) else probes:
        if not isinstance(probe, str | Probe):
            raise InputError(
                f"probes: {probe!r} is neither a name such as 'norms' nor a probe such as Norms()"
            )
        key = probe if isinstance(probe, str) else type(probe).__name__.lower()
        if asked.setdefault(key, probe) != probe:
            raise InputError(f"probes: {key} is given twice; a report has one finding of a probe")
        yield key, PROBES[probe]() if isinstance(probe, str) else probe


def _precise(probes: Mapping[str, Probe], precision: float) -> dict[str, Probe]:
    """Return the probes with the precision of the robustness probe.

    Raises:
        InputError: it does not run, has another precision, or cannot have this one.
    """
    probe = probes.get("robustness")
    if not isinstance(probe, Robustness):
        raise InputError(
            f"precision={precision} is an option of robustness, which does not run; probes are "
            f"{', '.join(probes)}"
        )
    if probe.precision not in (None, precision):
        raise InputError(
            f"precision={precision}: the robustness probe has {probe.precision}; give one of them"
        )
    return {**probes, "robustness": replace(probe, precision=precision)}


def _settings(attack: str | Settings, claim: Claim) -> Settings:
    """Return the settings of the audit; unknown names are errors before the work begins."""
    if isinstance(attack, str):
        attack = Settings(attack)
    if not isinstance(attack, Settings):
        raise InputError(
            f"attack: want a name such as 'strong' or 'pgd' (`scotoma list attacks`), not "
            f"{type(attack).__name__}; an attack itself is called on model, images and labels"
        )
    settings = replace(
        attack,
        sources=load_others(attack.sources, claim.data),
        gradient=declared_gradient(claim.model.module),
        directions=estimated_directions(claim.model.module, claim.data.shape),
    )
    settings.make_attack(claim.threat)
    return settings


def make_claim(
    model: ModelLike,
    data: str | Dataset | Images,
    threat: str | Threat,
    train: Images | str | Dataset | None = None,
) -> Claim:
    """Make the claim, with the model checked on the data (`Classifier.checked`); see `audit`."""
    threat = Threat.parse(threat)
    if isinstance(model, Classifier):
        model = replace(model, module=ordinary_module(model.module))
    elif isinstance(model, nn.Module):
        model = ordinary_module(model)
    if isinstance(data, str | Dataset):
        if not isinstance(train, str | Dataset | None):
            raise InputError(
                "train: data that is loaded by name wants training images by name as well, as "
                "load_data reads them"
            )
        classifier, loaded = load_pair(model, data, train=train)
    elif isinstance(train, str | Dataset):
        raise InputError("train: data from memory wants training images from memory as well")
    else:
        loaded = from_memory(data, train)
        classifier = load_model(model, data=loaded)
    loaded = fitted(loaded, classifier)
    checked = classifier.checked(loaded)
    loaded = with_duplicates_noted(loaded)
    notes = (*checked.notes, *scale_note(checked, loaded))
    return Claim(replace(checked, notes=notes), loaded, threat)
