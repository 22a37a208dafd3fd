"""Which class a restart heads for."""

import pytest
import torch
from linear import boxed_optimum
from torch import nn

from scotoma.attacks.core.nearest import size
from scotoma.attacks.min_l2 import MinL2
from scotoma.attacks.min_linf import MinLinf


@pytest.mark.parametrize(
    ("kind", "norm", "optimum"),
    [(MinLinf, "linf", 0.125), (MinL2, "l2", 1.0)],
)
def test_restarts_go_to_the_class_that_is_nearest_not_to_the_likeliest(
    kind, norm: str, optimum: float
):
    # class 1 leads at the image, but its boundary is farther: its logit hardly moves; that of 2
    # is at 1 / 8 a pixel
    layer = nn.Linear(64, 4)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[1], layer.weight[2], layer.weight[3] = 1 / 64, 8 / 64, 1 / 64
        layer.bias.copy_(torch.tensor([0.0, -0.3, -1.0, -0.9]))
    model = nn.Sequential(nn.Flatten(), layer).requires_grad_(False).eval()
    images, labels = torch.zeros(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
    assert torch.allclose(boxed_optimum(model, images, labels).float(), torch.full((5,), 0.125))
    adversarial = kind(norm, steps=35, restarts=1, restart_steps=30)(model, images, labels)
    assert (model(adversarial).argmax(1) == 2).all()
    assert (size(adversarial, norm) < 1.02 * optimum).all()
