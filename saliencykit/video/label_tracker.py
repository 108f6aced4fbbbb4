"""LabelTracker: the class that is explained in each frame of a video."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from saliencykit.core.output import Output
from saliencykit.core.types import Labels, Logits

_KEEP = 0.8  # of the mean probabilities per frame: they follow within five frames


@final
@dataclass
class LabelTracker:
    """The class of each frame: a given one, the first frame's top class, or followed.

    To follow it, the probabilities are averaged over time (a fifth of each new frame). The class
    changes when the mean of another class is larger by more than `margin`, or at a cut, where the
    mean restarts. So a class that leads for a frame or two changes nothing.

    Attributes:
        which: A class index, `first` or `follow`.
        margin: For `follow`, in [0, 1].
        output: What a column of the logits means: which probabilities are averaged; scores are
            averaged as they are.

    Example:
        >>> tracker = LabelTracker("follow")
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 0.5], [4.0, 0.0]])
        >>> tracker(logits, [True, False, False]).tolist()
        [0, 0, 0]
    """

    which: int | Literal["first", "follow"]
    margin: float = 0.1
    output: Output = "softmax"
    _label: int | None = field(default=None, init=False)
    _mean: Tensor | None = field(default=None, init=False)

    def __call__(self, logits: Logits, cuts: Sequence[bool]) -> Labels:
        """The labels (B,) of the next B frames.

        Args:
            logits: (B, K).
            cuts: Does a new shot start with the frame?
        """
        values = logits.float()
        if self.output != "score":
            values = values.softmax(1) if self.output == "softmax" else values.sigmoid()
        rows = [self._next(row, cut) for row, cut in zip(values.cpu(), cuts, strict=True)]
        return torch.tensor(rows, dtype=torch.int64, device=logits.device)

    def _next(self, probabilities: Tensor, cut: bool) -> int:
        if self.which == "first":
            self._label = int(probabilities.argmax()) if self._label is None else self._label
            return self._label
        if self.which != "follow":
            return self.which
        if cut or self._mean is None or self._label is None:
            self._mean, self._label = probabilities, int(probabilities.argmax())
            return self._label
        self._mean = _KEEP * self._mean + (1 - _KEEP) * probabilities
        top = int(self._mean.argmax())
        if self._mean[top] > self._mean[self._label] + self.margin:
            self._label = top
        return self._label
