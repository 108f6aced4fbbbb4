"""Tiny clips, for tests of what reads and writes video."""

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from saliencykit.video.reader import need_av

Array = np.ndarray[Any, np.dtype[Any]]
SIZE = (32, 24)  # width, height
COUNT = 10


def pixels(index: int, size: tuple[int, int] = SIZE) -> Array:
    """An image that tells up from down and left from right, with one bright row that moves.

    Args:
        index: Of the frame, which says where the row is.
        size: Width and height in pixels.

    Returns:
        (height, width, 3) uint8 RGB.

    Example:
        >>> pixels(3).shape
        (24, 32, 3)
    """
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = (200, 40, 40)
    image[height // 2 :, : width // 2] = (30, 60, 210)
    image[index % height] = 250
    return image


def write_clip(
    path: Path,
    *,
    count: int = COUNT,
    size: tuple[int, int] = SIZE,
    times: list[int] | None = None,
    rotation: int = 0,
    sound: bool = False,
    codec: str = "libx264",
    form: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """A clip of ten frames a second, or with times in milliseconds.

    Args:
        path: Its name says the container.
        count: Frames.
        size: Width and height in pixels.
        times: Of the frames, in ms.
        rotation: Degrees counter-clockwise by which players shall turn it (PyAV must be able to
            write that).
        sound: With a tone of AAC.
        codec: Of the images, by FFmpeg's name.
        form: Of the pixels, by FFmpeg's name.
        options: Of the container.

    Returns:
        The path.
    """
    need_av()
    import av

    if rotation and not hasattr(av.VideoStream, "set_display_rotation"):
        pytest.skip("this version of av writes no rotation")
    with av.open(str(path), "w", options=options or {}) as file:
        video = cast(Any, file.add_stream(codec, rate=10))
        video.width, video.height, video.pix_fmt = *size, form
        video.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            video.set_display_rotation(rotation)
        voice = cast(Any, file.add_stream("aac", rate=8000, layout="mono")) if sound else None
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(pixels(index, size), format="rgb24")
            frame.pts, frame.time_base = times[index] if times else 100 * index, Fraction(1, 1000)
            file.mux(video.encode(frame))
        if voice is not None:
            tone = (0.1 * np.sin(np.arange(800 * count) / 3)).astype(np.float32)[None]
            for first in range(0, tone.shape[1], 1024):
                part = av.AudioFrame.from_ndarray(
                    tone[:, first : first + 1024], format="fltp", layout="mono"
                )
                part.sample_rate, part.pts, part.time_base = 8000, first, Fraction(1, 8000)
                file.mux(voice.encode(part))
            file.mux(voice.encode(None))
        file.mux(video.encode(None))
    return path


def read_back(path: Path) -> tuple[list[float], list[Array]]:
    """What is in a clip, frame by frame.

    Args:
        path: The clip.

    Returns:
        Times in seconds, and images (height, width, 3) uint8 RGB.
    """
    need_av()
    import av

    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
        return [round(float(frame.time), 3) for frame in frames], [
            frame.to_ndarray(format="rgb24") for frame in frames
        ]


def sound_of(path: Path) -> list[bytes]:
    """The packets of a clip's sound, as they are.

    Args:
        path: The clip.
    """
    need_av()
    import av

    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]
