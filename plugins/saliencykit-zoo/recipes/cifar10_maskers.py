"""The paper's CIFAR-10 experiment: maskers for classifiers of 32 x 32 pixels.

    python plugins/saliencykit-zoo/recipes/cifar10_maskers.py --which trunk --work WORK    on the ResNet-20 of the data folder; a measurement
    python plugins/saliencykit-zoo/recipes/cifar10_maskers.py --which own --work WORK      for the zoo's FitNet-4; run again to resume
    python plugins/saliencykit-zoo/recipes/cifar10_maskers.py --which shared --work WORK   for the same FitNet-4, on its own maps
    python plugins/saliencykit-zoo/recipes/cifar10_maskers.py --which ... --work WORK --export

The zoo ships none of these maskers: a linear probe reads absent classes from the masks of the best one (`docs/results/small-images.md`).

Data: `cifar10/` under $SALIENCYKIT_DATA (default ../shared/data), without labels. `trunk` and `shared` use the classifier's own feature maps;
`own` is the paper's small encoder, three downsampling blocks of five convolutions, trained from scratch with the masker.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # the benchmarks are not installed

from benchmarks.cifar10 import cifar10, resnet20, selectivity
from saliencykit import RealTimeMasker, TorchBlackBox, fit, run_trial
from saliencykit.alternatives import Blur, Choice, Constant, Noise
from saliencykit.core import probability, resize_maps
from saliencykit.maskers import StandaloneEncoder
from saliencykit.training import FitStep

ZOO = Path(__file__).resolve().parents[1] / "saliencykit_zoo"
MASKER, CARD = "cifar10_fitnet_masker.safetensors", "cifar10_fitnet_masker.md"
NUM_TEST = 1000  # test images


def black_box_for(which: str, work: Path) -> TorchBlackBox:
    """The data folder's ResNet-20, adapted to JPEG copies for 200 steps and kept beside `work`, or the zoo's FitNet-4."""
    if which != "trunk":
        from saliencykit_zoo.cifar10 import cifar10_fitnet

        return cifar10_fitnet()
    kept = work.parent / "cifar10_resnet20_jpeg.safetensors"
    if kept.exists():
        black_box = resnet20()
        black_box.model.load_state_dict(load_file(kept))
        return black_box
    black_box = resnet20(steps=200)
    save_file(
        {name: value.contiguous() for name, value in black_box.model.state_dict().items()},
        str(kept),
    )
    return black_box


def train(a: argparse.Namespace) -> None:
    begin = time.process_time()
    black_box = black_box_for(a.which, a.work)
    adapted = time.process_time() - begin
    images, _ = cifar10("train", a.num_images, seed=a.seed + 100)

    def on_step(step: FitStep) -> None:
        if step.number % 25 == 0:
            print(
                f"{step.number} {step.phase} cpu {time.process_time() - begin:.0f} s loss {step.loss:.2f} area {step.area:.3f} "
                f"fake {step.fake_area:.3f} kept {step.kept:.3f} dropped {step.dropped:.3f} {step.area_weight:.1f}",
                flush=True,
            )

    # 0.045 of 32 px would leave the class recognizable in the blur
    fill = Choice(alternatives=(Blur(sigma=a.sigma), Noise()))
    encoder = (
        StandaloneEncoder(widths=tuple(a.widths), depth=5, stem=2, size=(32, 32))
        if a.which == "own"
        else "trunk"
    )
    masker = fit(
        black_box, images, encoder=encoder, steps=a.steps, pixel_steps=a.pixel_steps, warmup_steps=a.warmup_steps, feature_mixing=a.steps > a.pixel_steps, batch_size=a.batch_size, lr=a.lr,
        views_per_image=a.views, area=a.area, objective=a.objective, alternative=fill, fake_class_rate=0.3, checkpoint_dir=a.work, seed=a.seed, on_step=on_step,
        on_message=lambda line: print(line, flush=True),
    )  # fmt: skip
    masker.save(a.work / "masker.safetensors")
    cost = {"cpu": round(time.process_time() - begin), "adapted": round(adapted)}
    test, labels = cifar10("test", NUM_TEST)
    result = asdict(selectivity(masker, black_box, test.float() / 255, labels))
    row = {
        "options": vars(a) | {"work": ""},
        "cost": cost,
        "test": result,
        "validation": masker.metadata["validation"],
    }
    (a.work / "result.json").write_text(json.dumps(row, default=str))
    print(json.dumps({"cost": cost, "test": result, "validation": masker.metadata["validation"]}))


def export(a: argparse.Namespace) -> None:
    """Masker and card of the zoo."""
    black_box = black_box_for(a.which, a.work)
    trained = RealTimeMasker.load(a.work / "masker.safetensors", black_box)
    masker = RealTimeMasker(
        network=trained.network, confidence=a.confidence, metadata=trained.metadata
    ).bind(black_box)
    masker.save(ZOO / MASKER)
    test, labels = cifar10("test", NUM_TEST)
    images = test.float() / 255
    s, made = (
        selectivity(masker, black_box, images, labels),
        json.loads((a.work / "result.json").read_text()),
    )
    with torch.no_grad():
        found = torch.cat([black_box(part).argmax(1) for part in images.split(100)])
    fills = {
        "blur, sigma 4": Blur(sigma=4.0),
        "color and noise": Noise(),
        "black (not used in training)": Constant(color=0.0),
    }
    rows, fast, some = [], black_box.optimized_for(images[:2]), slice(0, 300)
    for name, fill in fills.items():
        with torch.no_grad():
            mask = masker.mask(fast, images[some], found[some], torch.Generator())
            mask = resize_maps(mask, (32, 32))
            generator = torch.Generator().manual_seed(0)
            trial = run_trial(
                fast, images[some], found[some], mask, alternative=fill, generator=generator
            )
        kept, dropped = (
            float(probability(z, found[some], "softmax").mean())
            for z in (trial.preserved, trial.destroyed)
        )
        rows.append(f"| {name} | {kept:.3f} | {dropped:.3f} |")
    with torch.no_grad():
        whole = float(probability(fast(images[some]), found[some], "softmax").mean())
        empty = float((mask.mean((1, 2, 3)) < 0.02).float().mean())
    facts, cost = masker.metadata["training"], made["cost"]["cpu"]
    known = {"which", "work", "export", "note"} | (
        {"widths", "warmup_steps"} if a.which == "shared" else set()
    )
    options = " ".join(
        f"--{k.replace('_', '-')} {' '.join(map(str, v)) if isinstance(v, list) else v}"
        for k, v in made["options"].items()
        if k not in known and v is not None
    )
    what = (
        "For the FitNet-4 of [cifar10_fitnet.md](cifar10_fitnet.md), on its own feature maps and head (encoder `trunk`)."
        if a.which == "shared"
        else "The paper's CIFAR-10 experiment, for the FitNet-4 of [cifar10_fitnet.md](cifar10_fitnet.md): an encoder of its own, three\n"
        "downsampling blocks of five convolutions, trained from scratch together with the masker."
    )
    card = f"""# The masker of the CIFAR-10 classifier

