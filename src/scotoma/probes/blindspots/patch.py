"""Fine-tune a model on its blind spots, and compare the result with the old model."""

from __future__ import annotations

import copy
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from scotoma.claim import Claim
from scotoma.data.dataset import Dataset
from scotoma.execution.ranks import appears, ranks
from scotoma.execution.run import Run, Transform
from scotoma.models.checkpoint import fit_weights, read_weights
from scotoma.models.classifier import Classifier
from scotoma.models.loading import load_model
from scotoma.probes.base import Settings
from scotoma.probes.blindspots import map_report, map_result, patch_report
from scotoma.probes.blindspots.grid import contrast_shifts
from scotoma.probes.blindspots.map import BlindSpotMap
from scotoma.probes.blindspots.patch_report import Comparison, is_blind
from scotoma.probes.blindspots.transformed import Scout, TransformedSet, contrast_shift
from scotoma.probes.generated.probe import Generated
from scotoma.report.publishing import publish
from scotoma.results import comparison
from scotoma.results.comparison.audits import of_run, pair
from scotoma.results.provenance import machine
from scotoma.results.report import Report, read_report, save_finding
from scotoma.threat import Threat
from scotoma.training.loop import Epoch, Schedule, train
from scotoma.training.pool import Pool
from scotoma.training.transformed import Patched
from scotoma.transforms.composition import Composition
from scotoma.utils.errors import InputError
from scotoma.utils.files import read_json
from scotoma.utils.progress import Progress, Silent

NEAR = 30
"""Random neighbours of a composition that a network is trained on beside it."""
POOL = 10_000
"""Images that a generator makes for the training."""


@dataclass(frozen=True)
class ModelSearch:
    """All transforms attacked on one model: the paper's grid and the families of `BlindSpotMap`."""

    scout: Scout
    result: map_result.SearchResult
    grid: tuple[TransformedSet, ...]

    @classmethod
    def of(cls, run: Run, settings: Settings, search: BlindSpotMap) -> ModelSearch:
        """Search the model of a run."""
        scout = Scout(run, settings, search.steps)
        data = run.claim.data
        shifts = [contrast_shift(*each) for each in contrast_shifts(data.name, data.shape)]
        result = search.search(scout)
        return cls(scout, result, tuple(scout.strong(each) for each in shifts if each is not None))

    @property
    def base(self) -> TransformedSet:
        return self.result.base

    def worst(self) -> dict[Transform, str]:
        """Return the worst harmless transform of each family, mapped to the family's name."""
        return {each.transform: each.name for each in self.result.families if each.transform}

    def blind(self) -> tuple[Transform, ...]:
        """Return the transforms to train on: blind spots of contrast, and composed ones."""
        families = (map_result.PLANE, map_result.COMPOSED)
        worst = (each.worst for each in self.result.families if each.name in families)
        sets = [each for each in (*self.grid, *worst) if each and is_blind(each, self.base)]
        spots = [each.transform for each in sets if each.transform]
        composed = [each for each in spots if isinstance(each, Composition)]
        return tuple(dict.fromkeys([*spots, *(near for each in composed for near in around(each))]))


def around(composition: Composition, n: int = NEAR, seed: int = 0) -> list[Composition]:
    """Return random compositions of the same families, each parameter as strong or weaker.

    A network that learns one composition alone keeps its neighbours as blind spots. Signs are
    random, so that the other direction of each parameter is among them.

    >>> from scotoma.transforms import Blur, Gamma
    >>> [len(each.parts) for each in around(Composition((Blur(1.0), Gamma(2.0))), n=2)]
    [2, 2]
    """
    generator = np.random.default_rng(seed)

    def weaker(part: Any) -> Transform:
        return type(part).at(*(float(generator.uniform(-1, 1)) * each for each in part.point))

    return [Composition(tuple(map(weaker, composition.parts))) for _ in range(n)]


