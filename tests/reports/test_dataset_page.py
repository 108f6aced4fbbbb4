import torch

from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.reports.dataset_page import dataset_page
from saliencykit.reports.report_files import write_report


def test_the_page_has_images_numbers_classes_and_reasons(black_box, generator, tmp_path):
    images, labels = black_box.examples(6, generator=generator)
    pairs = [
        *zip(images, labels.tolist(), strict=True),
        (images[0], 7),
        (torch.rand(3, 8, 8) * 9, 1),
    ]
    saved = explain_dataset(
        black_box, pairs, masker="center-box", output_dir=tmp_path / "run", overlays=3
    )
    page = dataset_page(saved)
    assert page.count("<img") == 3
    assert "6 of 8 images of 8 items of list, " in page
    assert "Where the model predicts another class" not in page
    assert "class 7 is outside 0..3" in page
    assert "red-green checks" in page
    assert "CenterBox(area=0.5)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert write_report(saved, tmp_path / "page.html").read_text(encoding="utf-8") == page


def test_a_run_without_verification_and_overlays_has_a_page(black_box, generator, tmp_path):
    images, labels = black_box.examples(2, generator=generator)
    page = dataset_page(
        explain_dataset(
            black_box,
            list(zip(images, labels.tolist(), strict=True)),
            masker="random",
            verify=False,
            output_dir=tmp_path,
            overlays=0,
        )
    )
    assert "<img" not in page
    assert "of the images</h2>" not in page
    assert "NaN" not in page
    assert "nan" not in page
