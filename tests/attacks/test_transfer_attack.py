"""Examples made on other models."""

from __future__ import annotations

import pytest
import torch
from trained import digits_images, digits_model

from scotoma.attacks.core.losses import fooled
from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.iterative import MIM
from scotoma.attacks.transfer import Transfer
from scotoma.models.classifier import Classifier
from scotoma.threat import Threat
from scotoma.utils.errors import InputError
from scotoma.utils.random import Randomness

THREAT = Threat("linf", 0.25)


@pytest.fixture
def source(linear) -> Classifier:
    return Classifier.of(linear, "linear")


def test_the_model_itself_as_a_source_is_the_attack_itself():
    model, (images, labels) = digits_model(), digits_images(50)
    adversarial = Transfer(THREAT, (Classifier.of(model),))(model, images, labels)
    alone = MIM(THREAT, steps=20, until_fooled=False)(model, images, labels)
    won = fooled(model(alone), labels)
    assert won.any()
    assert torch.allclose(adversarial[won], alone[won], atol=1e-6)
    assert torch.equal(adversarial[~won], images[~won])


def test_only_answers_are_asked_of_the_model(source):
    model, (images, labels) = digits_model(), digits_images(50)
    counted = Counted(model, 50, images.device)
    Transfer(THREAT, (source, source))(counted, images, labels)
    assert counted.backwards.sum() == 0
    assert set(counted.forwards.tolist()) <= {1, 2}


def test_a_model_without_gradients_falls_to_it(source):
    """Rounding kills the gradient of the same linear model, whose examples hold."""

    class Rounded(torch.nn.Module):
        def forward(self, images):
            return source.module((images * 8).round() / 8)

    images, labels = digits_images(60)
    own = MIM(THREAT)(Rounded(), images, labels)
    assert torch.equal(own, images)
    adversarial = Transfer(THREAT, (source,))(Rounded(), images, labels)
    right = ~fooled(Rounded()(images), labels)
    assert fooled(Rounded()(adversarial), labels)[right].float().mean() > 0.7


def test_more_sources_find_no_less(source):
    model, (images, labels) = digits_model(), digits_images(80)
    random = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    other = Classifier.of(random, "random")
    counts = [
        fooled(
            model(
                Transfer(THREAT, sources)(
                    model, images, labels, generator=Randomness(0, torch.arange(80))
                )
            ),
            labels,
        ).sum()
        for sources in ((other,), (other, source))
    ]
    assert counts[0] <= counts[1]


def test_without_sources_it_says_what_to_give():
    with pytest.raises(InputError, match="give sources="):
        Transfer(THREAT)


def test_a_source_may_be_any_module(source):
    model, (images, labels) = digits_model(), digits_images(20)
    adversarial = Transfer(THREAT, (source.module,))(model, images, labels)
    assert torch.equal(adversarial, Transfer(THREAT, (source,))(model, images, labels))
