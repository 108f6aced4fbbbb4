"""The table of the universal masker: thresholds from the tuning photos, errors on those of the
report, differences on the same photos.
"""

import pytest

from benchmarks.localization import CUTS, MODES
from benchmarks.rows import append
from benchmarks.universal import box_table, errors_of, evidence_table, gap


def row(photo, part, method, right, gap=None):
    """A photo whose box is right at these cuts of the `all` boxes."""
    overlap = {mode: [0.0] * len(CUTS) for mode in MODES}
    for cut in right:
        overlap["all"][cut] = 0.8
    made = {"photo": photo, "method": method, "model": "m", "part": part, "overlap": overlap}
    made |= {"area": 0.4, "other_area": 0.1, "seconds": 0.02}
    return made if gap is None else made | {"areas": {"road/0.1": [gap, 0.0]}}


def test_the_threshold_is_that_of_the_tuning_photos():
    rows = [row("a", "tune", "CAM", [3]), row("b", "report", "CAM", [3])]
    rows += [row("c", "report", "CAM", [5])]
    errors, chosen = errors_of({each["photo"]: each for each in rows})
    assert errors == {"b": 0.0, "c": 1.0}
    assert chosen == f"{CUTS[3][0]} {CUTS[3][1]:g}, all"


def test_methods_are_compared_on_the_photos_that_both_have(tmp_path):
    areas, boxes = tmp_path / "areas.jsonl", tmp_path / "boxes.jsonl"
    for name, right, value in (("CAM", [2], 0.1), ("universal", [2, 3], 0.3)):
        append(boxes, row("a", "tune", name, right))
        for photo in "bcd":
            append(boxes, row(photo, "report", name, right if photo == "b" else []))
            append(areas, row(photo, "report", name, [], value))
    append(boxes, row("e", "report", "CAM", [2]))
    append(areas, row("e", "report", "CAM", [], 0.9))
    files = [areas, boxes]
    cells = [cell.strip() for cell in evidence_table(files).splitlines()[2].split("|")[1:-1]]
    assert cells[:2] == ["m", "3"]
    assert cells[5:8] == ["0.300", "+0.200 [+0.200, +0.200]", ""]
    cells = [cell.strip() for cell in box_table(files).splitlines()[2].split("|")[1:-1]]
    assert cells[:4] == ["m", "3", "66.7", "66.7"]
    assert cells[-1] == "0.25"
    assert gap(row("a", "tune", "CAM", [], 0.5)) == pytest.approx(0.5)
