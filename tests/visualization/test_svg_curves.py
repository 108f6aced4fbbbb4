import math
import re

import pytest

from saliencykit.visualization.svg_curves import _ticks, chart, legend


def test_each_masker_has_a_line_through_its_points():
    lines = {
        "a": [(0.0, 0.0, 0.0, 0.5), (1.0, 1.0, 0.5, 1.0)],
        "b": [(0.0, 1.0, math.nan, math.nan), (1.0, math.nan, 0, 0)],
    }
    drawn = chart(lines, "share <of>", "kept")
    assert [drawn.count(f'stroke-width="{width}"') for width in (3.5, 1.5)] == [1, 1]
    assert drawn.count('stroke-width="1"') == 2, "an interval that is not there is not drawn"
    assert drawn.count("<circle") == 3
    assert "share &lt;of&gt;" in drawn
    first = re.search(r'stroke-width="3.5"[^>]*points="([^"]*)"', drawn)[1]
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in first.split())
    assert x0 < x1
    assert y0 > y1, "up is more"
    assert "nan" not in drawn


def test_curves_that_coincide_differ_in_width_and_in_their_gaps():
    points = [(0.0, 0.2, math.nan, math.nan), (1.0, 0.7, math.nan, math.nan)]
    drawn = chart(dict.fromkeys("abcdefghi", points), "x", "y")
    lines = re.findall(r'<polyline fill="none" (stroke-width="[\d.]+") (.*?) points', drawn)
    looks = [re.sub('stroke="[^"]*" ', "", look) for _, look in lines]
    assert len({width for width, _ in lines}) == len(lines) == 9
    assert len(set(looks[:8])) == 7, "solid ones differ in width alone"


def test_a_chart_without_finite_points_is_empty():
    assert chart({"a": [(0.1, math.nan, math.nan, math.nan)]}, "x", "y") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.07), (-0.3, 0.4), (0, 1234), (0, 3e-5)])
def test_ticks_are_few_and_within_the_axis(low, high):
    ticks = _ticks(low, high)
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_the_legend_is_escaped():
    assert "<li>" in legend(["a<b"])
    assert "a&lt;b" in legend(["a<b"])
