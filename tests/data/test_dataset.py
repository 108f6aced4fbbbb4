import csv
import json
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.metric import Sample
from saliencykit.data import image_loader
from saliencykit.data.dataset import Dataset
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.sanity.run_checks import sanity_checks
from saliencykit.surrogate.surrogate_training import fit_surrogate
from saliencykit.testing.black_boxes import small_network
from saliencykit.training.fit_masker import fit


def pairs(count):
    return [(torch.full((3, 8, 8), i / count), i % 3) for i in range(count)]


def test_threads_make_no_difference(black_box):
    some = [
        *pairs(5),
        (torch.rand(3, 8, 8), 9),
        Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2])),
        *pairs(2),
    ]
    for max_images in (None, 7, 100):
        for select in (None, lambda index, name: index != 2):
            plain, threaded = (
                list(
                    Dataset.open(some, black_box, max_images=max_images).load(
                        select=select, num_workers=n
                    )
                )
                for n in (0, 3)
            )
            assert [(a.index, a.name, a.label, a.failure) for a in plain] == [
                (b.index, b.name, b.label, b.failure) for b in threaded
            ]
            for a, b in zip(plain, threaded, strict=True):
                assert (a.image is None) == (b.image is None)
                assert a.image is None or torch.equal(a.image, b.image)
    assert "class 9" in plain[4].failure
    assert plain[4].image is None


def test_names_are_unique_and_the_number_of_images_is_limited(black_box):
    sample = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]), names=("0", "x", "x"))
    data = Dataset.open([*pairs(1), sample, *pairs(1)], black_box, max_images=3)
    assert data.count == 3
    assert [(each.index, each.name) for each in data.load()] == [(0, "0"), (1, "0#1"), (2, "x")]
    *_, last = Dataset.open([*pairs(1), sample, *pairs(1)], black_box).load()
    assert (last.index, last.name) == (4, "2")
    clash = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 2]), names=("a#2", "a", "a"))
    assert [each.name for each in Dataset.open(clash, black_box).load()] == ["a#2", "a", "a#2#2"]


def test_threads_read_a_bounded_number_ahead_and_nothing_after_the_end(black_box, monkeypatch):
    threads, real = [], image_loader.as_images

    def counting(*args, **options):
        threads.append(threading.current_thread().name)
        return real(*args, **options)

    monkeypatch.setattr(image_loader, "as_images", counting)
    ahead = Dataset.open(pairs(200), black_box).load(num_workers=2)
    next(ahead)
    time.sleep(0.1)
    assert len(threads) <= 24 * 2 + 1
    ahead.close()
    settled = len(threads)
    time.sleep(0.05)
    assert len(threads) == settled
    assert all(name.startswith("load") for name in threads)


def model_of_images():
    return TorchBlackBox(small_network(), mean=(0.5,) * 3, std=(0.5,) * 3, size=16)


def test_source_images_are_kept_where_wanted():
    arrays = [np.full((20, 30, 3), 40 * i, np.uint8) for i in range(3)]
    data = Dataset.open(arrays, model_of_images())
    loaded = list(data.load(keep_source=lambda index, name: index == 1))
    assert [each.source_image is not None for each in loaded] == [False, True, False]
    assert loaded[1].source_image.size == (30, 20)
    assert loaded[1].geometry.source_size == (20, 30)


class MapStyle:
    """A torch data set that counts how often each item is read."""

    def __init__(self, items):
        self.items, self.read = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.read.append(index)
        return self.items[index]


def test_a_map_style_data_set_is_counted_without_being_read_and_each_item_is_read_once(black_box):
    items = MapStyle([*pairs(5), (torch.rand(3, 8, 8), None)])
    data = Dataset.open(items, black_box)
    assert (data.count, items.read) == (6, [])
    assert data.preview(3, step=2).labels.tolist() == [0, 2, 1]
    loaded = list(data.load(num_workers=2))
    assert [each.failure for each in loaded] == [None] * 6
    assert [each.label for each in loaded] == [0, 1, 2, 0, 1, None]
    assert sorted(items.read) == [0, 1, 2, 3, 4, 5]


def test_an_iterator_that_can_be_read_once_is_previewed_without_losing_images(black_box):
    data = Dataset.open(iter(pairs(6)), black_box)
    assert data.count is None
    assert len(data.preview(2).images) == 2
    assert next(data.first()).index == 0
    assert [each.index for each in data.load()] == [0, 1, 2, 3, 4, 5]


def test_an_iterable_can_be_read_again(black_box):
    loader = DataLoader(
        TensorDataset(torch.rand(5, 3, 8, 8), torch.tensor([0, 1, 2, 0, 1])), batch_size=2
    )
    data = Dataset.open(loader, black_box)
    for _ in range(2):
        assert [each.label for each in data.load()] == [0, 1, 2, 0, 1]


