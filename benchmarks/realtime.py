"""What does a mask cost beside the prediction? Predictions and masks a second, beside the model
alone and beside other methods.

    python -m benchmarks.realtime              # MobileNetV2 and ResNet-50, some minutes on a CPU
    python -m benchmarks.realtime --models mobilenet_v2 --rounds 5
    python -m benchmarks.realtime --device cuda

Weights are random: they do not change the time. Images are raw, of 224 px; each call normalizes
them, answers and makes the mask of the top class at full size. In every round each row runs once,
in an order that turns; ratios are taken within a round and the table has their median. On a CPU:
one thread, CPU time of the process; on a GPU: time on the clock, with the queue waited for. What
takes minutes is measured on fewer evaluations and multiplied: the last column says on how many.
"""

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from benchmarks.speed import LABEL, MEAN, SIDE, STD, network, normalized
from saliencykit.black_boxes import TorchBlackBox
from saliencykit.core import BlackBox
from saliencykit.maskers import RealTimeMasker, Rise, masking_network

BUDGETS = (0.05, 0.1, 0.2, 0.4, 0.6)
RISE, RISE_MEASURED, THEIRS_MEASURED = 1000, 100, 32
EXTREMAL, EXTREMAL_MEASURED = 800, 4
SLOW = 3  # rounds of what takes seconds


@dataclass
class Row:
    """A way to get a prediction, with a mask or without.

    Attributes:
        name: In the table.
        run: One call.
        images: That one call answers.
        share: Of a whole answer that one call is; less than 1 where fewer evaluations are measured.
        note: On what it was measured.
        slow: Is it run in few rounds?
        seconds: Of each round, whole answers, per image.
    """

    name: str
    run: Callable[[], object]
    images: int
    share: float = 1.0
    note: str = ""
    slow: bool = False
    seconds: dict[int, float] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", default=["mobilenet_v2", "resnet50"], help="torchvision classifiers"
    )
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--others",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the other methods too",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    print(
        f"{machine(device)}, torch {torch.__version__}, {SIDE} px, eager, {arguments.rounds} "
        "rounds."
    )
    for name in arguments.models:
        for batch in arguments.batches:
            rows, absent = line_up(name, batch, device, arguments.others)
            measure(rows, arguments.rounds, device)
            print(f"\n**{name}, batch {batch}**\n\n{table(rows)}")
            for note in absent:
                print(f"\n{note}")
            sys.stdout.flush()


def machine(device: torch.device) -> str:
    """Processor or GPU by name, and on how many threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(
                line.split(":")[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, one thread"


def line_up(
    name: str, batch: int, device: torch.device, others: bool
) -> tuple[list[Row], list[str]]:
    """The rows of one table: the model in three ways, ours, and with `others` what there is beside
    it.
    """
    model = network(name).to(device)
    g = Generator().manual_seed(0)
    images = torch.rand(batch, 3, SIDE, SIDE, generator=g).to(device)
    black_box = TorchBlackBox(model, mean=MEAN, std=STD, size=SIDE)
    few = torch.rand(2, 3, SIDE, SIDE, generator=g).to(device)
    fast, trunk = black_box.optimized_for(images), masker(black_box, few, "auto")
    rows = [
        Row("the model alone, as its user runs it", lambda: plain(model, images), batch),
        Row("the model alone, its frozen copy", lambda: queried(fast, images), batch),
        Row("prediction and mask, `trunk`", lambda: trunk.predict(images), batch),
        Row(
            "prediction and five nested masks, `trunk`",
            lambda: trunk.predict(images, budget=BUDGETS),
            batch,
        ),
    ]
    if not others:
        return rows, []
    paper = masker(black_box, few, "paper,pretrained=false")
    rows.append(
        Row(
            "prediction and mask, `paper`: ResNet-50 encoder",
            lambda: paper.predict(images),
            batch,
            slow=True,
        )
    )
    if batch > 1:
        return rows, []
    rows.append(rise(fast, images))
    try:
        return [*rows, *torchray(model, images)], []
    except ImportError as error:
        return rows, [
            f"Left out, not installed: {error.name} (`pip install torchray` beside this package)."
        ]


def masker(black_box: TorchBlackBox, few: Tensor, encoder: object) -> RealTimeMasker:
    """A network of random weights, the decoder's last layer too, which starts at zero otherwise."""
    made = masking_network(black_box, few, encoder=encoder).eval()
    last = made.decoder.last
    assert isinstance(last, nn.Conv2d)
    with torch.no_grad():
        last.weight.copy_(
            torch.randn(last.weight.shape, generator=Generator().manual_seed(0)) * 0.1
        )
    return RealTimeMasker(network=made).bind(black_box)


