"""The remade tables: thresholds of the tuning rows, intervals, the paper's figures beside."""

import pytest

from benchmarks.localization import CROPS, CUTS, MODES
from benchmarks.paper import OURS, PAPER, paper_tables

BEST = 3  # the threshold that is right


def row(photo, method, *, hit, few, area=0.5):
    overlap = {
        mode: [0.9 if hit and index == BEST else 0.1 for index in range(len(CUTS))]
        for mode in MODES
    }
    searched = [[area, -1.0, True], [0.01, -0.5, True], [1.0, 0.0, True]]
    crops = {mode: [[area, -1.0, True]] * len(CROPS) for mode in MODES}
    facts = {
        "label": 1,
        "p": 0.5,
        "top": 1,
        "top_p": 0.5,
        "object": 0.3,
        "seconds": 0.1,
        "area": 0.3,
    }
    return {
        "photo": photo,
        "method": method,
        "few": few,
        "overlap": overlap,
        "crops": crops,
        "searched": searched,
    } | facts


def test_both_tables_with_the_papers_figures():
    tune = [row(f"t{i}", method, hit=True, few=False) for i in range(4) for method in ("cam", OURS)]
    report = [row(f"p{i}", "cam", hit=i % 2 == 0, few=i < 4) for i in range(8)]
    report += [row(f"p{i}", OURS, hit=True, few=i < 4, area=0.25) for i in range(8)]
    report += [row(f"p{i}", "occlusion", hit=False, few=True) for i in range(4)]
    text = paper_tables(tune, report)
    wide, few = text.split("**The few photos")
    assert "**All photos** (8; the classifier is right for 8)." in wide
    assert "occlusion" not in wide
    cells = [
        cell.strip()
        for cell in next(line for line in wide.splitlines() if line.startswith("| cam")).split("|")
    ]
    assert cells[2] == "8"
    assert cells[3].startswith("50.0 [")
    assert cells[4] == "48.1"
    assert float(cells[5].split()[0]) == pytest.approx(1 - 0.693, abs=1e-3)  # log 0.5 - log p
    assert cells[9].startswith("+50.0 [")
    assert cells[10].startswith("+0.693 [")
    assert cells[11] == "4"
    # the smallest crop counts as 5 % of the photo
    assert float(cells[12].split()[0]) == pytest.approx(-2.996 + 0.5, abs=1e-3)
    assert (
        next(line for line in few.splitlines() if line.startswith("| occlusion"))
        .split("|")[3]
        .strip()
        .startswith("100.0 [")
    )
    assert [line.split("|")[1].strip() for line in few.splitlines() if line.startswith("| ")][
        1:
    ] == ["cam", "occlusion", OURS]


def test_every_method_of_the_table_has_a_place():
    assert set(PAPER) >= {"ground-truth", "whole-image", "center-box", "gradient", "cam", OURS}
