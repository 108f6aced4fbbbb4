from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.explanation.result import Explanation


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


@pytest.fixture
def answer():
    g = torch.Generator().manual_seed(0)
    mask = torch.zeros(2, 1, 6, 8)
    mask[0, 0, 1:3, 2:7] = 0.75
    mask[0, 0, 1, 2] = 0.4
    return Explanation(
        images=torch.rand(2, 3, 6, 8, generator=g),
        labels=torch.tensor([2, 0]),
        mask=mask,
        logits=torch.randn(2, 3, generator=g),
        preserved=torch.randn(2, 3, generator=g),
        destroyed=torch.randn(2, 3, generator=g),
        class_names=("ant", "bee", "cat"),
        provenance={"masker": "rise"},
    )


def test_probabilities(answer):
    for got, logits in [
        (answer.probability, answer.logits),
        (answer.kept, answer.preserved),
        (answer.dropped, answer.destroyed),
    ]:
        np.testing.assert_allclose(got.numpy(), softmax(logits.numpy())[[0, 1], [2, 0]], rtol=1e-5)


def test_a_skipped_check_has_no_probabilities(answer):
    bare = replace(answer, preserved=None, destroyed=None)
    assert (bare.kept, bare.dropped, bare.verdicts) == (None, None, None)
    assert "kept" not in repr(bare)


def test_area_names_and_length(answer):
    assert len(answer) == 2
    assert answer.area.tolist() == pytest.approx([(9 * 0.75 + 0.4) / 48, 0])
    assert answer.label_names == ("cat", "ant")
    assert replace(answer, class_names=None).label_names == ("2", "0")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_heatmaps_are_numpy(answer, dtype):
    maps = replace(answer, mask=answer.mask.to(dtype)).heatmaps()
    assert (maps.shape, maps.dtype) == ((2, 6, 8), np.float32)
    np.testing.assert_allclose(maps, answer.mask[:, 0].numpy(), atol=1e-3)


def test_boxes(answer):
    boxes = answer.boxes()
    assert boxes.dtype == torch.float32
    assert boxes.tolist() == [[2, 1, 7, 3], [0, 0, 8, 6]]  # an empty mask gives the whole image
    assert answer.boxes(0.4)[0].tolist() == [2, 1, 7, 3]
    assert answer.boxes(0.8)[0].tolist() == [0, 0, 8, 6]
    for wrong in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match=r"boxes\(threshold=.*\) takes a number in \(0, 1\]"):
            answer.boxes(wrong)


def test_boxes_are_in_the_source_image(answer):
    place = Geometry(source_size=(12, 20), region=(2.0, 0.0, 18.0, 12.0), size=(6, 8))
    boxes = replace(answer, geometries=(place, None)).boxes()
    assert boxes.tolist() == [[2 + 2 * 2, 2, 2 + 7 * 2, 6], [0, 0, 8, 6]]


@pytest.mark.parametrize("style", ["outline", "heatmap", "kept"])
def test_overlays_are_drawn_and_saved_in_each_style(answer, style, tmp_path):
    drawn = answer.overlay(style=style)
    with Image.open(answer.save(tmp_path, style=style) / "overlay-0000.png") as saved:
        assert np.array_equal(np.asarray(saved), np.asarray(drawn))
    assert (drawn.width > 1.1 * drawn.height * 8 / 6) == (style == "heatmap")


def test_in_image(answer):
    place = Geometry(source_size=(12, 20), region=(2.0, 0.0, 18.0, 12.0), size=(6, 8))
    first, second = replace(answer, geometries=(place, None)).to_source()
    assert torch.equal(first, place.to_source(answer.mask[:1]))
    assert torch.equal(second, answer.mask[1:])
    assert torch.equal(torch.cat(answer.to_source()), answer.mask)


def test_printed_form(answer):
    lines = repr(answer).splitlines()
    assert lines[0] == "Explanation of 2 image(s) by rise"
    assert lines[1].startswith("  cat: ")
    assert "kept" in lines[1]
    assert f"area 14.9%: {answer.verdicts[0].words}" in lines[1]
    many = Explanation(
        torch.zeros(13, 1, 2, 2),
        torch.zeros(13, dtype=torch.int64),
        torch.ones(13, 1, 2, 2),
        torch.zeros(13, 2),
    )
    assert repr(many).splitlines()[-1] == "  ... and 3 more"


def test_it_is_immutable(answer):
    with pytest.raises(FrozenInstanceError):
        answer.mask = answer.mask * 0
