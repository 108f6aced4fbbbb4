"""Does a certificate hold on photos that it has not seen, and is it withdrawn on others?

    python -m benchmarks.certificates --masker cam
    python -m benchmarks.certificates --model squeezenet --calibration 314 --photos 861

Calibrated on the tune photos, counted on the report photos (`split.py`): how many certified regions
keep 90 % of p(class) under blur, their mean area, and how many photos are called unlike the
calibration ones. The same photos blurred (2 % of the side) and thumbnails of 56 px enlarged show
whether shifts are noticed; the guarantee need not hold there.
"""

import argparse
import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from benchmarks.data import MODELS
from benchmarks.split import part, read, squashing
from saliencykit import calibrate
from saliencykit.alternatives import Blur
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import Masker, probability, run_trial

KEEP = 0.9
LEVELS = (0.7, 0.8, 0.9)
BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenet_v2", choices=list(MODELS))
    parser.add_argument("--masker", help="default: the trained one")
    parser.add_argument("--calibration", type=int, default=314)
    parser.add_argument("--photos", type=int, default=861)
    parser.add_argument("--skip", type=int, default=0, help="first photos that are left out")
    parser.add_argument("--shifted", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    black_box = squashing(MODELS[arguments.model][0]())
    tune = images_of("tune", arguments.calibration, black_box)
    last = arguments.skip + arguments.photos
    report = images_of("report", last, black_box)[arguments.skip :]
    few = report[: arguments.shifted]
    small = F.interpolate(few, size=56, mode="area")
    sets = {
        "report": report,
        "blurred": Blur(sigma=0.02).fill(few, Generator()),
        "thumbnails": F.interpolate(small, size=few.shape[2:], mode="bilinear").clamp(0, 1),
    }
    print("| level | photos | keep 90 % | standard error | mean area | called unlike |")
    print("|---|---|---|---|---|---|")
    for level in LEVELS:
        masker = calibrate(black_box, arguments.masker, tune, keep=KEEP, level=level)
        for name, images in sets.items():
            kept, area, unlike = counted(black_box, masker, images)
            error = math.sqrt(kept * (1 - kept) / len(images))
            print(
                f"| {level} | {name}, {len(images)} | {kept:.3f} | {error:.3f} | {area:.2f} | "
                f"{unlike:.2f} |",
                flush=True,
            )


def images_of(name: str, count: int, black_box: TorchBlackBox) -> Tensor:
    return torch.cat([photo.image for photo in read(part(name)[:count], black_box)])


def counted(black_box: TorchBlackBox, masker: Masker, images: Tensor) -> tuple[float, float, float]:
    """How often a region keeps enough, the mean area, and how often there is no guarantee."""
    good, area, unlike = 0.0, 0.0, 0.0
    for batch in images.split(BATCH):
        one, logits = masker.predict_masker(black_box, batch)
        labels = logits.argmax(1)
        mask = one(black_box, batch, labels, generator=Generator().manual_seed(0))
        trial = run_trial(
            black_box, batch, labels, mask, alternative=Blur(), generator=Generator().manual_seed(1)
        )
        whole, kept = (probability(x, labels, "softmax") for x in (logits, trial.preserved))
        good += float((kept >= KEEP * whole).sum())
        area += float(mask.mean((1, 2, 3)).sum())
        unlike += sum("no guarantee" in remark for remark in masker.remarks(batch, logits, labels))
    return good / len(images), area / len(images), unlike / len(images)


if __name__ == "__main__":
    main()
