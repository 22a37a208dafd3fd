"""The default of the audit: as good as each of its parts, and honest about its cost."""

from __future__ import annotations

import pytest
import torch
from linear import boxed_optimum, linear_model, saturated_images
from trained import digits_images, digits_model

from scotoma.attacks import strong
from scotoma.attacks.apgd import APGDT
from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.nearest import size
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.core.restarts import RANKED
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf
from scotoma.attacks.square import Square
from scotoma.attacks.strong import Strong
from scotoma.threat import TOLERANCE, Threat
from scotoma.utils.random import Randomness

THREAT = Threat("linf", 0.12)
L2 = Threat("l2", 0.5)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let its last attacks, which fool the least, take fewer queries and restarts."""
    monkeypatch.setattr(strong, "RESTARTS", 1)
    monkeypatch.setattr(strong, "Square", lambda ball, queries: Square(ball, queries // 10))


@pytest.mark.parametrize(
    "search",
    [MinLinf("linf", steps=240, restarts=4, restart_steps=40), MinL2("l2")],
    ids=["linf", "l2"],
)
def test_breaks_what_its_parts_break(search: MinLinf | MinL2):
    model, threat = digits_model(), {"linf": THREAT, "l2": L2}[search.norm]
    images, labels = digits_images(40)

    def falls(adversarial: torch.Tensor) -> torch.Tensor:
        return fooled(model(adversarial), labels) & (
            size(adversarial - images, threat.norm) <= threat.eps + TOLERANCE
        )

    whole = falls(Strong(threat)(model, images, labels))
    for part in (search, APGDT(threat, steps=50)):
        alone = falls(part(model, images, labels))
        assert whole.sum() >= alone.sum() - 1
    assert 0 < whole.float().mean() < 1


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
    assert (counted.forwards[~right] <= 5).all()  # each attack looks at the image before it leaves
    assert (counted.backwards[right] >= 240).all()
    assert (
        counted.backwards <= counted.forwards + RANKED
    ).all()  # several an image where classes are put in order
    assert (counted.backwards[~right] == 0).all()


def test_an_image_alone_falls_as_in_a_batch():
    # on a linear model only random numbers could differ; one image is misclassified and leaves
    model, images = linear_model((1, 6, 6), 4, 2), saturated_images(4, (1, 6, 6), 2)
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 4
    optimum = boxed_optimum(model, images[3:4], labels[3:4])
    attack = Strong(Threat("linf", 0.97 * float(optimum[0])))
    together = attack(model, images, labels, generator=Randomness(1, torch.arange(4)))
    alone = attack(model, images[3:4], labels[3:4], generator=Randomness(1, torch.tensor([3])))
    assert torch.allclose(together[3], alone[0], atol=1e-5)