def test_a_part_is_evenly_spaced_where_the_length_is_known(black_box):
    data = Dataset.open(pairs(10), black_box)
    assert [each.index for each in data.evenly_spaced(3)] == [0, 3, 6]
    assert len(list(data.evenly_spaced(None))) == len(list(data.evenly_spaced(99))) == 10
    lazy = Dataset.open(iter(pairs(10)), black_box)
    assert [each.index for each in lazy.evenly_spaced(3)] == [0, 1, 2]


@pytest.mark.parametrize("max_images", [0, -1, 1.5])
def test_the_number_of_images_is_checked(black_box, max_images):
    with pytest.raises(InputError, match="max_images="):
        Dataset.open(pairs(2), black_box, max_images=max_images)


# all commands take the same forms


@pytest.fixture
def photos(tmp_path):
    """Six images with labels in a CSV file and in JSON lines."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(0)
    rows = []
    for i in range(6):
        Image.fromarray(noise.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
        rows.append({"path": f"{i}.png", "label": i % 2})
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["path", "label"])
        table.writeheader()
        table.writerows(rows)
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def in_form(form, photos):
    """The images of a folder in one of FORMS."""
    paths = [photos / f"{i}.png" for i in range(6)]
    arrays = [np.asarray(Image.open(path)) for path in paths]
    made = {
        "folder": lambda: photos,
        "csv": lambda: str(photos / "table.csv"),
        "json lines": lambda: photos / "table.jsonl",
        "paths": lambda: [str(path) for path in paths],
        "images": lambda: [Image.open(path) for path in paths],
        "pairs": lambda: [(array, i % 2) for i, array in enumerate(arrays)],
        "array": lambda: np.stack(arrays),
        "map style": lambda: MapStyle([(path, i % 2) for i, path in enumerate(paths)]),
        "iterator": lambda: iter(paths),
        "tensor": lambda: torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2),
    }
    return made[form]()


FORMS = (
    "folder", "csv", "json lines", "paths", "images", "pairs", "array", "map style", "iterator",
    "tensor",
)  # fmt: skip
# each is one Dataset for every command, so that not all need every command
FEW = [
    pytest.param(form, marks=[pytest.mark.slow] * (form not in ("folder", "iterator")))
    for form in FORMS
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_images(form, photos):
    black_box = model_of_images()
    loaded = list(Dataset.open(in_form(form, photos), black_box).load())
    wanted = list(Dataset.open(photos, black_box).load())
    for one, other in zip(loaded, wanted, strict=True):
        assert torch.equal(one.image, other.image)
    labeled = form in ("csv", "json lines", "pairs", "map style")
    assert [each.label for each in loaded] == ([0, 1] * 3 if labeled else [None] * 6)


@pytest.mark.parametrize("form", FEW)
def test_every_command_takes_every_form(form, photos, tmp_path):
    black_box = model_of_images()
    saved = explain_dataset(
        black_box, in_form(form, photos), output_dir=tmp_path / "run", masker="center-box"
    )
    assert [row.failure for row in saved.rows()] == [None] * 6
    scores = evaluate(
        black_box, "center-box", "saliency-score", in_form(form, photos), baselines=False
    )
    assert [row.failure for row in scores.rows] == [None] * 6
    report = sanity_checks(black_box, "center-box", in_form(form, photos), checks="wrong-label")
    assert report.results


@pytest.mark.parametrize("form", FEW)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_trainings_take_every_form(form, photos):
    black_box = model_of_images()
    masker = fit(black_box, in_form(form, photos), steps=1, batch_size=4)
    assert masker.metadata["training"]["images"] == 5
    surrogate = fit_surrogate(black_box, in_form(form, photos), queries=50, steps=1, batch_size=4)
    assert surrogate.metadata["images"] == 5


def opened(monkeypatch):
    """The paths of the image files that are opened from now on."""
    paths, real = [], Image.open

    def counting(path, *args, **options):
        paths.append(str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(Image, "open", counting)
    return paths


@pytest.mark.parametrize("form", ["folder", "csv", "paths", "map style", "iterator"])
@pytest.mark.parametrize("metrics", ["saliency-score", "class-confusion"])
def test_evaluate_opens_each_image_once(form, metrics, photos, monkeypatch):
    source = in_form(form, photos)
    paths = opened(monkeypatch)
    scores = evaluate(model_of_images(), "center-box", metrics, source)
    assert len({row.sample for row in scores.rows}) == 6
    assert sorted(paths) == sorted(str(photos / f"{i}.png") for i in range(6))


def test_explain_dataset_and_fit_open_each_image_once(photos, tmp_path, monkeypatch):
    paths = opened(monkeypatch)
    explain_dataset(model_of_images(), photos, output_dir=tmp_path / "run", masker="center-box")
    assert sorted(paths) == sorted(str(photos / f"{i}.png") for i in range(6))
    paths.clear()
    fit(model_of_images(), photos, steps=1, batch_size=4)
    assert sorted(paths) == sorted(str(photos / f"{i}.png") for i in range(6))
