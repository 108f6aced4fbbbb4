import numpy as np
import pytest
import torch
from torch import Generator

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.networks.incremental.filled_windows import FilledWindows, Windows
from saliencykit.networks.incremental.graph_tracing import record_trace
from saliencykit.networks.incremental.receptive_cone import ConePlan, build_cone
from saliencykit.networks.incremental.runner import Runner
from tests.helpers import fixed


@pytest.fixture
def grid():
    """All windows of a side, every few pixels, cut off at the border."""

    def make(size, window, stride):
        tops, lefts = np.meshgrid(*(np.arange(0, side, stride) for side in size), indexing="ij")
        tops, lefts = tops.ravel(), lefts.ravel()
        return Windows(
            tops, np.minimum(tops + window, size[0]), lefts, np.minimum(lefts + window, size[1])
        )

    return make


@pytest.fixture
def both(grid):
    """Logits by cones and by full passes, in double precision, whether it pays or not; and the
    plan.
    """

    def answer(
        make, size=(19, 23), window=5, stride=3, groups=3, windows=None, regions=None, channels=3
    ):
        net = fixed(make).double()
        images = torch.rand(
            2, channels, *size, generator=Generator().manual_seed(1), dtype=torch.float64
        )
        image, fill = images[:1], images[1:].flip(-1)
        net(image)  # gives lazy layers their shapes
        windows = windows or grid(size, window, stride)
        black_box = TorchBlackBox(
            net, mean=(0.4,) * channels, std=(0.25,) * channels
        ).optimized_for(image)
        with torch.no_grad():
            black_box(image)
            plan = ConePlan(record_trace(black_box, image))
            cones = [
                build_cone(plan, windows, which)
                for which in np.array_split(np.arange(len(windows)), groups)
            ]
            runner, filled = Runner(plan, cones), FilledWindows(image, fill, windows, regions)
            got = [runner.whole(image)]
            for cone in cones:
                top, left = torch.from_numpy(cone.image.top), torch.from_numpy(cone.image.left)
                crops = filled.crops(cone.windows, top, left, cone.image.height, cone.image.width)
                got.append(runner.changed(cone, crops))
            return torch.cat(got), black_box(filled.edits([-1, *range(len(windows))])), cones

    return answer


@pytest.fixture
def local():
    """How many calls were made on rectangles, and the names of those made on whole maps."""

    def count(cones):
        steps = [step for cone in cones for step in cone.steps]
        return sum(s.rule is not None for s in steps), {
            s.node.target.__name__ for s in steps if s.rule is None
        }

    return count