{what} {(ZOO / MASKER).stat().st_size / 1000:.0f} kB in fp16; masks of 32 x 32; confidence {a.confidence:g}.

**Data.** {facts["images"]} training images of CIFAR-10 (a JPEG copy), no labels: the classifier's own top class.

**Recipe.** `plugins/saliencykit-zoo/recipes/cifar10_maskers.py --which {a.which} {options}`: {facts["steps_done"]} steps,
{cost / 60:.1f} CPU-minutes on one thread of a busy machine.

**What it reaches**, on {NUM_TEST} test images, for the predicted class: mean mask {s.area:.3f}; the mask for a random other class has {s.fake:.3f} of that
area; in {s.mosaics} mosaics of 64 x 64, of four confident test images of four classes, {s.mosaic:.3f} of the mass is in the right quarter (chance 0.25).
On 300 of them the classifier gives the predicted class {whole:.3f} on the whole images; {100 * empty:.0f} % of the masks are under 0.02; and

| what replaces pixels | mask kept | mask replaced |
|---|---|---|
{chr(10).join(rows)}

{a.note}
"""
    (ZOO / CARD).write_text(card, encoding="utf-8")
    print(card)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--which", choices=["trunk", "own", "shared"], required=True)
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="directory for checkpoints, the log and previews of masks",
    )
    parser.add_argument("--num-images", type=int, default=4000)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument(
        "--pixel-steps",
        type=int,
        default=400,
        help="number of last steps that compose images",
    )
    parser.add_argument(
        "--warmup-steps",
        type=int,
        default=None,
        help="steps in which the own encoder and its class weights learn to classify",
    )
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--area", type=float, default=None)
    parser.add_argument("--objective", default="masking-network")
    parser.add_argument("--sigma", type=float, default=4.0, help="of the blur, in pixels")
    parser.add_argument(
        "--widths",
        type=int,
        nargs="+",
        default=[48, 96, 160],
        help="of the own encoder's three blocks",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true")
    parser.add_argument(
        "--confidence",
        type=float,
        default=0.0,
        help="with --export: the masker's confidence; below 0 its masks are larger",
    )
    parser.add_argument("--note", default="", help="with --export: what the card says last")
    a = parser.parse_args()
    torch.set_num_threads(1)
    a.work.mkdir(parents=True, exist_ok=True)
    (export if a.export else train)(a)


if __name__ == "__main__":
    main()
