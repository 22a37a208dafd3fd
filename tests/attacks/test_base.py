"""What the bases of attacks check, and the images at which an attack begins."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import scotoma
from scotoma.attacks import ATTACKS, make
from scotoma.attacks.core.base import BoundedAttack, MinimumNormAttack
from scotoma.attacks.ddn import DDN
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.pgd import PGD
from scotoma.attacks.square import Square
from scotoma.attacks.strong import Strong
from scotoma.threat import NORMS, Threat
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
    with pytest.raises(InputError, match=r"attack DDN finds the smallest .* write DDN\('l2'\)"):
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


@pytest.mark.parametrize("attack", [Square("linf:0.2", queries=5), DDN("l2"), PGD("linf:0.2")])
def test_what_cannot_be_attacked_is_refused(attack):
    net = nn.Flatten()
    for images in (255 * IMAGE, 2 * IMAGE - 1, IMAGE * torch.nan):
        with pytest.raises(InputError, match=r"images: pixels reach .* want them in \[0, 1\]"):
            attack(net, images, LABEL)
    for labels in (LABEL.float(), LABEL[:, None], torch.tensor([0, 1])):
        with pytest.raises(InputError, match="labels: want the class number of each of the 1 "):
            attack(net, IMAGE, labels)
    assert attack(net, IMAGE[:0], LABEL[:0]).shape == IMAGE[:0].shape


@pytest.mark.parametrize("attack", [Strong("linf:0.2"), DDN("l2"), PGD("linf:0.2")])
def test_an_attack_takes_any_function_and_labels_of_any_integers(attack):
    expected = attack(nn.Flatten(), IMAGE, LABEL)
    assert torch.equal(attack(lambda images: images.flatten(1), IMAGE, LABEL.int()), expected)


def test_settings_that_make_no_attack_are_refused():
    for settings in ({"steps": 0}, {"steps": "10"}, {"steps": 1.5}):
        with pytest.raises(InputError, match=r"steps=.*: want a whole number above 0"):
            PGD("linf:0.2", **settings)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="queries=0"):
        Square("linf:0.2", queries=0)
    with pytest.raises(InputError, match=r"takes no size; write MinLinf\('linf'\)"):
        MinLinf("linf:0.1")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("pgd", {"restarts": 0}, "restarts=0: want a whole number above 0"),
        ("pgd", {"step_size": -0.1}, "step_size=-0.1: want a number above 0"),
        ("pgd", {"steps": True}, "steps=True: want a whole number above 0"),
        ("apgd-t", {"targets": 0}, "targets=0: want a whole number above 0"),
        ("min-linf", {"restarts": -1}, "restarts=-1: want a whole number from 0"),
        ("min-linf", {"until": math.nan}, "until=nan: want a number from 0"),
        ("mim", {"decay": -1}, "decay=-1: want a number from 0"),
        ("pgd", {"stepz": 3}, "attack pgd has no setting 'stepz'; did you mean 'steps'"),
        ("fgsm", {"stepz": 3}, "attack fgsm has no setting 'stepz'; known: loss"),
    ],
)
def test_wrong_settings_are_refused(name: str, settings: dict[str, float], message: str):
    with pytest.raises(InputError, match=message):
        make(name, "linf:0.1", **settings)


def test_settings_that_leave_a_part_out_are_not():
    assert make("min-linf", "linf:0.1", restarts=0).restarts == 0
    assert make("pgd", "linf:0.1", queries=10, step_size=None) == PGD("linf:0.1")
