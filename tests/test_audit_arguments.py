"""What `scotoma.audit` says of arguments that cannot be used, and how it leaves the model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import scotoma
from scotoma.claims.rules import apply, parse
from scotoma.probes.robustness.probe import Robustness
from scotoma.utils.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def images(digits) -> tuple[Tensor, Tensor]:
    return digits.test.images(torch.arange(60)), digits.test.labels[:60]


def audit(model: nn.Module, images: Any, threat: Any = "linf:0.1", **options: Any) -> Any:
    chosen: dict[str, Any] = {"probes": "robustness", "attack": "pgd", **options}
    return scotoma.audit(model, images, threat, **chosen)


@pytest.mark.parametrize("threat", [0.1, None, ("linf", 0.1)])
def test_a_threat_of_another_type_is_one_line(linear, images, threat):
    with pytest.raises(InputError, match=r"threat .*: want text such as 'linf:8/255'"):
        audit(linear, images, threat)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"attack": scotoma.attacks.FGSM("linf:0.1")}, "attack: want a name .* not FGSM"),
        ({"limit": 5.5}, "limit=5.5: want a whole number"),
        ({"limit": "5"}, "limit='5': want a whole number"),
        ({"seed": 0.5}, "seed=0.5: want a whole number"),
        ({"precision": 0.7}, "precision=0.7: want a share between 0 and 0.5"),
        ({"precision": "0.1"}, "precision='0.1': want a share"),
        (
            {"precision": 0.02, "probes": ["norms", "masking"]},
            "precision=0.02 is an option of robustness, which does not run; probes are norms, mask",
        ),
        (
            {"precision": 0.02, "probes": [Robustness(precision=0.1)]},
            "precision=0.02: the robustness probe has 0.1; give one of them",
        ),
        (
            {"precision": 0.02, "probes": [Robustness(sampling="uniform")]},
            "uniform sampling has no precision",
        ),
        ({"stated": 0.9}, "stated=0.9: want scotoma.Stated"),
        ({"out": __file__}, "is a file; want a folder"),
        ({"probes": []}, "probes is empty; name probes, or leave it out"),
        ({"probes": [scotoma.probes]}, "neither a name such as 'norms' nor a probe"),
    ],
)
def test_an_argument_of_another_type_is_one_line(linear, images, options, says):
    with pytest.raises(InputError, match=says):
        audit(linear, images, **options)


def test_no_data_is_one_line(linear):
    with pytest.raises(InputError, match="data: is None; want"):
        audit(linear, None)


def test_a_column_of_labels_and_channels_at_the_end_are_understood(linear, images):
    pixels, labels = images
    expected = audit(linear, images)["robustness"].numbers
    for same in (
        (pixels, labels[:, None]),
        (pixels[:, 0], labels),
        (pixels.permute(0, 2, 3, 1), labels),
    ):
        assert audit(linear, same)["robustness"].numbers == expected


def test_the_model_comes_back_as_it_was(images):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)).train()
    model[1].eval()
    model[2].bias.requires_grad_(False)
    audit(model, images, force=True)
    assert [part.training for part in model.modules()] == [True, True, False, True]
    assert [each.requires_grad for each in model.parameters()] == [True, False]


def test_weights_of_another_precision_are_named(linear, images):
    with pytest.raises(InputError, match=r"weights are float64, model.float\(\) helps"):
        audit(linear.double(), images)


class Cut(nn.Module):
    """No gradient reaches the images."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.detach())


class Large(Cut):
    """The gradient of cross-entropy is 0 in float32."""

    def forward(self, images: Tensor) -> Tensor:
        return 1e6 * self.network(images)


@pytest.mark.parametrize("hidden", [Cut, Large])
@pytest.mark.parametrize("attack", ["pgd", "apgd-ce"])
def test_an_attack_along_a_gradient_that_leads_nowhere_decides_nothing(
    linear, images, hidden, attack: str
):
    report = audit(hidden(linear), images, attack=attack)
    assert report["robustness"].verdict == "undecided"
    assert "follows it, so attacks that fail are no evidence" in report["robustness"].notes[0]
    decided = apply(parse("robust_accuracy >= 0.01"), report)
    assert (decided.result, "attacks that fail prove nothing" in decided.reason) == (
        "undecided",
        True,
    )


def test_attacks_that_do_not_need_it_decide(linear, images):
    expected = audit(linear, images, attack="square")["robustness"].verdict
    assert audit(Cut(linear), images, attack="square")["robustness"].verdict == expected
    assert audit(Large(linear), images, attack="min-linf")["robustness"].verdict != "undecided"


def test_what_hides_a_gradient_counts_without_the_masking_probe(linear, images):
    few = (images[0][:30], images[1][:30])
    sound, cut = (
        audit(each, few, "linf:0.0005", attack="strong") for each in (linear, Cut(linear))
    )
    assert sound["robustness"].verdict == "holds"
    assert cut["robustness"].verdict == "undecided"
    assert "the gradient is cut" in cut["robustness"].notes[0]
    assert apply(parse("robust_accuracy >= 0.01"), cut).result == "undecided"
    got_around = audit(Cut(linear), few, "linf:0.3", attack="strong")
    assert got_around["robustness"].verdict == "broken"
