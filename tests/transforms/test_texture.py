import torch

from scotoma.transforms.texture import Texture

BLACK, WHITE = torch.zeros((1, 3, 28, 28)), torch.ones((1, 3, 28, 28))


def test_black_becomes_at_most_as_light_as_it_says_and_white_stays():
    pattern = Texture(0.2)(BLACK)
    assert pattern.min() == 0
    assert abs(float(pattern.max()) - 0.2) < 1e-6
    assert (pattern == pattern[:, :1]).all(), "grey"
    assert torch.equal(Texture(0.2)(WHITE), WHITE)
    assert torch.allclose(Texture(0.1)(BLACK), pattern / 2)


def test_lighter_pixels_change_less_and_keep_their_order():
    levels = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 1, 8, 8)
    changed = Texture(0.3)(levels)
    assert (changed.diff(dim=0) > 0).all()
    assert torch.allclose(changed - levels, (1 - levels) * Texture(0.3)(levels[:1]), atol=1e-6)


def test_it_is_smooth_and_seeded():
    pattern = Texture(1.0, seed=1)(BLACK)
    assert max(float(pattern.diff(dim=dim).abs().max()) for dim in (2, 3)) < 0.25
    assert float(pattern.std()) > 0.1
    assert not torch.equal(pattern, Texture(1.0, seed=2)(BLACK))
