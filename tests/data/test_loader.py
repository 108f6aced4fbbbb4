import threading
import time

import torch

from saliencykit.core.metric import Sample
from saliencykit.data.loader import Given, Opened, opened
from saliencykit.data.record import Entry


def entries(count):
    return [Entry(f"{i}.png", torch.full((3, 8, 8), i / count), i % 4) for i in range(count)]


def test_threads_make_no_difference(box):
    some = [
        *entries(5),
        Entry("bad", torch.rand(3, 8, 8), 9),
        Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])),
        *entries(2),
    ]
    for limit in (None, 7, 100):
        for wanted in (None, lambda index, name: index != 2):
            plain, threaded = (
                list(opened(some, box, limit=limit, wanted=wanted, workers=n)) for n in (0, 3)
            )
            assert [
                (type(a), getattr(a, "index", None), getattr(a, "name", None)) for a in plain
            ] == [(type(b), getattr(b, "index", None), getattr(b, "name", None)) for b in threaded]
            for a, b in zip(plain, threaded, strict=True):
                if isinstance(a, Opened) and a.image is not None:
                    assert torch.equal(a.image, b.image)
    assert "class 9" in plain[4].reason
    assert plain[4].image is None


def test_names_are_unique_and_samples_are_cut_at_the_limit(box):
    sample = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]), names=("0.png", "x", "x"))
    first, given = opened([*entries(1), sample, *entries(1)], box, limit=3)
    assert first.name == "0.png"
    assert isinstance(given, Given)
    assert (given.first, given.names, len(given.sample.images)) == (1, ("0.png#1", "x"), 2)
    *_, last = opened([*entries(1), sample, *entries(1)], box)
    assert (last.index, last.name) == (4, "0.png#4")
    clash = [Entry(name, torch.rand(3, 8, 8)) for name in ("a#2", "a", "a")]
    assert [each.name for each in opened(clash, box)] == ["a#2", "a", "a#2#2"]


def test_a_bounded_number_is_opened_ahead_and_none_after_the_end(box, monkeypatch):
    from saliencykit.data import loader

    asked, real = [], loader.as_images

    def counting(*args, **options):
        asked.append(threading.current_thread().name)
        return real(*args, **options)

    monkeypatch.setattr(loader, "as_images", counting)
    ahead = opened(entries(200), box, workers=2)
    next(ahead)
    time.sleep(0.1)
    assert len(asked) <= 24 * 2 + 1
    ahead.close()
    settled = len(asked)
    time.sleep(0.05)
    assert len(asked) == settled
    assert all(name.startswith("opening") for name in asked)


def test_originals_are_kept_where_asked(box, tmp_path):
    import numpy as np

    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.testing.black_boxes import small_network

    box = TorchBlackBox(small_network(), mean=(0.5,) * 3, std=(0.5,) * 3, size=16)
    pictures = [Entry(str(i), np.full((20, 30, 3), 40 * i, np.uint8)) for i in range(3)]
    found = list(opened(pictures, box, keep=lambda index, name: index == 1))
    assert [each.picture is not None for each in found] == [False, True, False]
    assert found[1].picture.size == (30, 20)
    assert found[1].geometry.picture == (20, 30)
