import numpy as np
import pytest
import torch
from scipy import ndimage

from scotoma.transforms.affine import Rotate, Translate

IMAGES = torch.rand((3, 2, 9, 13), generator=torch.Generator().manual_seed(0))
SQUARE = IMAGES[..., :9]


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_quarter_turns_are_exact(quarters):
    turned = torch.rot90(SQUARE, quarters, (2, 3))
    assert (Rotate(90.0 * quarters)(SQUARE) - turned).abs().max() < 1e-6


@pytest.mark.parametrize("degrees", [-15.0, 3.0, 40.0])
def test_it_is_the_bilinear_rotation_of_scipy(degrees):
    expected = ndimage.rotate(
        IMAGES.double().numpy(), degrees, axes=(3, 2), reshape=False, order=1, mode="nearest"
    )
    np.testing.assert_allclose(Rotate(degrees)(IMAGES).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("right", "down"), [(1.0, 0.0), (-2.0, 1.0), (0.3, -0.6), (20.0, 0.0)])
def test_it_is_the_bilinear_shift_of_scipy(right, down):
    expected = ndimage.shift(IMAGES.double().numpy(), (0, 0, down, right), order=1, mode="nearest")
    np.testing.assert_allclose(Translate(right, down)(IMAGES).numpy(), expected, atol=1e-6)


def test_the_content_moves_right_and_down():
    dot = torch.zeros((1, 1, 5, 5))
    dot[0, 0, 2, 2] = 1
    assert Translate(1.0, 0.0)(dot)[0, 0, 2, 3] == 1
    assert Translate(0.0, 1.0)(dot)[0, 0, 3, 2] == 1
    assert str(Translate(-0.5, 1.0)) == "shift by 0.5 px left and 1 px down"


@pytest.mark.parametrize("transform", [Rotate(15.0), Translate(2.0, -1.5)], ids=repr)
def test_no_frame_appears(transform):
    for background in (0.0, 0.6):
        image = torch.full((1, 1, 12, 12), background)
        image[..., 5:7, 5:7] = 1
        changed = transform(image)
        for edge in (changed[..., 0, :], changed[..., -1, :], changed[..., 0], changed[..., -1]):
            assert (edge - background).abs().max() < 1e-6
