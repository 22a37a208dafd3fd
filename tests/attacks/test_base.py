"""What the bases of attacks check, and the images at which an attack begins."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import scotoma
from scotoma.attacks import ATTACKS
from scotoma.attacks.core.base import BoundedAttack, MinimumNormAttack
from scotoma.attacks.ddn import DDN
from scotoma.attacks.square import Square
from scotoma.claim import NORMS, Threat
from scotoma.utils.errors import InputError

IMAGE, LABEL = torch.tensor([[[[0.6, 0.4]]]]), torch.tensor([0])


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "transfer"])
def test_every_norm_is_checked_when_an_attack_is_made(name: str):
    kind = ATTACKS[name]
    assert issubclass(kind, BoundedAttack) != issubclass(kind, MinimumNormAttack)
    for norm in NORMS:
        setting = Threat(norm, 1) if issubclass(kind, BoundedAttack) else norm
        if norm in kind.norms:
            assert kind(setting).norm == norm
        else:
            with pytest.raises(InputError, match=f"attack {kind.__name__} is for .*not for {norm}"):
                kind(setting)


def test_a_minimum_norm_attack_takes_no_threat():
    with pytest.raises(InputError, match="attack DDN is for l2, not for"):
        DDN(Threat("l2", 0.5))  # type: ignore[arg-type]


def test_a_threat_may_be_text():
    assert scotoma.attacks.APGD("linf:8/255").threat == Threat("linf", 8 / 255)


def test_an_attack_begins_at_the_start_or_refuses_it():
    start = torch.tensor([[[[0.5, 0.5]]]])
    adversarial = Square("linf:0.2", queries=20)(nn.Flatten(), IMAGE, LABEL, start=start)
    assert adversarial.argmax() == 1
    with pytest.raises(InputError, match="start: DDN cannot begin at other images"):
        DDN("l2")(nn.Flatten(), IMAGE, LABEL, start=start)


def test_an_attack_takes_a_model_as_it_was_loaded():
    loaded, attack = scotoma.load_model(nn.Flatten()), Square("linf:0.2", queries=20)
    assert torch.equal(attack(loaded, IMAGE, LABEL), attack(nn.Flatten(), IMAGE, LABEL))
    assert torch.equal(loaded(IMAGE), IMAGE.flatten(1))
