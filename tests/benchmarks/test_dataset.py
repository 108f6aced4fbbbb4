import argparse
import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.dataset import difference, measured, resident, sentence, write_images


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """A data folder with Tiny-ImageNet's form: three JPEG files, the first 100 bytes apart from the
    rest.
    """
    bodies = []
    for i in range(3):
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (80 * i, 90, 120)).save(buffer, "JPEG")
        bodies.append(buffer.getvalue())
    assert len({body[:100] for body in bodies}) == 1
    (tmp_path / "data" / "tiny-imagenet-200").mkdir(parents=True)
    (tmp_path / "data" / "README.md").write_text("")
    np.savez(
        tmp_path / "data" / "tiny-imagenet-200" / "val.npz",
        body=np.frombuffer(b"".join(body[100:] for body in bodies), np.uint8),
        offsets=np.cumsum([0, *(len(body) - 100 for body in bodies)]),
        headers=np.frombuffer(bodies[0][:100], np.uint8)[None],
        header_len=np.array([100]),
        header_id=np.zeros(3, np.uint8),
        labels=np.zeros(3, np.int64),
    )
    monkeypatch.setenv("SALIENCYKIT_DATA", str(tmp_path / "data"))
    return bodies


def test_images_are_written_measured_and_compared(pack, tmp_path):
    data = write_images(tmp_path / "images", 3)
    assert [path.read_bytes() for path in sorted(data.iterdir())] == pack
    arguments = argparse.Namespace(
        model="demo",
        masker="center-box",
        device="cpu",
        batch=2,
        no_check=True,
        workers=1,
        count=3,
        kills=0,
        processes=1,
        part=None,
    )
    found = measured(arguments, data, tmp_path / "one")
    assert 0 < found["networks"] < found["seconds"]
    assert "3 images in" in sentence(found, arguments)
    measured(arguments, data, tmp_path / "two")
    assert (
        difference(tmp_path / "one", tmp_path / "two")
        == "3 rows, numbers within 0.0e+00, maps within 0.0e+00"
    )
    arguments.masker = "center-box:area=0.25"
    measured(arguments, data, tmp_path / "other")
    assert "maps within 1.0e+00" in difference(tmp_path / "one", tmp_path / "other")
    assert resident() > 2**20
