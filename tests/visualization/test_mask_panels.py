"""The four panels of an explained image, as HTML."""

import base64
import io
import re

import numpy as np
from PIL import Image

from saliencykit.visualization.mask_panels import mask_panels

TEXTS = ("image: 1", "mask: 2", "kept: 3", "dropped: 4")


def shown(page):
    addresses = re.findall(r"base64,([^']+)'", page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))), float) for each in addresses]


def test_kept_is_sharp_inside_of_the_mask_and_dropped_outside():
    image = np.random.default_rng(0).random((160, 240, 1)).repeat(3, 2).astype(np.float32)
    mask = np.zeros((160, 240), np.float32)
    mask[:, 120:] = 1
    whole, heatmap, kept, dropped = shown(mask_panels(image, mask, "a", "", TEXTS, height=160))
    assert whole.shape == heatmap.shape == kept.shape == dropped.shape
    for part, inside, outside in ((kept, 150, 20), (dropped, 20, 150)):
        assert part[:, inside : inside + 60].std() > 3 * part[:, outside : outside + 60].std()


def test_panels_are_escaped_and_have_their_texts():
    image, mask = np.zeros((8, 16, 3), np.float32), np.ones((8, 16), np.float32)
    page = mask_panels(image, mask, "<b>", "c & d", ("<i>", *TEXTS[1:]), height=50)
    assert "&lt;b&gt;</b>: c &amp; d" in page
    assert "<i>" not in page
    assert all(text in page for text in TEXTS[1:])


def test_the_heat_map_has_its_color_bar():
    page = mask_panels(np.zeros((8, 8, 3)), np.ones((8, 8)), "a", "", TEXTS, height=50)
    assert page.count("linear-gradient") == 1
    assert "mask: 2" in page.partition("linear-gradient")[0]
