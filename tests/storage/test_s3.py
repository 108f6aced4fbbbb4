"""A real S3 server with latency and failing requests: the same table as on a disk."""

import random
import threading
import time

import numpy as np
import pytest
from PIL import Image

from saliencykit import SavedExplanations, explain_dataset
from saliencykit.storage.locations import location
from saliencykit.testing.black_boxes import PlantedEvidence

pytestmark = pytest.mark.slow
COUNT, LATENCY, FAILING = 100, 0.1, 10  # one request in ten fails


@pytest.fixture
def bucket(monkeypatch):
    """A bucket on a server of this machine."""
    pytest.importorskip("s3fs")
    pytest.importorskip("upath")
    server = pytest.importorskip("moto.server")
    serving = pytest.importorskip("werkzeug.serving")
    application = server.DomainDispatcherApplication(server.create_backend_app)
    chances = random.Random(0)
    requests = []

    def slow(environment, start):
        time.sleep(LATENCY)
        fails = chances.random() < 1 / FAILING
        requests.append((environment["REQUEST_METHOD"], environment["PATH_INFO"], fails))
        if fails:
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>wait</Message></Error>"]
        return application(environment, start)

    running = serving.make_server("127.0.0.1", 0, slow, threaded=True)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server_port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place = location("s3://photos")
    place.fs.mkdir("photos")
    yield place, requests
    running.shutdown()


class Slow(PlantedEvidence):
    """A classifier that takes its time."""

    def logits(self, images):
        time.sleep(0.01 * len(images))
        return super().logits(images)

    def prepare(self, image):
        import torch

        from saliencykit.core.geometry import Geometry

        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None] / 255
        return pixels, Geometry((16, 16), (0.0, 0.0, 16.0, 16.0), (16, 16))


def explained(data, out):
    started = time.perf_counter()
    saved = explain_dataset(
        Slow(), data, output_dir=out, masker="rise:samples=24", label="top", overlays=0
    )
    return saved, time.perf_counter() - started


def table(saved):
    numbers = ("index", "name", "label", "probability", "kept", "dropped", "area", "image_key")
    return [[getattr(row, name) for name in numbers] for row in saved.rows()], [
        saved.map_of(row).tolist() for row in saved.rows()
    ]


@pytest.mark.filterwarnings("ignore")
def test_the_table_is_that_of_a_disk(bucket, tmp_path, capsys):
    """Each image is one request, and the rest of a run few; times are printed only."""
    place, requests = bucket
    (tmp_path / "images").mkdir()
    for i in range(COUNT):
        path = tmp_path / "images" / f"{i:03}.png"
        noise = np.random.default_rng(i).integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(noise).save(path)
    place.fs.put(str(tmp_path / "images"), "photos/", recursive=True)
    wanted, seconds = explained(tmp_path / "images", tmp_path / "run")
    requests.clear()
    saved, remote = explained("s3://photos/images", "s3://photos/run")
    answered = [(method, path) for method, path, fails in requests if not fails]
    assert table(saved) == table(wanted)
    assert table(SavedExplanations.load("s3://photos/run")) == table(wanted)
    images = [path for method, path in answered if path.startswith("/photos/images/")]
    assert len(images) == len(set(images)) == COUNT
    assert ("HEAD", images[0]) not in answered
    blocks = [path for _, path in answered if path.startswith("/photos/run/blocks/")]
    assert len(answered) - len(images) - len(blocks) <= 20, (
        "for the directory, however long the run"
    )
    assert len(blocks) == len(set(blocks)) * 3 / 2, "two files are written, and the rows read again"
    with capsys.disabled():
        print(
            f"\n{COUNT} images: disk {seconds:.1f} s, S3 {remote:.1f} s, {len(requests)} requests"
        )
