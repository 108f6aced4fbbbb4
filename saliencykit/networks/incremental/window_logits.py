"""The logits of an image with each of many windows filled: incrementally, or by full passes."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import finite_rows
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Logits
from saliencykit.networks.incremental.filled_windows import FilledWindows, Windows
from saliencykit.networks.incremental.graph_tracing import record_trace
from saliencykit.networks.incremental.receptive_cone import Cone, ConePlan, build_cone
from saliencykit.networks.incremental.regions import IntArray
from saliencykit.networks.incremental.runner import Runner
from saliencykit.networks.incremental.trace import UntraceableError
from saliencykit.networks.optimized_copy import CACHED_BLOCK_BYTES

_MAX_COST = 0.9  # of the full passes: with more, the overhead is not worth it
_MIN_WINDOWS = 24  # tracing and checking cost about seven evaluations
_GPU_FRACTION = 16  # of the free memory of a GPU, for the largest tensor: one 16th
# windows per step; on a CPU smaller groups have tighter rectangles
_GROUP_SIZE = {"cpu": 40, "cuda": 512}
_TOLERANCE = 1e-4  # of the range of the logits


@final
class WindowLogits:
    """Queries a black box with windows of images filled, the same windows for all images.

    The first image decides how: if the black box is a torch model whose graph can be recorded, and
    the windows' receptive cones are small enough, only what a window changes is computed, and the
    logits of two windows are compared with full passes. In every other case, and if they differ,
    all logits are computed by full passes. Both give the same numbers but for rounding.

    Args:
        black_box: What `optimized_for` returned.
        windows: In pixels of the images.
        max_batch_size: Of the user's own black box. If that is 1, only full passes are made.

    Attributes:
        reason: Why only full passes are made; empty where that is not known yet, or not so.

    Example:
        >>> from saliencykit.black_boxes import TorchBlackBox
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        ... )
        >>> top, left = np.repeat(np.arange(0, 32, 4), 8), np.tile(np.arange(0, 32, 4), 8)
        >>> windows = Windows(top, top + 4, left, left + 4)
        >>> query = WindowLogits(TorchBlackBox(model, size=32), windows)
        >>> image, fill = torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        >>> query(FilledWindows(image, fill, windows)).shape, query.incremental
        (torch.Size([65, 8]), True)

    References:
        Convolutions shared between overlapping windows: Giusti et al. 2013, "Fast image scanning
        with deep max-pooling convolutional neural networks", section 2. Here a window's change is
        followed, through any graph.
    """

    def __init__(
        self, black_box: BlackBox, windows: Windows, max_batch_size: int | None = None
    ) -> None:
        self._black_box, self._windows = black_box, windows
        self._runner: Runner | None = None
        few = len(windows) < _MIN_WINDOWS
        self.reason = (
            "too few windows, or a black box without a torch module or for one image at a time"
            if few or black_box.module is None or max_batch_size == 1
            else ""
        )

    @property
    def incremental(self) -> bool:
        """Are logits computed from the cones? Known after the first image."""
        return self._runner is not None

    def __call__(self, filled: FilledWindows) -> Logits:
        """The logits of the image itself, then with each window filled, (1 + W, K)."""
        with torch.no_grad():
            if self._runner is None and not self.reason:
                return self._first(filled)
            if self._runner is not None:
                logits = self._incremental(self._runner, filled, check=False)
                if not finite_rows(logits):  # else the black box itself raises
                    return logits
            return self._full(filled, range(-1, len(self._windows)))

    def _first(self, filled: FilledWindows) -> Logits:
        try:
            runner = self._plan(filled)
            logits = self._incremental(runner, filled, check=True)
            self._runner = runner
            return logits
        except UntraceableError as error:
            self.reason = str(error)
        # a function that takes whole maps but no rectangles: the full pass is right
        except Exception as error:
            self.reason = f"{type(error).__name__}: {error}"
        return self(filled)

    def _incremental(self, runner: Runner, filled: FilledWindows, *, check: bool) -> Logits:
        whole, device = runner.whole(filled.image), filled.image.device
        logits = whole.new_empty(1 + len(self._windows), whole.shape[1])
        logits[0] = whole[0]
        for number, cone in enumerate(runner.cones):
            region = cone.image
            top, left = (torch.from_numpy(side).to(device) for side in (region.top, region.left))
            crops = filled.crops(cone.windows, top, left, region.height, region.width)
            rows = torch.tensor(cone.windows, device=logits.device) + 1
            logits[rows] = runner.changed(cone, crops)
            if check and number in (0, len(runner.cones) // 2):
                self._check(filled, cone.windows[len(cone.windows) // 2], logits)
        return logits

    def _check(self, filled: FilledWindows, window: int, logits: Logits) -> None:
        """Compare the logits of the image and of this window with those of full passes."""
        expected = self._full(filled, [-1, window])
        difference = (logits[[0, window + 1]] - expected).abs().amax()
        if not bool(difference <= _TOLERANCE * (expected.amax(1) - expected.amin(1)).amin()):
            raise UntraceableError(f"a logit differs from the full pass by {float(difference):.3g}")

    def _full(self, filled: FilledWindows, which: Sequence[int]) -> Logits:
        step = micro_batch(self._black_box)
        parts = [which[at : at + step] for at in range(0, len(which), step)]
        return torch.cat([self._black_box(filled.edits(part)) for part in parts])

    def _plan(self, filled: FilledWindows) -> Runner:
        device = filled.image.device
        # a black box may learn it from its first logits, and code that reads values is untraceable
        _ = self._black_box.num_classes
        plan = ConePlan(record_trace(self._black_box, filled.image))
        every = np.arange(len(self._windows))
        groups = _adjacent_groups(self._windows, every, _GROUP_SIZE.get(device.type, 64))
        sample = build_cone(plan, self._windows, groups[len(groups) // 2])
        if sample.cost > _MAX_COST * sample.whole_cost:
            fraction = sample.cost / sample.whole_cost
            raise UntraceableError(f"a window changes {fraction:.0%} of the work")
        numbers = _largest_tensor(device) // filled.image.element_size()
        cones = [cone for group in groups for cone in self._cones(plan, group, numbers)]
        return Runner(plan, cones)

    def _cones(self, plan: ConePlan, which: IntArray, numbers: int) -> list[Cone]:
        """The cone of these windows, or of parts of them whose largest tensor has room for at most
        so many numbers.
        """
        cone = build_cone(plan, self._windows, which)
        fits = max(1, numbers // cone.largest)
        if len(which) <= fits:
            return [cone]
        parts = _adjacent_groups(self._windows, which, fits)
        return [each for part in parts for each in self._cones(plan, part, numbers)]


def _largest_tensor(device: torch.device) -> int:
    """Bytes of the largest tensor of a step."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // _GPU_FRACTION
    return CACHED_BLOCK_BYTES


def _adjacent_groups(windows: Windows, which: IntArray, size: int) -> list[IntArray]:
    """Groups of at most `size` windows that are close together and of about the same size: halved
    along the longest axis.
    """
    if len(which) <= size:
        return [which]
    tall, wide = windows.bottom - windows.top, windows.right - windows.left
    axes = [windows.top + tall / 2, windows.left + wide / 2, tall, wide]
    longest = max(axes, key=lambda axis: float(np.ptp(axis[which])))
    order = which[np.argsort(longest[which], kind="stable")]
    half = len(order) // 2
    return [
        *_adjacent_groups(windows, order[:half], size),
        *_adjacent_groups(windows, order[half:], size),
    ]
