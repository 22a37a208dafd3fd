import pytest
import torch

from scotoma.probes.blindspots.grid import FASHION_SHIFTS, MNIST_SHIFTS
from scotoma.transforms.scale_shift import ScaleShift

IMAGES = torch.rand((20, 1, 8, 8), generator=torch.Generator().manual_seed(0))
MOVES = sorted({*MNIST_SHIFTS, *FASHION_SHIFTS})


@pytest.mark.parametrize(("alpha", "beta"), MOVES)
def test_it_is_the_papers_formula_on_its_scale(alpha, beta):
    theirs = (IMAGES.double() - 0.5) * alpha + beta
    assert torch.allclose(ScaleShift(alpha, beta)(IMAGES).double(), theirs + 0.5, atol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), MOVES)
def test_the_papers_moves_stay_inside_and_change_nothing_in_place(alpha, beta):
    ends = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
    kept = ends.clone()
    black, white = ScaleShift(alpha, beta)(ends).flatten().double().tolist()
    assert torch.equal(ends, kept)
    assert black == pytest.approx((1 - alpha) / 2 + beta, abs=1e-6)
    assert white == pytest.approx((1 + alpha) / 2 + beta, abs=1e-6)
    assert 0 <= black <= white <= 1
    if beta > 0:  # the paper's second cell of each contrast keeps white at white
        assert white == pytest.approx(1, abs=1e-6)


def test_what_leaves_the_range_is_clipped():
    moved = ScaleShift(1.0, 0.3)(IMAGES)
    assert torch.allclose(moved, (IMAGES + 0.3).clamp(0, 1))
