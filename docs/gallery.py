"""Make the gallery: six photos that may be shipped, a row per method, MobileNetV2. `python
docs/gallery.py [METHOD ...]`.

One figure per kind of method, for the page "Which masker?".

The photos are scikit-image's own; the network is that of the data folder (see
`benchmarks/data.py`), because the embedded classifier does not know most of the objects. The
row of a method is stored in `--work`, so an interrupted run resumes.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Generator

from benchmarks.data import mobilenet_v2
from saliencykit.registry import as_masker

ASSETS = Path(__file__).parent / "assets"
PHOTOS = {
    "chelsea": 282,
    "coffee": 967,
    "camera": 872,
    "rocket": 657,
    "stereo_motorcycle": 670,
    "astronaut": 812,
}
"""By the name of scikit-image's function: the class that is explained. The astronaut is in
front of a space shuttle.
"""
CLASSES = ("tiger cat", "espresso", "tripod", "missile", "scooter", "space shuttle")
METHODS = {
    "layers": ("cam", "grad-cam", "guided-grad-cam", "ablation-cam", "score-cam",
        "excitation-backprop",
               "contrastive-excitation-backprop"),
    "weightings": ("grad-cam-plus-plus", "layer-cam", "hires-cam", "xgrad-cam", "finer-cam",
        "eigen-cam"),
    "gradients": ("gradient", "input-x-gradient", "integrated-gradients", "smoothgrad",
        "guided-backprop", "deconvolution",
                  "feedback"),
    "universal": ("cam", "universal"),
    "perturbation": ("rise", "occlusion", "feature-ablation"),
    "optimization": ("iterative", "meaningful-perturbation", "extremal-perturbation"),
}  # fmt: skip
TILE, GAP, LABEL, CLIPPED, EMPTY = 132, 4, 26, 0.995, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "methods",
        nargs="*",
        help="compute only these rows again; default: those missing in --work",
    )
    parser.add_argument(
        "--masker",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="add a row for the file of a trained masker",
    )
    parser.add_argument("--work", type=Path, default=Path("gallery-rows"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    black_box = mobilenet_v2()
    images = torch.cat([black_box.prepare(photo(name))[0] for name in PHOTOS])
    labels = torch.tensor(list(PHOTOS.values()))
    files = dict(text.split("=", 1) for text in arguments.masker)
    rows = [name for names in METHODS.values() for name in names]
    for name in [*rows, *files]:
        kept = arguments.work / f"{name}.npy"
        if kept.exists() and name not in arguments.methods:
            continue
        start = time.process_time()
        mask = as_masker(files.get(name, name))(
            black_box, images, labels, generator=Generator().manual_seed(0)
        )
        np.save(kept, mask.numpy())
        print(
            f"{name}: {(time.process_time() - start) / len(images):.2f} CPU-seconds per photo",
            file=sys.stderr,
            flush=True,
        )
    with torch.no_grad():
        probability = black_box(images).softmax(1).gather(1, labels[:, None])[:, 0].tolist()
    tall = images.permute(0, 2, 3, 1).numpy()
    for kind, names in [*METHODS.items(), ("trained", tuple(files))]:
        if names:
            masks = {name: np.load(arguments.work / f"{name}.npy")[:, 0] for name in names}
            sheet(tall, masks, probability).save(ASSETS / f"gallery-{kind}.jpg", quality=85)


def photo(name: str) -> Image.Image:
    image = getattr(skimage.data, name)()
    return Image.fromarray(image[0] if isinstance(image, tuple) else image).convert("RGB")


def shade(image: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The masked region in color, the rest dim and gray: the library's overlay without the
    outline.
    """
    gray = image.mean(2, keepdims=True) * 0.3
    mixed = gray + mask[..., None] * (image - gray)
    return Image.fromarray((mixed * 255).round().astype(np.uint8))


def sheet(
    images: np.ndarray, masks: dict[str, np.ndarray], probability: list[float]
) -> Image.Image:
    """The photos with their class on top, then one row of overlays per method, with letters large
    enough for phones.
    """
    pitch = TILE + LABEL + GAP
    result = Image.new("RGB", (len(images) * (TILE + GAP) - GAP, (len(masks) + 1) * pitch), "white")
    draw, small, large = (
        ImageDraw.Draw(result),
        ImageFont.load_default(16),
        ImageFont.load_default(21),
    )
    for column, (image, name) in enumerate(zip(images, CLASSES, strict=True)):
        left = column * (TILE + GAP)
        draw.text((left + 2, 4), f"{name} {probability[column]:.0%}", fill=(40, 40, 40), font=small)
        result.paste(
            Image.fromarray((image * 255).round().astype(np.uint8)).resize((TILE, TILE)),
            (left, LABEL),
        )
        for row, mask in enumerate(masks.values(), 1):
            # a sparse mask is shown brighter; one that is nearly empty as it is
            empty = float(mask[column].max()) < EMPTY
            strongest = 1.0 if empty else float(np.quantile(mask[column], CLIPPED))
            tile = shade(image, np.clip(mask[column] / strongest, 0, 1))
            result.paste(tile.resize((TILE, TILE)), (left, row * pitch + LABEL))
    for row, name in enumerate(masks, 1):
        draw.text((2, row * pitch), name, fill=(40, 40, 40), font=large)
    return result


if __name__ == "__main__":
    main()
