"""Measures of inequality beside closed forms, brute force and each other."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from scotoma.metrics import inequality
from scotoma.metrics.inequality import (
    CONVENTIONS,
    amounts,
    default_block,
    gini,
    herfindahl,
    hoover,
    lorenz,
    regional_gini,
    top_share,
)
from scotoma.utils.errors import InputError


def heavy(n: int, m: int, seed: int = 0) -> Tensor:
    """Amounts of very different sizes, some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn((n, m), generator=generator).mul_(2).exp()
    return values * (torch.rand((n, m), generator=generator) < 0.8)


def noise(n: int, shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(seed))


def pairwise(values: Tensor) -> Tensor:
    """Mean absolute difference of all pairs over twice the mean, the definition."""
    v = values.double()
    return (v[:, :, None] - v[:, None]).abs().mean((1, 2)) / (2 * v.mean(1))


@pytest.mark.parametrize("m", [1, 2, 3, 17, 200])
def test_gini_is_half_the_relative_mean_difference(m: int):
    values = heavy(6, m) + 1e-3
    torch.testing.assert_close(gini(values), pairwise(values), atol=1e-12, rtol=1e-12)


def test_gini_is_the_papers_formula():
    values = [5.0, 0.5, 3.0, 0.0]
    ascending, n = sorted(values), 4
    total = sum((n + 1 - i) * value for i, value in enumerate(ascending, 1)) / sum(ascending)
    assert float(gini(torch.tensor([values]))) == pytest.approx((n + 1 - 2 * total) / n, abs=1e-15)


def test_gini_of_the_simplest():
    m = 150_528
    one = torch.zeros(1, m)
    one[0, 77] = 1e-30
    assert float(gini(one)) == pytest.approx(1 - 1 / m, abs=1e-15)
    assert float(gini(torch.full((1, m), 0.1))) == pytest.approx(0, abs=1e-12)
    assert float(gini(torch.zeros(1, m))) == pytest.approx(0, abs=1e-12)
    assert float(gini(torch.ones(1, 1))) == 0
    halves = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    assert float(gini(halves)) == pytest.approx(0.5, abs=1e-15)
    ramp = torch.arange(1.0, 1001)[None]
    assert float(gini(ramp)) == pytest.approx(999 / 3000, abs=1e-12)  # (m - 1) / (3 m)


def test_gini_of_normal_noise():
    """sqrt(2) - 1 of absolute values, 1 / sqrt(2) of the positive part, at the size of ImageNet."""
    maps = noise(2, (3, 224, 224))
    assert gini(maps).tolist() == pytest.approx([math.sqrt(2) - 1] * 2, abs=0.003)
    assert gini(maps, "positive").tolist() == pytest.approx([math.sqrt(0.5)] * 2, abs=0.003)
    assert torch.equal(gini(maps, "net"), gini(maps, "positive"))


def test_regional_gini_of_normal_noise_tells_the_conventions_apart():
    """Sums of 768 amounts are nearly equal; half of the net sums of noise are below 0."""
    maps = noise(20, (3, 224, 224))
    regional = {
        convention: float(regional_gini(maps, convention).mean()) for convention in CONVENTIONS
    }
    spread = math.sqrt(
        (math.pi / 2 - 1) / 768
    )  # relative, of a sum of |a|; a normal's Gini is spread / sqrt(pi)
    assert regional["absolute"] == pytest.approx(spread / math.sqrt(math.pi), rel=0.05)
    spread = math.sqrt((math.pi - 1) / 768)  # of max(a, 0): mean 1 / sqrt(2 pi), mean square 1/2
    assert regional["positive"] == pytest.approx(spread / math.sqrt(math.pi), rel=0.05)
    assert regional["net"] == pytest.approx(math.sqrt(0.5), abs=0.02)


def test_a_measure_knows_neither_scale_nor_order():
    values = heavy(5, 64)
    moved = values[:, torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    for measure in (gini, hoover, herfindahl, lorenz):
        for factor in (1e-30, 1.0, 1e30):
            torch.testing.assert_close(
                measure(moved * factor), measure(values), atol=1e-6, rtol=1e-5
            )


def test_parts_of_the_work_are_put_together_in_order(monkeypatch):
    values = heavy(13, 64)
    whole = gini(values), lorenz(values), top_share(values, [1, 5])
    monkeypatch.setattr(inequality, "SORTED_AT_ONCE", 200)
    for measured, expected in zip(
        (gini(values), lorenz(values), top_share(values, [1, 5])), whole, strict=True
    ):
        torch.testing.assert_close(measured, expected, atol=1e-14, rtol=1e-14)
    assert gini(heavy(0, 64)).shape == (0,)
    assert lorenz(heavy(0, 64)).shape == (0, 101)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_nan_for_its_image_alone(bad: float):
    values = heavy(3, 10)
    values[1, 4] = bad
    for measured in (
        gini(values),
        hoover(values),
        herfindahl(values),
        lorenz(values)[:, 1],
        top_share(values, [3])[:, 0],
    ):
        assert measured.isnan().tolist() == [False, True, False]
    maps = noise(2, (1, 8, 8))
    maps[0, 0, 3, 3] = math.nan
    for convention in CONVENTIONS:
        assert regional_gini(maps, convention).isnan().tolist() == [True, False]


def test_lorenz_curve_of_known_amounts():
    curve = lorenz(torch.tensor([[4.0, 1.0, 3.0, 2.0]]), 5)[0]
    assert curve.tolist() == pytest.approx([0, 0.1, 0.3, 0.6, 1], abs=1e-15)
    between = lorenz(torch.tensor([[0.0, 1.0]]), 5)[0]
    assert between.tolist() == pytest.approx([0, 0, 0, 0.5, 1], abs=1e-15)
    assert lorenz(torch.zeros(1, 7), 4)[0].tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1], abs=1e-12
    )
    assert lorenz(torch.ones(1, 1), 2)[0].tolist() == [0, 1]


