"""The application, and the options that its commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scotoma._version import __version__
from scotoma.utils.errors import InputError

if TYPE_CHECKING:
    from scotoma.utils.progress import Progress

app = typer.Typer(
    help="Scotoma audits claims of adversarial robustness: it reports where a claim holds and "
    "where it breaks, with evidence image by image.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"scotoma {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    pass


INTERRUPTED = 130
"""The exit code after Ctrl-C, which newer versions of typer return in place of the exception."""

MODEL_HELP = (
    "FILE.safetensors, file.py:function, package.module:function, TorchScript, .pt2, hf:NAME, "
    "timm:NAME, torchvision:NAME, onnx:FILE and more; see `scotoma list sources`."
)
DATA = typer.Option(
    help="digits, mnist, fashion-mnist, cifar-10, npz:FILE, folder:PATH, parquet:FILE or "
    "hf:DATASET[:SPLIT]."
)
THREAT = typer.Option("--threat", help="Norm and size, for example linf:0.3, linf:8/255 or l2:0.5.")
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Data = Annotated[str, DATA]
ThreatOption = Annotated[str, THREAT]
Weights = Annotated[
    Path | None, typer.Option(help="Weights for the model that file.py:function builds.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Attack even a model that classifies no more images correctly than chance."
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed for all random numbers.")]
Limit = Annotated[
    int | None, typer.Option(help="Number of test images to audit, drawn at random [default: all].")
]
Precision = Annotated[
    float | None,
    typer.Option(
        help="Audit --limit images [default: 200], then attack those with the least certain "
        "outcome until robust accuracy on the whole test set is known within this, such as 0.02."
    ),
]
Sampling = Annotated[
    str | None,
    typer.Option(
        help="stratified: rates of the whole test set; uniform: of the audited images alone "
        "[default: stratified]."
    ),
]
DataRoot = Annotated[
    Path | None, typer.Option(help="Folder of data sets [default: $SCOTOMA_DATA, then a download].")
]
TrustPickle = Annotated[
    bool,
    typer.Option("--trust-pickle", help="Open model files even if they can run code when opened."),
]
Layer = Annotated[
    str | None,
    typer.Option(
        help="Layer whose features the distance probe uses [default: input of the last linear]."
    ),
]
Extractor = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Another model in whose features the distance probe measures distances as well.",
    ),
]
Sources = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL,MODEL",
        help="Other models to make adversarial examples on [default: available or trained now].",
    ),
]
Bounds = Annotated[
    str | None,
    typer.Option(
        metavar="NORM:SIZE,...",
        help="Sizes at which the norms probe reports accuracy, for example l2:1.5,l0:12.",
    ),
]
NaturalReference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="MODEL",
        help="Naturally trained model for comparison [default: available or trained now].",
    ),
]
GeneratorOption = Annotated[
    str | None,
    typer.Option(
        "--generator",
        metavar="MODEL",
        help="Generative model, or file.py:function that returns images and labels, for probe "
        "generated [default: available or trained now].",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Stop after 90s, 20m or 2h and report; the same command continues from there.",
    ),
]
Thorough = Annotated[
    bool,
    typer.Option(
        "--thorough",
        help="Take all passes, however slow the model is [default: slow models are given fewer, "
        "as the report says].",
    ),
]
Keep = Annotated[
    str,
    typer.Option(
        "--keep",
        metavar="examples|shown|none",
        help="Adversarial images that stay on disk: all, those in the report, or none.",
    ),
]
AttackOption = Annotated[
    str, typer.Option("--attack", help="Attack that the probes use; see `scotoma list attacks`.")
]


def names(text: str) -> list[str]:
    """Return the names in "one, two". Raises `InputError` if there are none."""
    if not text.strip():
        raise InputError("a list of names is empty; leave the option out for its default")
    return [name.strip() for name in text.split(",")]


def progress_bars() -> Progress:
    """Return progress bars, which only the leading process shows."""
    from scotoma.execution.ranks import ranks
    from scotoma.utils.progress import Progress, Silent

    return Progress() if ranks().leads else Silent()


def typed_command() -> str:
    """Return the command as it was typed."""
    return shlex.join(["scotoma", *sys.argv[1:]])
