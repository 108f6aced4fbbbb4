"""The mask overlay drawn on the luma and chroma of a video frame, much faster than on RGB."""

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from saliencykit.explanation.result import Explanation
from saliencykit.video.reader import VideoInfo
from saliencykit.visualization.mask_overlay import (
    CONTOUR_COLOR,
    DIMMED_SATURATION,
    DIMMING,
    outline,
)

if TYPE_CHECKING:
    from av import VideoFrame

Array = np.ndarray[Any, np.dtype[Any]]

_VALUES = np.arange(256) / 255
_LUMA = np.round(256 * (_VALUES + DIMMING * (1 - _VALUES))).astype(np.uint16)
_CHROMA = np.round(256 * (_VALUES + DIMMING * DIMMED_SATURATION * (1 - _VALUES))).astype(np.int16)
# of 255; an outline around the specks of a fainter mask would flicker
_FAINT = 26
_BT709 = 1  # of FFmpeg's AVColorSpace
_FULL = 2  # of FFmpeg's AVColorRange: luma from 0 to 255


def draw_frame(frame: "VideoFrame", info: VideoInfo, explanation: Explanation) -> "VideoFrame":
    """Draw the mask on a frame: what is kept in color inside an outline, the rest dim and gray.

    Args:
        frame: As decoded, before rotation.
        info: Of its video.
        explanation: Of this frame.

    Returns:
        A new upright frame in yuv420p. An odd side gets its last row or column twice, since yuv420p
        has even sides: nothing is shifted or scaled.
    """
    from av import VideoFrame

    planes = _planes(frame, info)
    height, width = (side + side % 2 for side in planes[0].shape)
    mask = _even(mask_on_frame(explanation, info.size))
    line = outline(mask, faint=_FAINT)
    drawn = np.empty((height * 3 // 2, width), np.uint8)
    luma, chroma = drawn[:height], drawn[height:].reshape(2, height // 2, width // 2)
    color = _contour(frame.colorspace == _BT709)
    luma[:] = (((np.maximum(_even(planes[0]), 16) - np.uint16(16)) * _LUMA[mask]) >> 8) + 16
    luma[line] = color[0]
    share = _CHROMA[mask[::2, ::2]]
    small = line[::2, ::2] | line[1::2, ::2] | line[::2, 1::2] | line[1::2, 1::2]
    for plane, source, value in zip(chroma, planes[1:], color[1:], strict=True):
        plane[:] = (((source.astype(np.int16) - 128) * share) >> 8) + 128
        plane[small] = value
    made = VideoFrame.from_ndarray(drawn, format="yuv420p")
    made.colorspace, made.color_range = frame.colorspace, 1
    return made


def mask_on_frame(explanation: Explanation, size: tuple[int, int]) -> Array:
    """The mask at the frame's `size` (width, height), as 8-bit gray (H, W); 0 outside the model's
    input.
    """
    values = (explanation.mask[0, 0].float() * 255).round().byte().numpy()
    gray = Image.fromarray(values)
    width, height = size
    place = explanation.geometries[0] if explanation.geometries else None
    if place is None:
        return np.asarray(gray.resize(size, Image.Resampling.BILINEAR))
    x0, y0, x1, y1 = place.region
    left, right = max(0, round(x0)), min(width, round(x1))
    top, bottom = max(0, round(y0)), min(height, round(y1))
    whole = np.zeros((height, width), np.uint8)
    if right > left and bottom > top:
        w, h = float(gray.width), float(gray.height)
        a, b = w / (x1 - x0), h / (y1 - y0)
        # after rounding, the box may extend slightly over the edge
        bbox = (
            max(0.0, (left - x0) * a),
            max(0.0, (top - y0) * b),
            min(w, (right - x0) * a),
            min(h, (bottom - y0) * b),
        )
        part = gray.resize((right - left, bottom - top), Image.Resampling.BILINEAR, bbox)
        whole[top:bottom, left:right] = np.asarray(part)
    return whole


def _planes(frame: "VideoFrame", info: VideoInfo) -> list[Array]:
    """Luma and chroma of limited range, upright; sides may be odd."""
    width, height = info.stored
    full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    if frame.format.name != "yuv420p" or full or (frame.width, frame.height) != (width, height):
        frame = frame.reformat(width, height, "yuv420p", dst_color_range="MPEG" if full else None)
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height, : plane.width
        ]
        planes.append(np.rot90(rows, info.rotation // 90) if info.rotation else rows)
    return planes


def _even(plane: Array) -> Array:
    height, width = plane.shape
    return (
        np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
        if height % 2 or width % 2
        else plane
    )


def _contour(bt709: bool) -> tuple[int, int, int]:
    """The outline's color as luma and chroma of limited range."""
    red, green, blue = (v / 255 for v in CONTOUR_COLOR)
    kr, kb = (0.2126, 0.0722) if bt709 else (0.299, 0.114)
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (1 - kb) / 2, (red - y) / (1 - kr) / 2
    return round(16 + 219 * y), round(128 + 224 * u), round(128 + 224 * v)