def test_gini_is_twice_the_area_above_the_lorenz_curve():
    values = heavy(5, 60)
    curve = lorenz(values, 61)
    torch.testing.assert_close(
        gini(values), 1 - 2 * torch.trapezoid(curve, dx=1 / 60, dim=1), atol=1e-12, rtol=1e-12
    )
    assert (curve.diff(dim=1) >= -1e-15).all()
    assert (curve.diff(n=2, dim=1) >= -1e-12).all()


def test_hoover_is_the_largest_gap_under_the_diagonal():
    values = heavy(5, 60)
    gap = (torch.linspace(0, 1, 61, dtype=torch.float64) - lorenz(values, 61)).amax(1)
    torch.testing.assert_close(hoover(values), gap, atol=1e-12, rtol=1e-12)
    assert float(hoover(torch.eye(1, 40))) == pytest.approx(1 - 1 / 40)


def test_herfindahl_counts_equal_amounts():
    values = torch.zeros(1, 50)
    values[0, 3:11] = 0.2
    assert 1 / float(herfindahl(values)) == pytest.approx(8)
    assert 1 / float(herfindahl(torch.zeros(1, 50))) == pytest.approx(50)


def test_top_share():
    values = torch.tensor([[1.0, 5.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    shares = top_share(values, [0, 1, 2, 4, 99])
    assert shares[0].tolist() == pytest.approx([0, 0.5, 0.9, 1, 1])
    assert shares[1].tolist() == pytest.approx([0, 0.25, 0.5, 1, 1])
    ordered = heavy(4, 60)
    torch.testing.assert_close(
        top_share(ordered, [15])[:, 0], 1 - lorenz(ordered, 61)[:, 45], atol=1e-12, rtol=1e-12
    )
    assert top_share(values, []).shape == (2, 0)


@pytest.mark.parametrize(
    ("height", "width", "block"),
    [(224, 224, 16), (32, 32, 4), (28, 28, 4), (8, 8, 2), (1, 1, 1), (64, 8, 2)],
)
def test_default_blocks(height: int, width: int, block: int):
    assert default_block(height, width) == block


def brute(maps: Tensor, block: int, convention: str) -> Tensor:
    """Region sums where the block divides the sides."""
    rows = []
    for image in maps.double():
        signed = {"absolute": image.abs(), "positive": image.clamp(min=0), "net": image}[convention]
        sums = [
            float(signed[:, top : top + block, left : left + block].sum())
            for top in range(0, image.shape[1], block)
            for left in range(0, image.shape[2], block)
        ]
        rows.append([max(value, 0) for value in sums])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_regions_are_sums_over_blocks_and_channels(convention: str):
    maps = noise(3, (3, 8, 12))
    expected = brute(maps, 4, convention)
    torch.testing.assert_close(amounts(maps, convention, 4), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(regional_gini(maps, convention, 4), gini(expected))
    turned = maps.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    torch.testing.assert_close(
        regional_gini(turned, convention), regional_gini(maps, convention, 2)
    )


def test_the_conventions_differ_as_they_say():
    """One region of +3 and -2, one of +1: shares 5:1, 3:1 and 1:1."""
    maps = torch.zeros(1, 1, 2, 4)
    maps[0, 0, 0, 0], maps[0, 0, 1, 1], maps[0, 0, 0, 2] = 3, -2, 1
    assert [amounts(maps, convention, 2)[0].tolist() for convention in CONVENTIONS] == [
        [5, 1],
        [3, 1],
        [1, 1],
    ]


@pytest.mark.parametrize("block", [3, 4, 5, 7, 100])
def test_other_sides_are_cut_into_equal_parts(block: int):
    """Evidence is neither lost nor made up, and an even map stays even."""
    maps = noise(2, (2, 11, 9)).abs()
    sums = amounts(maps, "absolute", block)
    assert sums.shape[1] == max(1, round(11 / block)) * max(1, round(9 / block))
    torch.testing.assert_close(sums.sum(1), maps.double().sum((1, 2, 3)))
    assert float(regional_gini(torch.ones(1, 1, 11, 9), "absolute", block)) == pytest.approx(
        0, abs=1e-12
    )


def test_a_pixel_on_the_line_is_shared_by_area():
    maps = torch.tensor([[[[1.0, 2.0, 4.0]]]])  # two parts of a pixel and a half
    assert amounts(maps, "absolute", 2)[0].tolist() == [2, 5]


def test_single_pixels_add_up_channels():
    maps = noise(2, (3, 4, 4))
    torch.testing.assert_close(amounts(maps, "absolute", 1), maps.abs().double().sum(1).flatten(1))
    assert amounts(maps).shape == (2, 48)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gini(torch.tensor([[1.0, -1.0]])), "amounts below 0"),
        (lambda: gini(torch.ones(3)), r"shape \(3,\)"),
        (lambda: gini(torch.ones(3, 0)), "want"),
        (
            lambda: gini(torch.ones(1, 1, 2, 2), "signed"),
            "convention 'signed': want absolute, positive, net",
        ),
        (lambda: regional_gini(torch.ones(1, 1, 2, 2), block=0), "block of 0 pixels"),
        (lambda: lorenz(torch.ones(1, 2), 1), "1 points"),
        (lambda: top_share(torch.ones(1, 2), [3, -1]), "top -1"),
    ],
)
def test_bad_input(call, message: str):
    with pytest.raises(InputError, match=message):
        call()
