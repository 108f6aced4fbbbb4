"""Frame: one picture of a clip, and when it is shown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

from saliencykit.core.errors import InputError


@final
@dataclass(frozen=True)
class Frame:
    """One picture of a clip.

    Attributes:
        picture: As `explain` takes it: PIL, array or tensor.
        time: Seconds from the clip's beginning, or None where nobody knows.
        index: Its number in the clip, from 0.
        origin: What it was made from: of a file's frame the decoder's own.

    Example:
        >>> Frame("photo.jpg", time=0.04, index=1).time
        0.04
    """

    picture: Any
    time: float | Fraction | None = None
    index: int = 0
    origin: Any = None


def as_frames(frames: Iterable[Any]) -> Iterator[Frame]:
    """Pictures with their numbers; a Frame stays as it is."""
    for index, frame in enumerate(frames):
        yield frame if isinstance(frame, Frame) else Frame(frame, index=index)


def paced(frames: Iterable[Frame], fps: float | None) -> Iterator[Frame]:
    """The frames that are due when so many a second are wanted; the others are left out.

    The n-th is due at n / fps after the first. The frame that is nearest from below a due time
    would be late, so it is the first one at or after it (less a hundredth of the interval, since
    time stamps are rounded). No frame is made up: a slower clip stays as it is.

    Args:
        frames: With times.
        fps: Above 0, or None for all of them.

    Raises:
        InputError: A frame has no time.

    Example:
        >>> clip = [Frame(None, time=i / 25, index=i) for i in range(10)]
        >>> [frame.index for frame in paced(clip, 10)]
        [0, 3, 5, 8]
    """
    first: float | None = None
    due = 0
    for frame in frames:
        if fps is None:
            yield frame
            continue
        if frame.time is None:
            raise InputError(
                f"explain_frames(fps={fps:g}): frame {frame.index} has no time. Give "
                "Frame(picture, time=seconds) from saliencykit.video.frame, or leave fps out and "
                "the frames that you do not want."
            )
        time = float(frame.time)
        first = time if first is None else first
        passed = (time - first) * fps + 0.01
        if passed >= due:
            yield frame
            due = int(passed) + 1
