"""A window of OpenCV with a knob."""

from typing import Any, final

from saliencykit import InputError

_STEPS, _RANGE = 40, 4.0  # of the trackbar, which has whole numbers from 0 only


@final
class Window:
    """A window that can be closed by `q`, Escape or its button.

    Args:
        title: Of the window.
        confidence: Where the knob begins, in [-4, 4].

    Raises:
        InputError: There is no display, or OpenCV was built without windows.
    """

    def __init__(self, title: str = "saliencykit", confidence: float = 0.0) -> None:
        import cv2

        self._cv2, self.title = cv2, title
        try:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL)
            at = round((min(_RANGE, max(-_RANGE, confidence)) + _RANGE) / (2 * _RANGE) * _STEPS)
            cv2.createTrackbar("larger <-> smaller", title, at, _STEPS, lambda _: None)
        except cv2.error as error:
            raise InputError(
                "no window can be opened: there is no display, or OpenCV was built without "
                "windows, as opencv-python-headless is."
            ) from error

    def show(self, pixels: Any) -> None:
        """Show (H, W, 3) uint8 RGB."""
        self._cv2.imshow(self.title, pixels[:, :, ::-1])

    def confidence(self) -> float:
        """Where the knob is, in [-4, 4]."""
        at = self._cv2.getTrackbarPos("larger <-> smaller", self.title)
        return float(max(0, at) / _STEPS * 2 * _RANGE - _RANGE)

    def closed(self) -> bool:
        """`q`, Escape, or the window's button; also lets the window draw itself."""
        key = self._cv2.waitKey(1) & 0xFF
        return (
            key in (ord("q"), 27)
            or self._cv2.getWindowProperty(self.title, self._cv2.WND_PROP_VISIBLE) < 1
        )

    def close(self) -> None:
        """Take it away."""
        self._cv2.destroyAllWindows()
