"""Data of a finished audit, read again without the model."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import nn

import scotoma
from scotoma.data.input import InputSpec
from scotoma.models.classifier import Classifier
from scotoma.results.audited import audited_data
from scotoma.utils.errors import InputError


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """An audit of grey images of two sizes by a model of colour images that knows other classes."""
    root = tmp_path_factory.mktemp("audited")
    for number, (name, grey) in enumerate((("white", 200), ("black", 40))):
        (root / "images" / name).mkdir(parents=True)
        for i in range(3):
            size = (7 + number, 6 + i)
            Image.new("L", size, grey + i).save(root / "images" / name / f"{i}.png")
    last = nn.Linear(3 * 16, 3)
    with torch.no_grad():
        last.weight.copy_(torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, 48) / 48)
        last.bias.copy_(torch.tensor([0.45, -9.0, -0.45]))
    model = Classifier.of(nn.Sequential(nn.Flatten(), last), "net")
    vars(model).update(classes=("black", "grey", "white"), input=InputSpec((4, 4), (4, 4)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scotoma.report.publishing.draw", scotoma.results.report.read_report)
        report = scotoma.audit(
            model,
            f"folder:{root}/images",
            "linf:0.45",
            out=root / "run",
            probes=["robustness"],
            attack="fgsm",
        )
    assert report["robustness"].numbers["robust_accuracy"] == 0
    return root


def test_images_and_hash_are_those_of_the_audit(audited):
    data = audited_data(audited / "run", f"folder:{audited}/images")
    record = scotoma.results.report.read_report(audited / "run").provenance["data"]
    assert (data.shape, data.sha256) == ((3, 4, 4), record["sha256"])
    assert record["recipe"]["resize"] == [4, 4]
    first = data.test.images(torch.arange(1))[0, :, 0, 0]  # of black/0.png
    assert first.tolist() == pytest.approx([40 / 255] * 3)


def test_export_and_compare_need_no_options(audited, scotoma, tmp_path):
    options = ("--data", f"folder:{audited}/images")
    result = scotoma(
        "export", audited / "run", "--as", "robustbench", "--tensor", tmp_path / "a.pt", *options
    )
    assert result.code == 0, result
    tensor = torch.load(tmp_path / "a.pt")
    assert tensor.shape == (6, 3, 4, 4)
    original = audited_data(audited / "run", options[1]).test.images(torch.arange(6))
    assert (tensor - original).abs().amax() == pytest.approx(0.45, abs=0.2)


def test_other_images_are_refused(audited, scotoma, tmp_path):
    (tmp_path / "images/black").mkdir(parents=True)
    Image.new("L", (7, 6), 90).save(tmp_path / "images/black/0.png")
    data = audited_data(audited / "run", f"folder:{tmp_path}/images")
    assert data.files_sha256 is not None
    ended = scotoma(
        *("export", audited / "run", "--as", "robustbench", "--tensor", tmp_path / "a.pt"),
        *("--data", f"folder:{tmp_path}/images"),
    )
    assert ended.code == 2
    assert "are not the data of this audit" in ended.err
    with pytest.raises(InputError, match="no such file"):
        audited_data(tmp_path, "digits")
