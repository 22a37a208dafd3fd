"""The attacks of the study: those of the MNIST tables, which start from FGSM, and those of the ImageNet tables, from Step-LL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from scotoma.attacks.core.losses import margin
from scotoma.attacks.iterative import IFGSM, MIM, IterLL
from scotoma.attacks.pgd import PGD
from scotoma.attacks.single_step import FGSM, RandFGSM, RandStepLL, StepLL
from scotoma.papers.tramer2018.errors import Attacks


@dataclass(frozen=True)
class Suite:
    """The attacks of a study; its single step is also what the models are trained on.

    Args:
        single, random: names of the single step, in both tables, and of that after a random step.
        iterated: names of the iterated attacks among `white_box`.
        white_box: on the model itself.
        black_box: on other models; iterated ones take all their steps, whatever the other model says.
    """

    single: str
    random: str
    iterated: tuple[str, ...]
    white_box: Attacks
    black_box: Attacks


FGSM_SUITE = Suite(
    single="FGSM",
    random="R+FGSM",
    iterated=("I-FGSM", "PGD-20"),
    white_box={"FGSM": FGSM, "R+FGSM": RandFGSM, "I-FGSM": IFGSM, "PGD-20": partial(PGD, steps=20)},
    black_box={
        "FGSM": FGSM,
        "R+FGSM": RandFGSM,
        "I-FGSM": partial(IFGSM, until_fooled=False),
        "MIM": partial(MIM, until_fooled=False),
    },
)

STEP_LL_SUITE = Suite(
    single="Step-LL",
    random="R+Step-LL",
    iterated=("Iter-LL", "PGD-20"),
    white_box={
        "Step-LL": StepLL,
        "R+Step-LL": RandStepLL,
        "Iter-LL": IterLL,
        "PGD-20": partial(PGD, steps=20),
    },
    black_box={
        "FGSM": FGSM,
        "Step-LL": StepLL,
        "R+Step-LL": RandStepLL,
        "Iter-LL": partial(IterLL, until_fooled=False),
        "I-FGSM on the margin": partial(IFGSM, loss=margin, until_fooled=False),
    },
)
"""The paper takes five attacks to other models, one of them on the hinge loss of Carlini and Wagner. The rest is unknown to us."""
