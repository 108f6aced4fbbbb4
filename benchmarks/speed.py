"""What do `rise` and `occlusion` cost? Beside the model alone, and beside the peers at equal
settings.

    python -m benchmarks.speed             # MobileNetV2, some minutes; --quick: one
    python -m benchmarks.speed --model resnet50 --pairs 5

The unit is the floor: the plain model's best batched forward, in channels_last, with the
micro-batch whose largest activation stays under 32 MB, times the number of evaluations. One thread,
CPU time of the process. In every round each method runs once, in an order that turns; ratios are
taken within a round, and the table has their median with a distribution-free interval of at least
95 %. Weights are random: they do not change the time. Peers that are not installed are left out.
"""

import argparse
import copy
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import comb
from pathlib import Path

import torch
from torch import Generator, Tensor, nn

from saliencykit.black_boxes import TorchBlackBox
from saliencykit.maskers import Occlusion, Rise
from saliencykit.networks import optimize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, LABEL = 224, 285
WINDOW = 32
OURS = ("rise", "occlusion")


@dataclass(frozen=True)
class Contender:
    """A method to time: its name, which of ours it is compared with, its queries, and the call."""

    name: str
    ours: str | None
    evaluations: int
    run: Callable[[], object]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    if arguments.memory_of:
        print(json.dumps(extra_memory(arguments.memory_of, arguments.model, arguments.evaluations)))
        return
    model = network(arguments.model)
    image = torch.rand(1, 3, SIDE, SIDE, generator=Generator().manual_seed(0))
    stride, samples = (32, 48) if arguments.quick else (24, 96)
    contenders, absent = line_up(model, image, samples, stride, arguments.peers)
    times = {c.name: [] for c in contenders}
    for turn in range(-1, arguments.pairs):
        for contender in (
            contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]
        ):
            seconds = cpu_seconds(contender.run)
            if turn >= 0:  # the first round warms up
                times[contender.name].append(seconds / contender.evaluations)
        if sys.stderr.isatty():
            print(f"\rround {turn + 1} of {arguments.pairs}", end="", file=sys.stderr)
    print(
        f"{arguments.model}, {SIDE} px, torch {torch.__version__}, {platform.machine()}, one "
        f"thread, {arguments.pairs} rounds.\n"
    )
    print(cost_table(contenders, times))
    for note in absent:
        print(f"\n{note}")
    shares = {name: outside_share(name, model, image, arguments.quick) for name in OURS}
    print("\n" + parts_table(arguments, shares))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mobilenet_v2", help="a torchvision classifier")
    parser.add_argument("--pairs", type=int, default=None, help="rounds; 15, or 3 with --quick")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="fewer rounds and evaluations: a look, not a measurement",
    )
    parser.add_argument(
        "--peers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="run the peers that are installed",
    )
    # what the command queries of its own subprocess
    parser.add_argument("--memory-of", choices=OURS, help=argparse.SUPPRESS)
    parser.add_argument("--evaluations", type=int, default=100, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.pairs = arguments.pairs or (3 if arguments.quick else 15)
    return arguments


def network(name: str) -> nn.Module:
    import torchvision

    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None).eval().requires_grad_(False)


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def line_up(
    model: nn.Module, image: Tensor, samples: int, stride: int, peers: bool
) -> tuple[list[Contender], list[str]]:
    windows = ((SIDE - WINDOW) // stride + 1) ** 2
    contenders = [
        Contender("the model alone: the floor", None, samples, floor(model, image, samples)),
        Contender("saliencykit rise", None, samples, ours(Rise(samples=samples), model, image)),
        Contender(
            "saliencykit occlusion",
            None,
            windows + 1,
            ours(Occlusion(window=WINDOW, stride=stride), model, image),
        ),
    ]
    absent = []
    for make in (captum_occlusion, torchray_rise, xaitk) if peers else ():
        try:
            contenders += make(model, image, samples, stride, windows)
        except ImportError as error:
            absent.append(
                f"Left out, not installed: {error.name}. `pip install captum torchray "
                "xaitk-saliency` in an environment."
            )
    return contenders, absent


def floor(model: nn.Module, image: Tensor, evaluations: int) -> Callable[[], object]:
    """The plain model on images that are ready: normalized, in its best layout and batch."""
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
    candidates = [n for n in (1, 2, 3, 4, 6, 8) if n <= optimize(model, image).max_batch_size]
    batches = {
        n: image.repeat(n, 1, 1, 1).contiguous(memory_format=torch.channels_last)
        for n in candidates
    }

    def forward(n: int, count: int) -> None:
        with torch.inference_mode():
            for first in range(0, count, n):
                fast(batches[n][: count - first])

    trials = {n: min(cpu_seconds(lambda n=n: forward(n, 24)) for _ in range(3)) for n in candidates}
    best = min(trials, key=lambda n: trials[n])
    return lambda: forward(best, evaluations)


def ours(masker: Rise | Occlusion, model: nn.Module, image: Tensor) -> Callable[[], object]:
    black_box, labels = TorchBlackBox(model, mean=MEAN, std=STD, size=SIDE), torch.tensor([LABEL])
    return lambda: masker(black_box, image, labels, generator=Generator().manual_seed(0))


def normalized(image: Tensor) -> Tensor:
    return (image - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def captum_occlusion(
    model: nn.Module, image: Tensor, samples: int, stride: int, windows: int
) -> list[Contender]:
    from captum.attr import Occlusion as CaptumOcclusion

    attribution, x = CaptumOcclusion(nn.Sequential(model, nn.Softmax(1))), normalized(image)

    def run(at_once: int) -> Callable[[], object]:
        return lambda: attribution.attribute(
            x,
            (3, WINDOW, WINDOW),
            strides=(3, stride, stride),
            baselines=0.0,
            target=LABEL,
            perturbations_per_eval=at_once,
        )

    return [
        Contender(f"Captum Occlusion, {n} at once", "saliencykit occlusion", windows + 1, run(n))
        for n in (1, 16)
    ]


def torchray_rise(
    model: nn.Module, image: Tensor, samples: int, stride: int, windows: int
) -> list[Contender]:
    from torchray.attribution.rise import rise

    x = normalized(image)
    return [
        Contender(
            "TorchRay rise",
            "saliencykit rise",
            samples,
            lambda: rise(model, x, target=LABEL, num_masks=samples),
        )
    ]


def xaitk(
    model: nn.Module, photo: Tensor, samples: int, stride: int, windows: int
) -> list[Contender]:
    import numpy as np
    from smqtk_classifier.interfaces.classify_image import ClassifyImage
    from xaitk_saliency.impls.gen_image_classifier_blackbox_sal.rise import RISEStack
    from xaitk_saliency.impls.gen_image_classifier_blackbox_sal.slidingwindow import (
        SlidingWindowStack,
    )

    class Classifier(ClassifyImage):
        """The model as their interface wants it, in batches of 4."""

        def get_labels(self) -> list[int]:
            return list(range(1000))

        def get_config(self) -> dict[str, object]:
            return {}

        def classify_images(self, img_iter: Iterable[np.ndarray]) -> Iterator[dict[int, float]]:
            waiting: list[np.ndarray] = []
            for image in img_iter:
                waiting.append(image)
                if len(waiting) == 4:
                    yield from self._query(waiting)
                    waiting = []
            if waiting:
                yield from self._query(waiting)

        def _query(self, images: list[np.ndarray]) -> Iterator[dict[int, float]]:
            x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)
            with torch.inference_mode():
                answers = model(normalized(x)).softmax(1).numpy()
            return (dict(enumerate(row)) for row in answers)

    classifier = Classifier()
    image = (photo[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    random_masks = RISEStack(n=samples, s=7, p1=0.5, seed=0)
    sliding = SlidingWindowStack(window_size=(WINDOW, WINDOW), stride=(stride, stride))
    return [
        Contender(
            "xaitk-saliency RISEStack",
            "saliencykit rise",
            samples,
            lambda: random_masks(image, classifier),
        ),
        Contender(
            "xaitk-saliency SlidingWindowStack",
            "saliencykit occlusion",
            windows + 1,
            lambda: sliding(image, classifier),
        ),
    ]


def cost_table(contenders: list[Contender], times: dict[str, list[float]]) -> str:
    base = times[contenders[0].name]
    rows = [
        "| method | evaluations | ms per evaluation | x the floor | x ours |",
        "|---|---|---|---|---|",
    ]
    for contender in contenders:
        mine = times[contender.name]
        against = (
            ""
            if contender.ours is None
            else interval([t / o for t, o in zip(mine, times[contender.ours], strict=True)])
        )
        above = (
            interval([t / b for t, b in zip(mine, base, strict=True)])
            if contender is not contenders[0]
            else "1"
        )
        rows.append(
            f"| {contender.name} | {contender.evaluations} | {statistics.median(mine) * 1e3:.1f} "
            f"| {above} | {against} |"
        )
    return "\n".join(rows)


def interval(values: list[float]) -> str:
    """The median and, from order statistics, an interval that holds the true one with at least 95
    %; the range if there are few.
    """
    ordered, n = sorted(values), len(values)
    tails = [sum(comb(n, k) for k in range(rank)) / 2**n for rank in range(1, n // 2 + 1)]
    rank = max((rank for rank, tail in enumerate(tails, 1) if 2 * tail <= 0.05), default=1)
    return f"{statistics.median(values):.2f} [{ordered[rank - 1]:.2f}, {ordered[-rank]:.2f}]"


class Timed(nn.Module):
    """The model, with the CPU time that its forward takes added up; copies share the account."""

    spent = 0.0

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The model's answer."""
        start = time.process_time()
        answer = self.model(x)
        Timed.spent += time.process_time() - start
        return answer


def outside_share(name: str, model: nn.Module, image: Tensor, quick: bool) -> float:
    """The share of an explanation's time, set-up included, that is not in the model's forward; at
    the default settings.
    """
    masker: Rise | Occlusion = (
        Rise(samples=300 if quick else 1000)
        if name == "rise"
        else Occlusion(stride=16 if quick else 8, window=WINDOW)
    )
    run = ours(masker, Timed(model), image)
    ours(Rise(samples=24), Timed(model), image)()
    Timed.spent = 0.0
    total = cpu_seconds(run)
    return 1 - Timed.spent / total


def parts_table(arguments: argparse.Namespace, shares: dict[str, float]) -> str:
    few, many = (60, 600) if arguments.quick else (100, 1000)
    rows = [
        f"| method | time outside the model | memory, {few} evaluations | memory, {many} "
        "evaluations |",
        "|---|---|---|---|",
    ]
    for name in OURS:
        memory = [in_subprocess(name, arguments.model, count) for count in (few, many)]
        rows.append(
            f"| {name} | {shares[name]:.1%} | "
            + " | ".join(f"{megabytes:.0f} MB" for megabytes in memory)
            + " |"
        )
    return "\n".join(rows)


def in_subprocess(name: str, model: str, evaluations: int) -> float:
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed",
        "--memory-of",
        name,
        "--model",
        model,
        "--evaluations",
        str(evaluations),
    ]
    done = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env=os.environ,
    )
    return float(json.loads(done.stdout))


def extra_memory(name: str, model_name: str, evaluations: int) -> float:
    """The peak of resident memory in a run, less what the model and one plain forward left, less a
    copy of the weights; in MB.
    """
    model = network(model_name)
    image = torch.rand(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        model(image)
    windows = round(evaluations**0.5)  # per side, roughly: strides are whole pixels
    occlusion = Occlusion(window=WINDOW, stride=max(1, (SIDE - WINDOW) // (windows - 1)))
    run = ours(Rise(samples=evaluations) if name == "rise" else occlusion, model, image)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    run()
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    return (resident("VmHWM") - before - weights) / 2**20


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
