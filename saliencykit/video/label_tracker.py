"""Asked: which class each frame of a clip is asked about."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, final

import torch
from torch import Tensor

from saliencykit.core.types import Labels, Logits

_KEEP = 0.8  # of the mean probabilities, a frame: they follow within five frames


@final
@dataclass
class LabelTracker:
    """The class of each frame: a given one, the first frame's top class, or followed.

    Followed: the probabilities are averaged over time (a fifth of each new frame), and the class
        changes when the mean of another
    one is larger by more than `margin`, or at a cut, where the mean starts again. So a class that
    leads for a frame or two changes nothing.

    Attributes:
        which: A class index, `first` or `follow`.
        margin: In [0, 1], of `follow`.

    Example:
        >>> asked = LabelTracker("follow")
        >>> logits = torch.tensor([[4.0, 0.0], [0.0, 0.5], [4.0, 0.0]])
        >>> asked(logits, [True, False, False]).tolist()
        [0, 0, 0]
    """

    which: int | Literal["first", "follow"]
    margin: float = 0.1
    _held: int | None = field(default=None, init=False)
    _mean: Tensor | None = field(default=None, init=False)

    def __call__(self, logits: Logits, cuts: Sequence[bool]) -> Labels:
        """The labels (B,) of the next B frames, from their logits (B, K); does a new shot begin
        with them?
        """
        rows = [
            self._next(row, cut)
            for row, cut in zip(logits.float().softmax(1).cpu(), cuts, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.int64, device=logits.device)

    def _next(self, probabilities: Tensor, cut: bool) -> int:
        if self.which == "first":
            self._held = int(probabilities.argmax()) if self._held is None else self._held
            return self._held
        if self.which != "follow":
            return self.which
        if cut or self._mean is None or self._held is None:
            self._mean, self._held = probabilities, int(probabilities.argmax())
            return self._held
        self._mean = _KEEP * self._mean + (1 - _KEEP) * probabilities
        top = int(self._mean.argmax())
        if self._mean[top] > self._mean[self._held] + self.margin:
            self._held = top
        return self._held
