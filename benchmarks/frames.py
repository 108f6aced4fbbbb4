"""Predictions with masks a second, by size of the image, precision and runtime: what pays on this
machine?

    python -m benchmarks.frames                                   # MobileNetV2 on a CPU, a minute
    python -m benchmarks.frames --compile                         # torch.compile too
    python -m benchmarks.frames --device cuda --models mobilenet_v2 resnet50 --batches 1 64

Weights are random, which does not change the time; `demo` is the embedded model with its trained
masker on its photo, at its own size. Each call takes raw images and gives logits and the masks of
the top classes at full size. The ways run in turn; the table has their medians. On a CPU one thread
and its CPU time; on a GPU time on the clock, with the queue waited for.

* `float32`: `RealTimeMasker.predict`, with a frozen copy of the model.
* `bfloat16`, `float16` (GPU): the same under `torch.autocast`.
* `compiled`: model and masker as the one module that is exported, under `torch.compile`.
* `onnxruntime`: that graph, written by `export_onnx`, without torch.

`apart` is the largest difference of a mask from float32's.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from benchmarks.realtime import clock, machine, masker
from benchmarks.speed import MEAN, STD, network
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import SaliencyKitError
from saliencykit.demo import DEMO_DIR, demo_black_box, demo_image
from saliencykit.maskers import JointModule, RealTimeMasker

Way = Callable[[], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["demo", "mobilenet_v2"], help="demo, torchvision's"
    )
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 224, 384])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile too")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    print(f"{machine(device)}, torch {torch.__version__}\n")
    print(
        "| model | size | batch | way | a second | x float32 | apart "
        "|\n|---|---|---|---|---|---|---|"
    )
    for name in arguments.models:
        for size in [80] if name == "demo" else arguments.sizes:
            for batch in arguments.batches:
                for line in lines(name, size, batch, device, arguments.rounds, arguments.compile):
                    print(line, flush=True)


def lines(
    name: str, size: int, batch: int, device: torch.device, rounds: int, compiling: bool
) -> list[str]:
    """The table's lines of one model at one size."""
    made, images = (
        embedded(batch, device) if name == "demo" else untrained(name, size, batch, device)
    )
    with tempfile.TemporaryDirectory() as folder:
        every = ways(made, images, device, Path(folder), compiling)
        # the first call makes copies, compiles ...
        masks = {way: run().float().cpu() for way, run in every.items()}
        seconds: dict[str, list[float]] = {way: [] for way in every}
        for turn in range(rounds):
            for way in list(every)[turn % len(every) :] + list(every)[: turn % len(every)]:
                started = clock(device)
                every[way]()
                seconds[way].append((clock(device) - started) / batch)
    plain = statistics.median(seconds["float32"])
    rows, side = [], images.shape[2]
    for way, values in seconds.items():
        own = statistics.median(values)
        apart = float((masks[way] - masks["float32"]).abs().max())
        rows.append(
            f"| {name} | {side} | {batch} | {way} | {1 / own:.1f} | {plain / own:.2f} | "
            f"{apart:.1e} |"
        )
    return rows


def untrained(
    name: str, size: int, batch: int, device: torch.device
) -> tuple[RealTimeMasker, Tensor]:
    """A classifier and a masker of random weights, and noise."""
    g = Generator().manual_seed(0)
    black_box = TorchBlackBox(network(name).to(device), mean=MEAN, std=STD, size=size)
    made = masker(black_box, torch.rand(2, 3, size, size, generator=g).to(device), "auto")
    return made, torch.rand(batch, 3, size, size, generator=g)


def embedded(batch: int, device: torch.device) -> tuple[RealTimeMasker, Tensor]:
    """The embedded classifier and its masker, and its photo."""
    black_box = demo_black_box()
    black_box.model.to(device)
    image, _ = black_box.prepare(demo_image())
    return RealTimeMasker.load(DEMO_DIR / "masker.safetensors", black_box), image.repeat(
        batch, 1, 1, 1
    )


def ways(
    made: RealTimeMasker, images: Tensor, device: torch.device, folder: Path, compiling: bool
) -> dict[str, Way]:
    """By name: a call that gives the masks."""
    there = images.to(device)
    out: dict[str, Way] = {"float32": lambda: made.predict(there)[1]}
    for half in ("bfloat16", "float16") if device.type == "cuda" else ("bfloat16",):
        out[half] = autocast(made, there, getattr(torch, half))
    if compiling:
        module = torch.compile(
            JointModule(
                made.black_box,
                made.inference_network(torch.device("cpu")),
                made.confidence,
                images[:1].repeat(3, 1, 1, 1),
            ).to(device)
        )
        out["compiled"] = lambda: inference(lambda: module(there)[1])
    try:
        import onnxruntime

        path = made.export_onnx(folder / "graph.onnx")
    except (ImportError, SaliencyKitError) as error:
        print(f"onnxruntime is left out: {error}", file=sys.stderr)
        return out
    wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else ["CPUExecutionProvider"]
    if not set(wanted) <= set(onnxruntime.get_available_providers()):
        return out
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    feed = {"images": images.numpy()}
    out["onnxruntime"] = lambda: torch.from_numpy(session.run(["logits", "mask"], feed)[1])
    return out


def autocast(made: RealTimeMasker, images: Tensor, dtype: torch.dtype) -> Way:
    def run() -> Tensor:
        with torch.autocast(images.device.type, dtype):
            return made.predict(images)[1]

    return run


def inference(run: Way) -> Tensor:
    with torch.inference_mode():
        return run()


if __name__ == "__main__":
    main()
