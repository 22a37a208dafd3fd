import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from scotoma.transforms.blur import Blur

IMAGES = torch.rand((3, 2, 8, 11), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("sigma", [0.3, 0.7, 1.5, 4.0])
def test_it_is_the_gaussian_filter_of_scipy(sigma):
    expected = gaussian_filter(IMAGES.double().numpy(), sigma, axes=(2, 3), mode="nearest")
    np.testing.assert_allclose(Blur(sigma)(IMAGES).numpy(), expected, atol=1e-6)


def test_an_even_image_has_no_frame():
    assert (Blur(2.0)(torch.full((1, 1, 8, 8), 0.7)) - 0.7).abs().max() < 1e-6
