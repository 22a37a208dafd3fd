"""Commands that train: `train`, `patch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scotoma.cli.app import (
    Data,
    DataRoot,
    GeneratorOption,
    Model,
    Seed,
    TrustPickle,
    Weights,
    app,
    names,
    progress_bars,
    typed_command,
)
from scotoma.cli.groups import Images, grouped
from scotoma.utils.errors import InputError

if TYPE_CHECKING:
    from scotoma.training.loop import Epoch


@app.command(short_help="Train a model, or continue its training.")
@grouped
def train(
    recipe: Annotated[
        str, typer.Argument(help="Recipe such as natural or pgd; see `scotoma list recipes`.")
    ],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(help="Safetensors file to write [default: runs/ARCH-RECIPE-DATA]."),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="Architecture; see `scotoma list models` [default: that of the recipe]."),
    ] = None,
    threat: Annotated[
        str | None,
        typer.Option(
            help="Norm and size, for example linf:0.3 or linf:8/255 [default: that of the recipe]."
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Passes over the training images [default: 10, more on small data]."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 128,
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="Highest learning rate [default: that of the recipe, or 0.001]."),
    ] = None,
    optimizer: Annotated[str, typer.Option(help="adam, or sgd with momentum.")] = "adam",
    decay: Annotated[float, typer.Option(min=0, help="Weight decay.")] = 0.0,
    augment: Annotated[
        str,
        typer.Option(help="Augmentations, separated by commas; see `scotoma list augmentations`."),
    ] = "",
    sources: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL,MODEL",
            help="Trained models for examples (recipe ensemble), or the teacher (recipe igd).",
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Trained model to begin with, in place of --arch."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="Hyper-parameter of the recipe as NAME=VALUE; may be repeated."),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights.")] = False,
    trust_pickle: TrustPickle = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
    *,
    images: Images,
) -> None:
    """Train a model; the same command continues an interrupted training. Works under torchrun."""
    from scotoma.data import load_data
    from scotoma.execution.ranks import ranks
    from scotoma.models.loading import load_model
    from scotoma.threat import Threat
    from scotoma.training import RECIPES
    from scotoma.training.loop import Schedule, batch_size
    from scotoma.training.loop import train as run
    from scotoma.training.options import known, parse
    from scotoma.training.parallel import joined

    options = parse(recipe, option or ())
    kind = RECIPES[recipe]
    dataset = load_data(data, data_root, **images)
    initial = None
    if start:
        initial = load_model(start, trust_pickle=trust_pickle).checked(dataset)
        own_arch = initial.card.get("arch", "a model of your own")
        if arch not in (None, own_arch):
            raise InputError(f"--arch {arch}: --start {start} is {own_arch}; leave --arch out")
        arch = own_arch
    arch = arch or getattr(kind, "arch", None)
    threat = threat or getattr(kind, "claim", None)
    required = {"arch=NAME": arch, "threat=NORM:SIZE": threat}
    if missing := [name for name, value in required.items() if value is None]:
        raise InputError(f"give {' and '.join(missing)}: recipe {recipe} has no default")
    if sources:
        known(recipe, "sources")
        options["sources"] = tuple(
            load_model(name, trust_pickle=trust_pickle).checked(dataset) for name in names(sources)
        )
    count = len(dataset.train or ())
    pace = (batch, rate or getattr(kind, "rate", 1e-3), decay, optimizer)
    schedule = Schedule(epochs, *pace) if epochs else Schedule.for_images(count, *pace)
    steps = (
        0
        if hasattr(kind, "fit")
        else -(-count // batch_size(kind, schedule, len(dataset.classes))) * schedule.epochs
    )
    out = (
        out
        or Path("runs")
        / f"{'-'.join(dict.fromkeys(filter(None, (arch, recipe, dataset.name))))}.safetensors"
    )

    if initial is not None and ranks().leads:
        typer.echo(f"start: {initial.name}{_training_facts(initial.card)}")

    def done() -> None:
        typer.echo(f"{out} is this training, finished before; delete it to train again")

    with joined() as team, progress_bars().bar(f"training {arch}", steps) as advance:
        run(
            recipe,
            dataset,
            arch,
            Threat.parse(threat),  # type: ignore[arg-type]
            out,
            schedule=schedule,
            seed=seed,
            half=half,
            options=options,
            augment=names(augment) if augment else (),
            start=initial,
            step=advance,
            log=log_epoch,
            done=done,
            team=team,
        )
    if team.leads:
        typer.echo(f"model: {out}")


@app.command(short_help="Fine-tune a model on its blind spots and compare.")
@grouped
def patch(
    model: Model,
    run: Annotated[
        Path,
        typer.Option(
            "--run",
            "--audit",
            help="Folder of an audit of this model; under torchrun write --audit.",
        ),
    ],
    data: Data,
    out: Annotated[
        Path, typer.Option(help="Folder to write; the same command continues an interrupted run.")
    ] = Path("runs/patch"),
    families: Annotated[
        str | None,
        typer.Option(help="Transforms to search; see `scotoma list transforms` [default: all]."),
    ] = None,
    generated: Annotated[
        bool,
        typer.Option(
            "--generated",
            help="Also learn from valid images of a generator, and measure others of it.",
        ),
    ] = False,
    generator: GeneratorOption = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of fine-tuning [default: 3, more on small data]."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 128,
    rate: Annotated[float, typer.Option(min=0, help="Highest learning rate.")] = 5e-4,
    half: Annotated[bool, typer.Option("--half", help="Store float16 weights.")] = False,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    data_root: DataRoot = None,
    *,
    images: Images,
) -> None:
    """Fine-tune a model on its blind spots and report whether they closed or only moved."""
    from scotoma.execution.ranks import ranks
    from scotoma.models.loading import fitted, load_pair
    from scotoma.probes.blindspots.map import BlindSpotMap
    from scotoma.probes.blindspots.patch import patch as close
    from scotoma.probes.blindspots.patch import patched_file
    from scotoma.probes.generated.probe import Generated
    from scotoma.training.loop import Schedule
    from scotoma.transforms import TRANSFORMS

    access = {"weights": weights, "trust_pickle": trust_pickle}
    audited, dataset = load_pair(model, data, data_root, **access, **images)
    report = close(
        audited,
        fitted(dataset, audited),
        run,
        out,
        schedule=Schedule(
            epochs or max(3, -(-500 * batch // max(len(dataset.train or ()), 1))), batch, rate
        ),
        search=BlindSpotMap(tuple(TRANSFORMS if families is None else names(families))),
        generated=Generated(generator) if generated or generator else None,
        half=half,
        progress=progress_bars(),
        log=log_epoch,
        command=typed_command(),
    )
    if ranks().leads:
        report.show()
        typer.echo(f"model: {patched_file(out, audited)}")


@app.command(short_help="Put a model behind a broken defence.")
@grouped
def defend(
    name: Annotated[str, typer.Argument(help="Defence; see `scotoma list defences`.")],
    model: Model,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="Safetensors file to write [default: runs/NAME-MODEL].")
    ] = None,
    trust_pickle: TrustPickle = False,
    data_root: DataRoot = None,
    *,
    images: Images,
) -> None:
    """Put a model behind a defence that was broken, to test an audit on it."""
    from scotoma.data import load_data
    from scotoma.models.loading import load_model, save_defended

    dataset = load_data(data, data_root, **images)
    defended = load_model(f"defence:{name}:{model}", trust_pickle=trust_pickle, data=dataset)
    out = out or Path("runs") / f"{defended.name.replace(':', '-')}.safetensors"
    save_defended(out, defended)
    typer.echo(f"model: {out}")


def _training_facts(card: dict[str, Any]) -> str:
    """Return how a model was trained, for the line on the start of another training."""
    facts = [str(card[key]) for key in ("arch", "recipe", "threat", "data") if card.get(key)]
    if isinstance(card.get("accuracy"), float):
        facts.append(f"accuracy {card['accuracy']:.1%}")
    return f" ({', '.join(facts)})" if facts else ""


def log_epoch(epoch: Epoch) -> None:
    """Print a line on an epoch."""
    line = f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, accuracy {epoch.accuracy:.1%}"
    if epoch.robust_accuracy is not None and epoch.single_step_accuracy is not None:
        line += f", PGD-20 {epoch.robust_accuracy:.1%}, FGSM {epoch.single_step_accuracy:.1%}"
    if epoch.loss_ratio is not None and epoch.cosine is not None:
        line += f", loss ratio {epoch.loss_ratio:.2f}, cosine {epoch.cosine:.2f}"
    typer.echo(line)
    if epoch.overfitting:
        typer.secho(epoch.overfitting, err=True, fg="yellow")
    if epoch.diverged:
        typer.secho(f"{epoch.diverged}; lower --rate", err=True, fg="yellow")
