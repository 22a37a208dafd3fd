import pytest
import torch

from scotoma.transforms.gamma import Gamma


@pytest.mark.parametrize("exponent", [0.4, 1.75])
def test_a_power_with_black_and_white_where_they_are(exponent):
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0]).reshape(1, 1, 2, 2)
    changed = Gamma(exponent)(levels).flatten().tolist()
    assert changed == pytest.approx([0, 0.25**exponent, 0.5**exponent, 1], abs=1e-6)
