"""A model that is right on no more images than chance, and why."""

import pytest
import torch
from torch import nn

import scotoma
from scotoma.auditing import make_claim
from scotoma.data.memory import from_memory
from scotoma.models.diagnosis import diagnose, scale_note, stop_at_chance
from scotoma.models.loading import load_model
from scotoma.utils.errors import InputError


class Changed(nn.Module):
    """A network with something wrong before or behind it."""

    def __init__(self, net, before=lambda x: x, after=lambda x: x):
        super().__init__()
        self.net, self.before, self.after = net, before, after

    def forward(self, images):
        return self.after(self.net(self.before(images)))


WRONG = {
    "classes in another order": (
        {"after": lambda logits: logits.roll(1, 1)},
        r"With its classes in another order it classifies \d+ of 50 .*\(class order\)",
    ),
    "no normalisation": (
        {"before": lambda x: (x + 20) * 10},
        "predicts the same class .*scale of its pixels|no more than chance",
    ),
    "grey levels wanted": (
        {"before": lambda x: (x / 255 - 0.4).clamp(-0.4, 0.6) ** 3},
        r"With pixels in \[0, 255\] it classifies \d+ of 100 correctly: .*\(normalisation\)",
    ),
    "features": (
        {"after": lambda logits: torch.cat([logits, logits.repeat(1, 77).abs() + 9], 1)},
        r"With its 780 outputs for 10 classes in .* return the logits, not features, or give",
    ),
    "other features": (
        {"after": lambda logits: torch.cat([logits * 0, logits[:, :1] * 0 + 9], 1)},
        "has 11 outputs for 10 classes, and the largest lies beyond the classes for 100 of 100",
    ),
    "constant": ({"after": lambda logits: logits * 0}, "the same class for 100 of 100 images"),
}


@pytest.mark.parametrize("what", WRONG)
def test_the_likely_cause_is_named(linear, digits, what):
    change, says = WRONG[what]
    model = load_model(Changed(linear, **change)).checked(digits)
    with pytest.raises(InputError, match=says) as error:
        stop_at_chance(model, digits)
    text = str(error.value)
    assert "of 100 test images of digits correctly, no more than chance (" in text
    assert text.endswith("force=True audits it anyway")
    assert "\n" not in text


def test_a_sound_model_goes_on(linear, digits):
    model = load_model(linear).checked(digits)
    stop_at_chance(model, digits)
    diagnosis = diagnose(model, digits)
    assert (diagnosis.at_chance, diagnosis.cause, diagnosis.images) == (False, "", 100)
    assert diagnosis.correct > 80
    assert diagnosis.scales.keys() == {"in [0, 255]", "in [-1, 1]", "normalised as for MNIST"}


@pytest.mark.parametrize(
    ("labels", "predictions", "stops"),
    [
        ([0], [0], False),
        ([0, 0, 0], [0, 0, 0], False),
        ([0, 0, 1, 1, 1], [0, 0, 1, 0, 0], False),
        ([0, 1, 2, 0], [0, 0, 0, 0], True),
        ([0, 1, 2], [1, 2, 0], True),
        ([0, 1] * 100, [0, 1] * 60 + [1, 0] * 40, False),
        ([0, 1] * 100, [0, 1] * 50 + [1, 0] * 50, True),
        ([0, 1] * 100, [0] * 200, True),
    ],
    ids=str,
)
def test_chance(labels, predictions, stops):
    """On few images the numbers are compared; on many a test decides."""
    images = torch.zeros(len(labels), 1, 1, 3)
    images[torch.arange(len(labels)), 0, 0, torch.tensor(predictions)] = 1
    data = from_memory((images, torch.tensor(labels)))
    assert diagnose(load_model(nn.Flatten()), data).at_chance == stops


@pytest.mark.usefixtures("undrawn")
def test_an_audit_stops_before_it_writes(linear, digits, tmp_path):
    model = Changed(linear, after=lambda logits: logits.roll(1, 1))
    options: dict = {"out": tmp_path / "run", "probes": ["robustness"], "attack": "fgsm"}
    with pytest.raises(InputError, match="no more than chance"):
        scotoma.audit(model, digits, "linf:0.1", **options)
    assert not (tmp_path / "run").exists()
    report = scotoma.audit(model, digits, "linf:0.1", **options, limit=20, force=True)
    assert "force=True" in report.provenance["command"]


def test_a_folder_in_another_order_is_recognised(linear, digits):
    """Images of a folder come class by class, so that the first half has other classes."""
    few = torch.arange(500)[digits.test.labels.argsort(stable=True)][::4]
    labels = digits.test.labels[few]
    data = from_memory((digits.test.images(few), labels))
    model = load_model(Changed(linear, after=lambda logits: logits.roll(1, 1))).checked(data)
    with pytest.raises(InputError, match="With its classes in another order"):
        stop_at_chance(model, data)


def test_another_scale_is_noted_for_a_model_above_chance(linear, digits):
    """The network wants [-1, 1]; with [0, 1] it is poor, though better than chance."""
    images = digits.test.images(torch.arange(60))
    model = Changed(linear, before=lambda x: (x + 1) / 2)
    data = from_memory((images, linear((images + 1) / 2).argmax(1)))
    assert scale_note(load_model(model).checked(data), data) == []
    off = from_memory((images, linear(images).argmax(1)))
    checked = load_model(model).checked(off)
    diagnosis = diagnose(checked, off)
    (note,) = scale_note(checked, off)
    assert f"The model classifies {diagnosis.correct} of 60 images" in note
    assert "With pixels in [-1, 1] it classifies 60 of 60 correctly" in note
    assert note in make_claim(model, (images, off.test.labels), "linf:0.1").model.notes
