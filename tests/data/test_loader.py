import threading
import time

import torch

from saliencykit.core.metric import Sample
from saliencykit.data.loader import LoadedImage, SampleBatch, load_images
from saliencykit.data.record import Record


def entries(count):
    return [Record(f"{i}.png", torch.full((3, 8, 8), i / count), i % 4) for i in range(count)]


def test_threads_make_no_difference(black_box):
    some = [
        *entries(5),
        Record("bad", torch.rand(3, 8, 8), 9),
        Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])),
        *entries(2),
    ]
    for limit in (None, 7, 100):
        for wanted in (None, lambda index, name: index != 2):
            plain, threaded = (
                list(load_images(some, black_box, max_images=limit, wanted=wanted, num_workers=n))
                for n in (0, 3)
            )
            assert [
                (type(a), getattr(a, "index", None), getattr(a, "name", None)) for a in plain
            ] == [(type(b), getattr(b, "index", None), getattr(b, "name", None)) for b in threaded]
            for a, b in zip(plain, threaded, strict=True):
                if isinstance(a, LoadedImage) and a.image is not None:
                    assert torch.equal(a.image, b.image)
    assert "class 9" in plain[4].reason
    assert plain[4].image is None


def test_names_are_unique_and_samples_are_cut_at_the_limit(black_box):
    sample = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]), names=("0.png", "x", "x"))
    first, given = load_images([*entries(1), sample, *entries(1)], black_box, max_images=3)
    assert first.name == "0.png"
    assert isinstance(given, SampleBatch)
    assert (given.first, given.names, len(given.sample.images)) == (1, ("0.png#1", "x"), 2)
    *_, last = load_images([*entries(1), sample, *entries(1)], black_box)
    assert (last.index, last.name) == (4, "0.png#4")
    clash = [Record(name, torch.rand(3, 8, 8)) for name in ("a#2", "a", "a")]
    assert [each.name for each in load_images(clash, black_box)] == ["a#2", "a", "a#2#2"]


def test_a_bounded_number_is_opened_ahead_and_none_after_the_end(black_box, monkeypatch):
    from saliencykit.data import loader

    asked, real = [], loader.as_images

    def counting(*args, **options):
        asked.append(threading.current_thread().name)
        return real(*args, **options)

    monkeypatch.setattr(loader, "as_images", counting)
    ahead = load_images(entries(200), black_box, num_workers=2)
    next(ahead)
    time.sleep(0.1)
    assert len(asked) <= 24 * 2 + 1
    ahead.close()
    settled = len(asked)
    time.sleep(0.05)
    assert len(asked) == settled
    assert all(name.startswith("opening") for name in asked)


def test_originals_are_kept_where_asked(black_box, tmp_path):
    import numpy as np

    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.testing.black_boxes import small_network

    black_box = TorchBlackBox(small_network(), mean=(0.5,) * 3, std=(0.5,) * 3, size=16)
    pictures = [Record(str(i), np.full((20, 30, 3), 40 * i, np.uint8)) for i in range(3)]
    found = list(load_images(pictures, black_box, keep=lambda index, name: index == 1))
    assert [each.picture is not None for each in found] == [False, True, False]
    assert found[1].picture.size == (30, 20)
    assert found[1].geometry.source_size == (20, 30)
