"""Smoothing: motion-compensated temporal smoothing of masks, restarted at cuts."""

from dataclasses import dataclass, field
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from saliencykit.core.types import Images, Labels, Mask
from saliencykit.video.optical_flow import flow_back, known, moved, small_gray


@final
@dataclass(frozen=True)
class MotionSteps:
    """How each of B frames follows from the frame before it.

    Attributes:
        flow: (B, 2, h, w), from `flow_back`.
        known: (B, 1, h, w) in [0, 1]: which points were visible in the frame before.
        cuts: Does a new shot start? Also True for the first frame.
    """

    flow: Tensor
    known: Tensor
    cuts: tuple[bool, ...]


@final
@dataclass
class MotionEstimator:
    """Estimates motion and cuts of a video, a batch of frames at a time.

    A cut is where less than half of a frame was visible in the frame before, after motion
    compensation (the mean of `known`). A camera that turns by more than a fifth of the image
    within a frame counts as a cut.

    Attributes:
        share: Fraction of a frame that must have been visible before, in [0, 1].

    Example:
        >>> estimator = MotionEstimator()
        >>> estimator(torch.rand(1, 3, 32, 32, generator=generator).repeat(2, 1, 1, 1)).cuts
        (True, False)
    """

    share: float = 0.5
    _last: Tensor | None = field(default=None, init=False)

    def __call__(self, images: Images) -> MotionSteps:
        """Motion of the next B frames, (B, C, H, W) of any range; a new size starts a new shot."""
        gray = small_gray(images)
        fresh = self._last is None or self._last.shape[1:] != gray.shape[1:]
        first = gray[:1] if fresh or self._last is None else self._last
        before = torch.cat([first, gray[:-1]])
        flow = flow_back(before, gray)
        found = known(before, gray, flow)
        cuts = (found.mean((1, 2, 3)) < self.share).tolist()
        self._last = gray[-1:]
        return MotionSteps(flow, found, (cuts[0] or fresh, *cuts[1:]))


@final
@dataclass
class Smoothing:
    """A moving average over time that follows the motion in the video.

    Each mask is `share` of the last smoothed mask, moved to where its content is now, plus
    `1 - share` of the new one. Where something came into view, and after a cut or a change of
    class, the new mask counts alone.

    Good at masks that jitter while the image hardly changes. It lags by share / (1 - share) frames
    where the evidence changes without motion.

    Attributes:
        share: Weight of the past, in [0, 1); 0 leaves the masks as they are.

    Example:
        >>> smoothing = Smoothing(0.5)
        >>> steps = MotionSteps(torch.zeros(2, 2, 8, 8), torch.ones(2, 1, 8, 8), (True, False))
        >>> masks = torch.stack([torch.ones(1, 8, 8), torch.zeros(1, 8, 8)])
        >>> smoothing(masks, torch.tensor([3, 3]), steps).mean((1, 2, 3)).tolist()
        [1.0, 0.5]
    """

    share: float
    _mask: Mask | None = field(default=None, init=False)
    _label: int | None = field(default=None, init=False)

    def __call__(self, masks: Mask, labels: Labels, steps: MotionSteps) -> Mask:
        """Smooth the next B masks, (B, 1, H, W)."""
        if self.share == 0:
            return masks
        smooth = []
        past = F.interpolate(steps.known * self.share, size=masks.shape[2:], mode="bilinear")
        for row, label in enumerate(labels.tolist()):
            mask = masks[row : row + 1]
            if (
                self._mask is not None
                and not steps.cuts[row]
                and label == self._label
                and self._mask.shape == mask.shape
            ):
                carried = moved(self._mask, steps.flow[row : row + 1])
                mask = torch.lerp(mask, carried, past[row : row + 1].to(mask.dtype)).clamp(0, 1)
            self._mask, self._label = mask, label
            smooth.append(mask)
        return torch.cat(smooth)
