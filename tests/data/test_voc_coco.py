from pathlib import Path

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.data.samples import read_samples
from saliencykit.data.voc_coco import detection_entries, from_text
from tests.data.conftest import DRAWN


def check(readings, truth, jpeg):
    found = {}
    for reading in readings:
        assert reading.reason is None, reading.reason
        for name, label, boxes in zip(
            reading.names, reading.sample.labels.tolist(), reading.sample.boxes, strict=True
        ):
            found[name] = label, boxes
    end = "jpg" if jpeg else "png"
    assert len(found) == 13
    assert found[f"picture_00.{end}#green"][0] == 1
    # 60 x 40 becomes 48 x 32, and its middle is shown: columns 8 to 40
    assert (
        found[f"picture_00.{end}#green"][1].tolist()
        == [[0.0, pytest.approx(1.6), 0.0, pytest.approx(6.4)]]
        or len(found[f"picture_00.{end}#green"][1]) == 0
    )
    for name, (label, boxes) in found.items():
        if "#green" in name:
            continue
        wanted, corners = truth[Path(name.split("#")[0]).stem]
        assert label == wanted
        assert torch.allclose(boxes, corners, atol=1e-4)


def test_voc(black_box, voc, truth):
    check(read_samples(f"voc:{voc}", black_box), truth, jpeg=True)
    names = [
        e.name
        for e in detection_entries(from_text(f"voc:{voc},image_set=val"), black_box, {"red": 0})
    ]
    assert names == [f"{d.stem}.jpg" for d in DRAWN if d.color == "red"]


def test_a_broken_annotation_is_one_reason(black_box, voc):
    (voc / "VOCdevkit" / "VOC2012" / "Annotations" / "picture_04.xml").write_text("<")
    reasons = [r.reason for r in read_samples(f"voc:{voc}", black_box) if r.reason]
    assert len(reasons) == 1
    assert "picture_04" in reasons[0]


def test_coco(black_box, coco, flat, truth):
    pytest.importorskip("pycocotools")
    check(read_samples(f"coco:{flat},annotations={coco}", black_box), truth, jpeg=False)


def test_what_is_no_data_set(black_box, tmp_path):
    assert detection_entries([1, 2], black_box, None) is None
    for text in ("voc:a,b", "voc:year=2012"):
        with pytest.raises(InputError, match="write voc:FOLDER"):
            from_text(text)
    with pytest.raises(InputError, match="annotations"):
        from_text(f"coco:{tmp_path}")
