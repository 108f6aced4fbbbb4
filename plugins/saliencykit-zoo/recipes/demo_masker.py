"""Train the masker of the embedded classifier (saliencykit/demo/masker.safetensors) on Tiny-ImageNet-200.

    python plugins/saliencykit-zoo/recipes/demo_masker.py --work WORK            train; run again to resume
    python plugins/saliencykit-zoo/recipes/demo_masker.py --work WORK --export   write masker and card

Data: training images of `tiny-imagenet-200/` under $SALIENCYKIT_DATA (default ../shared/data), without labels or boxes. A third of
them are cropped to 3:2 or 2:3 first: the classifier pads photos, and the masker must know padding.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch
from demo_classifier import DATA, DEMO, decode
from PIL import Image

from saliencykit import RealTimeMasker, explain, fit
from saliencykit.demo import demo_black_box
from saliencykit.registry import as_alternative
from saliencykit.training import FitStep, validate

# of scikit-image, not used in training
PHOTOS = (
    "chelsea",
    "coffee",
    "rocket",
    "astronaut",
    "stereo_motorcycle",
    "camera",
)


def training_images(count: int, seed: int) -> list[Image.Image]:
    """`count` random training images, a third of them cropped to 3:2 or 2:3."""
    every, _ = decode(DATA / "tiny-imagenet-200" / "train200.npz")
    g = torch.Generator().manual_seed(seed)
    out = []
    for row in torch.randperm(len(every), generator=g)[:count].tolist():
        image = Image.fromarray(every[row].permute(1, 2, 0).numpy())
        kind, place = torch.rand(2, generator=g).tolist()
        first = round(place * 21)
        bbox = (
            (0, 0, 64, 64)
            if kind > 1 / 3
            else (0, first, 64, first + 43)
            if kind > 1 / 6
            else (first, 0, first + 43, 64)
        )
        out.append(image.crop(bbox))
    return out


def train(work: Path, a: argparse.Namespace) -> None:
    work.mkdir(parents=True, exist_ok=True)
    begin = time.process_time()

    def on_step(step: FitStep) -> None:
        if step.number % 50 == 0:
            print(
                f"{step.number} {step.phase} cpu {time.process_time() - begin:.0f} s loss {step.loss:.2f} area {step.area:.3f} "
                f"fake {step.fake_area:.3f} kept {step.kept:.3f} dropped {step.dropped:.3f}",
                flush=True,
            )

    masker = fit(
        demo_black_box(),
        training_images(a.num_images, a.seed),
        steps=a.steps,
        pixel_steps=a.pixel_steps,
        distill_steps=0,
        area=a.area,
        objective=a.objective,
        fake_class_rate=0.3,
        views_per_image=a.views,
        batch_size=a.batch_size,
        mask_stride=a.mask_stride,
        checkpoint_dir=work,
        cache_bytes=int(a.cache_gb * 2**30),
        seed=a.seed,
        on_step=on_step,
        on_message=lambda line: print(line, flush=True),
    )
    masker.save(work / "masker.safetensors")
    (work / "cost.json").write_text(
        json.dumps(
            {"cpu": round(time.process_time() - begin), "options": vars(a) | {"work": ""}},
            default=str,
        )
    )
    print(
        f"{time.process_time() - begin:.0f} CPU-seconds in this run", masker.metadata["validation"]
    )


def on_validation(masker: RealTimeMasker, count: int) -> dict[str, object]:
    """The validation metrics on validation images, which the training did not see."""
    every, _ = decode(DATA / "tiny-imagenet-200" / "val.npz", count)
    black_box = demo_black_box()
    images = torch.cat(
        [black_box.prepare(Image.fromarray(p.permute(1, 2, 0).numpy()))[0] for p in every]
    )
    with torch.no_grad():
        labels = torch.cat([black_box(part).argmax(1) for part in images.split(100)])
    return validate(
        masker.network,
        black_box.optimized_for(images[:2]),
        images,
        labels,
        alternative=as_alternative("choice").for_black_box(black_box),
    ).as_dict()


def on_photos(masker: RealTimeMasker) -> list[tuple[str, str, float, float, float, float]]:
    """Name, top class, its probability, mean mask, kept and dropped probability for the photos that scikit-image ships."""
    from skimage import data

    out = []
    for name in PHOTOS:
        photo = getattr(data, name)()
        answer = explain(
            "demo", Image.fromarray(photo[0] if isinstance(photo, tuple) else photo), masker=masker
        )
        row = int(answer.labels[0])
        whole, kept, dropped = (
            float(z.softmax(1)[0, row]) for z in (answer.logits, answer.preserved, answer.destroyed)
        )
        out.append(
            (
                name,
                answer.class_names[row].split(",")[0],
                whole,
                float(answer.mask.mean()),
                kept,
                dropped,
            )
        )
    return out


def export(work: Path, a: argparse.Namespace) -> None:
    masker = RealTimeMasker.load(work / "masker.safetensors", demo_black_box())
    masker = replace(masker, confidence=a.confidence).bind(demo_black_box())
    masker.save(DEMO / "masker.safetensors")
    g, cost, facts = (
        on_validation(masker, 500),
        json.loads((work / "cost.json").read_text()),
        masker.metadata["training"],
    )
    rows = "\n".join(
        f"| {n} | {c} | {w:.2f} | {m:.2f} | {k:.2f} | {d:.2f} |"
        for n, c, w, m, k, d in on_photos(masker)
    )
    options = " ".join(
        f"--{k.replace('_', '-')} {v}"
        for k, v in cost["options"].items()
        if k not in ("work", "export", "confidence", "note") and v not in (None, "None")
    )
    marker = "\n## Its masker\n"
    card = (DEMO / "card.md").read_text(encoding="utf-8").split(marker)[0]
    kilobytes = (DEMO / "masker.safetensors").stat().st_size / 1000
    card += f"""{marker}
