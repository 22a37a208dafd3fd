"""The application, and the options that its commands share."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scotoma.utils.progress import Progress

app = typer.Typer(
    help="Scotoma audits claims of adversarial robustness: where a claim holds, where it breaks, with evidence image by image.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Model = Annotated[
    str,
    typer.Argument(
        help="FILE.safetensors, file.py:function, package.module:function, TorchScript or .pt2."
    ),
]
Data = Annotated[
    str, typer.Option(help="digits, mnist, fashion-mnist, cifar-10, npz:FILE or folder:PATH.")
]
ThreatOption = Annotated[
    str, typer.Option("--threat", help="Norm and size, for example linf:0.3, linf:8/255 or l2:0.5.")
]
Weights = Annotated[
    Path | None, typer.Option(help="Weights for the model that file.py:function builds.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of every random number.")]
Limit = Annotated[int | None, typer.Option(help="Audit so many test images, drawn at random.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Where data sets lie [default: $SCOTOMA_DATA, then a download].")
]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Open model files that can run code when opened.")
]
Layer = Annotated[
    str | None,
    typer.Option(help="Where the distance probe reads features [default: before the logits]."),
]
Extractor = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Another model, in whose features the distance probe measures a second time.",
    ),
]
Sources = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL,MODEL",
        help="Other models, whose examples are shown to this one [default: found or made].",
    ),
]
Bounds = Annotated[
    str | None,
    typer.Option(
        metavar="NORM:SIZE,...",
        help="Where the norms probe tells the accuracy in other norms, for example l2:1.5,l0:12.",
    ),
]
NaturalReference = Annotated[
    str | None,
    typer.Option(
        "--reference",
        metavar="MODEL",
        help="A naturally trained model, to compare inequality with [default: found or made].",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Stop after 90s, 20m or 2h with what was found so far; the same command goes on from there.",
    ),
]
AttackOption = Annotated[
    str, typer.Option("--attack", help="The attack that probes use; see `scotoma list attacks`.")
]


def names(text: str) -> list[str]:
    """The names in "one, two"."""
    return [name.strip() for name in text.split(",")]


def shown() -> Progress:
    """Bars, of the process that leads where there are several."""
    from scotoma.execution.ranks import ranks
    from scotoma.utils.progress import Progress, Silent

    return Progress() if ranks().leads else Silent()


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["scotoma", *sys.argv[1:]])
