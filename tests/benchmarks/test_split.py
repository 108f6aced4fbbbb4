"""The split is fixed and its parts are disjoint; the few are a fair sample."""

from collections import Counter

import pytest

from benchmarks import split
from benchmarks.split import Record


def made(count):
    boxes = [((0.0, 0.0, side, side), (0.0, 0.0, side, side)) for side in (0.2, 0.5, 0.7, 0.9)]
    return [Record(("a", "b")[i % 3 == 0], f"{i}.jpg", i, boxes[i % 4]) for i in range(count)]


RECORDED = ["report", "report", "report", "report", "train", "tune"]


def test_the_part_of_a_photo_never_changes():
    """Recorded: a change here would let reported photos into the training part."""
    names = (
        "ILSVRC2012_val_00000001.jpg",
        "ILSVRC2012_val_00000002.jpg",
        "ILSVRC2012_val_00039837.jpg",
    )
    entries = [Record(data_set, name, 0) for data_set in split.BOXED for name in names]
    assert [entry.part for entry in entries] == RECORDED


def test_the_shares_of_the_parts_are_as_said():
    counts = Counter(entry.part for entry in made(4000))
    assert counts["train"] / 4000 == pytest.approx(0.51, abs=0.03)
    assert counts["tune"] / 4000 == pytest.approx(0.13, abs=0.02)


def test_sizes_are_grouped_by_the_mean_area():
    assert [entry.size_group for entry in made(4)] == [0, 1, 2, 3]
    assert Record("a", "x", 0, ((0, 0, 1, 1), (0, 0, 0.5, 0.5))).object_area == pytest.approx(0.625)


def test_the_few_are_stratified_and_do_not_depend_on_the_order():
    among = made(1000)
    some = split.few(150, among)
    assert some == split.few(150, among[::-1])
    assert len(set(some)) == 150
    assert set(some) <= set(among)
    whole = Counter((entry.size_group, entry.data_set) for entry in among)
    part = Counter((entry.size_group, entry.data_set) for entry in some)
    assert all(abs(part[key] - count * 0.15) < 1 for key, count in whole.items())


@pytest.mark.data
def test_the_parts_of_the_data_folder(data_folder):
    parts = {name: {entry.name for entry in split.part(name)} for name in split.PARTS}
    assert [len(parts[name]) for name in split.PARTS] == [1179, 314, 861]
    assert len(set.union(*parts.values())) == 1179 + 314 + 861
    assert len(split.training()) == 1879
    assert not (parts["tune"] | parts["report"]) & {entry.name for entry in split.training()}


@pytest.mark.data
def test_photos_are_squashed_with_their_boxes(data_folder):
    from benchmarks.data import mobilenet_v2

    black_box = split.squashing(mobilenet_v2())
    for entry in split.part("tune")[:6]:
        photo = next(split.read([entry], black_box))
        assert photo.image.shape == (1, 3, 224, 224)
        assert photo.boxes.flatten().tolist() == pytest.approx(
            [224 * value for corner in entry.boxes for value in corner], abs=1e-3
        )
