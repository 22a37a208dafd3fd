"""Closing blind spots: fine-tuning on those that an audit found, and whether that only moves them."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from scotoma.auditing import Report, machine, publish, read_report, save_finding
from scotoma.claim import Claim, Threat
from scotoma.data.dataset import Dataset
from scotoma.execution.ranks import ranks, seen
from scotoma.execution.run import Run, Transform
from scotoma.execution.store import read_json
from scotoma.models.checkpoint import fit_weights, read_weights
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.probes.base import Settings
from scotoma.probes.blindspots import map_report, patch_report
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.patch_report import Change, is_blind
from scotoma.probes.blindspots.probe import move
from scotoma.probes.blindspots.transformed import Scout, Spot
from scotoma.training.loop import Epoch, Schedule, train
from scotoma.training.patched import Patched
from scotoma.utils.errors import InputError
from scotoma.utils.progress import Progress, Silent


@dataclass(frozen=True)
class Search:
    """What is attacked on one model: the paper's grid, and the families of `BlindSpotMap`."""

    scout: Scout
    found: map_report.Found
    grid: tuple[Spot, ...]

    @classmethod
    def of(cls, run: Run, settings: Settings, search: BlindSpotMap) -> Search:
        scout = Scout(run.claim, run, settings, search.steps)
        moves = [move(*cell) for cell in contrast_shifts(run.claim.data.name)]
        return cls(
            scout,
            search.search(scout),
            tuple(scout.strong(each) for each in moves if each is not None),
        )

    @property
    def base(self) -> Spot:
        return self.found.base

    def worst(self) -> dict[Transform, str]:
        """The worst harmless change of each family, and its family."""
        return {
            family.worst.transform: family.name
            for family in self.found.families
            if family.worst and family.worst.transform
        }

    def blind(self) -> tuple[Transform, ...]:
        """The moves of scale-shift that are blind spots: what to train on."""
        plane = [
            family.worst
            for family in self.found.families
            if family.worst and family.name == map_report.PLANE
        ]
        chosen = (
            spot.transform
            for spot in (*self.grid, *plane)
            if spot.transform and is_blind(spot, self.base)
        )
        return tuple(dict.fromkeys(chosen))


def patch(
    model: Classifier,
    data: Dataset,
    run_folder: Path,
    out: Path,
    *,
    schedule: Schedule,
    search: BlindSpotMap | None = None,
    steps: int = 7,
    half: bool = False,
    progress: Progress | None = None,
    log: Callable[[Epoch], None] = lambda epoch: None,
    command: str = "",
) -> Report:
    """Fine-tune a model on the blind spots of an audit, and compare it with what it was.

    Both models are searched for blind spots in every family of `search`; the new one is trained on those of scale-shift alone, so
    that the other families tell whether the blind spot has only moved. OUT/model.safetensors is the new model, OUT/after its
    run, OUT/report.html the comparison. The audit's images, seed and attack are kept, and what it attacked is not attacked
    again. Stopped, the same call goes on. Several processes share the searches; the first one trains alone, so that all find what
    one would.

    Args:
        model: the audited model.
        data: the audited data, with a training split.
        run_folder: of the audit.
        out: the folder to write.
        schedule: of the fine-tuning.
        search: which families, and how closely; None is `BlindSpotMap()`.
        steps: PGD steps for each batch.
        half: store float16 weights.
        progress: where to show how far it is.
        log: called after each epoch, by the first process.
        command: printed in the report.

    Raises:
        InputError: the folder holds no audit of this model on this data, or the model has no blind spot to train on.
    """
    started, clock, group = datetime.now(UTC), time.monotonic(), ranks()
    progress, search = progress or Silent(), search or BlindSpotMap()
    held = read_json(run_folder / "findings.json")
    try:
        threat, n = Threat(**held["claim"]["threat"]), held["claim"]["n"]
        seed, settings = held["provenance"]["seed"], Settings(held["provenance"]["attack"])
    except (KeyError, TypeError):
        raise InputError(
            f"{run_folder / 'findings.json'}: not the findings of an audit; give the folder of one with --run"
        ) from None

    def begin(classifier: Classifier, folder: Path) -> Run:
        run = Run(
            Claim(classifier.checked(data), data, threat),
            folder,
            limit=n,
            seed=seed,
            progress=progress,
        )
        locks.enter_context(run.store.locked())
        return run

    with ExitStack() as locks:
        run = begin(model, run_folder)
        before = Search.of(run, settings, search)
        spots = before.blind()
        if not spots:
            raise InputError(
                f"{run_folder}: no blind spot of scale-shift was found in {model.name}, so there is nothing to train on"
            )
        path = out / "model.safetensors"
        if group.leads and not path.exists():
            recipe = Patched(threat, spots, steps=steps)
            with progress.bar(
                "fine-tuning", -(-len(data.train or ()) // schedule.batch) * schedule.epochs
            ) as advance:
                train(
                    recipe,
                    data,
                    model.card.get("arch"),
                    threat,
                    path,
                    schedule=schedule,
                    seed=seed,
                    half=half,
                    start=model,
                    step=advance,
                    log=log,
                )
        if group.leads:
            group.done(f"trained {path}")
        group.wait(f"trained {path}")
        seen(path.exists)
        new = begin(_load(path, model), out / "after")
        after = Search.of(new, settings, search)
        changes = list(_changes(before, after, spots))
        described = map_report.describe(
            after.found, search.question, new, settings.attack, search.steps
        )
    if group.leads:
        findings = [patch_report.describe(changes, spots, settings.attack), described]
        for each in findings:
            save_finding(out, each)
        summary = {
            "model": f"{model.name}, patched",
            "data": data.name,
            "threat": {"norm": threat.norm, "eps": threat.eps},
            "n": n,
        }
        provenance = {
            "command": command,
            "notes": list(new.claim.model.notes),
            "seed": seed,
            "attack": settings.attack,
            "model": {"sha256": new.claim.model.sha256, **new.claim.model.card},
            "before": {"model": model.name, "sha256": model.sha256, "run": str(run_folder)},
            "passes": {kind: run.passes[kind] + new.passes[kind] for kind in run.passes},
            **({"processes": group.world} if group.world > 1 else {}),
            **machine(new.device),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 1),
        }
        publish(out, summary, findings, provenance)
        group.done(f"published {out}")
    group.wait(f"published {out}")
    report = read_report(out)
    group.leave()
    return report


def _load(path: Path, model: Classifier) -> Classifier:
    """The new model; one whose architecture is the user's own code is built from the old."""
    if model.card.get("arch"):
        return load_model(str(path))
    module = copy.deepcopy(model.module)
    fit_weights(module, read_weights(path), path)
    return Classifier.of(module, f"{model.name}-patched")


def _changes(before: Search, after: Search, spots: tuple[Transform, ...]) -> Iterable[Change]:
    """The test set itself, the grid, and the worst of each family on either model, all attacked on both."""
    yield Change("none", False, before.base, after.base)
    families = (
        {spot.transform: map_report.PLANE for spot in before.grid} | before.worst() | after.worst()
    )
    for transform, family in families.items():
        yield Change(
            family,
            transform in spots,
            before.scout.strong(transform),
            after.scout.strong(transform),
        )