def patch(
    model: Classifier,
    data: Dataset,
    run_folder: Path,
    out: Path,
    *,
    schedule: Schedule,
    search: BlindSpotMap | None = None,
    generated: Generated | None = None,
    steps: int = 7,
    half: bool = False,
    progress: Progress | None = None,
    log: Callable[[Epoch], None] = lambda epoch: None,
    command: str = "",
) -> Report:
    """Fine-tune a model on the blind spots of an audit, and compare it with the old model.

    Both models are searched for blind spots in every family of `search`. The new model is trained
    on those of scale-shift and on the composition found, so the other families show whether blind
    spots only moved there. With `generated` it also learns from valid images of a generator, and
    both models are measured on other images of this generator.

    The call writes `patched_file` (the new model), OUT/after (its run) and OUT/report.html:
    the blind spots before and after, and both runs compared image by image. Images, seed and attack
    are those of the audit, whose work is reused. An interrupted call can be repeated and continues.
    Several processes share the searches; the first one trains alone, with the same result.

    Args:
        model: the audited model.
        data: the audited data, with a training split.
        run_folder: the folder of the audit.
        out: the folder to write.
        schedule: the schedule of the fine-tuning.
        search: families and resolution of the search; None is `BlindSpotMap()`.
        generated: the probe whose generator makes further images to learn from; None: none.
        steps: PGD steps for each batch.
        half: store float16 weights.
        progress: progress bars; None shows none.
        log: called after each epoch, by the first process.
        command: the command to print in the report.

    Returns:
        The report of the comparison.

    Raises:
        InputError: the folder holds no audit of this model on this data, the model has no blind
            spot to train on and no generator is given, or the generator makes too few valid images.
    """
    started, clock, group = datetime.now(UTC), time.monotonic(), ranks()
    progress, search = progress or Silent(), search or BlindSpotMap()
    audit = read_json(run_folder / "findings.json")
    try:
        threat, n = Threat(**audit["claim"]["threat"]), audit["claim"]["n"]
        seed, settings = audit["provenance"]["seed"], Settings(audit["provenance"]["attack"])
    except (KeyError, TypeError):
        raise InputError(
            f"run_folder={str(run_folder)!r}: findings.json there is not the findings of an audit"
        ) from None

    def begin(classifier: Classifier, folder: Path) -> Run:
        claim = Claim(classifier.checked(data), data, threat)
        run = Run(claim, folder, limit=n, seed=seed, progress=progress)
        locks.enter_context(run.store.locked())
        return run

    with ExitStack() as locks:
        run = begin(model, run_folder)
        pool = None
        if generated is not None:
            generated = generated.prepare(run.claim)
            pool = _pool(generated, run)
        before = ModelSearch.of(run, settings, search)
        blind = before.blind()
        if not blind and pool is None:
            raise InputError(
                f"{run_folder}: the audit search finds no blind spot of scale-shift, nor a "
                f"composed one, in {model.name}, so there is nothing to train on"
            )
        path = patched_file(out, model)
        if group.leads and not path.exists():
            recipe = Patched(threat, blind, pool, steps=steps)
            batches = -(-len(data.train or ()) // schedule.batch) * schedule.epochs
            with progress.bar("fine-tuning", batches) as advance:
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
        appears(path.exists)
        new = begin(_load(path, model), out / "after")
        after = ModelSearch.of(new, settings, search)
        rows, attack = list(_compared(before, after, blind)), settings.attack
        reports = [
            generated.measure(each.claim, each, settings) for each in (run, new) if generated
        ]
    if group.leads:
        ledgers = run.ledger, new.ledger
        on_generated = [
            conclude(ledger) for conclude, ledger in zip(reports, ledgers, strict=False)
        ]
        findings = [
            patch_report.describe(
                [each.with_ledger(*ledgers) for each in rows],
                blind,
                attack,
                pool,
                on_generated,
            ),
            *on_generated[1:],
            *comparison.findings(pair([of_run(run), of_run(new)]), data),
            map_report.describe(
                after.result, search.question, new, attack, search.steps, new.ledger
            ),
        ]
        for each in findings:
            save_finding(out, each)
        summary = {
            "model": new.claim.model.name,
            "data": data.name,
            "threat": {"norm": threat.norm, "eps": threat.eps},
            "n": n,
        }
        provenance = {
            "command": command,
            "notes": list(new.claim.model.notes),
            "seed": seed,
            "attack": attack,
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


def _pool(generated: Generated, run: Run) -> Pool:
    """Return valid images to learn from, others than those that are measured."""
    with run.progress.bar("generating images to learn from", 1) as advance:
        sample = generated.valid_images(run.claim, run, POOL, run.seed + 1)
        advance(1)
    if sample is None:
        raise InputError(
            f"generator=None: there is no generator of {run.claim.data.name}, or no training "
            "images for the networks that judge its images; give a file or file.py:function"
        )
    images, labels, name = sample
    if 2 * len(labels) < POOL:
        raise InputError(
            f"generator={name}: only {len(labels):,} of {POOL:,} images are valid "
            "(docs/generated.md); want at least half"
        )
    return Pool(images, labels, f"images of {name}")


def patched_file(out: Path, model: Classifier) -> Path:
    """Return the file that `patch` writes the new model to.

    >>> from torch import nn
    >>> patched_file(Path("out"), Classifier.of(nn.Identity(), "net.py:build")).as_posix()
    'out/net.py-build-patched.safetensors'
    """
    stem = re.sub(r"[^\w.+-]+", "-", model.name)
    return out / f"{stem}-patched.safetensors"


def _load(path: Path, model: Classifier) -> Classifier:
    """Load the new model; its architecture is copied from the old one if that is user code."""
    name = f"{model.name}-patched"
    if model.card.get("arch"):
        return replace(load_model(str(path)), name=name)
    module = copy.deepcopy(model.module)
    fit_weights(module, read_weights(path), path)
    return Classifier.of(module, name)


def _compared(
    before: ModelSearch, after: ModelSearch, blind: tuple[Transform, ...]
) -> Iterable[Comparison]:
    """Yield the test set itself, the grid, and the worst of each family on either model."""
    yield Comparison("none", False, before.base, after.base)
    grid = {each.transform: map_result.PLANE for each in before.grid}
    for transform, family in (grid | before.worst() | after.worst()).items():
        sides = before.scout.strong(transform), after.scout.strong(transform)
        yield Comparison(family, transform in blind, *sides)
