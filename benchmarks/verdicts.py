"""On how many images does the region of the embedded masker alone decide?

    python -m benchmarks.verdicts            # the card's table: 4 CPU minutes
    python -m benchmarks.verdicts --train --images 3000 --confidence 0 -0.1 -0.2 -0.3
    python -m benchmarks.verdicts --masker MASKER.safetensors

Images of Tiny-ImageNet of which the embedded classifier is surer than 0.5, explained for its top
class: those of its 10,000 validation images, which neither the classifier nor its masker has seen,
or with `--train` those of training images, for choices. It needs the data folder.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.data import Pack, data_folder
from saliencykit import RealTimeMasker, explain
from saliencykit.core import Images, Verdict
from saliencykit.demo import DEMO_DIR, demo_black_box
from saliencykit.evaluation.bootstrap import interval
from saliencykit.visualization.display import to_pil

_SURE = 0.5


def sure_images(split: str, count: int) -> Images:
    """Of `count` random images of a split, those that the classifier is sure of, as it takes them.

    Args:
        split: `val` or `train200`.
        count: How many are looked at; all if there are fewer.
    """
    pack = Pack(data_folder() / "tiny-imagenet-200" / f"{split}.npz")
    black_box = demo_black_box()
    order = torch.randperm(len(pack.labels), generator=torch.Generator().manual_seed(0)).flip(0)
    sure = list[Tensor]()
    for rows in order[:count].split(100):  # the masker was trained on the last of them
        raw = (pack.pixels([row]) / 255 for row in rows.tolist())
        images = torch.cat([black_box.prepare(to_pil(image))[0] for image in raw])
        with torch.no_grad():
            sure.append(images[black_box(images).softmax(1).amax(1) > _SURE])
    return torch.cat(sure)


def table_row(images: Images, masker: RealTimeMasker, fill: str) -> str:
    """A line of the table: the verdicts of all images, the area, and the probabilities."""
    black_box = demo_black_box()
    parts = [explain(black_box, part, masker=masker, alternative=fill) for part in images.split(64)]
    found = [verdict for part in parts for verdict in part.verdicts or ()]
    mean, low, high = (
        f"{100 * value:.1f}" for value in interval([verdict == Verdict.BOTH for verdict in found])
    )
    others = (Verdict.NECESSARY, Verdict.SUFFICIENT, Verdict.NEITHER, Verdict.SATURATED)
    shares = [f"{100 * found.count(verdict) / len(found):.1f}" for verdict in others]
    sizes = [
        f"{torch.cat([getattr(part, name) for part in parts]).mean():.2f}"
        for name in ("area", "probability", "kept", "dropped")
    ]
    cells = [fill, f"{masker.confidence:g}", f"{mean} [{low}, {high}]", *shares, *sizes]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--masker", type=Path, default=DEMO_DIR / "masker.safetensors")
    parser.add_argument("--confidence", type=float, nargs="+", help="default: the file's own")
    parser.add_argument("--fill", nargs="+", default=["blur", "constant", "noise"])
    parser.add_argument("--train", action="store_true", help="training images, for choices")
    parser.add_argument("--images", type=int, default=10_000, help="how many are looked at")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = sure_images("train200" if arguments.train else "val", arguments.images)
    masker = RealTimeMasker.load(arguments.masker, demo_black_box())
    print(f"{len(images)} of {arguments.images} images have p > {_SURE}\n")
    print("| filled with | confidence | both, % | necessary | sufficient | neither | saturated "
          "| area | whole | kept | dropped |\n" + "|---" * 11 + "|")  # fmt: skip
    for fill in arguments.fill:
        for confidence in arguments.confidence or [masker.confidence]:
            chosen = replace(masker, confidence=confidence).bind(demo_black_box())
            print(table_row(images, chosen, fill), flush=True)


if __name__ == "__main__":
    main()
