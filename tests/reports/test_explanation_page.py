import pytest
import torch

from saliencykit import explain
from saliencykit.core.errors import SaliencyKitError
from saliencykit.reports.report_files import write_report


def test_the_page_has_images_class_and_settings(black_box, examples, tmp_path):
    images, labels = examples
    answer = explain(black_box, images[:2], labels[:2].tolist(), masker="rise:samples=8")
    written = write_report(answer, tmp_path / "page.html")
    page = written.read_text(encoding="utf-8")
    assert page.count("<img") == 8
    assert answer.label_names[0] in page
    assert "Rise(samples=8" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<section data-stop") == 2
    alone = write_report(
        explain(black_box, images[:1], 0, masker="center-box"), tmp_path / "a.html"
    )
    assert "<script" not in alone.read_text(encoding="utf-8")


def test_normalized_images_have_a_page_too(tmp_path):
    from torch import nn

    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    answer = explain(net, torch.randn(1, 3, 8, 8), 1, masker="whole-image", inputs="normalized")
    page = write_report(answer, tmp_path / "page.html")
    assert page.read_text(encoding="utf-8").count("<img") == 4


def test_a_page_that_cannot_be_written_is_refused_with_the_reason(black_box, examples, tmp_path):
    answer = explain(black_box, examples[0][:1], 0, masker="whole-image")
    with pytest.raises(
        SaliencyKitError, match=r"cannot be written: Is a directory. Choose another file.$"
    ):
        write_report(answer, tmp_path)
    assert write_report(answer, tmp_path / "new" / "page.html").is_file()


@pytest.mark.slow
def test_the_keys_go_from_image_to_image_and_stop_at_the_ends(
    chromium, black_box, generator, tmp_path
):
    images, _ = black_box.examples(4, generator=generator)
    answer = explain(black_box, images, masker="center-box")
    file = write_report(answer, tmp_path / "page.html")
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(file.as_uri())

    def after(key):
        page.keyboard.press(key)
        return page.evaluate(
            """() => {
              const stops = [...document.querySelectorAll("[data-stop]")];
              const {top, bottom} = document.activeElement.getBoundingClientRect();
              return [stops.indexOf(document.activeElement), top >= 0 && top < innerHeight];
            }"""
        )

    # also where the page ends before the last image is at the top
    assert [after(key) for key in "jjjjjkkkkj"] == [
        [index, True] for index in (0, 1, 2, 3, 3, 2, 1, 0, 0, 1)
    ]
    page.evaluate("document.activeElement.blur(), scrollTo(0, document.body.scrollHeight)")
    here, _ = after("k")
    assert here > 0, "from where the page was scrolled to"
    assert after("Control+j")[0] == here, "the browser's own keys are left alone"
