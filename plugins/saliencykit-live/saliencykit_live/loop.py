"""The loop: look, explain, show, until somebody closes the window."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, Protocol, cast

from saliencykit import Explanation, Masker, explain_frames
from saliencykit.video import Frame
from saliencykit_live.painting import painted

_KEEP = 0.9  # of the mean time between frames


class Screen(Protocol):
    """What is asked of a window."""

    def show(self, pixels: Any) -> None:
        """Show (H, W, 3) uint8 RGB."""

    def confidence(self) -> float:
        """Where the knob is."""

    def closed(self) -> bool:
        """Does the user want to end it?"""


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

    Each frame is read when the last one is shown, so what is seen is now. When the knob is moved,
    masks are made anew with the new confidence from the next frame on.

    Args:
        model: As `explain` takes it.
        masker: As `explain` takes it; the knob is for one with a `confidence`.
        frames: A camera's, or any.
        screen: The window.
        label: A class, or `follow`.
        smoothing: As of `explain_frames`.
        limit: Stop after so many frames.

    Returns:
        How many frames were shown.

    Raises:
        InputError: As `explain_frames`; or the camera gives no picture any more.
    """
    shown, pace, last = 0, 0.0, 0.0
    while True:
        knob = screen.confidence()
        turned = masker
        if getattr(masker, "confidence", None) is not None:
            turned = replace(cast(Any, masker), confidence=knob)
        with closing(
            explain_frames(
                model,
                _one_by_one(frames),
                label,
                turned,
                smoothing=smoothing,
                batch_size=1,
                prefetch=0,
            )
        ) as answers:
            for answer in answers:
                now = time.perf_counter()
                if shown > 1:  # the first frame waits for the model
                    pace = (now - last) if pace == 0 else _KEEP * pace + (1 - _KEEP) * (now - last)
                last = now
                screen.show(painted(answer, _line(answer, pace)))
                shown += 1
                if screen.closed() or shown == limit:
                    return shown
                if screen.confidence() != knob:
                    break
            else:
                return shown


def _line(answer: Explanation, pace: float) -> str:
    line = f"{answer.label_names[0].split(',')[0]} {float(answer.probability[0]):.0%}"
    return f"{line}   {1 / pace:.0f} fps" if pace else line


def _one_by_one(frames: Iterator[Frame]) -> Iterator[Frame]:
    """The same frames, so that closing what reads them does not close the camera."""
    # `yield from` would pass a close on, to the camera
    for frame in frames:  # noqa: UP028
        yield frame
