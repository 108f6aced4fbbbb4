"""Make the figures of the docs from images that may be shipped: `python docs/figures.py
[cat] [coffee] [budgets] [parts] [shortcut] [compare]`.

`parts` runs the tutorial on training a masker, a minute or two, and shows the first test images.
`compare` runs the tutorial on comparing methods, a minute, and saves its sheet.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator

from saliencykit import compose, explain
from saliencykit.alternatives import Blur
from saliencykit.demo import demo_image
from saliencykit.visualization import draw_overlay

ASSETS = Path(__file__).parent / "assets"
WIDTH, CAPTION, GAP = 451, 30, 10


def sheet_of(photo: Image.Image) -> Image.Image:
    """A photo, its mask, what is kept and what is dropped, with the probabilities of
    the embedded classifier.
    """
    explanation = explain("demo", photo)
    image, mask = explanation.display_arrays()
    x, m = torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(mask)[None, None]
    blurred = Blur()(x, generator=Generator())
    name = explanation.label_names[0].split(",")[0]
    tiles = [
        (as_image(x), f"{name}: {explanation.probability[0]:.0%}"),
        (
            explanation.overlay().resize((WIDTH, x.shape[2] * WIDTH // x.shape[3])),
            f"the mask: {explanation.area[0]:.0%} of the image",
        ),
        (as_image(compose(x, m, blurred)), f"kept: {explanation.kept[0]:.0%}"),
        (as_image(compose(x, 1 - m, blurred)), f"dropped: {explanation.dropped[0]:.0%}"),
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


def sheet_of_budgets(photo: Image.Image, width: int = 296) -> Image.Image:
    """Nested masks of a photo with what each keeps, and the regions that searches find."""
    explanation = explain("demo", photo, sufficient=True, destroying=True)
    crop = explain("demo", photo, sufficient=True, region_form="crop").sufficient
    image, _ = explanation.display_arrays()
    photo = photo.resize((image.shape[1], image.shape[0]))
    gray = Image.new("RGB", photo.size, (127, 127, 127))

    def shown(mask: torch.Tensor) -> Image.Image:
        visible = Image.fromarray(np.uint8(mask[0].float().numpy() * 255)).resize(photo.size)
        return Image.composite(photo, gray, visible)

    tiles = []
    for area in (0.05, 0.1, 0.2, 0.4):
        budgeted = explain("demo", demo_image(), budget=area)
        tiles.append((shown(budgeted.mask[0]), f"{area:.0%}: keeps {budgeted.kept[0]:.0%}"))
    enough, gone = explanation.sufficient, explanation.destroying
    tiles.append((photo, f"the whole image: {explanation.probability[0]:.0%}"))
    tiles.append(
        (shown(enough.mask[0]), f"{enough.area[0]:.0%} is enough for {enough.probability[0]:.0%}")
    )
    tiles.append((shown(crop.mask[0]), f"crop of {crop.area[0]:.0%}: {crop.probability[0]:.0%}"))
    tiles.append((shown(~gone.mask[0]), f"without {gone.area[0]:.0%}: {gone.probability[0]:.0%}"))
    height = width * photo.height // photo.width
    sheet = Image.new("RGB", (4 * (width + GAP) - GAP, 2 * (height + CAPTION) + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for i, (tile, text) in enumerate(tiles):
        left, top = (i % 4) * (width + GAP), (i // 4) * (height + CAPTION + GAP)
        sheet.paste(tile.resize((width, height)), (left, top))
        draw.text((left + 2, top + height + 4), text, fill=(40, 40, 40), font=font)
    return sheet


def sheet_of_parts(page: dict[str, Any], columns: int = 6, side: int = 144) -> Image.Image:
    """The first test photos of different shapes: the photo with the model's prediction, the mask,
    and the masked region on gray.
    """
    rows = slice(0, 2 * columns, 2)
    images, mask, names = page["test"][rows], page["mask"][rows], page["PARTS"]
    probability, label = page["logits"][rows].softmax(1).max(1)
    strips = [images, mask.expand_as(images), compose(images, mask, torch.full_like(images, 0.5))]
    sheet = Image.new(
        "RGB", (columns * (side + GAP) - GAP, CAPTION + 3 * (side + GAP) - GAP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column in range(columns):
        left = column * (side + GAP)
        text = f"{names[int(label[column])]}: {probability[column]:.0%}"
        draw.text((left + 2, 6), text, fill=(40, 40, 40), font=ImageFont.load_default(14))
        for row, strip in enumerate(strips):
            sheet.paste(
                as_image(strip[column : column + 1], side), (left, CAPTION + row * (side + GAP))
            )
    return sheet


def sheet_of_sevens(page: dict[str, Any], columns: int = 6, side: int = 144) -> Image.Image:
    """Sevens of the archive, and the class activation maps of the classifier before and after."""
    images = page["photos"][page["test"]][page["sevens"]][:columns]
    masks = [
        explain(page[name], images, 7, masker="cam", verify=False) for name in ("before", "after")
    ]
    sheet = Image.new("RGB", (columns * (side + GAP) - GAP, 3 * (CAPTION + side)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, text in enumerate(("sevens in the archive", "before", "after, on masked backgrounds")):
        top = row * (CAPTION + side)
        draw.text((2, top + 6), text, fill=(40, 40, 40), font=ImageFont.load_default(14))
        for column in range(columns):
            image = as_image(images[column : column + 1], side)
            if row:
                mask = as_image(
                    masks[row - 1].mask[column : column + 1].expand(-1, 3, -1, -1), side
                )
                arrays = np.asarray(image) / 255, np.asarray(mask)[..., 0] / 255
                image = draw_overlay(*arrays, style="heatmap").crop((0, 0, side, side))
            sheet.paste(image, (column * (side + GAP), top + CAPTION))
    return sheet


def run_page(page: Path) -> dict[str, Any]:
    """The variables after running a page's Python blocks."""
    scope: dict[str, Any] = {"__name__": "page"}
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for block in re.findall(
                r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
            ):
                exec(compile(block, page.name, "exec"), scope)
        finally:
            os.chdir(before)
    return scope


def as_image(images: torch.Tensor, width: int = WIDTH) -> Image.Image:
    pixels = np.uint8(images[0].permute(1, 2, 0).clamp(0, 1).numpy() * 255 + 0.5)
    image = Image.fromarray(pixels)
    return image.resize((width, image.height * width // image.width))


if __name__ == "__main__":
    ASSETS.mkdir(exist_ok=True)
    makers = {
        "cat": lambda: sheet_of(Image.fromarray(skimage.data.chelsea())),  # by Stefan van der Walt
        "coffee": lambda: sheet_of(demo_image()),
        "budgets": lambda: sheet_of_budgets(demo_image()),
        "parts": lambda: sheet_of_parts(
            run_page((ASSETS / "../tutorials/train-a-masker.md").resolve())
        ),
        "shortcut": lambda: sheet_of_sevens(
            run_page((ASSETS / "../tutorials/find-a-shortcut.md").resolve())
        ),
        "compare": lambda: run_page((ASSETS / "../tutorials/compare-methods.md").resolve())[
            "sheet"
        ],
    }
    for name in sys.argv[1:] or makers:
        path = ASSETS / f"{name}.png"
        makers[name]().quantize(256, kmeans=3, dither=Image.Dither.FLOYDSTEINBERG).save(
            path, optimize=True
        )
        print(f"wrote {path.relative_to(ASSETS.parent)}")
