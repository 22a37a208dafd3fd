import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scotoma.transforms.affine import Rotate, Translate
from scotoma.transforms.blur import Blur
from scotoma.transforms.control import Control
from scotoma.transforms.gamma import Gamma
from scotoma.transforms.scale_shift import ScaleShift
from scotoma.transforms.texture import Texture

CHANGES = [
    ScaleShift(0.5, 0.25),
    ScaleShift(0.7, -0.15),
    Gamma(0.4),
    Blur(0.3),
    Rotate(15.0),
    Translate(2.0, 0.0),
    Texture(0.05),
]


@pytest.fixture
def images(digits) -> Tensor:
    return digits.test.images(torch.arange(60))


def sizes(changed: Tensor, images: Tensor) -> Tensor:
    return (changed - images).abs().flatten(1).double().mean(1)


@pytest.mark.parametrize("of", CHANGES, ids=repr)
@pytest.mark.parametrize("binary", [False, True])
def test_each_image_changes_as_much_as_under_the_transform(of, binary, images):
    given = (images > 0.5).float() if binary else images
    own = sizes(of(given), given)
    assert torch.allclose(sizes(Control(of)(given), given), own, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("of", [Gamma(0.4), Rotate(15.0), Blur(1.0)], ids=repr)
def test_it_has_not_the_direction_of_the_transform(of, images):
    own, random = (of(images) - images).flatten(1), (Control(of)(images) - images).flatten(1)
    assert F.cosine_similarity(own, random).mean() < 0.55


def test_an_even_lift_of_black_is_not_its_own_control():
    black = torch.zeros((2, 1, 28, 28))
    change = Control(ScaleShift(0.8, 0.1))(black)
    assert change.mean((1, 2, 3)).tolist() == pytest.approx([0.2, 0.2], rel=1e-4)
    assert change.max() < 0.41
    assert change.std() > 0.1  # uniform between 0 and 0.4: 0.115
    assert torch.equal(change[0], change[1])


def test_what_finds_no_room_goes_elsewhere():
    """All changed pixels turn over wholly: doubled changes do not fit where they go."""
    images = (torch.rand((4, 1, 10, 10), generator=torch.Generator().manual_seed(0)) > 0.5).float()
    changed = Control(Translate(1.0, 0.0))(images)
    assert torch.allclose(
        sizes(changed, images), sizes(Translate(1.0, 0.0)(images), images), rtol=1e-4
    )


def test_seeds(images):
    of = Rotate(5.0)
    assert torch.equal(Control(of, 1)(images), Control(of, 1)(images))
    assert not torch.equal(Control(of, 1)(images), Control(of, 2)(images))
