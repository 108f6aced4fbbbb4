"""Video: frames a second with reading and writing, flicker with and without smoothing, and masks of
a class among two.

    python -m benchmarks.video                   # MobileNetV2 of the data folder, the zoo's masker
    python -m benchmarks.video --part speed --device cuda
    python -m benchmarks.video --model demo --frames 60            # without a data folder

The clip is that of benchmarks/clip.py.

* **Motion**: the error of the estimated motion beside that of scikit-image's estimators.
* **Speed**: a file is read, explained, drawn and written as the command line does it: time on the
  clock, CPU time of all threads.
* **Flicker**: the mean absolute change of the mask from frame to frame along the true motion, over
  the points that the model saw in both, without cuts; beside it the check (kept minus dropped,
  probabilities) on every sixth frame, paired.
* **Classes**: where two images are in view, the share of the mask on the queried one, beside that
  one's share of the view.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator

from benchmarks.clip import render, write
from benchmarks.data import MODELS
from saliencykit import RealTimeMasker, explain_frames, run_trial
from saliencykit.alternatives import Blur
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import Geometry, probability
from saliencykit.explanation import Explanation
from saliencykit.registry import as_black_box, trained_masker
from saliencykit.video import Clip, Frame, Writer, draw_frame, flow_back, small_gray

SMALL = (120, 90)  # pixels at which flicker is measured
SHARES = (0.0, 0.5, 0.75, 0.85)
EVERY = 6
PARTS = ("motion", "speed", "flicker", "classes")
COFFEE, CAT = (967, 968, 504), (281, 282, 283, 284, 285)  # espresso, cup, coffee mug; cats


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model",
        default="mobilenet_v2",
        help=f"{', '.join(MODELS)}, or a name as the command line takes it",
    )
    parser.add_argument("--masker", help="a file; default: the one that was trained for the model")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--smooth", nargs="+", type=float, default=SHARES)
    parser.add_argument("--batch", nargs="+", type=int, default=[4])
    parser.add_argument("--frames", type=int, help="the first ones only")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="keep the clips that are written in this folder")
    arguments = parser.parse_args()
    black_box: Any = (
        MODELS[arguments.model][0]() if arguments.model in MODELS else as_black_box(arguments.model)
    )
    if isinstance(black_box, TorchBlackBox):
        black_box.model.to(torch.device(arguments.device))
    masker = (
        RealTimeMasker.load(arguments.masker, black_box)
        if arguments.masker
        else trained_masker(black_box)
    )
    if masker is None:
        parser.error(
            f"no masker is trained for {arguments.model}; pip install plugins/saliencykit-zoo, or "
            "--masker FILE"
        )
    load = (
        f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        if hasattr(os, "getloadavg")
        else ""
    )
    print(
        f"{arguments.model} on {arguments.device}, {torch.get_num_threads()} thread(s){load}, "
        f"torch {torch.__version__}"
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "clip.mp4"
        if not path.exists():
            write(path)
        if "motion" in arguments.part:
            motion(arguments.frames)
        if "speed" in arguments.part:
            for batch in arguments.batch:
                speed(black_box, masker, path, folder, arguments.frames, batch)
        if "flicker" in arguments.part:
            flicker(black_box, masker, path, arguments.frames, arguments.smooth)
        if "classes" in arguments.part:
            classes(black_box, masker, path)


def motion(limit: int | None) -> None:
    """Ours beside scikit-image's estimators: the mean error of the flow in pixels of 64, on every
    fifth pair of frames.
    """
    from skimage.registration import optical_flow_ilk, phase_cross_correlation

    def phase(before: Any, now: Any) -> Any:
        shift = phase_cross_correlation(now, before, upsample_factor=10)[0]
        return -shift[::-1, None, None] * np.ones((2, *now.shape))

    def ilk(before: Any, now: Any) -> Any:
        return np.stack(optical_flow_ilk(now, before, radius=7, num_warp=3, dtype=np.float32)[::-1])

    def ours(before: Any, now: Any) -> Any:
        # as in a batch
        four = [torch.from_numpy(v)[None, None].expand(4, -1, -1, -1) for v in (before, now)]
        return flow_back(*four)[0].numpy()

    ways = {
        "none": lambda before, now: np.zeros((2, *now.shape)),
        "phase correlation": phase,
        "iterative Lucas-Kanade": ilk,
        "ours": ours,
    }
    errors: dict[str, dict[int, list[float]]] = {name: {} for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    last = None
    for number, drawn in enumerate(render((240, 180))):
        if number == limit:
            break
        gray = small_gray(torch.from_numpy(drawn.pixels).permute(2, 0, 1)[None] / 255)[0, 0].numpy()
        if last is not None and number % 5 == 0 and np.isfinite(drawn.before).any():
            y, x = np.mgrid[0:180, 0:240] + 0.5
            known = np.isfinite(drawn.before).all(-1)
            true = np.where(known[..., None], drawn.before - np.stack([x, y], -1), 0).transpose(
                2, 0, 1
            )
            packed = torch.from_numpy(
                np.concatenate([true * gray.shape[0] / 180, known[None]])
            ).float()[None]
            small = F.interpolate(packed, size=gray.shape, mode="area")[0].numpy()
            for name, way in ways.items():
                started = time.process_time()
                flow = way(last, gray)
                seconds[name].append((time.process_time() - started) / (4 if name == "ours" else 1))
                errors[name].setdefault(drawn.shot, []).append(
                    float(np.abs(flow - small[:2])[:, small[2] > 0.99].mean())
                )
        last = gray
    shots = sorted(errors["none"])
    print(
        f"\n| error of the motion | {' | '.join(f'shot {shot}' for shot in shots)} | ms of CPU a "
        "frame |"
    )
    print("|---" * (len(shots) + 2) + "|")
    for name in ways:
        cells = [f"{statistics.mean(errors[name][shot]):.3f}" for shot in shots]
        print(f"| {name} | {' | '.join(cells)} | {1e3 * statistics.median(seconds[name]):.1f} |")


def speed(
    black_box: Any, masker: Any, path: Path, folder: Path, limit: int | None, batch: int
) -> None:
    """File to file, after a warm-up on the first frames."""
    clip = Clip(path)
    for _ in explain_frames(black_box, head(clip, 2 * batch), "follow", masker, batch_size=batch):
        pass
    rows = []
    for name, steps in (
        ("reading alone", 1),
        ("reading and explaining", 2),
        ("reading, explaining, drawing, writing", 3),
    ):
        count, wall, cpu = 0, time.perf_counter(), time.process_time()
        taken: deque[Frame] = deque()
        frames = (taken.append(frame) or frame for frame in head(clip, limit))
        writer = (
            Writer(folder / "explained.mp4", path, clip.info, "benchmark") if steps == 3 else None
        )
        for thing in (
            frames
            if steps == 1
            else explain_frames(black_box, frames, "follow", masker, batch_size=batch)
        ):
            frame = taken.popleft()
            if writer is not None:
                writer.write(draw_frame(frame.origin, clip.info, thing), Fraction(frame.time or 0))
            count += 1
        if writer is not None:
            writer.finish(whole=True)
        rows.append(
            (name, count, (time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)
        )
    print(
        f"\n| batch {batch} | frames | a second | ms on the clock a frame | ms of CPU a frame "
        "|\n|---|---|---|---|---|"
    )
    for name, count, wall, cpu in rows:
        print(f"| {name} | {count} | {1 / wall:.1f} | {1e3 * wall:.1f} | {1e3 * cpu:.1f} |")


def flicker(
    black_box: Any, masker: Any, path: Path, limit: int | None, shares: list[float]
) -> None:
    """Along the true motion, for each share of the past."""
    truth = list(enumerate(render(SMALL, noise=0.0)))[:limit]
    checked: dict[float, list[float]] = {}
    changes: dict[float, dict[int, list[float]]] = {}
    for share in shares:
        last: np.ndarray[Any, Any] | None = None
        changes[share], checked[share] = {}, []
        held: list[Explanation] = []
        answers = explain_frames(
            black_box, head(Clip(path), limit), "follow", masker, smoothing=share
        )
        for answer, (number, drawn) in zip(answers, truth, strict=True):
            mask, seen = on_image(answer)
            if last is not None and drawn.before[..., 0].size and np.isfinite(drawn.before).any():
                changes[share].setdefault(drawn.shot, []).append(
                    change(mask, seen, last, drawn.before)
                )
            last = mask
            if number % EVERY == 0:
                held.append(answer)
            if len(held) == 8:
                checked[share] += difference(black_box, held)
                held = []
        checked[share] += difference(black_box, held) if held else []
    shots = sorted(next(iter(changes.values())))
    print(
        "\n| share of the past | "
        + " | ".join(f"shot {shot}" for shot in shots)
        + " | all | of it without | kept - dropped | less without |"
    )
    print("|---" * (len(shots) + 5) + "|")
    without = statistics.mean(v for shot in shots for v in changes[shares[0]][shot])
    for share in shares:
        per = [statistics.mean(changes[share][shot]) for shot in shots]
        every = statistics.mean(v for shot in shots for v in changes[share][shot])
        pairs = [a - b for a, b in zip(checked[share], checked[shares[0]], strict=True)]
        spread = (
            1.96 * statistics.stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else float("nan")
        )
        cells = [
            *(f"{value:.4f}" for value in per),
            f"{every:.4f}",
            f"{every / without:.2f}",
            f"{statistics.mean(checked[share]):.3f}",
        ]
        print(f"| {share} | {' | '.join(cells)} | {statistics.mean(pairs):+.4f} ± {spread:.4f} |")


def classes(black_box: Any, masker: Any, path: Path) -> None:
    """Both classes of the third shot, where the second image has come to rest; for models with
    ImageNet's classes.
    """
    if black_box.num_classes != 1000:
        return
    frames = [frame for frame in Clip(path) if 240 <= frame.index < 264 and frame.index % 4 == 0]
    owners = {
        number: drawn.owner
        for number, drawn in enumerate(render(SMALL, noise=0.0))
        if 240 <= number < 264
    }
    print(
        "\n| queried | mean probability | area | share of the mask on its image | that one's "
        "share of the view |"
    )
    print("|---|---|---|---|---|")
    for half, group in ((0, COFFEE), (1, CAT)):
        first = next(iter(explain_frames(black_box, frames, masker=masker)))
        label = (
            max(group, key=lambda index: float(first.logits[0, index]))
            if first.logits.shape[1] == 1000
            else int(first.labels[0])
        )
        shares, views, areas, odds = [], [], [], []
        for frame, answer in zip(
            frames, explain_frames(black_box, frames, label, masker), strict=True
        ):
            mask, seen = on_image(answer)
            mine = owners[frame.index] == half
            shares.append(float(mask[seen & mine].sum() / max(1e-6, mask[seen].sum())))
            views.append(float((seen & mine).sum() / seen.sum()))
            areas.append(float(answer.area[0]))
            odds.append(float(answer.probability[0]))
        cells = [f"{statistics.mean(values):.1%}" for values in (odds, areas, shares, views)]
        print(f"| {('coffee', 'cat')[half]} ({label}) | {' | '.join(cells)} |")


def head(clip: Clip, limit: int | None) -> Any:
    for frame in clip:
        if limit is not None and frame.index >= limit:
            return
        yield frame


def on_image(answer: Explanation) -> tuple[Any, Any]:
    """The mask over the frame at 120x90, and which of these points the model saw."""
    place = answer.geometries[0]
    assert place is not None
    share = SMALL[0] / place.source_size[1]
    x0, y0, x1, y1 = (v * share for v in place.region)
    small = Geometry(source_size=SMALL[::-1], region=(x0, y0, x1, y1), size=place.size)
    both = small.to_source(torch.cat([answer.mask, torch.ones_like(answer.mask)], 1))[0].numpy()
    return both[0], both[1] > 0.999


def change(mask: Any, seen: Any, last: Any, before: Any) -> float:
    """Mean absolute difference to the mask before at where each point was then, over the points
    seen in both.
    """
    known = np.isfinite(before).all(-1)
    x, y = np.where(known, before[..., 0], 0.5), np.where(known, before[..., 1], 0.5)
    place = torch.from_numpy(
        np.stack([x / SMALL[0] * 2 - 1, y / SMALL[1] * 2 - 1], -1)[None]
    ).float()
    both = torch.from_numpy(np.stack([last, seen.astype(np.float32)])[None])
    there = F.grid_sample(both, place, align_corners=False)[0].numpy()
    inside = known & seen & (there[1] > 0.999)
    return float(np.abs(mask - there[0])[inside].mean())


def difference(black_box: Any, answers: list[Explanation]) -> list[float]:
    """Kept minus dropped of each."""
    images, masks = (
        torch.cat([getattr(a, name) for a in answers]).to(black_box.device)
        for name in ("images", "mask")
    )
    labels = torch.cat([a.labels for a in answers]).to(black_box.device)
    with torch.no_grad():
        trial = run_trial(
            black_box,
            images,
            labels,
            masks,
            alternative=Blur(),
            generator=Generator().manual_seed(0),
        )
    return (
        probability(trial.preserved, labels, "softmax")
        - probability(trial.destroyed, labels, "softmax")
    ).tolist()


if __name__ == "__main__":
    main()
