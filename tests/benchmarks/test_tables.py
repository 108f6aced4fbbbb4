"""Choices are made on the tuning rows and applied to the reporting rows; every printed figure by
hand.
"""

import math

import pytest

from benchmarks.columns import at_area, gap, metric, missed, tuned, under_curve
from benchmarks.localization import CROPS, CUTS
from benchmarks.scoring import AREAS, FILLS, SHARES
from benchmarks.tables import put_into, tables


def row(photo, method, good_cut, *, good_crop=2, size=0.5, few=True, kept=0.5):
    """A mask whose box is right (IoU 0.6) at one cut only, and whose best crop has p = 1 and half
    of the area.
    """
    overlap = [0.6 if index == good_cut else 0.4 for index in range(len(CUTS))]
    crops = [[0.5, 0.0, 1] if index == good_crop else [1.0, -1.0, 0] for index in range(len(CROPS))]
    curves = {"insertion": list(SHARES), "deletion": [1 - s for s in SHARES]} if few else {}
    return {
        "photo": photo,
        "method": method,
        "label": 1,
        "top": 1,
        "object": size,
        "few": few,
        "area": 0.3,
        "graded": {fill: [kept, 0.1] for fill in FILLS},
        "overlap": {"all": overlap, "largest": [0.0] * len(CUTS)},
        "crops": {"all": crops, "largest": crops},
        "areas": {
            f"{fill}/{area}": [kept, 0.2] for fill in FILLS for area in (AREAS if few else (0.2,))
        },
        "other_area": 0.06,
        "other_alike": 0.5,
    } | curves


def test_thresholds_come_from_the_tuning_rows():
    tune = [row(f"t{i}", "m", 7, good_crop=4) for i in range(3)]
    choice = tuned(tune)
    assert (choice.cut["all"], choice.mode, choice.crop["all"], choice.count) == (7, "all", 4, 3)
    assert choice.missed(row("r", "m", 7)) == 0
    assert choice.missed(row("r", "m", 8)) == 1


def test_equal_thresholds_take_the_middle():
    flat = row("t", "m", 0)
    flat["overlap"]["all"] = [0.4, 0.4, 0.6, 0.6, 0.6, 0.4, 0.6] + [0.0] * (len(CUTS) - 7)
    assert tuned([flat]).cut["all"] == 3


def test_values_by_hand():
    one = row("r", "m", 3, good_crop=1, kept=0.7)
    assert metric(one, "all", 1) == pytest.approx(math.log(0.5))
    assert metric(one, "all", 2) == pytest.approx(1.0)
    assert missed(one, "all", 3) == 0
    assert gap(one, 0.2) == pytest.approx(0.5)
    assert under_curve(one, "insertion") == pytest.approx(0.5)
    tiny = row("r", "m", 3) | {"truth_crops": [[0.01, -1.0, 0], [1.0, 0.0, 1]]}
    assert metric(tiny, "all", 1) == pytest.approx((math.log(0.05) + 1 + 0) / 2)


def test_a_photo_without_a_column_has_no_value():
    wide = row("r", "m", 3, few=False)
    assert math.isnan(under_curve(wide, "insertion"))
    assert math.isnan(at_area(wide, 0.05, 0))
    assert not math.isnan(at_area(wide, 0.2, 0))


def test_the_tables_name_every_method_and_how_many_photos():
    tune = [
        row(f"t{i}", method, 5)
        for i in range(4)
        for method in ("ours-s0", "ours-s1", "cam", "rise")
    ]
    report = [
        row(f"r{i}", method, 5 if i % 4 else 6, few=i < 6)
        for i in range(12)
        for method in ("ours-s0", "ours-s1", "cam")
    ]
    report += [row(f"r{i}", "rise", 5, kept=0.4) for i in range(6)]
    text = tables(tune, report, ["ours-s0"])
    first, second = text.split("### The few photos")
    assert "| cam | 12 | 25.0 ±" in first
    assert "| rise |" not in first
    assert "| rise | 6 | 0.0 ±" in second
    assert "value 0.3; " in first  # CUTS[5]
    assert "+33.3 [" in second  # ours misses 2 of the 6 photos that rise has, rise none
    assert "| ours | 2 | 12 | 25.0 [25.0, 25.0] |" in second


def test_a_method_without_tuning_rows_takes_half_of_the_range():
    text = tables([], [row("r", "m", 9), row("s", "m", 9)], [])
    assert CUTS[9] == ("value", 0.5)
    assert "| m | 2 | 0.0 ±" in text


def test_the_tables_go_between_the_comments(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before <!-- results -->old<!-- end of results --> after")
    put_into(page, "results", "new")
    assert page.read_text() == "before <!-- results -->\n\nnew\n\n<!-- end of results --> after"
