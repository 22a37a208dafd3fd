"""The published figures agree with one another and with what the paper says of them."""

import pytest

from scotoma.papers.zhang2019.published import FIGURE4, FIGURE5, IMAGES, TABLE1, TABLE2, TABLE3
from scotoma.probes.blindspots.grid import FASHION_SHIFTS, MNIST_SHIFTS, contrast_shifts


@pytest.mark.parametrize("table", [TABLE2, TABLE3], ids=["table2", "table3"])
def test_every_cell_is_a_cell(table):
    for cell in table:
        # 2,000 images were attacked: every rate is a multiple of a twentieth of a percent
        for rate in (cell.success, cell.scaled):
            assert rate is None or abs(rate * IMAGES - round(rate * IMAGES)) < 1e-6
        assert (cell.scaled is None) == ((cell.alpha, cell.beta) == (1, 0))
        assert cell.scaled is None or cell.scaled <= cell.success <= 1
        assert 0.8 < cell.accuracy < 1
        # no pixel leaves [-0.5, 0.5]
        assert cell.beta == 0 or cell.beta == pytest.approx((1 - cell.alpha) / 2)


def test_table_1_repeats_the_first_cells_of_tables_2_and_3():
    for data, table in {"mnist": TABLE2, "fashion-mnist": TABLE3}.items():
        assert TABLE1[data][1:] == (table[0].success, table[0].accuracy)
    assert list(TABLE1.values()) == sorted(TABLE1.values())


def test_figures_show_cells_of_the_tables():
    grids = {"mnist": MNIST_SHIFTS, "fashion-mnist": FASHION_SHIFTS}
    tables = {"mnist": TABLE2, "fashion-mnist": TABLE3}
    for data, grid in grids.items():
        assert set(FIGURE4[data]) <= set(grid)
        assert FIGURE5[data] in grid
        distances = list(FIGURE4[data].values())
        assert distances == sorted(distances, reverse=True)
        assert (
            contrast_shifts(data) == grid == tuple((cell.alpha, cell.beta) for cell in tables[data])
        )
