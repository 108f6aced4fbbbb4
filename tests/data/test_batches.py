from pathlib import Path

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.metric import Sample
from saliencykit.data.annotations import visible_boxes
from saliencykit.data.dataset import Dataset
from saliencykit.testing.black_boxes import PlantedEvidence


def batches(source, black_box, *, batch_size=16, select=None, **options):
    """The batches of a data set."""
    return Dataset.open(source, black_box, **options).batches(batch_size, select=select)


def rows(found_batches):
    """name -> (label, boxes or None, image) of all found_batches, in order."""
    found = {}
    for batch in found_batches:
        assert batch.failure is None, batch.failure
        assert batch.names == batch.sample.names
        for i, name in enumerate(batch.names):
            boxes = None if batch.sample.boxes is None else batch.sample.boxes[i]
            found[name] = int(batch.sample.labels[i]), boxes, batch.sample.images[i]
    return found


def agree(found, truth):
    assert len(found) == len(truth) == 12
    for name, (label, boxes, image) in found.items():
        wanted, corners = truth[Path(name).stem]
        assert label == wanted
        assert torch.allclose(boxes, corners, atol=1e-4)
        assert image.shape == (3, 32, 32)
        for (
            x0,
            y0,
            x1,
            y1,
        ) in boxes.tolist():  # the rectangle is really there: its middle has the color of the class
            assert image[:, int((y0 + y1) / 2), int((x0 + x1) / 2)].argmax() == label


def test_every_form_of_the_twelve_images_gives_the_same_boxes(
    black_box, truth, class_folders, flat, xml, loc_solution, table
):
    agree(rows(batches(class_folders, black_box, boxes=xml)), truth)
    agree(
        rows(batches(str(class_folders), black_box, boxes=str(loc_solution), batch_size=5)),
        truth,
    )
    agree(rows(batches(flat, black_box, boxes=xml)), truth)
    agree(rows(batches(table, black_box)), truth)
    agree(rows(batches(flat, black_box, labels=table, boxes=loc_solution)), truth)


def test_one_rectangle_lies_outside_the_crop_and_is_dropped(truth):
    assert [len(boxes) for _, boxes in truth.values()].count(
        1
    ) == 12  # of the second ones, at the corner of wide images


def test_batches_are_lazy_and_keep_the_order(black_box, flat):
    (flat / "image_05.png").write_bytes(b"not an image")
    found_batches = batches(flat, black_box, batch_size=4)
    first = next(found_batches)
    assert first.indices == (0, 1, 2, 3)
    assert first.sample.boxes is None
    (flat / "image_11.png").unlink()
    rest = list(found_batches)
    assert [r.indices for r in rest] == [(5,), (4, 6, 7), (11,), (8, 9, 10)]
    assert [r.sample is None for r in rest] == [True, False, True, False]
    assert "image_05.png" in rest[0].failure
    assert "no file" in rest[2].failure


def test_images_without_a_label_are_queried_about_the_top_class(black_box, flat, truth):
    found = rows(batches(flat, black_box))
    assert {Path(name).stem: label for name, (label, _, _) in found.items()} == {
        stem: label for stem, (label, _) in truth.items()
    }


def test_limit_and_wanted(black_box, flat):
    assert list(rows(batches(flat, black_box, max_images=3))) == [
        "image_00.png",
        "image_01.png",
        "image_02.png",
    ]
    queried = []

    def wanted(index, name):
        queried.append((index, name))
        return index % 5 == 1

    (flat / "image_02.png").write_bytes(b"")  # never opened
    found_batches = list(batches(flat, black_box, max_images=10, select=wanted))
    assert [r.indices for r in found_batches] == [(1, 6)]
    assert queried[2] == (2, "image_02.png")
    assert len(queried) == 10


def test_samples_are_passed_on(black_box):
    one = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]), (torch.zeros(0, 4),) * 3)
    two = Sample(torch.rand(2, 3, 9, 9), torch.tensor([0, 1]), names=("a", "a"))
    found_batches = list(
        batches([one, two], black_box, max_images=4, select=lambda index, name: index != 1)
    )
    assert [r.names for r in found_batches] == [("0", "2"), ("a",)]
    assert torch.equal(found_batches[0].sample.images, one.images[[0, 2]])
    assert len(found_batches[0].sample.boxes) == 2
    assert [r.names for r in batches([one, two], black_box)][1] == ("a", "a#4")


def test_pairs_of_any_image_and_label(black_box, flat):
    pairs = [
        (flat / "image_00.png", "red"),
        (torch.rand(3, 32, 32), torch.tensor(1)),
        (torch.rand(3, 20, 20), 2),
    ]
    found_batches = list(batches(pairs, black_box))
    assert [r.names for r in found_batches] == [(str(flat / "image_00.png"), "1"), ("2",)]
    assert [r.sample.labels.tolist() for r in found_batches] == [[0, 1], [2]]
    tensor_batches = [(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))]
    assert [r.names for r in batches(tensor_batches, black_box)] == [("0.0", "0.1", "0.2", "0.3")]


def test_a_row_that_cannot_be_used_says_why(black_box):
    nan = torch.full((3, 8, 8), float("nan"))
    reasons = [
        r.failure
        for r in batches(
            [(nan, 0), (torch.rand(3, 8, 8), "purple"), (torch.rand(3, 8, 8), 3)], black_box
        )
    ]
    assert "NaN" in reasons[0]
    assert "purple" in reasons[1]
    assert "outside 0..2" in reasons[2]


def test_visible_boxes_of_a_padded_input_stay_inside_the_image():
    geometry = Geometry(source_size=(10, 20), region=(0.0, -5.0, 20.0, 15.0), size=(40, 40))
    boxes = torch.tensor([[-3.0, -4.0, 4.0, 2.0], [30.0, 0.0, 40.0, 5.0]])
    assert visible_boxes(boxes, geometry).tolist() == [[0.0, 10.0, 8.0, 14.0]]


@pytest.mark.parametrize("wrong", ["max_images", "batch_size"])
def test_numbers_are_checked_before_anything_is_read(black_box, wrong):
    with pytest.raises(InputError, match=f"{wrong}=0"):
        batches([], black_box, **{wrong: 0})


class Moody(PlantedEvidence):
    """Raises where it is shown a bright image."""

    def __call__(self, images):
        if images.mean() > 0.4:
            raise RuntimeError("too bright for me")
        return super().__call__(images)


def test_a_model_that_raises_on_a_image_without_label_costs_that_image_only():
    dark, bright = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    found = list(
        batches([(dark, None), (bright, None), (dark, None), (bright, 2)], Moody(), batch_size=2)
    )
    assert [batch.names for batch in found] == [("1",), ("0",), ("2", "3")]
    assert [batch.failure for batch in found] == ["RuntimeError: too bright for me", None, None]
    assert found[2].sample.labels[1] == 2
