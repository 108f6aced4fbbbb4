"""explain with image files: several classes, a class against another one, several regions."""

import json

import numpy as np
import pytest
from PIL import Image

FAST = ("--masker", "cam", "--json")


def test_each_class_is_a_row(command, tmp_path):
    code, out, err = command("explain", "--label", "3", "--label", "goldfish", *FAST)
    assert code == 0, err
    rows = json.loads(out)["images"]
    assert [row["label"] for row in rows] == [3, 0]
    assert rows[0]["image"] == rows[1]["image"]
    assert (tmp_path / "explanation" / "overlay-0001.png").exists()
    code, out, err = command("explain", "--label", "3", "--label", "goldfish", "--masker", "cam")
    assert code == 0, err
    lines = [line for line in out.splitlines() if ": this" in line or ": the answer" in line]
    assert "goldfish" in " ".join(lines), "a verdict of one of several classes names the class"
    assert "demo photo" not in " ".join(lines)


def test_each_region_is_a_row(command):
    code, out, err = command("explain", "--regions", "2", *FAST)
    assert code == 0, err
    rows = json.loads(out)["images"]
    assert len(rows) == 2
    assert rows[0]["label"] == rows[1]["label"]


def test_a_class_is_explained_against_another_one(command):
    code, out, err = command("explain", "--label", "3", "--against", "goldfish", *FAST)
    assert code == 0, err
    contrast = json.loads(out)
    assert "against=0" in contrast["provenance"]["model"]
    assert [row["label"] for row in contrast["images"]] == [3]


@pytest.mark.parametrize("form", ["image", "directory"])
def test_a_pixel_range_is_given_once_for_images_and_directories(command, tmp_path, form):
    folder = tmp_path / "scans"
    folder.mkdir()
    gray = np.random.default_rng(0).integers(0, 2000, (32, 32)).astype(np.uint16)
    Image.fromarray(gray).save(folder / "scan.png")
    given = folder / "scan.png" if form == "image" else folder
    options = ("--pixel-range", "-100", "2000", "--label", "3", "--no-verify", *FAST)
    code, _, err = command("explain", str(given), *options)
    assert code == 0, err
    assert "is assumed" not in err
    code, _, err = command("explain", "--pixel-range", "9", "2", "--output", "other", *FAST)
    assert code == 2
    assert "black < white" in err


@pytest.mark.slow  # in the quick tests tests/explanation/test_explain_images.py
def test_refining_takes_steps_from_the_masker_of_the_command(command):
    code, out, err = command("explain", "--refine", "2", *FAST)
    assert code == 0, err
    made = json.loads(out)["provenance"]["masker"]
    assert "steps=2" in made
    assert "start=Cam(" in made


def test_a_budget_and_searches_are_in_the_rows(command):
    searches = ("--sufficient", "--destroying")
    code, out, err = command("explain", "--budget", "0.2", *searches, *FAST)
    assert code == 0, err
    result = json.loads(out)
    (row,) = result["images"]
    assert row["area"] == pytest.approx(0.2, abs=0.001)
    assert "with_budget(0.2)" in result["provenance"]["masker"]
    for kind in ("sufficient", "destroying"):
        assert set(row[kind]) == {"area", "probability", "bbox", "form", "queries"}
    _, out, _ = command("explain", *searches, "--masker", "cam")
    assert "of the pixels are enough for" in out
    assert row["sufficient"]["probability"] >= 0.9 * row["probability"] - 1e-6


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--label", "3", "--against", "3"), "contrasted with itself"),
        (("--against", "900"), "class 900 is outside 0..199"),
        (("photos", "--label", "1", "--label", "2"), "are for image files"),
        (("photos", "--regions", "2"), "are for image files"),
        (("photos", "--refine", "9"), "'iterative:steps=9,start=(cam)'"),
        (("--budget", "10"), "a number in (0, 1)"),
    ],
)
def test_what_cannot_be_contrasted_or_repeated_is_one_line(command, tmp_path, options, says):
    (tmp_path / "photos").mkdir()
    code, _, err = command("explain", *options, "--masker", "cam")
    assert code == 2
    assert says in " ".join(err.split())
