"""Where does the time of `evaluate` go? 6 maskers by 8 metrics on photos, MobileNetV2 at 224 px:
inside the networks, or outside?

    python -m benchmarks.evaluation                  # 20 photos, all maskers, six CPU minutes
    python -m benchmarks.evaluation --photos 4       # a look
    python -m benchmarks.evaluation --masker FILE    # your trained masker instead of the zoo's

CPU time of one thread. Inside is what lies between the first line and the last of a network's
`forward` (the classifier's, its frozen copy's, the trained masker's) and of autograd's backward;
for `occlusion`, which computes only the part of each layer that a window changes, the layer's own
function. Everything else is outside: reading the photos, normalizing them, ranking, composing, the
linear systems of ROAD, checks, rows and images on the disk. No profiler runs along: a clock is
read at those borders alone.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks.data import mobilenet_v2, read_photos
from saliencykit.core import Masker, Metric, Sample
from saliencykit.evaluation import evaluate
from saliencykit.maskers import RealTimeMasker
from saliencykit.networks.incremental.runner import Runner
from saliencykit.registry import as_masker, as_metric

MASKERS = ("grad-cam", "gradient", "rise:samples=128", "occlusion", "center-box")
METRICS = (
    "insertion", "deletion", "area-curves", "average-drop", "road", "saliency-score",
    "smallest-sufficient-region", "pointing-game",
)  # fmt: skip
KEPT = 0.12  # of the photos the images are kept for the report: 12 of 100
REST = "reading, rows, images"


@dataclass
class Clock:
    """CPU seconds by what they were spent for, all and inside the networks; and how often a network
    was called.

    Attributes:
        total: By name of the masker or metric.
        inside: The part of it inside the networks.
        calls: Of networks.
    """

    total: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    inside: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: int = 0
    _names: list[str] = field(default_factory=lambda: [REST])
    _since: float = 0.0
    _depth: int = 0

    def start(self) -> None:
        """Begin counting; what no masker or metric spends is counted as the rest."""
        self._since = time.process_time()

    def turn(self) -> None:
        """Give the time since the last turn to whom it belongs."""
        now = time.process_time()
        self.total[self._names[-1]] += now - self._since
        if self._depth:
            self.inside[self._names[-1]] += now - self._since
        self._since = now

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """What is spent here is spent for `name`."""
        self.turn()
        self._names.append(name)
        try:
            yield
        finally:
            self.turn()
            self._names.pop()

    def network(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time is inside."""

        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return call(*args, **kwargs)
            self.turn()
            self._depth, self.calls = 1, self.calls + 1
            try:
                return call(*args, **kwargs)
            finally:
                self.turn()
                self._depth = 0

        return timed

    @property
    def in_network(self) -> bool:
        """Is the time inside at the moment?"""
        return bool(self._depth)

    @contextmanager
    def networks(self) -> Iterator[None]:
        """In this block the outermost call of any module and any backward pass are inside."""
        places = [(nn.Module, "__call__"), (torch.autograd, "grad"), (torch.autograd, "backward")]
        places += [
            (Runner, "_compute"),
            (Runner, "_call"),
        ]  # layers of which only a part is computed
        with ExitStack() as held:
            for owner, name in places:
                held.enter_context(
                    mock.patch.object(owner, name, self.network(getattr(owner, name)))
                )
            yield

    @contextmanager
    def things(self, names: dict[int, str]) -> Iterator[None]:
        """In this block calls of these maskers and metrics are spent for them.

        Args:
            names: By `id`.
        """

        def named(call: Callable[..., Any], other: str = REST) -> Callable[..., Any]:
            def timed(thing: Any, *args: Any, **kwargs: Any) -> Any:
                with self.spending(names.get(id(thing), other)):
                    return call(thing, *args, **kwargs)

            return timed

        with ExitStack() as held:
            for owner in (Masker, Metric):
                held.enter_context(mock.patch.object(owner, "__call__", named(owner.__call__)))
            trained = "the trained masker"  # bound to the black box it is an object of its own
            held.enter_context(
                mock.patch.object(
                    RealTimeMasker, "one_pass", named(RealTimeMasker.one_pass, trained)
                )
            )
            yield


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=20, help="of ilsvrc2012-val-a")
    parser.add_argument(
        "--masker", default="zoo/mobilenetv2", help="the trained masker; '' for none"
    )
    parser.add_argument("--maskers", nargs="*", default=MASKERS, help="the others")
    parser.add_argument("--metrics", nargs="*", default=METRICS)
    parser.add_argument("--batch", type=int, default=16, help="photos at once")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clock = profile(arguments)
    print(
        f"mobilenet_v2, 224 px, torch {torch.__version__}, one thread, {arguments.photos} photos, "
        f"batches of {arguments.batch}.\n"
    )
    print(table(clock, arguments.photos))


def profile(arguments: argparse.Namespace) -> Clock:
    """One evaluation into a directory that is thrown away, with the clock running."""
    black_box = mobilenet_v2()
    photos = read_photos("ilsvrc2012-val-a", black_box, count=arguments.photos)
    data = [
        Sample(photo.image, torch.tensor([photo.label]), (photo.boxes,), (photo.name,))
        for photo in photos
    ]
    maskers = {
        name: as_masker(name) for name in [*arguments.maskers, *filter(None, [arguments.masker])]
    }
    metrics = {name: as_metric(name) for name in arguments.metrics}
    names = {id(thing): name for name, thing in (*maskers.items(), *metrics.items())}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder, clock.networks(), clock.things(names):
        clock.start()
        kept = round(KEPT * arguments.photos)
        evaluate(
            black_box,
            maskers,
            metrics,
            data,
            output_dir=Path(folder) / "run",
            baselines=False,
            batch_size=arguments.batch,
            report_images=kept,
        )
        clock.turn()
    return clock


def table(clock: Clock, photos: int) -> str:
    """Markdown: a line per masker and metric, the dearest first, and the whole."""
    lines = [
        "| of which | CPU ms a photo | share of the whole | inside the networks | outside, ms a "
        "photo |",
        "|---|---|---|---|---|",
    ]
    whole = sum(clock.total.values())
    rows = [(name, spent, clock.inside[name]) for name, spent in clock.total.items()]
    rows = [*sorted(rows, key=lambda row: -row[1]), ("**all**", whole, sum(clock.inside.values()))]
    for name, spent, inside in rows:
        share = f"{inside / spent:.1%}" if spent else "-"
        lines.append(
            f"| {name} | {spent / photos * 1e3:.1f} | {spent / whole:.1%} | {share} | "
            f"{(spent - inside) / photos * 1e3:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
