"""Train the ImageNet maskers of the zoo: for five classifiers whose weights are not ours to ship.

    python plugins/saliencykit-zoo/recipes/imagenet_masker.py --model mobilenet_v2 --work WORK --output masker.safetensors

Data: the training half of the boxed photos and `imagenet-sample` under $SALIENCYKIT_DATA, see `benchmarks/split.py`: about 1,900
photos, squashed to the classifier's size, without their labels and boxes (the classifier's own top class is explained). Run again to resume.
`--start` continues from another training's checkpoint (its `state.safetensors`) in a new work folder, with other settings.
"""

import argparse
import io
import sys
import time
import zipfile
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the benchmarks are not installed

from benchmarks.data import MODELS, data_folder
from benchmarks.split import part, read, squashing, training
from saliencykit import RealTimeMasker, TorchBlackBox, fit
from saliencykit.core import Sample
from saliencykit.data import as_images
from saliencykit.maskers import masking_network
from saliencykit.training import FitStep


def photos(size: tuple[int, int]) -> list[Image.Image]:
    by_set = defaultdict(list)
    for entry in training():
        by_set[entry.data_set].append(entry.file)
    out = []
    for data_set, files in by_set.items():
        with zipfile.ZipFile(data_folder() / data_set / "images.zip") as archive:
            out += [
                Image.open(io.BytesIO(archive.read(file)))
                .convert("RGB")
                .resize(size[::-1], Image.Resampling.BILINEAR)
                for file in files
            ]
    return out


def boxed(black_box: TorchBlackBox, count: int) -> list[Sample]:
    """Photos of the training half with their classes and boxes."""
    chosen = sorted(part("train"), key=lambda entry: entry.place)[:count]
    return [
        Sample(photo.image, torch.tensor([photo.label]), (photo.boxes,), (photo.name,))
        for photo in read(chosen, black_box)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pixel-steps", type=int, default=0)
    parser.add_argument("--area", type=float, default=None)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--start", type=Path, help="a checkpoint or masker to start from")
    parser.add_argument("--distill-steps", type=int, default=700)
    parser.add_argument(
        "--boxes", type=int, default=600, help="boxed training photos to learn thresholds from"
    )
    parser.add_argument("--objective", default="masking-network")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--cache-gb", type=float, default=1.3, help="memory for cached features")
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.process_time()

    def on_step(step: FitStep) -> None:
        if step.number % 10 == 0:
            cpu = time.process_time() - begin
            print(
                f"{step.number} {step.phase} cpu {cpu:.0f} s loss {step.loss:.2f} area {step.area:.3f} fake {step.fake_area:.3f} "
                f"kept {step.kept:.3f} dropped {step.dropped:.3f}",
                flush=True,
            )

    black_box, network = squashing(MODELS[a.model][0]()), None
    images = photos(black_box.input_size)
    if a.start is not None and a.start.name != "state.safetensors":
        network = RealTimeMasker.load(a.start, black_box).network
    elif a.start is not None:
        network = masking_network(black_box, as_images(images[:16], black_box).images)
        stored = load_file(a.start)
        network.load_state_dict(
            {
                name.removeprefix("network."): t
                for name, t in stored.items()
                if name.startswith("network.")
            }
        )
    masker = fit(
        black_box, images, network=network, lr=a.lr, steps=a.steps, pixel_steps=a.pixel_steps, area=a.area, objective=a.objective,
        fake_class_rate=0.3, distill_steps=a.distill_steps, boxes=boxed(black_box, a.boxes) if a.boxes else None, views_per_image=a.views, checkpoint_dir=a.work, cache_bytes=int(a.cache_gb * 2**30), seed=a.seed, on_step=on_step, on_message=lambda line: print(line, flush=True),
    )  # fmt: skip
    print(
        f"{time.process_time() - begin:.0f} CPU-seconds in this run", masker.metadata["validation"]
    )
    masker.save(a.output)


if __name__ == "__main__":
    main()
