"""The command line: parses, calls the API, prints. Heavy libraries are imported inside the commands that use them."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from scotoma.errors import InputError

if TYPE_CHECKING:
    from scotoma.training.loop import Epoch

UsageError: Any = typer.BadParameter.__base__
"""A wrong option or command. It lies in click or, since typer carries its own, in typer, which does not name it."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, which newer versions of typer return in place of the exception."""

app = typer.Typer(
    help="Scotoma audits claims of adversarial robustness: where a claim holds, where it breaks, with evidence image by image.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Model = Annotated[str, typer.Argument(help="FILE.safetensors, file.py:function, package.module:function, TorchScript or .pt2.")]
Data = Annotated[str, typer.Option(help="digits, mnist, fashion-mnist, cifar-10, npz:FILE or folder:PATH.")]
ThreatOption = Annotated[str, typer.Option("--threat", help="Norm and size, for example linf:0.3 or linf:8/255.")]
Weights = Annotated[Path | None, typer.Option(help="Weights for the model that file.py:function builds.")]
Seed = Annotated[int, typer.Option(min=0, help="Of every random number.")]
Limit = Annotated[int | None, typer.Option(help="Audit so many test images, drawn at random.")]
DataRoot = Annotated[Path | None, typer.Option(help="Where data sets lie [default: $SCOTOMA_DATA, then a download].")]
TrustPickle = Annotated[bool, typer.Option("--trust-pickle", help="Open model files that can run code when opened.")]
Layer = Annotated[str | None, typer.Option(help="Where the distance probe reads features [default: before the logits].")]
Extractor = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Another model, in whose features the distance probe measures a second time.")
]
AttackOption = Annotated[str, typer.Option("--attack", help="The attack that probes use; see `scotoma list attacks`.")]


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="natural, pgd ...; see `scotoma list recipes`.")],
    data: Data,
    arch: Annotated[str, typer.Option(help="small-cnn, madry-mnist ...; see `scotoma list models`.")],
    threat: ThreatOption,
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training images [default: 10, more on small data].")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 128,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 1e-3,
    optimizer: Annotated[str, typer.Option(help="adam, or sgd with momentum.")] = "adam",
    decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = 0.0,
    augment: Annotated[str, typer.Option(help="Names with commas between; see `scotoma list augmentations`.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Attack steps a batch [default: the recipe's].")] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights.")] = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Train a model; the same command continues a training that was stopped."""
    from scotoma.claim import Threat
    from scotoma.data import load_data
    from scotoma.progress import Progress
    from scotoma.training.loop import Schedule
    from scotoma.training.loop import train as run

    loaded = load_data(data, data_root)
    images = len(loaded.train or ())
    pace = (batch, rate, decay, optimizer)
    schedule = Schedule(epochs, *pace) if epochs else Schedule.for_images(images, *pace)
    total = -(-images // batch) * schedule.epochs

    with Progress().bar(f"training {arch}", total) as advance:
        run(
            recipe,
            loaded,
            arch,
            Threat.parse(threat),
            out,
            schedule=schedule,
            seed=seed,
            half=half,
            options={} if steps is None else {"steps": steps},
            augment=names(augment) if augment else (),
            step=advance,
            log=log_epoch,
        )
    typer.echo(f"model: {out}")


@app.command()
def audit(
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[Path, typer.Option(help="The run folder; the same command continues a run that was stopped.")] = Path(
        "runs/audit"
    ),
    probes: Annotated[str | None, typer.Option(help="Names with commas between; see `scotoma list probes` [default: all].")] = None,
    attack: AttackOption = "strong",
    layer: Layer = None,
    extractor: Extractor = None,
    limit: Limit = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Audit a claim of robustness and write the report."""
    from scotoma.data import load_data
    from scotoma.models.loading import load_model

    show_audit(
        load_model(model, weights, trust_pickle=trust_pickle),
        load_data(data, data_root),
        threat,
        out=out,
        probes=names(probes) if probes else None,
        attack=attack,
        layer=layer,
        extractor=None if extractor is None else load_model(extractor, trust_pickle=trust_pickle),
        limit=limit,
        seed=seed,
    )


@app.command(name="map")
def map_blind_spots(
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[Path, typer.Option(help="The run folder; the same command continues a run that was stopped.")] = Path(
        "runs/map"
    ),
    families: Annotated[
        str | None, typer.Option(help="Names with commas between; see `scotoma list transforms` [default: all].")
    ] = None,
    attack: AttackOption = "strong",
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps of the cheap attack that searches.")] = 20,
    limit: Limit = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Search for the harmless change of the images that costs the most robustness, and write the report."""
    from scotoma.data import load_data
    from scotoma.models.loading import load_model
    from scotoma.probes.blindspot_map import BlindSpotMap
    from scotoma.transforms import TRANSFORMS

    search = BlindSpotMap(tuple(TRANSFORMS if families is None else names(families)), steps=steps)
    loaded = load_model(model, weights, trust_pickle=trust_pickle)
    show_audit(loaded, load_data(data, data_root), threat, out=out, probes=[search], attack=attack, limit=limit, seed=seed)


@app.command()
def patch(
    model: Model,
    run: Annotated[Path, typer.Option(help="The folder of an audit of this model.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The folder to write; the same command continues what was stopped.")] = Path(
        "runs/patch"
    ),
    families: Annotated[
        str | None, typer.Option(help="Searched before and after; see `scotoma list transforms` [default: all].")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of fine-tuning [default: 3, more on small data].")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a step.")] = 128,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 5e-4,
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights.")] = False,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    data_root: DataRoot = None,
) -> None:
    """Fine-tune a model on the blind spots that an audit found, audit it again, and report whether they only moved."""
    from scotoma.data import load_data
    from scotoma.models.loading import load_model
    from scotoma.patching import patch as close
    from scotoma.probes.blindspot_map import BlindSpotMap
    from scotoma.progress import Progress
    from scotoma.training.loop import Schedule
    from scotoma.transforms import TRANSFORMS

    loaded = load_data(data, data_root)
    report = close(
        load_model(model, weights, trust_pickle=trust_pickle),
        loaded,
        run,
        out,
        schedule=Schedule(epochs or max(3, -(-500 * batch // max(len(loaded.train or ()), 1))), batch, rate),
        search=BlindSpotMap(tuple(TRANSFORMS if families is None else names(families))),
        half=half,
        progress=Progress(),
        log=log_epoch,
        command=typed(),
    )
    report.show()
    typer.echo(f"model: {out / 'model.safetensors'}")


@app.command()
def attack(
    name: Annotated[str, typer.Argument(help="See `scotoma list attacks`.")],
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[Path | None, typer.Option(help="The run folder [default: runs/ATTACK-MODEL].")] = None,
    limit: Limit = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Run one attack and keep its records."""
    from scotoma.attacks import ATTACKS
    from scotoma.auditing import make_claim
    from scotoma.data import load_data
    from scotoma.models.loading import load_model
    from scotoma.progress import Progress
    from scotoma.report.summary import summarise
    from scotoma.run import Run
    from scotoma.store import write_parquet

    make = ATTACKS[name]
    claim = make_claim(load_model(model, weights, trust_pickle=trust_pickle), load_data(data, data_root), threat)
    folder = out or Path("runs") / f"{name}-{claim.model.name.replace(':', '-')}"
    run = Run(claim, folder, limit=limit, seed=seed, progress=Progress())
    path = folder / f"{name}.parquet"
    with run.store.locked():
        records = run.attack(make(claim.threat), what=name)
        write_parquet(path, run.records)
    for line in summarise(records, claim.threat):
        typer.echo(line)
    typer.echo(f"records: {path}")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="The folder of a finished audit.")]) -> None:
    """Draw the report of a run again; no model is needed."""
    from scotoma.auditing import draw

    draw(folder).show()


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="PAPER/ITEM or PAPER, for example zhang2019/table2; see `scotoma list papers`.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The folder; the same command continues there [default: runs/PAPER, runs/PAPER/ITEM]."),
    ] = None,
    attack: Annotated[str | None, typer.Option(help="See `scotoma list attacks` [default: the paper's].")] = None,
    limit: Annotated[int | None, typer.Option(help="Attack so many images [default: as many as the paper].")] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Where reference models are looked for first, and written when they must be trained [default: a cache]."),
    ] = None,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Measure a paper's table or figure again and print ours beside the published numbers."""
    from scotoma.progress import Progress
    from scotoma.reproduction.running import reproduce as run

    finished = run(
        name,
        out,
        attack=attack,
        limit=limit,
        seed=seed,
        models=models,
        data_root=data_root,
        progress=Progress(),
        say=lambda line: typer.echo(line, err=True),
        command=typed(),
    )
    for reproduction in finished:
        reproduction.show()


@app.command()
def certify(
    model: Model,
    data: Data,
    threat: ThreatOption,
    out: Annotated[Path, typer.Option(help="The run folder; the same command continues a run that was stopped.")] = Path(
        "runs/certify"
    ),
    attack: AttackOption = "strong",
    limit: Limit = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> None:
    """Certify a ReLU network image by image, a smooth one in the mean, and see what harmless changes leave of that."""
    from scotoma.certificates.wasserstein import is_smooth
    from scotoma.data import load_data
    from scotoma.models.loading import load_model
    from scotoma.probes.certificate import Certificate
    from scotoma.probes.distributional import Distributional

    loaded = load_model(model, weights, trust_pickle=trust_pickle)
    probe = Distributional() if is_smooth(loaded.module) else Certificate()
    show_audit(loaded, load_data(data, data_root), threat, out=out, probes=[probe], attack=attack, limit=limit, seed=seed)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/demo"),
    seed: Seed = 0,
) -> None:
    """Train a small robust model on handwritten digits and audit it: a tour in about a minute."""
    from scotoma.demo import demo as run

    run(out, seed)


@app.command(name="list")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(help="attacks, models, data, recipes, augmentations, transforms, probes or papers [default: all]."),
    ] = None,
) -> None:
    """List what can be named: attacks, models, data, recipes, augmentations, transforms, probes, papers."""
    from scotoma.attacks import ATTACKS
    from scotoma.data import DATA
    from scotoma.models import ARCHITECTURES
    from scotoma.probes import PROBES
    from scotoma.reproduction import ITEMS
    from scotoma.table import nearest
    from scotoma.training import AUGMENTATIONS, RECIPES
    from scotoma.transforms import TRANSFORMS

    tables = {
        "attacks": ATTACKS,
        "models": ARCHITECTURES,
        "data": DATA,
        "recipes": RECIPES,
        "augmentations": AUGMENTATIONS,
        "transforms": TRANSFORMS,
        "probes": PROBES,
        "papers": ITEMS,
    }
    if what is not None and what not in tables:
        raise InputError(f"nothing is listed as {what!r}; {nearest(what, list(tables))}")
    for title in [what] if what else list(tables):
        typer.echo(f"{title}:")
        for name in tables[title]:
            typer.echo(f"  {name:18} {tables[title].describe(name)}")


def show_audit(*claim: Any, **settings: Any) -> None:
    """Audit with bars and with the command that was typed, and print the verdicts."""
    from scotoma.auditing import audit
    from scotoma.progress import Progress

    audit(*claim, **settings, progress=Progress(), command=typed()).show()


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["scotoma", *sys.argv[1:]])


def log_epoch(epoch: Epoch) -> None:
    """A line of a training."""
    typer.echo(f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.1%}, PGD-20 {epoch.robust_accuracy:.1%}")


def names(text: str) -> list[str]:
    """The names in "one, two"."""
    return [name.strip() for name in text.split(",")]


def main() -> None:
    """Run the command line. Bad input ends in one line and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="scotoma", standalone_mode=False)
    except InputError as error:
        fail(str(error))
    except UsageError as error:
        command = error.ctx.command_path if error.ctx else "scotoma"
        fail(f"{error.format_message().rstrip('.?')}; see `{command} --help`")
    except OSError as error:
        fail(f"{error.filename or 'a file'}: {error.strerror or error}; what was finished is kept")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        typer.echo("stopped; the same command continues from here", err=True)
    sys.exit(code)


def fail(message: str) -> NoReturn:
    """One line on standard error, exit code 2."""
    typer.echo(f"scotoma: {' '.join(message.split())}", err=True)
    sys.exit(2)
