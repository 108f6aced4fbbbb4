"""The answers to one picture with each of many windows filled: by recomputing what the window
changes, or by full passes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import finite_rows
from saliencykit.core.query_batches import micro_batch
from saliencykit.core.types import Images, Logits
from saliencykit.networks.incremental.receptive_cone import (
    Cone,
    ConePlan,
    Numbers,
    Windows,
    cone_of,
)
from saliencykit.networks.incremental.runner import Runner
from saliencykit.networks.incremental.trace import NotUnderstoodError, trace

_PAYS = 0.9  # of the full passes' cost: an estimate above it is not worth the overhead
_FEWEST = 24  # windows: tracing and checking cost about seven evaluations
_COMFORT = 32 * 2**20  # bytes of the largest tensor on a CPU; see `black_boxes.frozen`
_SHARE = 16  # of the free memory of a GPU, for the largest tensor
_MOST = {"cpu": 40, "cuda": 512}  # windows at once; on a CPU smaller groups have tighter rectangles
_AGREES = 1e-4  # of the range of the logits


@final
@dataclass(frozen=True, eq=False)
class Filled:
    """One picture and what stands in its windows.

    Attributes:
        image: (1, C, H, W).
        fill: (1, C, H, W), taken inside of the windows.
        windows: Where, W of them.
        regions: (H, W) whole numbers: window k changes only those of its pixels that have number k.
            None: all of them.
    """

    image: Images
    fill: Images
    windows: Windows
    regions: Tensor | None = None

    def edits(self, which: Sequence[int]) -> Images:
        """The whole edited pictures, (n, C, H, W); -1 is the picture itself."""
        edits = self.image.expand(len(which), -1, -1, -1).clone()
        for edit, number in zip(edits, which, strict=True):
            if number < 0:
                continue
            top, bottom, left, right = (int(end[number]) for end in self._ends)
            own, other = edit[:, top:bottom, left:right], self.fill[0, :, top:bottom, left:right]
            if self.regions is None:
                own.copy_(other)  # `compose` with a mask of ones and zeros, without the arithmetic
            else:
                own.copy_(torch.where(self.regions[top:bottom, left:right] == number, other, own))
        return edits

    def crops(
        self, which: Sequence[int], top: Tensor, left: Tensor, height: int, width: int
    ) -> Images:
        """Rectangles of the edited pictures, (n, C, height, width), from rows `top` and columns
        `left` on, (n,) each.
        """
        device, numbers = self.image.device, list(which)
        rows = (top[:, None] + torch.arange(height, device=device))[:, :, None]
        columns = (left[:, None] + torch.arange(width, device=device))[:, None]
        first, last, start, end = (
            torch.from_numpy(e[numbers]).to(device)[:, None, None] for e in self._ends
        )
        inside = (rows >= first) & (rows < last) & (columns >= start) & (columns < end)
        if self.regions is not None:
            inside &= (
                self.regions[rows, columns] == torch.tensor(numbers, device=device)[:, None, None]
            )
        own, other = (p[0][:, rows, columns].transpose(0, 1) for p in (self.image, self.fill))
        return torch.where(inside[:, None], other, own)

    @property
    def _ends(self) -> tuple[Numbers, Numbers, Numbers, Numbers]:
        return self.windows.top, self.windows.bottom, self.windows.left, self.windows.right


@final
class WindowLogits:
    """Asks a box about pictures with windows filled, the same windows in all of them.

    The first picture decides how: if the box is a torch model whose graph can be recorded, and the
    windows' cones are small enough to pay, only what a window changes is computed, and the answers
    to two windows are compared with full passes. In every other case, and if they differ, all
    answers are full passes. Both give the same numbers but for rounding.

    Args:
        black_box: What `optimized_for` gave.
        windows: In pixels of the pictures.
        limit: The largest batch that the user's own box takes. If that is 1, only full passes are
            made.

    Attributes:
        reason: Why only full passes are made; empty where it is not known yet, or not so.

    Example:
        >>> from saliencykit.black_boxes.torch_module import TorchBlackBox
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> starts = np.arange(0, 32, 4)
        >>> windows = Windows(starts.repeat(8), starts.repeat(8) + 4, np.tile(starts, 8), np.tile(starts, 8) + 4)
        >>> image, fill = torch.rand(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        >>> ask = WindowLogits(TorchBlackBox(model, size=32), windows)
        >>> ask(Filled(image, fill, windows)).shape, ask.incremental
        (torch.Size([65, 8]), True)

    References:
        Convolutions shared between overlapping windows: Giusti et al. 2013, "Fast image scanning
        with deep max-pooling convolutional neural networks", section 2. Here it is a window's
        change that is followed, through any graph.
    """

    def __init__(self, black_box: BlackBox, windows: Windows, limit: int | None = None) -> None:
        self._box, self._windows = black_box, windows
        self._runner: Runner | None = None
        alone = len(windows) < _FEWEST or black_box.module is None or limit == 1
        self.reason = (
            "too few windows, or a box without a torch module, or of one image at a time"
            if alone
            else ""
        )

    @property
    def incremental(self) -> bool:
        """Are answers computed from the cones? Known after the first picture."""
        return self._runner is not None

    def __call__(self, filled: Filled) -> Logits:
        """The answer to the picture itself, then to each window filled, (1 + W, K)."""
        with torch.no_grad():
            if self._runner is None and not self.reason:
                return self._first(filled)
            if self._runner is not None:
                answers = self._incremental(self._runner, filled, check=False)
                if not finite_rows(answers):  # else the box itself says what is wrong
                    return answers
            return self._full(filled, range(-1, len(self._windows)))

    def _first(self, filled: Filled) -> Logits:
        try:
            runner = self._plan(filled)
            answers = self._incremental(runner, filled, check=True)
            self._runner = runner
            return answers
        except NotUnderstoodError as error:
            self.reason = str(error)
        # a function that does not take rectangles as it took whole maps: the full pass is right
        except Exception as error:
            self.reason = f"{type(error).__name__}: {error}"
        return self(filled)

    def _incremental(self, runner: Runner, filled: Filled, *, check: bool) -> Logits:
        whole = runner.whole(filled.image)
        answers = whole.new_empty(1 + len(self._windows), whole.shape[1])
        answers[0] = whole[0]
        for number, cone in enumerate(runner.cones):
            black_box = cone.picture
            top, left = (
                torch.from_numpy(side).to(filled.image.device)
                for side in (black_box.top, black_box.left)
            )
            got = runner.changed(
                cone, filled.crops(cone.windows, top, left, black_box.height, black_box.width)
            )
            answers[torch.tensor(cone.windows, device=answers.device) + 1] = got
            if check and number in (0, len(runner.cones) // 2):
                self._check(filled, cone.windows[len(cone.windows) // 2], answers)
        return answers

    def _check(self, filled: Filled, window: int, answers: Logits) -> None:
        """Compare the answers to the picture and to this window with those of full passes."""
        wanted = self._full(filled, [-1, window])
        apart = (answers[[0, window + 1]] - wanted).abs().amax()
        if not bool(apart <= _AGREES * (wanted.amax(1) - wanted.amin(1)).amin()):
            raise NotUnderstoodError(
                f"an answer differs from the full pass's by {float(apart):.3g}"
            )

    def _full(self, filled: Filled, which: Sequence[int]) -> Logits:
        step = micro_batch(self._box)
        parts = [which[at : at + step] for at in range(0, len(which), step)]
        return torch.cat([self._box(filled.edits(part)) for part in parts])

    def _plan(self, filled: Filled) -> Runner:
        device = filled.image.device
        # a box learns it by looking at its first answer, and what looks is refused
        _ = self._box.num_classes
        plan = ConePlan(trace(self._box, filled.image))
        groups = _neighbours(
            self._windows, np.arange(len(self._windows)), _MOST.get(device.type, 64)
        )
        sketch = cone_of(plan, self._windows, groups[len(groups) // 2])
        if sketch.cost > _PAYS * sketch.whole_cost:
            raise NotUnderstoodError(
                f"a window changes {sketch.cost / sketch.whole_cost:.0%} of the work"
            )
        numbers = _room(device) // filled.image.element_size()
        cones = [cone for group in groups for cone in self._cones(plan, group, numbers)]
        return Runner(plan, cones)

    def _cones(self, plan: ConePlan, which: Numbers, numbers: int) -> list[Cone]:
        """The cone of these windows, or of parts of them whose largest tensor holds at most so many
        numbers.
        """
        cone = cone_of(plan, self._windows, which)
        fits = max(1, numbers // cone.largest)
        if len(which) <= fits:
            return [cone]
        return [
            c
            for part in _neighbours(self._windows, which, fits)
            for c in self._cones(plan, part, numbers)
        ]


def _room(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // _SHARE
    return _COMFORT


def _neighbours(windows: Windows, which: Numbers, size: int) -> list[Numbers]:
    """Groups of at most `size` windows that lie close together and have about the same size: halved
    along the longest axis.
    """
    if len(which) <= size:
        return [which]
    tall, wide = windows.bottom - windows.top, windows.right - windows.left
    axes = [windows.top + tall / 2, windows.left + wide / 2, tall, wide]
    longest = max(axes, key=lambda axis: float(np.ptp(axis[which])))
    order = which[np.argsort(longest[which], kind="stable")]
    half = len(order) // 2
    return [*_neighbours(windows, order[:half], size), *_neighbours(windows, order[half:], size)]
