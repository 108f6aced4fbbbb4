"""Make the pictures of the docs from pictures that may be shipped: `python docs/pictures.py`."""

from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator

from saliencykit import compose, explain
from saliencykit.alternatives.blur import Blur
from saliencykit.demo import demo_picture
from saliencykit.report import picture_and_mask

ASSETS = Path(__file__).parent / "assets"
WIDTH, CAPTION, GAP = 451, 30, 10


def sheet_of(photo: Image.Image) -> Image.Image:
    """A photo, its mask, what is kept and what is dropped, with the embedded classifier's own probabilities."""
    answer = explain("demo", photo)
    picture, mask = picture_and_mask(answer, 0)
    x, m = torch.from_numpy(picture).permute(2, 0, 1)[None], torch.from_numpy(mask)[None, None]
    blurred = Blur()(x, generator=Generator())
    name = answer.names[0].split(",")[0]
    tiles = [
        (as_picture(x), f"{name}: {answer.probability[0]:.0%}"),
        (answer.overlay().resize((WIDTH, x.shape[2] * WIDTH // x.shape[3])), f"the mask: {answer.area[0]:.0%} of the picture"),
        (as_picture(compose(x, m, blurred)), f"kept alone: {answer.kept[0]:.0%}"),
        (as_picture(compose(x, 1 - m, blurred)), f"replaced: {answer.dropped[0]:.0%}"),
    ]
    height = max(tile.height for tile, _ in tiles)
    sheet = Image.new("RGB", (2 * WIDTH + GAP, 2 * (height + CAPTION) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(18)
    for i, (tile, text) in enumerate(tiles):
        left, top = (i % 2) * (WIDTH + GAP), (i // 2) * (height + CAPTION + GAP)
        sheet.paste(tile, (left, top))
        draw.text((left + 2, top + height + 4), text, fill=(40, 40, 40), font=font)
    return sheet


def as_picture(images: torch.Tensor) -> Image.Image:
    pixels = np.uint8(images[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255 + 0.5)
    picture = Image.fromarray(pixels)
    return picture.resize((WIDTH, picture.height * WIDTH // picture.width))


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    coffee = Image.fromarray(skimage.data.coffee())  # CC0, by Rachel Michetti
    for name, photo in (("cat", demo_picture()), ("coffee", coffee)):
        path = ASSETS / f"{name}.png"
        sheet_of(photo).quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
        print(f"wrote {path.relative_to(ASSETS.parent)}")
