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
    assert whole.shape == kept.shape == dropped.shape
    assert heatmap.shape[1] > whole.shape[1]
    for part, inside, outside in ((kept, 150, 20), (dropped, 20, 150)):
        assert part[:, inside : inside + 60].std() > 3 * part[:, outside : outside + 60].std()


def test_panels_are_escaped_and_have_their_texts():
    image, mask = np.zeros((8, 16, 3), np.float32), np.ones((8, 16), np.float32)
    page = mask_panels(image, mask, "<b>", "c & d", ("<i>", *TEXTS[1:]), height=50)
    assert "&lt;b&gt;</b>: c &amp; d" in page
    assert "<i>" not in page
    assert all(text in page for text in TEXTS[1:])


def test_panels_of_a_row_have_one_height_on_the_screen():
    image, mask = np.zeros((100, 300, 3), np.float32), np.ones((100, 300), np.float32)
    page = mask_panels(image, mask, "a", "", TEXTS, height=50)
    grow = [float(each) for each in re.findall(r"flex:(\d+\.\d+) 1 0'", page)]
    sizes = [part.shape[1] / part.shape[0] for part in shown(page)]
    assert np.allclose(grow, sizes, rtol=0.05)
