"""Frame: one image of a video, and the time at which it is shown."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, final

from saliencykit.core.errors import InputError


@final
@dataclass(frozen=True)
class Frame:
    """One image of a video.

    Attributes:
        image: As `explain` takes it: PIL image, array or tensor.
        time: Seconds from the start of the video, or None if unknown.
        index: Its number in the video, from 0.
        origin: What it was made from; for a file, the decoder's frame.

    Example:
        >>> Frame("photo.jpg", time=0.04, index=1).time
        0.04
    """

    image: Any
    time: float | Fraction | None = None
    index: int = 0
    origin: Any = None


def as_frames(frames: Iterable[Any]) -> Iterator[Frame]:
    """Frames from images; a Frame stays as it is."""
    for index, frame in enumerate(frames):
        yield frame if isinstance(frame, Frame) else Frame(frame, index=index)


def paced(frames: Iterable[Frame], fps: float | None) -> Iterator[Frame]:
    """Thin frames out to at most `fps` per second.

    The n-th frame is due n / fps seconds after the first. The first frame at or after that time is
    taken (less a hundredth of the interval, since time stamps are rounded). No frame is
    interpolated: a slower video stays as it is.

    Args:
        frames: With times.
        fps: > 0, or None for all frames.

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
                "Frame(image, time=seconds) from saliencykit.video, or omit fps and skip frames "
                "yourself."
            )
        time = float(frame.time)
        first = time if first is None else first
        passed = (time - first) * fps + 0.01
        if passed >= due:
            yield frame
            due = int(passed) + 1
