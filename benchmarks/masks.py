"""Are the masks right? What each method's masks keep and drop, under fills that were optimized
against and under others.

    python -m benchmarks.masks --out masks.jsonl          # 200 photos; --resume continues
    python -m benchmarks.masks --out masks.jsonl --table  # print the table of what is there

The label is the model's own top class: the decision that is explained. Every method's mask is
scored as it is and at equal area, where the best pixels of its ranking are kept up to the area of
the Grad-CAM mask of that photo, and up to a fifth of the image; ties in a ranking go to the pixel
nearest to the image's middle, so that a flat mask becomes a disc and not a stripe. Costly methods
are run last, and on the first `--few` photos only: `n` is in every row.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from benchmarks.data import MODELS, Photo, read_photos
from benchmarks.held_out import Road, ShuffledBlocks
from benchmarks.rows import Row, append, read_rows
from benchmarks.tables import put_into
from saliencykit.alternatives import Blur, Constant
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import Mask, Masker, Sample, probability, run_trial
from saliencykit.metrics import SaliencyScore, ranks
from saliencykit.registry import as_masker

FILLS = {"blur": Blur(), "gray": Constant(color=0.5), "road": Road(), "shuffled": ShuffledBlocks()}
UNSEEN = ("road", "shuffled")
AREAS = ("cam", "0.2")
CHEAP = ("center-box", "whole-image", "gradient", "grad-cam", "iterative")
COSTLY = ("rise", "occlusion", "meaningful-perturbation")


@dataclass(frozen=True)
class Answer:
    """What a method says of one photo: the mask it would show, and what ranks the pixels (the mask,
    if there is nothing finer).
    """

    mask: Mask
    ranking: Tensor
    seconds: float


def captum_gradient(black_box: TorchBlackBox, photo: Photo, label: Tensor) -> Mask:
    """Captum's Saliency, the largest channel of each pixel, divided by its maximum."""
    from captum.attr import Saliency

    largest = (
        Saliency(black_box.logits)
        .attribute(photo.image.clone().requires_grad_(), target=label)
        .amax(1, keepdim=True)
    )
    return (largest / largest.amax().clamp_min(1e-12)).detach()


def captum_grad_cam(
    black_box: TorchBlackBox, photo: Photo, label: Tensor, layer: nn.Module
) -> Mask:
    """Captum's LayerGradCam on the last convolutional features: the positive part, enlarged,
    divided by its maximum.
    """
    from captum.attr import LayerGradCam

    image = photo.image.clone().requires_grad_()
    coarse = (
        LayerGradCam(black_box.logits, layer)
        .attribute(image, target=label, relu_attributions=True)
        .detach()
    )
    fine = F.interpolate(
        coarse, size=image.shape[2:], mode="bilinear", align_corners=False
    ).clamp_min(0)
    return fine / fine.amax().clamp_min(1e-12)


def methods(
    black_box: TorchBlackBox, layer: nn.Module, names: list[str]
) -> dict[str, Callable[[Photo, Tensor], Answer]]:
    """By name: a function from a photo and a label (1,) to the answer."""

    def peer(function: Callable[..., Mask], *extra: object) -> Callable[[Photo, Tensor], Answer]:
        def answer(photo: Photo, label: Tensor) -> Answer:
            start = time.process_time()
            mask = function(black_box, photo, label, *extra)
            return Answer(mask, mask, time.process_time() - start)

        return answer

    def ours(masker: Masker) -> Callable[[Photo, Tensor], Answer]:
        def answer(photo: Photo, label: Tensor) -> Answer:
            start = time.process_time()
            found = masker.attribute(
                black_box, photo.image, label, generator=Generator().manual_seed(0)
            )
            ranking = found.mask if found.attributions is None else found.attributions
            return Answer(found.mask, ranking, time.process_time() - start)

        return answer

    peers = {"gradient": peer(captum_gradient), "grad-cam": peer(captum_grad_cam, layer)}
    return {name: peers.get(name) or ours(as_masker(name)) for name in names}


