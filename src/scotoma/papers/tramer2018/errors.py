"""Errors of a model: without an attack, under attacks on itself, and on other models' examples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch

from scotoma.attacks.core.losses import margin
from scotoma.attacks.iterative import IFGSM, MIM, IterLL
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM, RandFGSM, RandStepLL, StepLL
from scotoma.execution.batching import Attack
from scotoma.execution.fingerprint import describe
from scotoma.execution.records import EXAMPLE, is_correct
from scotoma.execution.run import Run
from scotoma.models.classifier import Classifier
from scotoma.papers.item import Context
from scotoma.probes.base import Settings
from scotoma.reference import recipe_of
from scotoma.threat import Threat

IMAGES = 1000
"""Test images that are attacked. The paper's ImageNet tables have 10,000; the number in its MNIST
tables is unknown."""
HELD_OUT, SEEN, SAME = "held out", "seen in ensemble training", "own architecture"

Make = Callable[[Threat], Attack]
"""Makes an attack for a threat."""
Attacks = dict[str, Make]
"""Attacks by their names in the report."""


@dataclass(frozen=True)
class Suite:
    """The attacks of a study, whose models are trained on its single step."""

    single: str
    """the single step, and the same after a random one, in both tables"""
    random: str
    iterated: tuple[str, ...]
    """iterated attacks among `white_box`"""
    white_box: Attacks
    """attacks on the model itself"""
    black_box: Attacks
    """attacks on other models; iterated ones take all their steps"""


_PGD: Attacks = {"PGD-20": partial(PGD, steps=20)}
_FGSM: Attacks = {"FGSM": FGSM, "R+FGSM": RandFGSM}
_STEP_LL: Attacks = {"Step-LL": StepLL, "R+Step-LL": RandStepLL}

FGSM_SUITE = Suite(
    "FGSM",
    "R+FGSM",
    ("I-FGSM", "PGD-20"),
    _FGSM | {"I-FGSM": IFGSM} | _PGD,
    _FGSM | {"I-FGSM": partial(IFGSM, until_fooled=False), "MIM": partial(MIM, until_fooled=False)},
)
"""Attacks of the MNIST tables."""

STEP_LL_SUITE = Suite(
    "Step-LL",
    "R+Step-LL",
    ("Iter-LL", "PGD-20"),
    _STEP_LL | {"Iter-LL": IterLL} | _PGD,
    {
        "FGSM": FGSM,
        **_STEP_LL,
        "Iter-LL": partial(IterLL, until_fooled=False),
        "I-FGSM on the margin": partial(IFGSM, loss=margin, until_fooled=False),
    },
)
"""Attacks of the ImageNet tables. The paper transfers five attacks, one of them on the hinge loss
of Carlini and Wagner; the others are unknown to us."""


@dataclass(frozen=True)
class Errors:
    """The errors of a model, bool (n,) each, over images that all models of the data share.

    Args:
        model: its name.
        clean: errors without an attack; these are errors under every attack.
        own: white-box errors by attack.
        transferred: errors by source and attack.
        roles: `HELD_OUT`, `SEEN` or `SAME`, by source. The model itself is none of its sources.
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
        """Return errors under the worst of some or all attacks on itself, image by image."""
        names = self.own if attacks is None else attacks
        return np.logical_or.reduce([self.clean, *(self.own[attack] for attack in names)])

    def black_box(
        self, sources: Iterable[str] | None = None, attack: str | None = None
    ) -> np.ndarray:
        """Return errors under the worst of one or all attacks on some or all held-out sources."""
        return np.logical_or.reduce([self.clean, *self._from(sources or self.held_out, attack)])

    def largest_transfer(self) -> np.ndarray:
        """Return the paper's black-box errors: the held-out source and attack with most of them."""
        return max(self._from(self.held_out), key=np.count_nonzero, default=self.clean)

    def _from(self, sources: Iterable[str], only: str | None = None) -> list[np.ndarray]:
        return [
            wrong
            for (source, attack), wrong in self.transferred.items()
            if source in sources and only in (None, attack)
        ]


def measure(
    context: Context, model: str, suite: Suite, held_out: tuple[str, ...], members: tuple[str, ...]
) -> Errors:
    """Measure a model's errors; ensembles are trained with `members`, not with `held_out`.

    Examples of each source and attack are made once for all models. The context may name one more
    attack on the model itself.
    """
    clean, own = white_box(context, model, suite.white_box)
    common, sources = context.sample(held_out[0], IMAGES), dict.fromkeys((*held_out, *members))
    roles = {source: role(source, model, members) for source in sources if source != model}
    errors = {
        (source, name): transfer(context, common, source, model, make)
        for source in roles
        for name, make in suite.black_box.items()
    }
    return Errors(model, clean, own, errors, roles)


def white_box(
    context: Context, model: str, attacks: Attacks
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return errors without an attack, and under each attack and the context's; bool (n,)."""
    run, all_attacks = context.sample(model, IMAGES), dict(attacks)
    if context.attack:
        all_attacks[context.attack] = Settings(context.attack).make_attack
    own = {
        name: _wrong(run.attack(make(run.claim.threat), what=f"  {model}, {name}"))
        for name, make in all_attacks.items()
    }
    return ~is_correct(run.predictions())[run.indices.numpy()], own


def transfer(
    context: Context, common: Run, source: str, model: str, make: Make, top: int = 1
) -> np.ndarray:
    """Return a model's errors on the examples that an attack makes on a source, bool (n,).

    Args:
        common: run that keeps the examples; in each model's own they would be made again.
        make: makes the attack for a threat.
        top: an error is a label that is not among so many first classes; at 1, errors without an
            attack are errors too.
    """
    attack, pair = make(common.claim.threat), (context.model(source), context.model(model))

    def compute() -> pl.DataFrame:
        if top == 1:
            wrong = _wrong(common.transferred(attack, *pair, what=f"  {source} to {model}"))
        else:
            wrong = _below_top(common, attack, *pair, top)
        return pl.DataFrame({"index": common.indices.numpy(), "wrong": wrong})

    run, config = context.sample(model, IMAGES), {"attack": describe(attack), "seed": common.seed}
    table = run.table("tramer2018 transfer", config | {"top": top}, compute, pair[0])
    return table["wrong"].to_numpy()


def role(source: str, model: str, members: tuple[str, ...]) -> str:
    """Return what a source is to a model."""
    if source in recipe_of(model).sources:
        return SEEN
    if recipe_of(source).arch == recipe_of(model).arch:
        return SAME
    return SEEN if source in members else HELD_OUT


def _wrong(records: pl.DataFrame) -> np.ndarray:
    """Return images that the model misclassifies before the attack or after it."""
    return ~is_correct(records) | records["success"].to_numpy()


def _below_top(
    common: Run, attack: Attack, source: Classifier, model: Classifier, top: int
) -> np.ndarray:
    """Return examples whose label is not among the `top` first classes, bool (n,)."""
    wrong, split, module = [], common.claim.data.test, model.module.to(common.device)
    for unit in common.crafted(attack, source):
        examples = unit[EXAMPLE].to_torch().view(-1, *split.shape)
        labels = split.labels[unit["index"].to_torch()]
        for rows in torch.arange(len(unit)).split(common.batch_size):
            with torch.no_grad():
                top_classes = module(examples[rows].to(common.device)).topk(top).indices.cpu()
            wrong.append((top_classes != labels[rows, None]).all(1))
    return torch.cat(wrong).numpy()
