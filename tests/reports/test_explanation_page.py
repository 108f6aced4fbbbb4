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
