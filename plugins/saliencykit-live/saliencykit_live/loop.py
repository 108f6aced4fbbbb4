"""The loop: read a frame, explain it, show it, until the window is closed."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol, cast

from saliencykit import Explanation, Masker, explain_frames
from saliencykit.video import Frame
from saliencykit_live.painting import painted

_KEEP = 0.9  # weight of the previous mean time between frames


class Screen(Protocol):
    """The interface of a window."""

    def show(self, pixels: Any) -> None:
        """Show (H, W, 3) uint8 RGB."""

    def confidence(self) -> float:
        """The position of the slider."""

    def closed(self) -> bool:
        """Whether the user closed the window."""


def run(
    model: object,
    masker: Masker | str | None,
    frames: Iterator[Frame],
    screen: Screen,
    *,
    label: int | str = "follow",
    smoothing: float = 0.75,
    limit: int | None = None,
) -> int:
    """Explain frames on a screen until it is closed.

    Each frame is read after the last one was shown, so the display does not lag behind. When the
    slider is moved, masks have the new confidence from the next frame on.

    Args:
        model: As for `explain`.
        masker: As for `explain`; the slider works for maskers with a `confidence`.
        frames: The frames of a camera, or any other.
        screen: The window.
        label: A class, or `follow` for the current top class.
        smoothing: As for `explain_frames`.
        limit: Stop after this many frames.

    Returns:
        The number of frames that were shown.

    Raises:
        InputError: As for `explain_frames`; or the camera stops.
    """
    shown, pace, last = 0, 0.0, 0.0
    while True:
        confidence = screen.confidence()
        current = masker
        if getattr(masker, "confidence", None) is not None:
            current = replace(cast(Any, masker), confidence=confidence)
        with closing(
            explain_frames(
                model,
                _one_by_one(frames),
                label,
                current,
                smoothing=smoothing,
                batch_size=1,
                prefetch=0,
            )
        ) as explanations:
            for explanation in explanations:
                now = time.perf_counter()
                if shown > 1:  # the first frame waits for the model
                    pace = (now - last) if pace == 0 else _KEEP * pace + (1 - _KEEP) * (now - last)
                last = now
                screen.show(painted(explanation, _line(explanation, pace)))
                shown += 1
                if screen.closed() or shown == limit:
                    return shown
                if screen.confidence() != confidence:
                    break
            else:
                return shown


def _line(explanation: Explanation, pace: float) -> str:
    name = explanation.label_names[0].split(",")[0]
    line = f"{name} {float(explanation.probability[0]):.0%}"
    return f"{line}   {1 / pace:.0f} fps" if pace else line


def _one_by_one(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The same frames; closing this iterator does not close the camera."""
    # `yield from` would close the camera, too
    for frame in frames:  # noqa: UP028
        yield frame
