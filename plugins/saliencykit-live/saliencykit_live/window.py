"""An OpenCV window with a slider for the masks' confidence."""

from typing import Any, final

from saliencykit import InputError

_STEPS, _RANGE = 40, 4.0  # the slider has whole numbers from 0 only


@final
class Window:
    """A window that is closed with `q`, Escape or its button.

    Args:
        title: Title of the window.
        confidence: Initial position of the slider, in [-4, 4].

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
                "windows; replace opencv-python-headless by opencv-python."
            ) from error

    def show(self, pixels: Any) -> None:
        """Show (H, W, 3) uint8 RGB."""
        self._cv2.imshow(self.title, pixels[:, :, ::-1])

    def confidence(self) -> float:
        """The position of the slider, in [-4, 4]."""
        at = self._cv2.getTrackbarPos("larger <-> smaller", self.title)
        return float(max(0, at) / _STEPS * 2 * _RANGE - _RANGE)

    def closed(self) -> bool:
        """Whether `q`, Escape or the button was pressed; also lets the window redraw itself."""
        key = self._cv2.waitKey(1) & 0xFF
        return (
            key in (ord("q"), 27)
            or self._cv2.getWindowProperty(self.title, self._cv2.WND_PROP_VISIBLE) < 1
        )

    def close(self) -> None:
        """Close the window."""
        self._cv2.destroyAllWindows()
