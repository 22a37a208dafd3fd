"""The default of the audit: as good as each of its parts, and honest about its cost."""

from __future__ import annotations

import torch
from trained import digits_images, digits_model

from scotoma.attacks.apgd import APGDT
from scotoma.attacks.losses import fooled
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.oracle import Counted
from scotoma.attacks.strong import Strong
from scotoma.claim import TOLERANCE, Threat

THREAT = Threat("linf", 0.12)


def test_breaks_what_its_parts_break():
    model = digits_model()
    images, labels = digits_images(150)

    def falls(adversarial: torch.Tensor) -> torch.Tensor:
        return fooled(model(adversarial), labels) & ((adversarial - images).abs().flatten(1).amax(1) <= THREAT.eps + TOLERANCE)

    strong = falls(Strong(THREAT)(model, images, labels))
    for part in (MinLinf(THREAT, steps=240, restarts=9), APGDT(THREAT, steps=50)):
        alone = falls(part(model, images, labels))
        assert strong.sum() >= alone.sum() - 1
    assert 0 < strong.float().mean() < 1


def test_charges_every_pass_to_its_image():
    model = digits_model()
    images, labels = digits_images(40)
    counted = Counted(model, len(images), images.device)
    calls = 0

    def count(_module, inputs) -> None:
        nonlocal calls
        calls += len(inputs[0])

    handle = model.register_forward_pre_hook(count)
    try:
        Strong(THREAT)(counted, images, labels)
    finally:
        handle.remove()
    assert counted.forwards.sum() == calls
    right = ~fooled(model(images), labels)
    assert (counted.forwards[right] >= 240).all()
    assert (counted.forwards[~right] <= 2).all()
    assert (counted.backwards < counted.forwards).all()
