"""What the drawings show, read back from their SVG text."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image
from sample_findings import blindspots, distance, findings, robustness, tiles

from scotoma.report.figures import draw
from scotoma.report.svg import for_page
from scotoma.results.finding import (
    Bars,
    Curve,
    Finding,
    Gallery,
    Heatmap,
    RateOverHistogram,
    Row,
    Scatter,
)

SVG = "{http://www.w3.org/2000/svg}"


def described(
    tables: dict[str, list[Row]] | None = None, images: dict[str, np.ndarray] | None = None
) -> Finding:
    return Finding(
        "probe", "Question?", "holds", "rule", "Headline.", tables=tables or {}, images=images or {}
    )


def texts(document: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(document).iter(f"{SVG}text")]


def embedded(document: str) -> list[np.ndarray]:
    """The pixels of the pictures in a drawing, (h, w, 4), 0 to 255."""
    pictures = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", document)
    return [
        np.array(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGBA"))
        for picture in pictures
    ]


def path_starts(document: str, colour: str) -> int:
    """How many separate strokes of a colour the drawing has."""
    paths = re.findall(rf'<path d="([^"]*)"[^>]*style="fill: none; stroke: {colour}', document)
    return sum(path.count("M") for path in paths)


@pytest.mark.parametrize("finding", findings(), ids=lambda finding: finding.probe)
def test_every_drawing_is_xml_with_a_title_and_a_description(finding):
    for figure in finding.figures:
        document = ElementTree.fromstring(draw(figure, finding))
        assert document.get("role") == "img"
        assert document.findtext(f"{SVG}title")
        assert document.findtext(f"{SVG}desc") == figure.caption


def test_text_stays_text_in_a_generic_font():
    document = draw(robustness().figures[0], robustness())
    assert {"perturbation size (L-inf)", "robust accuracy", "claimed eps", "PGD, 40 steps"} <= set(
        texts(document)
    )
    assert set(re.findall(r"font-family: ([^;\"]*)", document)) == {"sans-serif"}


@pytest.mark.parametrize("finding", findings()[:3], ids=lambda finding: finding.probe)
def test_drawing_twice_gives_the_same_bytes(finding):
    for figure in finding.figures:
        assert draw(figure, finding) == draw(figure, finding)


def test_the_readers_own_matplotlib_style_changes_nothing_and_is_left_as_it_was():
    finding = robustness()
    expected = draw(finding.figures[0], finding)
    with mpl.rc_context({"font.size": 20, "axes.grid": False, "svg.fonttype": "path"}):
        assert draw(finding.figures[0], finding) == expected
        assert mpl.rcParams["font.size"] == 20


def test_names_are_drawn_as_they_are():
    rows = [
        {"group": group, "x": x, "y": 0.5} for group in ("$\\alpha$ <b>", "a & b") for x in (0, 1)
    ]
    figure = Curve("c", "<i>caption</i>", "t", "x", "y", "x $", "y", group="group")
    assert {"$\\alpha$ <b>", "a & b", "x $"} <= set(texts(draw(figure, described({"t": rows}))))


def test_a_null_in_a_curve_is_a_gap():
    def strokes(values: list[float | None]) -> int:
        rows = [{"x": x, "y": y} for x, y in enumerate(values)]
        return path_starts(
            draw(Curve("c", "c", "t", "x", "y", "x", "y"), described({"t": rows})), "#0072b2"
        )

    whole, broken = strokes([0.9, 0.8, 0.7, 0.6, 0.5]), strokes([0.9, 0.8, None, 0.6, 0.5])
    assert broken == whole + 1


@pytest.mark.parametrize("points", [2, 21, 101, 1000])
def test_a_long_curve_has_few_markers(points: int):
    rows = [{"x": x, "y": x / points} for x in range(points)]
    document = draw(Curve("c", "c", "t", "x", "y", "x", "y"), described({"t": rows}))
    markers = len(re.findall(r'<use [^>]*style="fill: #0072b2', document))
    assert markers == points if points < 40 else 20 <= markers <= 40


def test_marks_that_are_near_each_other_stand_on_different_lines():
    rows = [{"x": x, "y": x} for x in (0.0, 1.0)]
    figure = Curve(
        "c",
        "c",
        "t",
        "x",
        "y",
        "x",
        "y",
        marks={"first mark": 0.5, "second mark": 0.52, "far": 1.0},
    )
    document = ElementTree.fromstring(draw(figure, described({"t": rows})))
    places = {text.text: text.get("y") for text in document.iter(f"{SVG}text")}
    assert places["first mark"] != places["second mark"]
    assert places["first mark"] == places["far"]


def test_bars_are_as_long_as_their_rates_and_a_null_is_a_dash():
    rows = [{"l": "whole", "v": 1.0}, {"l": "half", "v": 0.5}, {"l": "none", "v": None}]
    rows = [row | {"v_low": row["v"], "v_high": row["v"]} for row in rows]
    document = draw(Bars("b", "b", "t", "l", {"rate": "v"}, "rate"), described({"t": rows}))
    bars = re.findall(
        r'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*" clip-path[^>]*style="fill: #0072b2',
        document,
    )
    whole, half = (float(right) - float(left) for left, right in bars if right != left)
    assert half == pytest.approx(whole / 2, rel=1e-4)
    assert "–" in texts(document)
    assert texts(document).index("whole") < texts(document).index("half")


def test_a_bin_without_images_has_a_share_and_no_rate():
    finding = distance()
    document = draw(finding.figures[0], finding)
    points = re.findall(r'<use [^>]* x="[1-9][^>]*fill: #0072b2', document)
    assert len(points) == sum(row["rate"] is not None for row in finding.tables["bins"]) == 7


def test_points_that_were_not_reached_stand_above_the_others():
    rows = [{"x": 1.0, "y": 0.4}, {"x": 2.0, "y": 0.8}, {"x": 5.0, "y": None}]
    document = draw(Scatter("s", "s", "t", "x", "y", "x", "y"), described({"t": rows}))

    def points(colour: str) -> list[tuple[float, float]]:
        found = re.findall(rf'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: {colour}', document)
        return [(float(x), float(y)) for x, y in found]

    legend_and_dots, legend_and_triangle = points("#0072b2"), points("#d55e00")
    assert len(legend_and_dots) == 3
    assert len(legend_and_triangle) == 2
    triangle = max(legend_and_triangle, key=lambda point: point[1])
    dots = sorted(legend_and_dots, key=lambda point: point[1])[1:]
    assert all(triangle[1] < y and triangle[0] > x for x, y in dots), "above, and at its own x"
    assert "not reached" in texts(document)


def test_points_of_each_group_have_a_colour_and_a_name():
    rows = [{"x": float(i), "y": 0.5 - i, "set": "training" if i % 3 else "test"} for i in range(9)]
    document = draw(Scatter("s", "s", "t", "x", "y", "x", "y", group="set"), described({"t": rows}))
    assert {"training", "test"} <= set(texts(document))
    in_legend = 1
    for colour, count in (("#0072b2", 3), ("#d55e00", 6)):
        assert len(re.findall(rf'<use [^>]*style="fill: {colour}', document)) == count + in_legend
    missing = draw(
        Scatter("s", "s", "t", "x", "y", "x", "y", group="set"),
        described({"t": [*rows, rows[0] | {"y": None}]}),
    )
    assert {"training", "test", "not reached"} <= set(texts(missing))


def test_bars_that_are_no_rates_have_an_axis_that_fits():
    rows = [
        {"l": "large", "v": 7.0, "v_low": 6.5, "v_high": 8.0},
        {"l": "small", "v": 3.5, "v_low": None, "v_high": None},
    ]
    document = draw(
        Bars("b", "b", "t", "l", {"nats": "v"}, "nats", rates=False),
        described({"t": rows}),
    )
    bars = re.findall(
        r'<path d="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]*" clip-path[^>]*style="fill: #0072b2',
        document,
    )
    large, small = (float(right) - float(left) for left, right in bars)
    assert small == pytest.approx(large / 2, rel=1e-4)
    assert "8" in texts(document)


def test_nothing_is_said_of_points_that_were_not_reached_when_all_were():
    rows = [{"x": 1.0, "y": 0.4}, {"x": 2.0, "y": 0.8}]
    assert "not reached" not in texts(
        draw(Scatter("s", "s", "t", "x", "y", "x", "y"), described({"t": rows}))
    )


def plane(values: list[list[float | None]]) -> list[Row]:
    """Cells with y up and x to the right, harmless where the value exceeds 1/2; None has no row."""
    return [
        {"x": 0.1 * x, "y": 0.5 * y, "v": value, "harmless": value > 0.5}
        for y, line in enumerate(values)
        for x, value in enumerate(line)
        if value is not None
    ]


def test_the_cells_of_a_heat_map_have_their_colours_places_and_numbers():
    figure = Heatmap("m", "m", "t", "x", "y", "v", "contrast", "background", "robust accuracy")
    rows = plane([[1.0, 0.5], [0.0, None]])
    document = draw(
        figure, described({"t": [*rows, {"x": 0.1, "y": 0.5, "v": None, "harmless": False}]})
    )
    assert document == draw(figure, described({"t": rows})), "null is as blank as no row"
    cells = re.findall(
        r'<path d="M ([\d.]+) ([\d.]+) [^"]*" clip-path[^>]*style="fill: (#[0-9a-f]{6}); '
        r"stroke: #fff",
        document,
    )
    (x, y, high), (right, _, _), (_, up, low) = (
        (float(a), float(b), colour) for a, b, colour in cells
    )
    assert right > x
    assert up < y, "the larger y is higher"
    assert (high, low) == ("#00629b", "#c44e00")
    words = texts(document)
    assert {"100.0", "50.0", "0.0", "contrast", "background", "robust accuracy"} <= set(words)
    assert "harmless" not in words


def test_a_ring_leaves_the_number_of_its_cell_readable():
    figure = Heatmap("m", "m", "t", "x", "y", "v", "x", "y", "v", marks={"worst": (0.1, 0.5)})
    document = draw(figure, described({"t": plane([[1.0, 0.5], [0.0, 0.75]])}))
    rings = [each.start() for each in re.finditer(r"<use [^>]*stroke: #15181d", document)]
    assert rings
    assert document.index(">75.0</text>") > min(rings), "what is drawn later covers the ring"


def test_the_border_of_a_heat_map_goes_once_around_its_region():
    figure = Heatmap(
        "m",
        "m",
        "t",
        "x",
        "y",
        "v",
        "x",
        "y",
        "rate",
        region="harmless",
        marks={"worst": (0.15, 0.0)},
    )

    def sides(values: list[list[float | None]]) -> int:
        document = draw(figure, described({"t": plane(values)}))
        assert {"harmless", "worst"} <= set(texts(document))
        return len(
            re.findall(
                r'<path d="M [\d.]+ [\d.]+ \nL [\d.]+ [\d.]+ \n?" clip-path[^>]*stroke: #15181d',
                document,
            )
        )

    assert sides([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]) == 4
    assert sides([[1.0, 1.0, 0.0], [1.0, None, 0.0]]) == 8
    assert sides([[0.0, 0.0]]) == 0


def test_a_wide_heat_map_has_no_numbers_in_its_cells():
    rows = plane([[0.25] * 30, [0.75] * 30])
    words = texts(
        draw(Heatmap("m", "m", "t", "x", "y", "v", "x", "y", "rate"), described({"t": rows}))
    )
    assert not {"25.0", "75.0"} & set(words)


CELL = (
    r'<path d="M ([\d.]+) ([\d.]+) [^"]*" clip-path[^>]*style="fill: (#[0-9a-f]{6}); stroke: #fff'
)


def test_a_heat_map_over_names_reads_like_a_table():
    rows = [
        {"to": to, "from": of, "v": v}
        for to, of, v in [
            ("b", "x", 0.0),
            ("b", "a", 1.0),
            ("a", "x", 0.25),
            ("a", "long-name", 1.0),
        ]
    ]
    figure = Heatmap(
        "m", "m", "t", "from", "to", "v", "made on", "shown to", "success", high_is_bad=True
    )
    document = draw(figure, described({"t": rows}))
    cells = [(float(x), float(y), colour) for x, y, colour in re.findall(CELL, document)]
    assert len(cells) == 4, "a pair without a row is blank"
    (x, top, none), (right, beside, all_), (below_x, below, _), _ = cells
    assert (x, top) == (below_x, beside)
    assert right > x, "in the order in which they first appear"
    assert below > top, "the first line is at the top"
    assert (none, all_) == ("#00629b", "#c44e00"), "much success is bad"
    tree = ElementTree.fromstring(document)
    places = {text.text: (text.get("x"), text.get("y")) for text in tree.iter(f"{SVG}text")}
    assert {
        "a",
        "b",
        "x",
        "long-name",
        "made on",
        "shown to",
        "success",
        "0.0",
        "100.0",
        "25.0",
    } <= set(places)


def test_a_heat_map_of_any_numbers_has_a_scale_of_its_own():
    figure = Heatmap("m", "m", "t", "x", "y", "v", "x", "y", "loss", rates=False)

    def shown(values: list[float | None]) -> tuple[list[str], list[str]]:
        document = draw(
            figure, described({"t": [{"x": i, "y": 0, "v": v} for i, v in enumerate(values)]})
        )
        return [colour for _, _, colour in re.findall(CELL, document)], texts(document)

    colours, words = shown([-3.0, 0.25, 12.5, None])
    assert len(colours) == 3
    assert colours[0] == "#f4f2ec"
    assert colours[2] == "#002c47"
    assert {"−3", "0.25", "12.5", "loss"} <= set(words)
    assert shown([-30.0, 2.5, 125.0])[0] == colours, "only the place between the ends counts"
    assert len(shown([7.0, 7.0])[0]) == 2, "a constant has no range"
    assert shown([None, None])[0] == []


def test_numbers_can_be_read_on_every_colour():
    figure = Heatmap("m", "m", "t", "x", "y", "v", "x", "y", "rate")
    document = draw(figure, described({"t": plane([[0.0, 0.25, 0.5, 0.75, 1.0]])}))
    written = re.findall(
        r'style="[^"]*fill: (#15181d|#fdfdfd)[^"]*"[^>]*>([\d.]+)</text>', document
    )
    colours = {number: colour for colour, number in written}
    assert colours == {
        "0.0": "#fdfdfd",
        "25.0": "#15181d",
        "50.0": "#15181d",
        "75.0": "#15181d",
        "100.0": "#fdfdfd",
    }


def test_tiles_keep_their_pixels_and_their_grey_levels():
    finding = blindspots()
    document = draw(finding.figures[1], finding)
    pictures = embedded(document)
    assert len(pictures) == 12
    assert "image-rendering:pixelated" in document.replace(" ", "")
    first = finding.images["examples"][0, 0, 0]
    # Matplotlib writes the rows of a picture from the bottom up and turns it over in the drawing.
    drawn = min(
        (pictures[0], pictures[0][::-1]),
        key=lambda picture: np.abs(picture[..., 0] / 255 - first).max(),
    )
    assert drawn.shape == (8, 8, 4)
    np.testing.assert_allclose(drawn[..., 0] / 255, first, atol=0.51 / 255)


def test_colour_tiles_keep_their_colours():
    images = tiles(1, 2, 3, 6)
    document = draw(
        Gallery("g", "g", "g", ["a", "b"], [["one", "two"]]), described(images={"g": images})
    )
    first = images[0, 0].transpose(1, 2, 0)
    differences = [
        np.abs(turned[..., :3] / 255 - first).max()
        for turned in (embedded(document)[0], embedded(document)[0][::-1])
    ]
    assert min(differences) < 0.51 / 255


@pytest.mark.parametrize(
    "figure",
    [
        Curve("c", "c", "t", "x", "y", "x", "y", group="group", interval=True),
        Bars("b", "b", "t", "l", {"rate": "v"}, "rate"),
        RateOverHistogram("h", "h", "t", "x", "y"),
        Scatter("s", "s", "t", "x", "y", "x", "y"),
        Heatmap("m", "m", "t", "x", "y", "v", "x", "y", "rate"),
        Gallery("g", "g", "g", ["a"], []),
    ],
    ids=lambda figure: type(figure).__name__,
)
def test_an_empty_table_says_so(figure):
    assert texts(draw(figure, described({"t": []}, {"g": np.zeros((0, 1, 1, 8, 8))}))) == [
        "no data to draw"
    ]


def test_all_null_is_drawn_too():
    nothing = {"x": 1.0, "y": None, "y_low": None, "y_high": None}
    finding = described({"t": [nothing, nothing | {"x": 2.0}]})
    assert "not reached" in texts(draw(Scatter("s", "s", "t", "x", "y", "x", "y"), finding))
    assert "robust" in texts(
        draw(Curve("c", "c", "t", "x", "y", "x", "robust", interval=True), finding)
    )


def test_a_missing_column_is_an_error():
    finding = robustness()
    with pytest.raises(KeyError, match="no_such"):
        draw(replace(finding.figures[0], y="no_such"), finding)


def test_in_a_page_ids_are_unique_and_found_and_colours_follow_the_page():
    finding = robustness()
    document = draw(finding.figures[0], finding)
    page = for_page(document, "one") + for_page(document, "two")
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#|labelledby=")([^")]*)', page)) <= set(ids)
    assert "fill: var(--card)" in page
    assert "stroke: var(--series-1)" in page
    assert not re.search(r"(fill|stroke): #", page)
    assert "<?xml" not in page
    assert "<style" not in page


def test_text_that_looks_like_markup_is_left_alone_in_a_page():
    rows = [{"x": x, "y": 1.0} for x in (0, 1)]
    figure = Curve("c", "c", "t", "x", "y", 'id="here" fill: #0072b2', "y")
    assert 'id="here" fill: #0072b2' in texts(for_page(draw(figure, described({"t": rows})), "p"))
