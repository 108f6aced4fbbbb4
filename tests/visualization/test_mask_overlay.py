"""Overlays and the notebook display."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit import InputError, TorchBlackBox, explain
from saliencykit.explanation.result import Explanation
from saliencykit.testing.black_boxes import PlantedEvidence
from saliencykit.visualization.mask_overlay import CONTOUR, caption, overlay


def half_mask(size: tuple[int, int] = (40, 60)) -> Explanation:
    mask = torch.zeros(1, 1, *size)
    mask[..., : size[1] // 2] = 1
    images = torch.full((1, 3, *size), 0.8)
    return Explanation(
        images=images, labels=torch.tensor([1]), mask=mask, logits=torch.tensor([[0.0, 1.0]])
    )


def test_the_kept_half_shines_and_the_rest_is_dim_with_a_line_between() -> None:
    pixels = np.asarray(overlay(half_mask()))
    height, width = pixels.shape[:2]
    assert height == 320  # small images are enlarged
    left, right = pixels[: height // 2, : width // 3], pixels[: height // 2, 2 * width // 3 :]
    assert abs(int(left.mean()) - 204) <= 1
    assert right.mean() < 0.4 * left.mean()
    assert (pixels[height // 2] == CONTOUR).all(1).any()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_and_a_full_mask_have_no_line(value: float) -> None:
    answer = half_mask()
    flat = Explanation(
        images=answer.images,
        labels=answer.labels,
        mask=answer.mask * 0 + value,
        logits=answer.logits,
    )
    assert not (np.asarray(overlay(flat)) == CONTOUR).all(2).any()


def test_grey_images_model_space_and_large_pictures_are_displayed() -> None:
    answer = half_mask()
    one = Explanation(
        images=answer.images[:, :1] * 30 - 4,
        labels=answer.labels,
        mask=answer.mask,
        logits=answer.logits,
    )
    assert overlay(one).mode == "RGB"
    large = half_mask((1000, 4000))
    assert max(overlay(large).size) == 1600


def test_an_index_out_of_range_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 image"):
        half_mask().overlay(1)


def test_the_overlay_has_the_proportions_of_the_picture() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4))
    black_box = TorchBlackBox(model, mean=(0.0,) * 3, std=(1.0,) * 3, size=8)
    answer = explain(black_box, Image.new("RGB", (800, 400)), 0, masker="whole-image")
    assert answer.overlay().size == (800, 400)


def test_the_notebook_display_is_self_contained_and_escaped() -> None:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(10, generator=torch.Generator().manual_seed(0))
    answer = explain(black_box, images, labels, masker="whole-image")
    named = Explanation(
        images=answer.images,
        labels=answer.labels,
        mask=answer.mask,
        logits=answer.logits,
        class_names=("<b>", "b", "c", "d"),
    )
    page = named._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 8
    assert "and 2 more, by a masker<" in page
    assert "and 2 more, by WholeImage<" in answer._repr_html_()
    assert "<b>" not in page
    assert caption(answer, 0).count("%") == 4
    assert "kept" not in caption(named, 0)


def test_the_notebook_display_of_a_large_photo_is_small() -> None:
    grain = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (1200, 1600, 3), dtype=np.uint8)
    )
    black_box = TorchBlackBox(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4)),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        size=8,
    )
    answer = explain(black_box, grain, 0, masker="whole-image")
    page = answer._repr_html_()
    found = Image.open(io.BytesIO(base64.b64decode(page.split("base64,")[1].split("'")[0])))
    assert (found.size, found.format) == ((640, 480), "JPEG")
    assert answer.overlay().size == (1600, 1200)  # that in a file is as it was
