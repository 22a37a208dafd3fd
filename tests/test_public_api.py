"""What a user of the library finds after `import scotoma`, in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import scotoma


def fresh(code: str) -> str:
    """What the code prints in a new interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_namespaces_and_functions_can_be_completed():
    names = fresh("import scotoma; print(*dir(scotoma))").split()
    assert set(scotoma.__all__) <= set(names)
    assert len(set(names)) == len(names)


SNIPPETS = """
import sys
import scotoma.results.verify

print([name for name in sys.modules if name.startswith(("scotoma.attacks", "scotoma.execution"))])

import scotoma
import torch
from torch import nn

model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
images = torch.rand(4, 1, 4, 4)
labels = model(images).argmax(1)
train_features, test_features = torch.rand(10, 4), torch.rand(6, 4)

adversarial = scotoma.attacks.APGD("linf:8/255")(model, images, labels)
attributions = scotoma.attribution.InputXGradient()(model, images, labels)
inequality = scotoma.metrics.gini(attributions)
distances = scotoma.metrics.nearest_distance(train_features, test_features, k=5)
report = scotoma.audit(model, (images, labels), "linf:0.1", probes=["robustness"])
found = report["robustness"]

print(*map(len, (adversarial, inequality, distances)), found.numbers["n"], found.headline[-1])
print(bool((adversarial - images).abs().max() <= 8 / 255 + 1e-6))
print(scotoma.transforms.__name__, hasattr(scotoma.attacks, "Nothing"))
"""


def test_snippets_run_in_a_new_interpreter():
    """Among them the README's audit of tensors; before them, that `verify` imports no attack."""
    printed = ["[]", "4", "4", "6", "4", ".", "True", "scotoma.transforms", "False"]
    assert fresh(SNIPPETS).split() == printed


def test_attacks_can_be_completed():
    assert {"APGD", "APGDT", "MinLinf", "DDN"} <= set(dir(scotoma.attacks))


def test_probes_can_be_completed_and_made():
    assert {"Distance", "Norms", "Robustness"} <= set(dir(scotoma.probes))
    assert scotoma.probes.Robustness(broken=0.4).broken == 0.4
    with pytest.raises(AttributeError, match="no probe 'Distances'"):
        scotoma.probes.Distances  # noqa: B018


def test_an_attack_from_the_namespace_fools_a_linear_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        weight = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
        model[1].weight.copy_(weight)  # type: ignore[arg-type]
        model[1].bias.copy_(torch.tensor([-2.0, 2.0]))  # type: ignore[arg-type]
    images, labels = torch.full((1, 1, 2, 2), 0.55), torch.tensor([0])
    assert model(images).argmax(1).tolist() == [0]
    adversarial = scotoma.attacks.APGDT(scotoma.Threat("linf", 0.1))(model, images, labels)
    assert model(adversarial).argmax(1).tolist() == [1]
    assert (adversarial - images).abs().max() <= 0.1 + 1e-6


def test_metrics_give_one_value_a_map_and_a_test_feature():
    maps = torch.zeros(2, 1, 4, 4)
    maps[0, 0, 0, 0], maps[1] = 1.0, 1.0
    assert scotoma.metrics.gini(maps).tolist() == pytest.approx([1 - 1 / 16, 0])
    train, test = np.array([[0.0], [1], [3]], np.float32), np.array([[0.0], [5]], np.float32)
    assert scotoma.metrics.nearest_distance(train, test, k=2) == pytest.approx([0.5, 3.0])
    tensors = torch.from_numpy(train).double(), torch.from_numpy(test)
    assert scotoma.metrics.nearest_distance(*tensors, k=2) == pytest.approx([0.5, 3.0])
    assert {"gini", "nearest_distance"} <= set(dir(scotoma.metrics))


@pytest.mark.parametrize("name", scotoma.metrics._HOMES)
def test_every_public_metric_can_be_called(name: str):
    assert callable(getattr(scotoma.metrics, name))


def test_the_import_waits_for_torch():
    assert fresh("import sys, scotoma; print('torch' in sys.modules)") == "False"


def test_types_are_declared_to_other_projects():
    assert (Path(scotoma.__file__).parent / "py.typed").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'atacks'"):
        scotoma.atacks  # noqa: B018  # type: ignore[attr-defined]
