from pathlib import Path

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.data.dataset import Dataset
from saliencykit.data.voc_coco import detection_records, open_detection
from tests.data.conftest import DRAWN


def check(batchs, truth, jpeg):
    found = {}
    for batch in batchs:
        assert batch.failure is None, batch.failure
        for name, label, boxes in zip(
            batch.names, batch.sample.labels.tolist(), batch.sample.boxes, strict=True
        ):
            found[name] = label, boxes
    end = "jpg" if jpeg else "png"
    assert len(found) == 13
    assert found[f"image_00.{end}#green"][0] == 1
    # 60 x 40 becomes 48 x 32, and its middle is shown: columns 8 to 40
    assert (
        found[f"image_00.{end}#green"][1].tolist()
        == [[0.0, pytest.approx(1.6), 0.0, pytest.approx(6.4)]]
        or len(found[f"image_00.{end}#green"][1]) == 0
    )
    for name, (label, boxes) in found.items():
        if "#green" in name:
            continue
        wanted, corners = truth[Path(name.split("#")[0]).stem]
        assert label == wanted
        assert torch.allclose(boxes, corners, atol=1e-4)


def test_voc(black_box, voc, truth):
    check(Dataset.open(f"voc:{voc}", black_box).batches(), truth, jpeg=True)
    names = [
        e.name
        for e in detection_records(
            open_detection(f"voc:{voc},image_set=val"), black_box, {"red": 0}
        )
    ]
    assert names == [f"{d.stem}.jpg" for d in DRAWN if d.color == "red"]


def test_a_broken_annotation_is_one_reason(black_box, voc):
    (voc / "VOCdevkit" / "VOC2012" / "Annotations" / "image_04.xml").write_text("<")
    reasons = [r.failure for r in Dataset.open(f"voc:{voc}", black_box).batches() if r.failure]
    assert len(reasons) == 1
    assert "image_04" in reasons[0]


def test_coco(black_box, coco, flat, truth):
    pytest.importorskip("pycocotools")
    check(Dataset.open(f"coco:{flat},annotations={coco}", black_box).batches(), truth, jpeg=False)


def test_what_is_no_data_set(black_box, tmp_path):
    for text in ("voc:a,b", "voc:year=2012"):
        with pytest.raises(InputError, match="write voc:FOLDER"):
            open_detection(text)
    with pytest.raises(InputError, match="annotations"):
        open_detection(f"coco:{tmp_path}")
