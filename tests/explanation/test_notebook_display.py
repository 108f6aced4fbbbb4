"""The overlay, caption and notebook display of an explanation."""

import base64
import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit import InputError, TorchBlackBox, explain
from saliencykit.explanation.result import Explanation
from saliencykit.testing.black_boxes import PlantedEvidence


@pytest.fixture
def black_box_of_8_pixels() -> TorchBlackBox:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4))
    return TorchBlackBox(model, mean=(0.0,) * 3, std=(1.0,) * 3, size=8)


@pytest.fixture
def ten() -> Explanation:
    black_box = PlantedEvidence()
    images, labels = black_box.examples(10, generator=torch.Generator().manual_seed(0))
    return explain(black_box, images, labels, masker="whole-image")


def test_an_index_out_of_range_is_refused(ten: Explanation) -> None:
    for index in (10, -1):
        with pytest.raises(InputError, match=r"has 10 image\(s\), 0\.\.9"):
            ten.overlay(index)


def test_the_overlay_has_the_proportions_of_the_source_image(
    black_box_of_8_pixels: TorchBlackBox,
) -> None:
    photo = Image.new("RGB", (800, 400))
    assert explain(black_box_of_8_pixels, photo, 0, masker="whole-image").overlay().size == (
        800,
        400,
    )


def test_the_notebook_display_is_self_contained_and_escaped(ten: Explanation) -> None:
    named = dataclasses.replace(
        ten, class_names=("<i>", "b", "c", "d"), preserved=None, destroyed=None, provenance={}
    )
    page = named._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 32
    assert "and 2 more, by a masker<" in page
    assert "and 2 more, by WholeImage<" in ten._repr_html_()
    assert "<i>" not in page
    assert ten.caption(0).count("%") == 4
    assert "kept" not in named.caption(0)


def test_the_notebook_display_has_four_panels_with_numbers_and_the_verdict(
    ten: Explanation,
) -> None:
    row = ten.panels(3)
    texts = re.findall(r"<figcaption[^>]*>([^<]*?)(?: &ensp;)?<", row)  # before the color bar
    kept, dropped = (f"{float(each[3]):.1%}" for each in (ten.kept, ten.dropped))
    assert texts[1:] == ["mask: 100.0% of the pixels", f"kept: {kept}", f"dropped: {dropped}"]
    assert ten.verdicts[3].words in row
    unverified = dataclasses.replace(ten, preserved=None, destroyed=None).panels(3)
    assert re.findall(r"<figcaption[^>]*>([^<]*)<", unverified)[2:] == ["kept", "dropped"]


def test_the_notebook_display_of_a_large_photo_is_small(
    black_box_of_8_pixels: TorchBlackBox,
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (600, 800, 3), dtype=np.uint8)
    answer = explain(black_box_of_8_pixels, Image.fromarray(noise), 0, masker="whole-image")
    page = answer._repr_html_()
    shown = Image.open(io.BytesIO(base64.b64decode(page.split("base64,")[1].split("'")[0])))
    assert (shown.size, shown.format) == ((317, 238), "JPEG")
    assert answer.overlay().size == (800, 600), "the overlay itself is not reduced"
