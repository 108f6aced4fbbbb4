"""A camera as an iterator of frames."""

import time
from collections.abc import Generator
from typing import Any, Protocol

import numpy as np

from saliencykit import InputError
from saliencykit.video import Frame


class Capture(Protocol):
    """The interface of a camera: OpenCV's `VideoCapture`, or an object with the same methods."""

    def read(self) -> tuple[bool, Any]:
        """Whether there is an image, and the image: (H, W, 3) uint8, BGR."""

    def release(self) -> None:
        """Close the camera."""


def open_camera(source: str) -> Capture:
    """A camera by number, or a file or address that OpenCV opens.

    Args:
        source: `0` for the first camera, a path, or an address.

    Raises:
        InputError: OpenCV is not installed, or cannot open the camera.
    """
    try:
        import cv2
    except ImportError:
        raise InputError("cameras are read by OpenCV; pip install opencv-python.") from None
    log = getattr(getattr(cv2, "utils", None), "logging", None)
    if log is not None:
        log.setLogLevel(log.LOG_LEVEL_SILENT)  # the error below says it in one line
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        capture.release()
        raise InputError(
            f"camera {source!r} cannot be opened: is it connected, and not in use by another "
            "program? Choose another one with --camera 1."
        )
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # no delay by buffered frames
    opened: Capture = capture
    return opened


def frames_of(capture: Capture, name: str) -> Generator[Frame, None, None]:
    """The camera's frames, RGB, with the seconds since the first; the camera is closed at the end.

    Args:
        capture: The camera.
        name: The camera's name in the error message.

    Raises:
        InputError: The camera returns no image, or stops.
    """
    started = time.perf_counter()
    index = 0
    try:
        while True:
            ok, image = capture.read()
            if not ok or image is None:
                raise InputError(
                    f"camera {name!r} returns no image."
                    if index == 0
                    else f"camera {name!r} stopped after {index} images: was it unplugged, or did "
                    "the file end?"
                )
            yield Frame(
                np.ascontiguousarray(image[:, :, ::-1]), time.perf_counter() - started, index
            )
            index += 1
    finally:
        capture.release()
