"""Attacks: images and labels in, adversarial images out.

An attack is called with a model, images (n, c, h, w) in [0, 1] and labels (n,):

>>> import torch, scotoma
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
>>> images, labels = torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])
>>> scotoma.attacks.APGD("linf:8/255")(model, images, labels).shape
torch.Size([5, 1, 2, 2])
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.registry import Table, nearest

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
        "apgd-ce": "attacks.apgd:APGD",
        "apgd-t": "attacks.apgd:APGDT",
        "fmn-linf": "attacks.fmn:FMN",
        "fmn-l2": "attacks.fmn:FMNL2",
        "fmn-l1": "attacks.fmn:FMNL1",
        "ddn": "attacks.ddn:DDN",
        "deepfool": "attacks.deepfool:DeepFool",
        "min-linf": "attacks.min_linf:MinLinf",
        "min-l2": "attacks.min_l2:MinL2",
        "cw-linf": "attacks.carlini_wagner:CarliniWagnerLinf",
        "cw-l2": "attacks.carlini_wagner_l2:CarliniWagnerL2",
        "sigma-zero": "attacks.sigma_zero:SigmaZero",
        "vfga": "attacks.vfga:VFGA",
        "square": "attacks.square:Square",
        "boundary": "attacks.boundary:Boundary",
        "hop-skip-jump": "attacks.hop_skip_jump:HopSkipJump",
        "cgba": "attacks.cgba:CGBA",
        "pointwise": "attacks.pointwise:Pointwise",
        "salt-pepper": "attacks.noise:SaltPepper",
        "gaussian-noise": "attacks.noise:GaussianNoise",
        "contrast": "attacks.noise:Contrast",
        "latent-descent": "attacks.latent_descent:LatentDescent",
        "transfer": "attacks.transfer:Transfer",
        "strong": "attacks.strong:Strong",
    },
)


def __getattr__(name: str) -> Any:
    # an attack's class is imported when it is first asked for: `scotoma.attacks.APGDT`
    return ATTACKS.attribute(name)


def __dir__() -> list[str]:
    return sorted(["ATTACKS", "follows_gradients", "make", "takes", *ATTACKS.attributes])


def make(name: str, threat: Threat | str, **settings: Any) -> Any:
    """Return the attack of a name for a threat, with those of `settings` that it has.

    An attack that minimises a norm gets only the threat's norm.

    Raises:
        InputError: the name is unknown, the attack does not support the threat's norm, or no attack
            has one of the settings.

    >>> make("pgd", "linf:8/255", steps=10).steps
    10
    >>> make("ddn", "l2:0.5").norm
    'l2'
    """
    kind, threat = ATTACKS[name], Threat.parse(threat)
    if threat.norm not in kind.norms:
        able = [entry for entry in ATTACKS if threat.norm in ATTACKS[entry].norms]
        raise InputError(
            f"attack {name} is for {' and '.join(kind.norms)}, not for {threat.norm}; attacks for "
            f"{threat.norm}: {', '.join(able)}"
        )
    for setting in settings:
        if not takes(name, setting) and not any(takes(entry, setting) for entry in ATTACKS):
            names = [own.name for own in fields(kind) if own.name not in ("threat", "norm")]
            hint = nearest(setting, names) if names else "it has none"
            raise InputError(f"attack {name} has no setting {setting!r}; {hint}")
    own = {setting: value for setting, value in settings.items() if takes(name, setting)}
    return kind(threat.norm if takes(name, "norm") else threat, **own)


def takes(name: str, setting: str) -> bool:
    """Return whether the attack of a name has a setting.

    >>> takes("pgd", "steps"), takes("pgd", "queries")
    (True, False)
    """
    return setting in ATTACKS[name].__dataclass_fields__


def follows_gradients(attack: Any) -> bool:
    """Return whether an attack (or the attack of a name) follows the model's gradients.

    >>> follows_gradients("pgd"), follows_gradients("square")
    (True, False)
    """
    return getattr(ATTACKS[attack] if isinstance(attack, str) else attack, "gradients", True)