def best_pixels(ranking: Tensor, area: float) -> Mask:
    """1 on the best `area` of the pixels; of equal ones those nearest to the middle first."""
    places = ranks(ranking)
    return (places < max(1, round(area * places[0].numel()))).to(ranking.dtype)


def score(
    black_box: TorchBlackBox, photo: Photo, label: Tensor, answer: Answer, cam_area: float
) -> Row:
    """Everything the table needs of one mask."""
    masks: dict[str, Mask] = {"own": answer.mask}
    if answer.ranking.amin() < answer.ranking.amax():  # else nothing is ranked
        masks |= {
            name: best_pixels(answer.ranking, cam_area if name == "cam" else float(name))
            for name in AREAS
        }
    row: Row = {"area": answer.mask.mean().item(), "seconds": answer.seconds}
    with torch.no_grad():
        for which, mask in masks.items():
            for name, fill in FILLS.items():
                trial = run_trial(
                    black_box,
                    photo.image,
                    label,
                    mask,
                    alternative=fill,
                    generator=Generator().manual_seed(0),
                )
                kept, dropped = (
                    probability(trial.preserved, label, "softmax"),
                    probability(trial.destroyed, label, "softmax"),
                )
                row[f"{which}/{name}"] = [kept.item(), dropped.item()]
    sample = Sample(photo.image, label, (photo.boxes,))
    scores = SaliencyScore(threshold=1.0, relative_to="mean")(
        black_box,
        sample,
        answer.mask,
        explain=lambda images, labels: answer.mask,
        generator=Generator().manual_seed(0),
    )
    return row | {
        f"crop_{name}" if name != "score" else "score": value.item()
        for name, value in scores.items()
    }


def run(arguments: argparse.Namespace) -> None:
    factory, layer_name = MODELS[arguments.model]
    black_box = factory()
    layer = black_box.model.get_submodule(layer_name)
    names = arguments.methods or [*CHEAP, *COSTLY]
    photos = read_photos(arguments.data, black_box, count=arguments.photos, seed=arguments.seed)
    fast = black_box.optimized_for(photos[0].image)
    queried = methods(black_box, layer, names)
    done = {(row["photo"], row["method"]) for row in read_rows(arguments.out)}
    cheap, costly = [n for n in names if n not in COSTLY], [n for n in names if n in COSTLY]
    plan = [(photo, cheap) for photo in photos] + [
        (photo, costly) for photo in photos[: arguments.few]
    ]
    for number, (photo, some) in enumerate(plan):
        wanted = [name for name in some if (photo.name, name) not in done]
        if not wanted:
            continue
        with torch.no_grad():
            label = fast(photo.image).argmax(1)
            whole = probability(fast(photo.image), label, "softmax").item()
        cam_area = captum_grad_cam(black_box, photo, label, layer).mean().item()
        for name in wanted:
            row = score(fast, photo, label, queried[name](photo, label), cam_area)
            facts = {
                "photo": photo.name,
                "method": name,
                "label": int(label),
                "p": whole,
                "cam_area": cam_area,
            }
            append(arguments.out, facts | row)
        print(f"\r{number + 1} of {len(plan)}", end="", file=sys.stderr, flush=True)


def held_out(row: Row, which: str, side: int) -> float:
    """Mean over the unseen fills of the kept (side 0) or dropped (side 1) probability."""
    return sum(row[f"{which}/{fill}"][side] for fill in UNSEEN) / len(UNSEEN)


def difference(rows: list[Row], ours: str, other: str, which: str, side: int) -> str:
    """Mean paired difference with its bootstrap 95 % interval, 10,000 draws of photos."""
    by = {(row["photo"], row["method"]): row for row in rows if "cam/blur" in row}
    names = sorted(
        {
            str(row["photo"])
            for row in rows
            if (row["photo"], ours) in by and (row["photo"], other) in by
        }
    )
    if not names:
        return "-"
    gain = torch.tensor(
        [held_out(by[n, ours], which, side) - held_out(by[n, other], which, side) for n in names]
    )
    draws = torch.randint(len(gain), (10_000, len(gain)), generator=Generator().manual_seed(0))
    low, high = gain[draws].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{gain.mean():+.3f} [{low:+.3f}, {high:+.3f}], n {len(gain)}"