`masker.safetensors`, {kilobytes:.0f} kB: encoder `trunk`, the classifier's own rows, masks of 40 x 40. With it `explain` is real-time.

**Data.** {facts["images"]} training images of Tiny-ImageNet-200, no labels or boxes (the classifier's own top class); a third cut to 3:2 or 2:3.

**Recipe.** `plugins/saliencykit-zoo/recipes/demo_masker.py {options}`: {facts["steps_done"]} steps, {cost["cpu"] / 60:.1f} CPU-minutes on one thread
of a busy machine.

**What it reaches**, on the first 500 validation images, for the predicted class: mean mask {g["area"]:.3f}; probability {g["whole"]:.3f} of the whole
image, {g["kept"]:.3f} with the mask kept, {g["dropped"]:.3f} with it replaced (blur or color with noise); with the best 10, 20, 30, 50 % of the pixels
kept {", ".join(f"{v:.2f}" for v in g["kept_at"])}, replaced {", ".join(f"{v:.2f}" for v in g["dropped_at"])}. The mask for a random other class has {g["fake"]:.3f} of the area;
in mosaics of four images (shrunk to one) {g["mosaic"]:.2f} of the mass is in the right quarter, where chance is 0.25.

Photos of scikit-image, with the fill that `explain` checks with (blur):

| photo | top class | whole | area | kept | dropped |
|---|---|---|---|---|---|
{rows}

{a.note}
"""
    (DEMO / "card.md").write_text(card, encoding="utf-8")
    print(card.split(marker)[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="directory for checkpoints, the log and previews of masks",
    )
    parser.add_argument("--num-images", type=int, default=4500)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument(
        "--pixel-steps",
        type=int,
        default=150,
        help="number of last steps that compose images",
    )
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--mask-stride", type=int, default=None)
    parser.add_argument("--area", type=float, default=None)
    parser.add_argument("--objective", default="masking-network")
    parser.add_argument("--cache-gb", type=float, default=4.0, help="memory for cached features")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true")
    parser.add_argument(
        "--confidence", type=float, default=0.0, help="with --export: below 0 for larger masks"
    )
    parser.add_argument("--note", default="", help="with --export: what the card says last")
    a = parser.parse_args()
    torch.set_num_threads(1)
    (export if a.export else train)(a.work, a)


if __name__ == "__main__":
    main()
