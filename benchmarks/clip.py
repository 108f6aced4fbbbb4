"""A clip to test video on: 325 frames from scikit-image's own images, with the motion of every
pixel known.

    python -m benchmarks.clip clip.mp4              # 480x360, 25 frames a second, a tone as sound
    python -m benchmarks.clip clip.mp4 --size 1280 960

| frames | shot |
|---|---|
| 0 to 99 | chelsea: the camera pans right, about a pixel a frame, and shakes a little |
| 100 to 174 | cut to coffee: it zooms in, twofold |
| 175 to 264 | cut to coffee from nearer: a small chelsea comes in; two classes in view |
| 265 to 324 | cut to rocket: it pans upwards, zooms out and shakes |

Sensor noise of two 255ths is added to each frame; everything is drawn from one seed. `render` gives
for every frame where each of its pixels was in the frame before, so that a mask can be compared
with the one before along the true motion.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

FPS = 25
SIZE = (480, 360)
Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class View:
    """Where an image is on the frame: pixel p of the frame shows the image's pixel `at + scale *
    p`; both from the left top.

    Attributes:
        image: Name in `skimage.data`.
        at: x, y in the image of the frame's left top corner.
        scale: Pixels of the image a pixel of the frame (of 480x360).
    """

    image: str
    at: tuple[float, float]
    scale: float


@dataclass(frozen=True)
class Drawn:
    """One frame.

    Attributes:
        pixels: (H, W, 3) uint8.
        before: (H, W, 2) x, y of each pixel in the frame before; NaN where it was not in view, and
            everywhere after a cut.
        shot: Number of the shot, 0 to 3.
        owner: (H, W): 0 for the first image of the shot, 1 for the one that came in.
    """

    pixels: Array
    before: Array
    shot: int
    owner: Array


def shots() -> list[list[list[View]]]:
    """For each shot and frame the images in view, the later over the earlier."""
    pan = [
        [View("chelsea", (20 + 0.7 * t + shake(t, 0), 30 + shake(t, 1)), 0.72)] for t in range(100)
    ]
    zoom = []
    for t in range(75):
        scale = 1.1 * 2 ** (-t / 74)
        zoom.append([View("coffee", (300 - 240 * scale, 190 - 180 * scale), scale)])
    enter = []
    for t in range(90):
        edge = 482 - 247 * smoothstep((t - 20) / 40)  # x of the left edge of what comes in
        enter.append(
            [
                View("coffee", (110 + 0.1 * t, 20), 1.0),
                View("chelsea", (-1.8 * edge, -1.8 * 145), 1.8),
            ]
        )
    up = [
        [View("rocket", (120 + shake(t, 3), 70 - 0.8 * t + shake(t, 4)), 0.85 + 0.002 * t)]
        for t in range(60)
    ]
    return [pan, zoom, enter, up]


def shake(t: int, seed: int) -> float:
    """A hand: two slow sines, of 1.5 pixels together."""
    return math.sin(0.31 * t + seed) + 0.5 * math.sin(0.83 * t + 2 * seed)


def smoothstep(x: float) -> float:
    x = min(1.0, max(0.0, x))
    return x * x * (3 - 2 * x)


def render(size: tuple[int, int] = SIZE, *, noise: float = 2.0, seed: int = 0) -> Iterator[Drawn]:
    """The frames, one by one.

    Args:
        size: Width and height in pixels, of any proportions 4:3 or narrower.
        noise: Standard deviation of the sensor's noise, in 255ths.
        seed: Of the noise.
    """
    import skimage.data
    from PIL import Image

    images = {
        name: Image.fromarray(getattr(skimage.data, name)())
        for name in ("chelsea", "coffee", "rocket")
    }
    draw = np.random.default_rng(seed)
    width, height = size
    zoom = SIZE[0] / width
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    for number, shot in enumerate(shots()):
        last: list[View] = []
        last_owner = np.zeros((height, width), np.uint8)
        for views in shot:
            canvas, owner = (
                np.zeros((height, width, 3), np.float32),
                np.zeros((height, width), np.uint8),
            )
            before = np.full((height, width, 2), np.nan, np.float32)
            for layer, view in enumerate(views):
                (left, top), scale = view.at, view.scale * zoom
                image = images[view.image]
                affine = (scale, 0.0, left, 0.0, scale, top)
                shown = image.transform(
                    size, Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
                )
                here_x, here_y = left + scale * x, top + scale * y
                inside = (
                    (here_x >= 1)
                    & (here_x < image.width - 1)
                    & (here_y >= 1)
                    & (here_y < image.height - 1)
                )
                if layer == 0:
                    inside[:] = True
                canvas[inside] = np.asarray(shown, np.float32)[inside]
                owner[inside] = layer
                if last:
                    (old_left, old_top), old_scale = last[layer].at, last[layer].scale * zoom
                    old = np.stack(
                        [(here_x - old_left) / old_scale, (here_y - old_top) / old_scale], -1
                    )
                    column, row = (
                        np.floor(old[..., 0]).astype(int),
                        np.floor(old[..., 1]).astype(int),
                    )
                    seen = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                    seen &= last_owner[row.clip(0, height - 1), column.clip(0, width - 1)] == layer
                    before[inside] = np.where(seen[..., None], old, np.nan)[inside]
            noisy = canvas + draw.normal(0, noise, canvas.shape).astype(np.float32)
            yield Drawn(noisy.clip(0, 255).round().astype(np.uint8), before, number, owner)
            last, last_owner = views, owner


def write(path: Path, size: tuple[int, int] = SIZE, limit: int | None = None) -> int:
    """Write the clip, with a quiet tone as sound; returns the number of frames."""
    import av

    with av.open(str(path), "w") as file:
        video = file.add_stream("libx264", rate=FPS, options={"crf": "18", "preset": "fast"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        sound = file.add_stream("aac", rate=44100, layout="mono")
        count = 0
        for drawn in render(size):
            if count == limit:
                break
            frame = av.VideoFrame.from_ndarray(drawn.pixels, format="rgb24")
            frame.pts, frame.time_base = count, Fraction(1, FPS)
            file.mux(video.encode(frame))
            count += 1
        samples = 44100 * count // FPS
        tone = (0.05 * np.sin(2 * np.pi * 440 * np.arange(samples) / 44100)).astype(np.float32)
        for first in range(0, samples, 1024):
            part = av.AudioFrame.from_ndarray(
                tone[None, first : first + 1024], format="fltp", layout="mono"
            )
            part.sample_rate, part.pts, part.time_base = 44100, first, Fraction(1, 44100)
            file.mux(sound.encode(part))
        file.mux(video.encode(None))
        file.mux(sound.encode(None))
    return count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", nargs=2, type=int, default=SIZE, metavar=("WIDTH", "HEIGHT"))
    arguments = parser.parse_args()
    count = write(arguments.out, tuple(arguments.size))
    print(
        f"{arguments.out}: {count} frames of {arguments.size[0]}x{arguments.size[1]}, "
        f"{count / FPS:.1f} s"
    )


if __name__ == "__main__":
    main()
