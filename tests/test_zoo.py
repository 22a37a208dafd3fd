"""The reference weights are what their cards say, and have the blind spot of the paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.min_linf import MinLinf
from scotoma.data.dataset import Dataset
from scotoma.models.loading import load_model
from scotoma.threat import TOLERANCE
from scotoma.transforms.scale_shift import ScaleShift

ZOO = Path(__file__).parents[1] / "zoo"


@pytest.mark.parametrize("path", sorted(ZOO.glob("*.safetensors")), ids=lambda path: path.stem)
def test_every_file_loads_and_stands_in_the_list(path: Path):
    card = load_model(str(path)).card
    row = re.search(rf"`{path.name}`.*", (ZOO / "README.md").read_text())
    assert row, f"{path.name} is missing in zoo/README.md"
    epochs = card["schedule"]["epochs"]  # none where there are no steps
    length = f" --epochs {epochs}" if epochs else ""
    assert f"--arch {card['arch']} --threat {card['threat']}{length}" in row[0]
    assert f"{card['accuracy']:.1%}" in row[0]
    robust = card["robust_accuracy"]
    assert ("–" if robust is None else f"{robust:.1%}") in row[0]


def test_mnist_pgd_is_robust_on_the_test_set_and_blind_beside_it(mnist: Dataset):
    model = load_model(str(ZOO / "mnist-pgd.safetensors")).module
    indices = torch.arange(400)
    images, labels = mnist.test.images(indices), mnist.test.labels[indices]
    with torch.no_grad():
        right = ~fooled(model(images), labels)
    assert right.float().mean() > 0.985
    images, labels = images[right][:25], labels[right][:25]

    def success(moved: torch.Tensor, eps: float) -> float:
        adversarial = MinLinf("linf", steps=40, restarts=0, until=eps)(model, moved, labels)
        near = (adversarial - moved).abs().flatten(1).amax(1) <= eps + TOLERANCE
        with torch.no_grad():
            return float((fooled(model(adversarial), labels) & near).float().mean())

    assert success(images, 0.3) < 0.15
    assert success(ScaleShift(0.8, 0.1)(images), 0.8 * 0.3) > 0.95
