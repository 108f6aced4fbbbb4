"""A whole row of a small network, and a run that was killed and goes on."""

import argparse
import math

import pytest
import torch
from torch import nn

from benchmarks import results
from benchmarks.data import Photo
from benchmarks.localization import CROPS, CUTS
from benchmarks.methods import CHEAP, BlackBoxes, methods
from benchmarks.rows import read_rows
from benchmarks.scoring import AREAS, FILLS, SHARES, Scorer
from benchmarks.split import Record
from benchmarks.tables import tables
from saliencykit.black_boxes.torch_module import TorchBlackBox


@pytest.fixture
def black_boxes():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 1000),
        )
    black_box = TorchBlackBox(net.eval(), mean=(0.5,) * 3, std=(0.5,) * 3, size=32)
    return BlackBoxes(black_box, black_box, black_box)


def entry(number):
    return Record("a", f"{number}.jpg", number, ((0.1, 0.1, 0.6, 0.6), (0.5, 0.5, 0.9, 0.9)))


def photo_of(some):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(some.label))
    return Photo(some.name, image, some.label, torch.tensor(some.boxes) * 32)


def test_a_row_has_every_column_and_they_agree(black_boxes):
    some = entry(3)
    photo = photo_of(some)
    score = Scorer(black_boxes.quick, photo)
    queried = methods(black_boxes, list(CHEAP), {})
    rows = {
        name: results.row_of(
            score,
            photo,
            some,
            name,
            queried[name],
            every_column=True,
            other=name in ("cam", "gradient"),
        )
        for name in CHEAP
    }
    cam = rows["cam"]
    assert len(cam["overlap"]["all"]) == len(cam["overlap"]["largest"]) == len(CUTS)
    assert len(cam["crops"]["all"]) == len(CROPS)
    assert set(cam["graded"]) == set(FILLS)
    assert set(cam["areas"]) == {f"{fill}/{area}" for fill in FILLS for area in AREAS}
    assert cam["insertion"][SHARES.index(0.3)] == pytest.approx(
        cam["areas"]["blur/0.3"][0], abs=1e-4
    )
    assert cam["insertion"][-1] == cam["deletion"][0] == cam["p"]
    assert "other_area" in cam
    whole = rows["whole-image"]
    assert whole["graded"]["blur"][0] == pytest.approx(cam["p"], abs=1e-4)
    assert whole["crops"]["all"][0] == [
        1.0,
        pytest.approx(math.log(cam["p"]), abs=0.2),
        int(whole["top"] == 3),
    ]
    assert "areas" not in whole
    truth = rows["ground-truth"]
    assert [area for area, _, _ in truth["truth_crops"]] == [
        pytest.approx(17 * 17 / 1024, abs=1e-3),
        pytest.approx(13 * 13 / 1024, abs=1e-3),
    ]
    assert "other_area" not in truth


def test_the_other_class_is_fixed_and_another():
    queried = [results.other_class(entry(number)) for number in range(200)]
    assert all(other != number for number, other in enumerate(queried))
    assert queried == [results.other_class(entry(number)) for number in range(200)]
    assert len(set(queried)) > 150


def test_a_killed_run_resumes(black_boxes, tmp_path, monkeypatch):
    entries = [entry(number) for number in range(5)]
    read = []

    def photos(some, black_box):
        read.extend(one.name for one in some)
        return (photo_of(one) for one in some)

    monkeypatch.setattr(results, "black_boxes", lambda model: black_boxes)
    monkeypatch.setattr(results, "part", lambda name: entries)
    monkeypatch.setattr(results, "read", photos)
    monkeypatch.setattr(results, "FEW", {"tune": 2, "report": 2})
    out = tmp_path / "rows.jsonl"

    def run(names, *, part="report", photos=None, few=False, masker=()):
        queried = {
            "model": "x",
            "part": part,
            "few": few,
            "photos": photos,
            "methods": names,
            "masker": list(masker),
            "out": out,
        }
        columns = ["boxes", "crops", "search", "evidence"]
        results.run(argparse.Namespace(**queried, data_set=None, columns=columns))
        return read_rows(out)

    assert len(run(["center-box", "cam"], photos=3)) == 6
    out.write_text(out.read_text()[:-40])  # killed within the last line
    read.clear()
    rows = run(["center-box", "cam", "rise:samples=4"])
    # the first two lack rise, the third a row, the rest both; rise is for the few
    assert len(read) == 2 + 1 + 2
    assert len(rows) == 5 * 2 + 2
    assert sum(row["few"] for row in rows) == 2 * 3
    assert len(run([], masker=["mine=center-box:area=0.2"], few=True)) == 14
    text = tables(rows, read_rows(out), ["mine"])
    assert "| mine | 2 |" in text
