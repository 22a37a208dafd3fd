"""Latent descent on a model whose classes each draw one flat image: known lines and thresholds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from trained import digits_images, digits_model

from scotoma.attacks.core.oracle import Counted
from scotoma.attacks.latent_descent import LatentDescent
from scotoma.models.classifier import freeze
from scotoma.models.synthesis import AnalysisBySynthesis
from scotoma.models.vae import ClassVAEs
from scotoma.utils.errors import InputError

SHAPE = (1, 8, 8)
LEVELS = (0.0, 0.3, 1.0)


def model(
    binary: bool = False, levels: tuple[float, ...] = LEVELS, steps: int = 5
) -> AnalysisBySynthesis:
    """Class k draws the flat image of grey level `levels[k]` for any latent; latent 0 is best."""
    vaes = ClassVAEs(SHAPE, 3)
    for layer in vaes.decoder:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.zeros_(layer.weight)
    last = [layer for layer in vaes.decoder if isinstance(layer, nn.ConvTranspose2d)][-1]
    assert last.bias is not None
    last.bias.data = torch.tensor(levels).logit(1e-7)
    classifier = AnalysisBySynthesis(vaes, binary=binary, samples=5, steps=steps)
    freeze(classifier)
    return classifier


def flat(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, *SHAPE).clone()


def test_goes_straight_to_the_nearest_class_and_no_farther():
    images, labels = flat(0.0, 0.25, 1.0, 0.05), torch.tensor([0, 1, 2, 0])
    adversarial = LatentDescent("l2")(model(), images, labels)
    edge = torch.tensor([0.15, 0.15, 0.65, 0.15])  # half way between the levels
    assert torch.allclose(adversarial, edge[:, None, None, None].expand_as(adversarial), atol=2e-3)
    assert torch.equal(model()(adversarial).argmax(1), torch.tensor([1, 0, 1, 1]))


def test_binarised_input_only_moves_what_must_cross_the_threshold():
    """And just across it; a pixel that is bright already stays where it is."""
    images, labels = flat(0.2), torch.tensor([0])
    images[0, 0, 3, 3] = 0.9
    classifier = model(binary=True, levels=(0.0, 0.7, 1.0))
    adversarial = LatentDescent("l2")(classifier, images, labels)
    assert torch.equal(adversarial, torch.where(images == 0.9, 0.9, 0.5))
    assert classifier(adversarial).argmax(1) == 2


def test_wrong_images_stay_and_passes_are_charged():
    images, labels = flat(0.0, 0.0, 1.0), torch.tensor([0, 1, 2])
    counted = Counted(model(), 3, images.device)
    adversarial = LatentDescent("l2", steps=10, halvings=4)(counted, images, labels)
    assert torch.equal(adversarial[1], images[1])
    # one for the image, one a step until it fools, four to draw it back: at 6 of 10 from 0
    # towards 0.3, from 1 at the same share
    assert counted.forwards.tolist() == [1 + 6 + 4, 1, 1 + 6 + 4]
    assert counted.backwards.tolist() == [0, 0, 0]


def test_batches_change_nothing():
    images = flat(*torch.linspace(0, 1, 6).tolist())
    classifier = model()
    labels = classifier(images).argmax(1)
    attack = LatentDescent("l2", steps=10)
    whole = attack(classifier, images, labels)
    parts = [attack(classifier, images[part], labels[part]) for part in torch.arange(6).split(4)]
    assert not torch.equal(whole, images)
    assert torch.allclose(whole, torch.cat(parts), atol=1e-5)


def test_other_models_have_nothing_to_descend_to():
    images, labels = digits_images(2)
    with pytest.raises(InputError, match="reconstructs"):
        LatentDescent("l2")(digits_model(), images, labels)
