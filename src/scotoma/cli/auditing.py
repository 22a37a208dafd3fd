"""Commands that audit: `audit`, `map`, `certify`, `attack`, `report`, `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scotoma.cli.app import (
    DATA,
    INTERRUPTED,
    MODEL_HELP,
    THREAT,
    AttackOption,
    Bounds,
    BudgetOption,
    Data,
    DataRoot,
    Extractor,
    Force,
    GeneratorOption,
    Keep,
    Layer,
    Limit,
    Model,
    NaturalReference,
    Precision,
    Sampling,
    Seed,
    Sources,
    Thorough,
    ThreatOption,
    app,
    names,
    progress_bars,
    typed_command,
)
from scotoma.cli.groups import Access, Images, grouped
from scotoma.utils.errors import InputError

if TYPE_CHECKING:
    from scotoma.models.classifier import Classifier
    from scotoma.results.report import Report


@app.command(short_help="Run the probes on a claim and write the report.")
@grouped
def audit(
    context: typer.Context,
    model: Annotated[
        str, typer.Argument(metavar="MODEL|CLAIM.toml", help=f"A claim file, or {MODEL_HELP}")
    ],
    data: Annotated[str | None, DATA] = None,
    threat: Annotated[str | None, THREAT] = None,
    out: Annotated[
        Path,
        typer.Option(help="Run folder; the same command continues an interrupted run."),
    ] = Path("runs/audit"),
    probes: Annotated[
        str | None,
        typer.Option(help="Probes, separated by commas; see `scotoma list probes` [default: all]."),
    ] = None,
    attack: AttackOption = "strong",
    layer: Layer = None,
    extractor: Extractor = None,
    sources: Sources = None,
    bounds: Bounds = None,
    reference: NaturalReference = None,
    generator: GeneratorOption = None,
    limit: Limit = None,
    precision: Precision = None,
    sampling: Sampling = None,
    budget: BudgetOption = None,
    thorough: Thorough = False,
    keep: Keep = "examples",
    force: Force = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say about how long each probe would take.")
    ] = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
    *,
    access: Access,
    images: Images,
) -> None:
    """Audit a claim of robustness in L-inf or L2 and write the report."""
    from scotoma.claims.file import read_claim
    from scotoma.claims.request import Request
    from scotoma.claims.running import expected, run
    from scotoma.claims.taken import check_taken
    from scotoma.threat import Threat

    flags = {
        **context.params,  # some versions of typer give paths as text
        **access,
        "out": out,
        "data_root": data_root,
        "threat": Threat.parse(threat) if threat else None,
        "probes": () if probes is None else tuple(names(probes)),
        "sources": tuple(names(sources)) if sources else (),
        "bounds": tuple(names(bounds)) if bounds else (),
    }
    flags = {name: flags[name] for name in flags if name not in ("model", "dry_run")}
    typed_flags = {name: flags[name] for name in flags if is_typed(context, name)}
    labels = {name: f"{name}=" for name in typed_flags}
    if model.endswith(".toml"):
        claim = read_claim(Path(model))
        request = claim.with_flags(model, typed_flags)
        labels = {name: f"{model}: {key} " for name, key in claim.keys.items()} | labels
    else:
        for name in ("data", "threat"):
            if flags[name] is None:
                raise InputError(f"--{name} is missing; a claim file would have it")
        request = Request(model, **flags)  # type: ignore[arg-type]
    check_taken(request, labels)
    if dry_run:
        typer.echo("\n".join(expected(request).lines()))
        return
    print_report(run(request, progress_bars(), typed_command()))


def is_typed(context: typer.Context, name: str) -> bool:
    """Return whether an option was given on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command(name="map", short_help="Search for the harmless change that costs most robustness.")
@grouped
def map_blind_spots(
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[
        Path,
        typer.Option(help="Run folder; the same command continues an interrupted run."),
    ] = Path("runs/map"),
    families: Annotated[
        str | None,
        typer.Option(
            help="Transforms, separated by commas; see `scotoma list transforms` [default: all]."
        ),
    ] = None,
    attack: AttackOption = "strong",
    steps: Annotated[
        int, typer.Option(min=1, help="Gradient steps of the cheap attack in the search.")
    ] = 20,
    limit: Limit = None,
    force: Force = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
    *,
    access: Access,
    images: Images,
) -> None:
    """Search for the harmless transform that costs the most robustness, and write the report."""
    from scotoma.models.loading import load_pair
    from scotoma.probes.blindspots.map import BlindSpotMap
    from scotoma.transforms import TRANSFORMS

    search = BlindSpotMap(tuple(TRANSFORMS if families is None else names(families)), steps=steps)
    show_audit(
        *load_pair(model, data, data_root, **access, **images),
        threat,
        out=out,
        probes=[search],
        attack=attack,
        limit=limit,
        force=force,
        seed=seed,
    )


