"""Clip: the frames of a video file, upright, with the times at which they are shown."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from saliencykit.core.errors import InputError
from saliencykit.video.frame import Frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SUFFIXES = (
    ".mp4",
    ".m4v",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".flv",
    ".ogv",
    ".3gp",
)


def need_av() -> None:
    """Is PyAV there?

    Raises:
        InputError: No; with the line that installs it.
    """
    try:
        import av  # noqa: F401
    except ImportError:
        raise InputError(
            "clips are read and written by PyAV; pip install 'saliencykit[video]'."
        ) from None


@final
@dataclass(frozen=True)
class VideoInfo:
    """What a clip says of itself.

    Attributes:
        size: Width and height of a frame as it is shown, upright.
        rotation: Degrees counter-clockwise, a multiple of 90, by which stored frames must be turned
            to be upright.
        fps: Mean frames a second.
        frames: How many there are, by what the file says; None where it does not.
        seconds: Its length, or None.
        time_base: Of the time stamps, in seconds.
        start: Seconds at which the clip's times begin; `Frame.time` counts from there.
        aspect: Width of a pixel by its height, upright.
    """

    size: tuple[int, int]
    rotation: int
    fps: Fraction
    frames: int | None
    seconds: float | None
    time_base: Fraction
    start: Fraction
    aspect: Fraction

    @property
    def stored(self) -> tuple[int, int]:
        """Width and height before turning."""
        return self.size[::-1] if self.rotation in (90, 270) else self.size


@final
@dataclass
class Clip:
    """The frames of a video file as PIL pictures, decoded as they are asked for.

    Frames that are stored turned (telephones do that) are turned upright. Times are the file's own,
    so a variable frame rate stays what it is. A file that ends too early gives the frames that can
    be read, and says why in `damage`: the reason in words, known at the end, or None.

    Args:
        path: Any container and codec that FFmpeg reads.

    Raises:
        InputError: There is no such file, it is not a video, or there is no video stream in it.

    References:
        PyAV, the Python binding of FFmpeg's libraries.
    """

    path: Path
    damage: str | None = field(default=None, init=False)
    facts: VideoInfo = field(init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path).expanduser()
        with _opened(self.path) as file:
            self.facts = _facts(file, self.path)

    def __iter__(self) -> Iterator[Frame]:
        """From the beginning; `Frame.origin` is the decoder's frame, not turned."""
        self.damage = None
        with _opened(self.path) as file:
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            index, last, reached = 0, None, 0.0
            for packet, frames, damage in _decoded(file, stream):
                self.damage = self.damage or damage
                if packet is not None and packet.pts is not None and packet.time_base is not None:
                    reached = max(
                        reached,
                        float(
                            (packet.pts + (packet.duration or 0)) * packet.time_base
                            - self.facts.start
                        ),
                    )
                for frame in frames:
                    time = self._time(frame, index)
                    if last is not None and time <= last:
                        continue  # two frames at one time: players show the first
                    last = time
                    yield Frame(_picture(frame, self.facts), time, index, frame)
                    index += 1
            if self.damage is None:
                self.damage = self._missing(index, reached)

    def _time(self, frame: "VideoFrame", index: int) -> Fraction:
        if frame.pts is None or frame.time_base is None:
            return Fraction(index) / self.facts.fps
        return frame.pts * frame.time_base - self.facts.start

    def _missing(self, count: int, reached: float) -> str | None:
        """Did the file promise more? One that ends in the middle is no error to FFmpeg."""
        facts = self.facts
        if facts.frames is not None and count < facts.frames - 2:
            return f"{count} of {facts.frames} frames can be read"
        if facts.seconds is not None and reached + max(0.5, 3 / float(facts.fps)) < facts.seconds:
            return f"{reached:.1f} of {facts.seconds:.1f} s can be read"
        return None


def _opened(path: Path) -> "InputContainer":
    """The file, or one line about why not."""
    need_av()
    import av
    from av.error import FFmpegError

    name = repr(str(path))
    if not path.exists():
        raise InputError(f"there is no file {name}.")
    if path.is_dir():
        raise InputError(f"{name} is a folder; a clip is a file.")
    if path.stat().st_size == 0:
        raise InputError(f"{name} is empty (0 bytes).")
    try:
        file = av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{name} is not a video that FFmpeg can read, or it is truncated: {reason}."
        ) from error
    if not file.streams.video:
        file.close()
        raise InputError(f"{name} has no video stream, or it is truncated.")
    return file


def _facts(file: "InputContainer", path: Path) -> VideoInfo:
    """From the header and the first frame, which alone knows how it is to be turned."""
    stream = file.streams.video[0]
    damage, frame = None, None
    for _, frames, error in _decoded(file, stream):
        damage = damage or error
        if frames:
            frame = frames[0]
            break
    if frame is None:
        raise InputError(
            f"{str(path)!r}: no frame can be read, it is truncated or damaged: "
            f"{damage or 'it holds none'}."
        )
    rotation = round(frame.rotation / 90) * 90 % 360
    size = (frame.height, frame.width) if rotation in (90, 270) else (frame.width, frame.height)
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    time_base = stream.time_base or Fraction(1, 90000)
    start = Fraction(file.start_time, 1_000_000) if file.start_time else Fraction(0)
    fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
    return VideoInfo(
        size=size,
        rotation=rotation,
        fps=fps,
        frames=stream.frames or None,
        seconds=file.duration / 1_000_000 if file.duration else None,
        time_base=Fraction(time_base),
        start=start,
        aspect=1 / aspect if rotation in (90, 270) else aspect,
    )


def _decoded(
    file: "InputContainer", stream: "VideoStream"
) -> "Iterator[tuple[Packet[Any] | None, list[VideoFrame], str | None]]":
    """Packet by packet of all streams, since a file ends where the last of them does: the frames in
    it, and what is damaged.
    """
    from av.error import FFmpegError, InvalidDataError

    packets = file.demux()
    flushed = False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except FFmpegError as error:
            yield None, [], str(error)
            break
        flushed = packet.stream is stream and packet.size == 0
        try:
            yield packet, list(packet.decode()) if packet.stream is stream else [], None  # type: ignore[arg-type]
        except InvalidDataError as error:
            yield packet, [], str(error)  # what follows may be fine
    if not flushed:
        with suppress(FFmpegError):
            yield None, stream.decode(None), None


def _picture(frame: "VideoFrame", facts: VideoInfo) -> Any:
    """Upright, as PIL, of the clip's size, should a frame have another one."""
    from PIL import Image

    width, height = facts.stored
    if (frame.width, frame.height) != (width, height):
        frame = frame.reformat(width=width, height=height)
    pixels = frame.to_ndarray(format="rgb24")
    return Image.fromarray(
        np.ascontiguousarray(np.rot90(pixels, facts.rotation // 90)) if facts.rotation else pixels
    )
