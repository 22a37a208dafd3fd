"""Which images a model has wrong: without an attack, under attacks on itself, and on examples made on other models."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from scotoma.claim import Threat
from scotoma.execution.batching import Attack
from scotoma.execution.fingerprint import describe
from scotoma.execution.records import EXAMPLE
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.papers.item import Context
from scotoma.papers.tramer2018 import drawn
from scotoma.probes.base import Settings
from scotoma.reference import recipe_of

Make = Callable[[Threat], Attack]
"""Makes an attack for a threat."""

Attacks = dict[str, Make]
"""By their names in the report."""

HELD_OUT = "held out"
SEEN = "seen in ensemble training"
SAME = "own architecture"


@dataclass(frozen=True)
class Errors:
    """The errors of a model, bool (n,) each, over the same images in the same order for every model of the data.

    Args:
        model: its name.
        clean: without an attack. What is wrong there is wrong everywhere else.
        own: by attack, white-box.
        transferred: by source and attack.
        roles: by source, `HELD_OUT`, `SEEN` or `SAME`. The model itself is none of its sources.
    """

    model: str
    clean: np.ndarray
    own: dict[str, np.ndarray]
    transferred: dict[tuple[str, str], np.ndarray]
    roles: dict[str, str]

    @property
    def held_out(self) -> list[str]:
        """Sources of another architecture that no ensemble training learned from."""
        return [source for source, role in self.roles.items() if role == HELD_OUT]

    def white_box(self, attacks: Iterable[str] | None = None) -> np.ndarray:
        """Under the worst of some or all attacks on itself, image by image."""
        return self._worst(
            wrong for attack, wrong in self.own.items() if attacks is None or attack in attacks
        )

    def black_box(self, sources: Iterable[str] | None = None) -> np.ndarray:
        """Under the worst of all attacks on some or all held-out sources, image by image."""
        wanted = self.held_out if sources is None else sources
        return self._worst(
            wrong for (source, _), wrong in self.transferred.items() if source in wanted
        )

    def largest_transfer(self) -> np.ndarray:
        """Under the one pair of held-out source and attack that has most errors: the paper's black-box error."""
        pairs = [
            wrong for (source, _), wrong in self.transferred.items() if source in self.held_out
        ]
        return max(pairs, key=np.count_nonzero, default=self.clean)

    def _worst(self, wrong: Iterable[np.ndarray]) -> np.ndarray:
        return np.logical_or.reduce([self.clean, *wrong])


def measure(
    context: Context,
    model: str,
    attacks: Attacks,
    transferred: Attacks,
    held_out: tuple[str, ...],
    seen: tuple[str, ...],
) -> Errors:
    """A model's errors. The examples of each source and attack are made once for all models.

    Args:
        context: the images, the work that is done already, and perhaps one more attack on the model itself.
        model: a reference model.
        attacks: on itself.
        transferred: attacks on the sources.
        held_out: sources that no ensemble training learned from.
        seen: sources that one did.
    """
    clean, own = white_box(context, model, attacks)
    common = drawn(context, held_out[0])
    roles = {
        source: role(source, model, seen)
        for source in dict.fromkeys((*held_out, *seen))
        if source != model
    }
    met = {
        (source, name): transfer(context, common, source, model, make)
        for source in roles
        for name, make in transferred.items()
    }
    return Errors(model, clean, own, met, roles)


def white_box(
    context: Context, model: str, attacks: Attacks
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The errors of a model without an attack, and under each on itself and the one that was asked for; bool (n,)."""
    run, asked = drawn(context, model), dict(attacks)
    if context.attack:
        asked[context.attack] = Settings(context.attack).make_attack
    told = run.predictions().join(
        pl.DataFrame({"index": run.indices.numpy()}), on="index", maintain_order="right"
    )
    own = {
        name: _wrong(run.attack(make(run.claim.threat), what=f"  {model}, {name}"))
        for name, make in asked.items()
    }
    return (told["prediction"] != told["label"]).to_numpy(), own


def transfer(
    context: Context, common: Run, source: str, model: str, make: Make, top: int = 1
) -> np.ndarray:
    """The errors of a model on the examples that an attack makes on another, bool (n,).

    Args:
        context: the models, and the work that is done already.
        common: the run that keeps the examples: each model's own would have them made again.
        source: on which they are made.
        model: that they are shown to.
        make: the attack for a threat.
        top: the label has to be among so many classes; where that is 1, what is wrong without an attack is wrong too.
    """
    attack = make(common.claim.threat)

    def compute() -> pl.DataFrame:
        pair = context.model(source), context.model(model)
        if top == 1:
            wrong = _wrong(common.transferred(attack, *pair, what=f"  {source} to {model}"))
        else:
            wrong = _below_top(common, attack, *pair, top)
        return pl.DataFrame({"index": common.indices.numpy(), "wrong": wrong})

    config = {"attack": describe(attack), "seed": common.seed, "top": top}
    return (
        drawn(context, model)
        .table("tramer2018 transfer", config, compute, context.model(source))["wrong"]
        .to_numpy()
    )


def role(source: str, model: str, seen: tuple[str, ...]) -> str:
    """What a source is to a model."""
    if source in recipe_of(model).sources:
        return SEEN
    if recipe_of(source).arch == recipe_of(model).arch:
        return SAME
    return SEEN if source in seen else HELD_OUT


def _wrong(records: pl.DataFrame) -> np.ndarray:
    """Images that the model has wrong before the attack or after it."""
    return (
        records.select((pl.col("prediction") != pl.col("label")) | pl.col("success"))
        .to_series()
        .to_numpy()
    )


def _below_top(
    common: Run, attack: Attack, source: Classifier, model: Classifier, top: int
) -> np.ndarray:
    """Examples whose label is not among the `top` classes, bool (n,)."""
    wrong, split, module = [], common.claim.data.test, model.module.to(common.device)
    for unit in common.crafted(attack, source):
        shown = torch.from_numpy(unit[EXAMPLE].to_numpy(writable=True)).view(-1, *split.shape)
        labels = split.labels[torch.from_numpy(unit["index"].to_numpy(writable=True))]
        for rows in torch.arange(len(unit)).split(common.batch_size):
            with torch.no_grad():
                best = module(shown[rows].to(common.device)).topk(top).indices.cpu()
            wrong.append((best != labels[rows, None]).all(1))
    return torch.cat(wrong).numpy()