@app.command(short_help="Compute certified bounds, also after harmless changes.")
@grouped
def certify(
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[
        Path,
        typer.Option(help="Run folder; the same command continues an interrupted run."),
    ] = Path("runs/certify"),
    attack: AttackOption = "strong",
    limit: Limit = None,
    force: Force = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
    *,
    access: Access,
    images: Images,
) -> None:
    """Certify a ReLU network image by image, or a smooth one on average, also after transforms."""
    from scotoma.certificates.wasserstein import is_smooth
    from scotoma.models.loading import load_pair
    from scotoma.probes.certificates.distributional import Distributional
    from scotoma.probes.certificates.probe import Certificate

    classifier, dataset = load_pair(model, data, data_root, **access, **images)
    probe = Distributional() if is_smooth(classifier.module) else Certificate()
    show_audit(
        classifier,
        dataset,
        threat,
        out=out,
        probes=[probe],
        attack=attack,
        limit=limit,
        force=force,
        seed=seed,
    )


@app.command()
@grouped
def attack(
    name: Annotated[str, typer.Argument(help="Name of the attack; see `scotoma list attacks`.")],
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[
        Path | None, typer.Option(help="Run folder [default: runs/ATTACK-MODEL].")
    ] = None,
    sources: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL,MODEL", help="Other models on which attack transfer makes its examples."
        ),
    ] = None,
    gradient: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="exact, estimate (differences of logits) or bpda (rounding as if smooth) "
            "[default: what the model declares; estimate for a black box].",
        ),
    ] = None,
    limit: Limit = None,
    force: Force = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
    *,
    access: Access,
    images: Images,
) -> None:
    """Run one attack and write its records."""
    from scotoma.attacks import make, takes
    from scotoma.attacks.core.gradient import suited
    from scotoma.auditing import make_claim
    from scotoma.execution.ranks import ranks
    from scotoma.execution.run import Run
    from scotoma.execution.store import write_parquet
    from scotoma.models.diagnosis import stop_at_chance
    from scotoma.models.loading import load_pair
    from scotoma.probes.base import load_others
    from scotoma.report.summary import summarise

    if not takes(name, "sources") and sources:
        raise InputError(f"attack {name} takes no sources=MODEL; attack transfer does")
    claim = make_claim(*load_pair(model, data, data_root, **access, **images), threat)
    if not force:
        stop_at_chance(claim.model, claim.data)
    source_models = load_others(load_all(sources, access["trust_pickle"]), claim.data)
    instance = make(name, claim.threat, sources=source_models)
    suitable, gradient_used = suited(instance, claim.model.module, claim.data.shape, gradient)
    label = name if gradient_used == "exact" else f"{name}-{gradient_used}"
    folder = out or Path("runs") / f"{label}-{claim.model.name.replace(':', '-')}"
    run = Run(claim, folder, limit=limit, seed=seed, progress=progress_bars())
    path = folder / f"{label}.parquet"
    with run.store.locked():
        records = run.attack(suitable, what=label)
        if ranks().leads:
            write_parquet(path, run.records)
    ranks().leave()
    if not ranks().leads:
        return
    for line in summarise(records, claim.threat, sources=takes(name, "sources")):
        typer.echo(line)
    for note in claim.model.notes:
        typer.echo(f"note {note}")
    typer.echo(f"records: {path}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished audit.")]) -> None:
    """Draw the report of a run again, without the model."""
    from scotoma.report.publishing import draw

    draw(folder).show()


@app.command(short_help="Audit a small model that comes with the package.")
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    anew: Annotated[
        bool, typer.Option("--train", help="Train the model first, in place of the packaged one.")
    ] = False,
    # these 100 give the success rate of all 500; on 50 the network would look robust
    limit: Annotated[int, typer.Option(help="Number of test images, drawn at random.")] = 100,
    seed: Seed = 0,
) -> None:
    """Audit a small robust model of handwritten digits that comes with the package."""
    from scotoma.demo import demo as run

    run(out, seed, anew, limit)


def load_all(sources: str | None, trust_pickle: bool) -> list[Classifier]:
    """Return the models in "FILE,FILE"."""
    from scotoma.models.loading import load_model

    return (
        [load_model(each, trust_pickle=trust_pickle) for each in names(sources)] if sources else []
    )


def show_audit(*claim: Any, **settings: Any) -> None:
    """Audit with progress bars and the typed command, and print the report."""
    from scotoma.auditing import audit

    print_report(audit(*claim, **settings, progress=progress_bars(), command=typed_command()))


def print_report(report: Report) -> None:
    """Print a report. Exit code 1: its evidence contradicts itself, or a probe failed; 130: the
    user stopped the audit."""
    from scotoma.execution.ranks import ranks

    if ranks().leads:
        report.show()
        if report.provenance.get("stopped"):
            raise typer.Exit(INTERRUPTED)
        if report.errors:
            raise typer.Exit(1)