def table(rows: list[Row]) -> str:
    """The markdown tables of what is in the rows."""
    there = dict.fromkeys(str(row["method"]) for row in rows)
    present = [method for method in dict.fromkeys([*CHEAP, *COSTLY, *there]) if method in there]
    fills = " / ".join(FILLS)
    lines = [
        "Each method's own mask. Saliency metric: the box holds the pixels >= the mask's mean.",
        "",
        f"| method | n | area | kept: {fills} | dropped: {fills} | saliency metric mean | median "
        "| CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in present:
        mine = [row for row in rows if row["method"] == method]
        kept, dropped = (
            " / ".join(f"{_mean(mine, f'own/{fill}', side):.3f}" for fill in FILLS)
            for side in (0, 1)
        )
        scores = torch.tensor([float(row["score"]) for row in mine])
        metric = f"{scores.mean():.3f} | {scores.median():.3f}"
        area, seconds = _mean(mine, "area"), _mean(mine, "seconds")
        lines.append(
            f"| {method} | {len(mine)} | {area:.3f} | {kept} | {dropped} | {metric} | "
            f"{seconds:.2f} |"
        )
    ranked = [
        method for method in present if any(r["method"] == method and "cam/blur" in r for r in rows)
    ]
    for which in AREAS:
        share = (
            f"of the photo's Grad-CAM mask, {_mean(rows, 'cam_area'):.3f} on average"
            if which == "cam"
            else which
        )
        lines += [
            "",
            f"At equal area: {share}",
            "",
            f"| method | n | kept: {fills} | unseen | dropped: {fills} | unseen |",
        ]
        lines.append("|---|---|---|---|---|---|")
        for method in ranked:
            mine = [row for row in rows if row["method"] == method and "cam/blur" in row]
            kept, dropped = (
                " / ".join(f"{_mean(mine, f'{which}/{fill}', side):.3f}" for fill in FILLS)
                for side in (0, 1)
            )
            new = [sum(held_out(row, which, side) for row in mine) / len(mine) for side in (0, 1)]
            lines.append(
                f"| {method} | {len(mine)} | {kept} | {new[0]:.3f} | {dropped} | {new[1]:.3f} |"
            )
    lines += [
        "",
        "`iterative` less the other, at equal area under the unseen fills, paired, bootstrap 95 % "
        "interval.",
        "",
    ]
    lines += [
        "| other | area | kept (more is better) | dropped (less is better) |",
        "|---|---|---|---|",
    ]
    for other in ranked:
        if other != "iterative":
            for which in AREAS:
                both = [difference(rows, "iterative", other, which, side) for side in (0, 1)]
                lines.append(
                    f"| {other} | {'Grad-CAM' if which == 'cam' else which} | {both[0]} | "
                    f"{both[1]} |"
                )
    return "\n".join(lines)


def _mean(rows: list[Row], key: str, side: int | None = None) -> float:
    values = [row[key] if side is None else row[key][side] for row in rows]
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(MODELS), default="mobilenet_v2")
    parser.add_argument("--data", default="ilsvrc2012-val-a")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--few", type=int, default=40, help="photos of the costly methods")
    parser.add_argument("--seed", type=int, default=0, help="which photos")
    parser.add_argument("--methods", nargs="*", help="default: all; any masker's text form")
    parser.add_argument(
        "--out", type=Path, default=Path("masks.jsonl"), help="one JSON line per photo and method"
    )
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run stopped")
    parser.add_argument(
        "--table", action="store_true", help="only print the table of what is there"
    )
    parser.add_argument(
        "--into",
        type=Path,
        help="also put the table between the two comments of this markdown page",
    )
    arguments = parser.parse_args()
    if not arguments.table:
        if arguments.out.exists() and not arguments.resume:
            parser.error(
                f"{arguments.out} exists: add --resume to go on with it, or name another file"
            )
        torch.set_num_threads(1)
        run(arguments)
    text = table(read_rows(arguments.out))
    print("\n" + text)
    if arguments.into:
        put_into(arguments.into, "table", text)


if __name__ == "__main__":
    main()
