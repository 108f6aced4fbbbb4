"""The page in headless Chromium: what a person does, and that no request leaves the machine."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.app.page_server import MAX_UPLOAD, launch_app
from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.demo import demo_image

if find_spec("gradio") is None:  # its import takes three seconds, which the quick tests do not need
    pytest.skip("pip install 'saliencykit[app]'", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # Gradio's and uvicorn's own
]
WAIT = 60_000  # milliseconds, on busy machines


def raising(images: np.ndarray) -> np.ndarray:
    raise RuntimeError("the accelerator is on fire")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    photo = demo_image()
    photo.save(folder / "espresso.png")
    photo.rotate(180).save(folder / "turned.png")
    Image.new("RGB", (200, 200), "gray").save(folder / "plain.png")
    (folder / "broken.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """A running page with the demo, a model that raises, and a folder."""
    broken = FunctionBlackBox(raising, size=32, num_classes=3)
    page = launch_app({"demo": "demo", "broken": broken}, folder=folder, block=False)
    yield page.local_url
    page.close()


class Visitor:
    """One browser on the page; everything it requests is recorded."""

    def __init__(self, chromium: Any, address: str) -> None:
        self.address, self.requests, self.problems = address, [], []
        self.context = chromium.new_context(
            viewport={"width": 1280, "height": 900}, permissions=["camera"]
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.goto(address)
        self.wait_for("espresso")

    def wait_for(self, text: str, where: str = "#sk-view") -> None:
        sync_api.expect(self.page.locator(where)).to_contain_text(text, timeout=WAIT)

    def shown(self, where: str = "#sk-view") -> str:
        return self.page.locator(where).inner_text()

    def upload(self, file: Path | dict[str, Any]) -> None:
        clear = self.page.locator("#sk-image button[aria-label='Clear']")
        if clear.count():
            clear.click()
        self.page.locator("#sk-image input[type=file]").set_input_files(file)

    def choose(self, field: str, text: str) -> None:
        field_input = self.page.locator(f"{field} input")
        field_input.click()
        field_input.fill(text)
        self.page.locator(f"{field} [role=option]").filter(has_text=text).first.click()

    def slide(self, percent: int) -> None:
        self.page.locator("#sk-budget input[type=number]").fill(str(percent))
        self.page.keyboard.press("Enter")

    @property
    def elsewhere(self) -> list[str]:
        """What was requested from other machines."""
        own = (self.address.rstrip("/"), "data:", "blob:")
        return [url for url in self.requests if not url.startswith(own)]


@pytest.fixture
def visitor(chromium: Any, address: str) -> Iterator[Visitor]:
    visitor = Visitor(chromium, address)
    yield visitor
    visitor.context.close()
    assert visitor.elsewhere == []
    assert visitor.problems == []


def test_the_page_begins_with_the_verdict_of_a_photo(visitor: Visitor) -> None:
    visitor.wait_for("this region alone decides")
    assert visitor.page.locator("#sk-view img").count() == 4


def test_an_uploaded_image_is_explained(visitor: Visitor, folder: Path) -> None:
    visitor.upload(folder / "plain.png")
    sync_api.expect(visitor.page.locator("#sk-view")).not_to_contain_text("espresso", timeout=WAIT)
    assert visitor.page.locator("#sk-view img").count() == 4


def test_another_class_is_searched_and_explained(visitor: Visitor) -> None:
    visitor.choose("#sk-class", "orange")
    visitor.wait_for("orange:")


def test_a_class_is_contrasted_with_another(visitor: Visitor) -> None:
    visitor.choose("#sk-against", "orange")
    visitor.wait_for("espresso rather than orange")


def test_the_slider_asks_again_and_explains_nothing_again(visitor: Visitor) -> None:
    visitor.slide(7)
    visitor.wait_for("Region, 7% of the pixels")
    small = visitor.shown()
    visitor.slide(60)
    visitor.wait_for("Region, 60% of the pixels")
    assert visitor.shown() != small
    visitor.page.get_by_text("The same as Python").click()
    visitor.wait_for("budget=0.6", "#sk-code")


def test_two_maskers_are_compared(visitor: Visitor) -> None:
    visitor.page.get_by_text("What two maskers disagree on").click()
    visitor.choose("#sk-other", "center-box")
    visitor.wait_for("The two regions share", "#sk-regions")


def test_the_report_is_downloaded(visitor: Visitor, tmp_path: Path) -> None:
    visitor.slide(12)
    visitor.wait_for("Region, 12%")
    with visitor.page.expect_download(timeout=WAIT) as download:
        visitor.page.locator("#sk-write").click()
    download.value.save_as(tmp_path / "report.html")
    report = visitor.context.new_page()
    report.goto((tmp_path / "report.html").as_uri())
    sync_api.expect(report.locator("body")).to_contain_text("espresso")
    sync_api.expect(report.locator("body")).to_contain_text("0.12")
    assert report.evaluate("[...document.images].map(image => image.naturalWidth > 50)") == 4 * [
        True
    ]


def test_a_file_that_is_no_image_is_one_sentence(visitor: Visitor) -> None:
    visitor.upload({"name": "bad.png", "mimeType": "image/png", "buffer": b"no image"})
    visitor.wait_for("is not an image that Pillow can read")
    assert "Traceback" not in visitor.page.content()
    visitor.page.reload()  # and nothing is broken
    visitor.wait_for("espresso")


def test_a_model_that_raises_is_one_sentence(visitor: Visitor) -> None:
    visitor.choose("#sk-model", "broken")
    visitor.wait_for("the accelerator is on fire")
    assert "Traceback" not in visitor.page.content()
    visitor.choose("#sk-model", "demo")
    visitor.wait_for("espresso")


def test_a_photo_of_twenty_megabytes_is_explained(visitor: Visitor, tmp_path: Path) -> None:
    noise = torch.randint(0, 256, (2600, 2600, 3), dtype=torch.uint8)
    photo = tmp_path / "large.png"
    Image.fromarray(noise.numpy()).save(photo, compress_level=0)
    assert 20e6 < photo.stat().st_size < MAX_UPLOAD
    visitor.upload(photo)
    sync_api.expect(visitor.page.locator("#sk-view")).not_to_contain_text("espresso", timeout=WAIT)
    assert visitor.page.locator("#sk-view img").count() == 4


def test_a_larger_upload_is_refused_with_a_sentence(visitor: Visitor, tmp_path: Path) -> None:
    photo = tmp_path / "huge.png"
    photo.write_bytes(bytes(MAX_UPLOAD + 2**20))
    visitor.upload(photo)
    visitor.wait_for("exceed the maximum allowed size", "body")
    assert "Traceback" not in visitor.page.content()


def test_two_browsers_have_their_own_image(chromium: Any, address: str, folder: Path) -> None:
    first, second = Visitor(chromium, address), Visitor(chromium, address)
    first.choose("#sk-class", "orange")
    first.wait_for("orange:")
    second.slide(9)
    second.wait_for("Region, 9% of the pixels")
    assert "espresso:" in second.shown()
    first.slide(33)
    first.wait_for("Region, 33% of the pixels")
    assert "orange:" in first.shown()
    assert "Region, 9%" in second.shown()
    for visitor in (first, second):
        visitor.context.close()
        assert visitor.elsewhere == []


def test_a_folder_is_a_gallery_by_verdict_and_opens_an_image(visitor: Visitor) -> None:
    visitor.page.get_by_role("tab", name="Folder").click()
    visitor.page.locator("#sk-folder").click()
    visitor.wait_for("4 images", "#sk-folder-status")
    visitor.wait_for("broken.jpg", "#sk-folder-status")
    visitor.wait_for("espresso.png", "#sk-gallery")
    images = visitor.page.locator("#sk-gallery button.thumbnail-item")
    assert images.count() == 3
    assert images.first.bounding_box()["width"] < 400, "side by side, not one above the other"
    visitor.choose("#sk-filter", "the mask does not keep the class")
    sync_api.expect(visitor.page.locator("#sk-gallery")).not_to_contain_text(
        "espresso.png", timeout=WAIT
    )
    visitor.choose("#sk-filter", "all images")
    visitor.wait_for("turned.png", "#sk-gallery")
    images.filter(has_text="turned.png").click()
    visitor.page.get_by_text("The same as Python").click()
    sync_api.expect(visitor.page.locator("#sk-code")).to_contain_text(
        re.compile("turned"), timeout=WAIT
    )


def test_a_photo_is_taken_with_the_camera(visitor: Visitor) -> None:
    image = visitor.page.locator("#sk-image")
    image.get_by_label("Capture from camera").click()
    image.get_by_title("grant webcam access").click()
    visitor.page.wait_for_function(  # before its first frame the button does nothing
        "document.querySelector('#sk-image video')?.currentTime > 0"
    )
    image.get_by_label("capture photo").click()
    sync_api.expect(visitor.page.locator("#sk-view")).not_to_contain_text("espresso", timeout=WAIT)
    assert visitor.page.locator("#sk-view img").count() == 4
