"""Clip: the frames of a video file, upright, with their times."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.core.optional_packages import required
from saliencykit.core.regular_file import refuse_special_file
from saliencykit.video.frame import Frame

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_SUFFIXES = "mp4 m4v mov mkv webm avi mpg mpeg ts mts m2ts wmv flv ogv 3gp"
SUFFIXES = tuple(f".{suffix}" for suffix in _SUFFIXES.split())


def need_av() -> None:
    """Check that PyAV is installed, and keep FFmpeg's own messages away from Python.

    Older versions of torchvision turn those on. They are printed beside ours, and a thread of
    FFmpeg that waits to print one can block the closing of a file for ever.

    Raises:
        InputError: It is not; with the line that installs it.
    """
    required("av", "a video", "video")
    import av.logging

    av.logging.set_level(None)


@final
@dataclass(frozen=True)
class VideoInfo:
    """What a video file says about itself.

    Attributes:
        size: Width and height of a frame as shown, upright.
        rotation: Counter-clockwise degrees, a multiple of 90, by which stored frames are rotated to
            be upright.
        fps: Mean frames per second.
        frames: Their number according to the file, or None.
        seconds: Duration, or None.
        time_base: Unit of the time stamps, in seconds.
        start: Seconds of the first time stamp; `Frame.time` counts from there.
        aspect: Width of a pixel divided by its height, upright.
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
        """Width and height before rotation."""
        return self.size[::-1] if self.rotation in (90, 270) else self.size


@final
@dataclass
class Clip:
    """The frames of a video file as PIL images, decoded on demand.

    Frames that are stored rotated (as phones do) become upright. Times are the file's own, so a
    variable frame rate is kept. A truncated file gives the frames that can be read; `damage` then
    holds the reason, known at the end, else None.

    Args:
        path: Any container and codec that FFmpeg can read.

    Raises:
        InputError: There is no such file, it is not a video, or there is no video stream in it.

    References:
        PyAV, the Python binding of FFmpeg's libraries.
    """

    path: Path
    damage: str | None = field(default=None, init=False)
    info: VideoInfo = field(init=False)

    def __post_init__(self) -> None:
        self.path = Path(self.path).expanduser()
        with _opened(self.path) as file:
            self.info = _info(file, self.path)

    def __iter__(self) -> Iterator[Frame]:
        """From the start; `Frame.origin` is the decoder's frame, not rotated."""
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
                            - self.info.start
                        ),
                    )
                for frame in frames:
                    time = self._time(frame, index)
                    if last is not None and time <= last:
                        continue  # two frames with one time: players show the first
                    last = time
                    yield Frame(_upright(frame, self.info), time, index, frame)
                    index += 1
            if self.damage is None:
                self.damage = self._missing(index, reached)

    def _time(self, frame: "VideoFrame", index: int) -> Fraction:
        if frame.pts is None or frame.time_base is None:
            return Fraction(index) / self.info.fps
        return frame.pts * frame.time_base - self.info.start

    def _missing(self, count: int, reached: float) -> str | None:
        """Does the file claim to be longer? FFmpeg does not report a truncated file as an error."""
        info = self.info
        if info.frames is not None and count < info.frames - 2:
            return f"{count} of {info.frames} frames can be read"
        if info.seconds is not None and reached + max(0.5, 3 / float(info.fps)) < info.seconds:
            return f"{reached:.1f} of {info.seconds:.1f} s can be read"
        return None


def _opened(path: Path) -> "InputContainer":
    """The opened file, or a one-line error."""
    need_av()
    import av
    from av.error import FFmpegError

    name = repr(str(path))
    if not path.exists():
        raise InputError(f"there is no file {name}.")
    if path.is_dir():
        raise InputError(f"{name} is a directory; a video is a file.")
    refuse_special_file(path)
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


def _info(file: "InputContainer", path: Path) -> VideoInfo:
    """From the header and the first frame, which alone knows its rotation."""
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
            f"{damage or 'it contains none'}."
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
    """The packets of all streams with their frames, and what is damaged."""
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
            yield packet, [], str(error)  # later packets may be intact
    if not flushed:
        with suppress(FFmpegError):
            yield None, stream.decode(None), None


def _upright(frame: "VideoFrame", info: VideoInfo) -> Any:
    """The frame as an upright PIL image of the video's size."""
    width, height = info.stored
    if (frame.width, frame.height) != (width, height):
        frame = frame.reformat(width=width, height=height)
    pixels = frame.to_ndarray(format="rgb24")
    return Image.fromarray(
        np.ascontiguousarray(np.rot90(pixels, info.rotation // 90)) if info.rotation else pixels
    )