def plain(model: nn.Module, images: Tensor) -> None:
    """As in everybody's code: normalize, query."""
    with torch.inference_mode():
        model(normalized(images.cpu()).to(images) if images.is_cuda else normalized(images))


def queried(black_box: BlackBox, images: Tensor) -> None:
    with torch.inference_mode():
        black_box(images)


def rise(fast: BlackBox, images: Tensor) -> Row:
    """Ours, on the frozen copy, whose making (0.1 s) is left out."""
    labels, few = (
        torch.full((len(images),), LABEL, device=images.device),
        Rise(samples=RISE_MEASURED),
    )

    def run() -> None:
        few(fast, images, labels, generator=Generator().manual_seed(0))

    return Row(
        f"RISE, {RISE} masks",
        run,
        len(images),
        RISE_MEASURED / RISE,
        f"{RISE_MEASURED} masks",
        slow=True,
    )


def torchray(model: nn.Module, images: Tensor) -> list[Row]:
    """TorchRay's RISE, and its extremal perturbation with one area, for a few of the 800 iterations
    that are its default.
    """
    from torchray.attribution.extremal_perturbation import extremal_perturbation
    from torchray.attribution.rise import rise as their_rise

    x = normalized(images.cpu()).to(images)

    def perturb() -> None:
        extremal_perturbation(model, x, LABEL, areas=[0.12], max_iter=EXTREMAL_MEASURED)

    def mask() -> None:
        their_rise(model, x, target=LABEL, num_masks=THEIRS_MEASURED)

    share, iterations = EXTREMAL_MEASURED / EXTREMAL, f"{EXTREMAL_MEASURED} iterations"
    return [
        Row(
            f"TorchRay RISE, {RISE} masks",
            mask,
            1,
            THEIRS_MEASURED / RISE,
            f"{THEIRS_MEASURED} masks",
            slow=True,
        ),
        Row(
            f"TorchRay extremal perturbation, {EXTREMAL} iterations",
            perturb,
            1,
            share,
            iterations,
            slow=True,
        ),
    ]


def measure(rows: list[Row], rounds: int, device: torch.device) -> None:
    """Fill in the seconds; the first round warms up, and slow rows sit most rounds out."""
    for turn in range(-1, rounds):
        for row in rows[turn % len(rows) :] + rows[: turn % len(rows)]:
            if row.slow and turn >= min(SLOW, rounds):
                continue
            start = clock(device)
            row.run()
            seconds = (clock(device) - start) / row.share / row.images
            if turn >= 0:
                row.seconds[turn] = seconds
        if sys.stderr.isatty():
            print(f"\rround {turn + 1} of {rounds}", end="", file=sys.stderr)


def clock(device: torch.device) -> float:
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def table(rows: list[Row]) -> str:
    """Images a second; the time beside the model as it is, beside its frozen copy, and beside
    ours.
    """
    lines = [
        "| | a second | x the model | x its frozen copy | x ours | measured on |",
        "|---|---|---|---|---|---|",
    ]
    user, frozen, ours = rows[:3]
    for row in rows:
        cells = [ratio(row, other) for other in (user, frozen, ours)]
        lines.append(
            f"| {row.name} | {number(1 / statistics.median(row.seconds.values()))} | "
            f"{' | '.join(cells)} | {row.note} |"
        )
    return "\n".join(lines)


def ratio(row: Row, other: Row) -> str:
    """The median of the ratios within rounds."""
    if row is other:
        return "1"
    return number(
        statistics.median(
            row.seconds[turn] / other.seconds[turn]
            for turn in row.seconds.keys() & other.seconds.keys()
        )
    )


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


if __name__ == "__main__":
    main()
