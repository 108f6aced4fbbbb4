"""A camera as frames."""

import time
from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from saliencykit import InputError
from saliencykit.video import Frame


class Capture(Protocol):
    """What is asked of a camera: OpenCV's `VideoCapture`, or anything like it."""

    def read(self) -> tuple[bool, Any]:
        """Is there a picture, and the picture: (H, W, 3) uint8, BGR."""

    def release(self) -> None:
        """Let the camera go."""


def open_camera(source: str) -> Capture:
    """A camera by number, or a file or address that OpenCV opens.

    Args:
        source: `0` for the first camera, a path, or an address.

    Raises:
        InputError: OpenCV is not installed, or cannot open it.
    """
    try:
        import cv2
    except ImportError:
        raise InputError("cameras are read by OpenCV; pip install opencv-python.") from None
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    if log is not None:
        log.setLogLevel(log.LOG_LEVEL_SILENT)  # what is wrong is said below, in one line
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        capture.release()
        raise InputError(
            f"camera {source!r} cannot be opened: is it there, and used by nobody else? Another "
            "one: --camera 1."
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # what is shown is now
    return capture  # type: ignore[no-any-return]


def frames_of(capture: Capture, name: str) -> Generator[Frame, None, None]:
    """Its pictures, RGB, with the seconds since the first; the camera is let go at the end.

    Args:
        capture: The camera.
        name: What the user called it, for the error.

    Raises:
        InputError: It gives no picture, or none any more.
    """
    started = time.perf_counter()
    index = 0
    try:
        while True:
            there, picture = capture.read()
            if not there or picture is None:
                raise InputError(
                    f"camera {name!r} gives no picture."
                    if index == 0
                    else f"camera {name!r} is gone, after {index} pictures: was it unplugged, or "
                    "is it a file that ended?"
                )
            yield Frame(
                np.ascontiguousarray(picture[:, :, ::-1]), time.perf_counter() - started, index
            )
            index += 1
    finally:
        capture.release()
