"""Attacks: images and labels in, adversarial images out. One file a family, one line here a name."""

from __future__ import annotations

from scotoma.table import Table

ATTACKS = Table(
    "attack",
    {
        "fgsm": "attacks.single_step:FGSM",
        "step-ll": "attacks.single_step:StepLL",
        "rand-fgsm": "attacks.single_step:RandFGSM",
        "rand-step-ll": "attacks.single_step:RandStepLL",
        "ifgsm": "attacks.iterative:IFGSM",
        "iter-ll": "attacks.iterative:IterLL",
        "mim": "attacks.iterative:MIM",
        "pgd": "attacks.pgd:PGD",
        "apgd-ce": "attacks.apgd:APGDCE",
        "apgd-t": "attacks.apgd:APGDT",
        "fmn-linf": "attacks.fmn:FMN",
        "min-linf": "attacks.min_linf:MinLinf",
        "cw-linf": "attacks.carlini_wagner:CarliniWagnerLinf",
        "square": "attacks.square:Square",
        "transfer": "attacks.transfer:Transfer",
        "strong": "attacks.strong:Strong",
    },
)
