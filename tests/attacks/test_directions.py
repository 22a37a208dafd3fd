"""Random directions: uniform, uncorrelated, equal for an image in any batch; and smooth ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from scotoma.attacks.core.directions import centred, directions, smoothed
from scotoma.utils.random import Randomness


def test_values_are_uniform_and_hardly_correlated():
    images = torch.zeros(50, 1, 20, 20)
    noise = centred(directions(Randomness.default(images), images, 8))
    assert noise.shape == (50, 8, 400)
    assert abs(noise.mean()) < 0.5
    assert abs(noise.std() / (256 / 12**0.5) - 1) < 0.01
    neighbours = noise.view(-1, 4)  # of one random number
    assert (torch.corrcoef(neighbours.T) - torch.eye(4)).abs().max() < 0.02
    assert (torch.corrcoef(neighbours.abs().T) - torch.eye(4)).abs().max() < 0.02
    each = noise.flatten(0, 1)[:100]
    assert (torch.corrcoef(each) - torch.eye(100)).abs().max() < 0.25


def test_directions_belong_to_the_image():
    images = torch.zeros(6, 3, 5, 3)
    together = directions(Randomness(1, torch.arange(6)), images, 4)
    assert together.shape == (6, 4, 45)
    assert torch.equal(directions(Randomness(1, torch.tensor([4])), images[4:5], 4), together[4:5])
    random = Randomness(1, torch.arange(6))
    assert not torch.equal(directions(random, images, 4), directions(random, images, 4))


def test_smooth_noise_is_a_sum_over_squares():
    noise = torch.randn(6, 2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    kind = torch.tensor([0, 1, 2, 1, 0, 2])
    smooth = smoothed(noise, kind, (1, 3, 5))
    for number, side in enumerate((1, 3, 5)):
        rows = kind == number
        pooled = F.avg_pool2d(noise[rows].flatten(0, 1), side, 1, side // 2) * side**2
        assert torch.allclose(smooth[rows].flatten(0, 1), pooled, atol=1e-5)
