"""The loop without a camera and without a display."""

import sys
import types

import numpy as np
import pytest
from saliencykit_live import camera, command
from saliencykit_live.camera import frames_of, open_camera
from saliencykit_live.loop import run
from saliencykit_live.painting import painted

from saliencykit import InputError, RealTimeMasker
from saliencykit.demo import DEMO_DIR, demo_black_box, demo_image
from saliencykit.video import Frame


class FakeCapture:
    """Returns some images (BGR), then stops."""

    def __init__(self, count=10**6):
        small = demo_image().convert("RGB").resize((64, 48))
        self.image, self.left, self.released = np.asarray(small)[:, :, ::-1], count, 0

    def read(self):
        self.left -= 1
        return (True, self.image) if self.left >= 0 else (False, None)

    def release(self):
        self.released += 1


class FakeScreen:
    """Keeps what it is shown; the slider is moved after some frames."""

    def __init__(self, count, knobs=()):
        self.count, self.knobs, self.shown = count, dict(knobs), []

    def show(self, pixels):
        self.shown.append(pixels)

    def confidence(self):
        return max(
            ((at, value) for at, value in self.knobs.items() if at <= len(self.shown)),
            default=(0, 0.0),
        )[1]

    def closed(self):
        return len(self.shown) >= self.count


@pytest.fixture(scope="module")
def black_box():
    return demo_black_box()


@pytest.fixture(scope="module")
def masker(black_box):
    return RealTimeMasker.load(DEMO_DIR / "masker.safetensors", black_box)


def test_it_shows_frames_until_the_window_is_closed_and_closes_the_camera(black_box, masker):
    capture, screen = FakeCapture(), FakeScreen(3)
    frames = frames_of(capture, "0")
    assert run(black_box, masker, frames, screen) == 3
    frames.close()
    assert capture.released == 1
    assert capture.left == 10**6 - 3  # no image is read before it is needed
    assert all(pixels.shape == (48, 64, 3) and pixels.dtype == np.uint8 for pixels in screen.shown)


def test_the_slider_makes_masks_smaller(black_box, masker, monkeypatch):
    areas = []
    monkeypatch.setattr(
        "saliencykit_live.loop.painted",
        lambda answer, line: areas.append((float(answer.area[0]), line)),
    )
    run(black_box, masker, frames_of(FakeCapture(), "0"), FakeScreen(6, {3: 3.0}))
    assert max(area for area, _ in areas[3:]) < 0.8 * min(area for area, _ in areas[:3])
    assert all("%" in line for _, line in areas)
    assert all(line.endswith(" fps") for _, line in areas[2:])


def test_another_masker_has_no_slider(black_box):
    assert (
        run(
            black_box, "center-box", frames_of(FakeCapture(), "0"), FakeScreen(2, {1: 1.0}), label=3
        )
        == 2
    )


def test_a_file_that_ends_ends_the_loop(black_box, masker):
    frames = iter([Frame(demo_image(), 0.1 * i, i) for i in range(2)])
    assert run(black_box, masker, frames, FakeScreen(9)) == 2


def test_a_camera_that_stops_is_one_line(black_box, masker):
    capture, screen = FakeCapture(2), FakeScreen(9)
    with pytest.raises(InputError, match="camera '0' stopped after 2 images"):
        run(black_box, masker, frames_of(capture, "0"), screen)
    assert len(screen.shown) == 2
    assert capture.released == 1
    with pytest.raises(InputError, match="returns no image"):
        next(frames_of(FakeCapture(0), "0"))


def test_the_painted_frame_shows_the_text_and_the_image(black_box, masker):
    from saliencykit import explain

    answer = explain(black_box, demo_image(), masker=masker, verify=False)
    page = painted(answer, "tabby 93%   30 fps")
    plain = np.asarray(demo_image().convert("RGB"))
    assert page.shape == plain.shape
    assert page[:16, :60].max() == 255
    assert 0.2 * plain.mean() < page.mean() < plain.mean()


def fake_cv2(monkeypatch, opened, count=2):
    capture = FakeCapture(count)
    capture.isOpened, capture.set = lambda: opened, lambda *_: True
    cv2 = types.ModuleType("cv2")
    cv2.VideoCapture, cv2.CAP_PROP_BUFFERSIZE = lambda source: capture, 38
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    return capture


def test_a_camera_that_is_not_there_is_one_line_and_code_2(monkeypatch, capsys):
    fake_cv2(monkeypatch, opened=False)
    with pytest.raises(SystemExit) as stop:
        command.main(["--camera", "7"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("Error: camera '7' cannot be opened")


def test_the_command_shows_and_says_when_the_camera_stops(monkeypatch, capsys):
    capture = fake_cv2(monkeypatch, opened=True)
    screen = FakeScreen(9)
    screen.close = lambda: None
    monkeypatch.setattr(command, "Window", lambda confidence: screen)
    with pytest.raises(SystemExit) as stop:
        command.main([])
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "Error: camera '0' stopped after 2 images: was it unplugged, or did the file end?\n"
    )
    assert len(screen.shown) == 2
    assert capture.released >= 1


def test_without_opencv_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match="pip install opencv-python"):
        open_camera("0")
    assert camera.open_camera is open_camera
