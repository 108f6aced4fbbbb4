"""BatchExplainer: in any engine, the rows and masks of explain_dataset."""

import functools
import io
import math
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.black_boxes.function import FunctionBlackBox
from saliencykit.core.errors import InputError
from saliencykit.explanation.batch_explainer import BatchExplainer
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.explain_images import explain
from saliencykit.storage.map_encoding import unpacked
from saliencykit.testing.black_boxes import PlantedEvidence

MASKER = "rise:samples=24,estimate=mean"
NUMBERS = ("probability", "kept", "dropped", "area")


def logits(pixels):
    """A model as a user writes one: a function of arrays (B, H, W, C)."""
    return PlantedEvidence()(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()


def load():
    return FunctionBlackBox(logits, num_classes=4, size=16, probabilities=False)


def batch_of(count=10):
    """PNG files, arrays and PIL images with labels, ids, and one damaged image among five."""
    images, labels = PlantedEvidence().examples(count, generator=torch.Generator().manual_seed(0))
    pixels = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
    given = [[png, np.asarray, Image.fromarray][i % 3](each) for i, each in enumerate(pixels)]
    given[4:5] = [b"no image"] * (count > 4)
    ids = np.array([f"photo-{i}" for i in range(count)])
    return {"image": given, "label": labels.numpy(), "id": ids}


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def explainer(model=load, **options):
    return BatchExplainer(model, **{"masker": MASKER, "batch_size": 4} | options)


def assert_same(one, other):
    assert list(one) == list(other)
    for name, values in one.items():
        np.testing.assert_array_equal(np.asarray(values), np.asarray(other[name]), err_msg=name)


def test_rows_and_masks_are_those_of_explain_dataset(tmp_path):
    batch = batch_of()
    pairs = list(zip(batch["image"], batch["label"], strict=True))
    saved = explain_dataset(load(), pairs, masker=MASKER, batch_size=4, output_dir=tmp_path / "run")
    out = explainer()(batch)
    assert "image" not in out
    assert out["id"].tolist() == [f"photo-{i}" for i in range(10)]
    for i, row in enumerate(saved.rows()):
        assert out["failure"][i] == (row.failure or "")
        if row.failure:
            assert (i, out["label"][i], out["mask"][i]) == (4, -1, b"")
            assert all(math.isnan(out[name][i]) for name in NUMBERS)
            continue
        assert (out["label"][i], out["label_name"][i]) == (row.label, row.label_name or "")
        assert (out["height"][i], out["width"][i]) == row.size
        assert out["verdict"][i] == row.verdict
        for name in NUMBERS:
            assert out[name][i] == pytest.approx(getattr(row, name), abs=1e-6)
        mask = torch.from_numpy(np.array(Image.open(io.BytesIO(out["mask"][i]))))
        assert torch.equal(unpacked(mask), saved.map_of(row)[0, 0])


def test_a_batch_larger_than_batch_size_and_every_part_of_it_have_the_same_masks():
    batch, whole = batch_of(), explainer()(batch_of())
    for part in (slice(0, 4), slice(4, 5), slice(5, 10)):
        some = explainer()({name: values[part] for name, values in batch.items()})
        assert some["mask"].tolist() == whole["mask"][part].tolist()


def test_the_explained_class_is_the_column_the_argument_or_the_top_class():
    batch = batch_of(4)
    own = batch["label"].tolist()
    fast = {"masker": "center-box", "verify": False}
    assert explainer(**fast)(batch)["label"].tolist() == own
    assert explainer(label=2, **fast)(batch)["label"].tolist() == [2] * 4
    wrong = batch | {"label": [3, None, "0", "n"]}
    out = explainer(classes={"n": 2}, **fast)(wrong)
    assert out["label"].tolist() == [3, own[1], 0, 2]
    assert explainer(label="top", **fast)(wrong)["label"].tolist() == own
    assert explainer(**fast)({"image": batch["image"]})["label"].tolist() == own
    assert np.isnan(out["kept"]).all()
    assert out["verdict"].tolist() == [""] * 4


def in_a_process(pickled, batch, answers):
    torch.set_num_threads(1)
    answers.put(pickle.loads(pickled)(batch))


@pytest.mark.slow
def test_pickled_it_says_the_same_in_a_new_process():
    """Also after it has explained: what it loaded is left behind."""
    batch, used = batch_of(6), explainer(load())
    here = used(batch)
    pickled = pickle.dumps(used)
    assert len(pickled) < 1000
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    child = spawn.Process(target=in_a_process, args=(pickled, batch, answers))
    child.start()
    there = answers.get(timeout=120)
    child.join()
    assert_same(here, there)


@pytest.mark.parametrize("model", [load, functools.partial(load)])
def test_a_function_without_arguments_loads_the_model_where_it_is_needed(model):
    assert explainer(model, masker="center-box")(batch_of(3))["failure"].tolist() == [""] * 3


def test_a_model_that_cannot_be_pickled_is_refused_with_what_to_write():
    session = (each for each in [logits])  # like a connection, a generator exists in one process

    def model(pixels):
        assert session is not None
        return logits(pixels)

    black_box = FunctionBlackBox(model, num_classes=4, size=16, probabilities=False)
    assert explainer(black_box)(batch_of(3))["failure"].tolist() == [""] * 3
    words = r"model=FunctionBlackBox cannot be sent to another process \(.*name.*model=load"
    with pytest.raises(InputError, match=words):
        pickle.dumps(explainer(black_box))


def test_a_function_in_a_function_travels_where_the_engines_pickle_is_installed():
    pytest.importorskip("dill")
    black_box = FunctionBlackBox(lambda x: logits(x), num_classes=4, size=16, probabilities=False)
    there = pickle.loads(pickle.dumps(explainer(black_box)))
    assert_same(there(batch_of(3)), explainer()(batch_of(3)))


@pytest.mark.parametrize(
    ("options", "words"), [({"seed": -1}, "seed=-1"), ({"batch_size": 0}, "batch_size=0")]
)
def test_mistakes_are_named_where_it_is_made(options, words):
    with pytest.raises(InputError, match=words):
        explainer(**options)


def test_hugging_face_map_gives_the_same_rows():
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    files = {"image": [png(np.asarray(each)) for each in png_pixels()], "id": list("abcdef")}
    wanted = explainer()(files)
    decoded = datasets.Dataset.from_dict(files).cast_column("image", datasets.Image())
    for images in (decoded, decoded.with_format("arrow")):
        mapped = images.map(
            explainer(),
            batched=True,
            batch_size=4,
            remove_columns="image",
            load_from_cache_file=False,
        ).with_format("numpy")
        assert mapped["mask"][:].tolist() == wanted["mask"].tolist()
        assert mapped["label"][:].tolist() == wanted["label"].tolist()
        np.testing.assert_array_equal(mapped["kept"][:], wanted["kept"].astype(np.float32))


@pytest.mark.slow
def test_hugging_face_map_gives_the_same_rows_in_two_processes():
    datasets = pytest.importorskip("datasets")
    files = {"image": [png(each) for each in png_pixels()]}
    images = datasets.Dataset.from_dict(files).cast_column("image", datasets.Image())
    mapped = images.map(
        explainer(), batched=True, batch_size=2, num_proc=2, load_from_cache_file=False
    )
    assert list(mapped["mask"]) == explainer(batch_size=2)(files)["mask"].tolist()


def png_pixels():
    images, _ = PlantedEvidence().examples(6, generator=torch.Generator().manual_seed(1))
    return (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()


def brightness():
    def light_and_dark(pixels):
        light = pixels.mean((1, 2, 3)) * 4
        return np.stack([light, -light], 1)

    return FunctionBlackBox(light_and_dark, size=16, probabilities=False)


@pytest.mark.filterwarnings("ignore:.*so nothing was tested")
def test_a_pixel_range_is_the_same_for_a_batch_a_data_set_and_one_image(tmp_path):
    rows = np.random.default_rng(0).integers(0, 2000, (2, 16, 16)).astype(np.uint16)
    (folder := tmp_path / "scans").mkdir()
    for i, values in enumerate(rows):
        Image.fromarray(values).save(folder / f"{i}.png")
    options = {"masker": "center-box", "pixel_range": (0, 2000), "label": 1}
    black_box = brightness()
    answers = [explain(black_box, folder / f"{i}.png", **options) for i in range(2)]
    wanted = np.array([float(answer.probability) for answer in answers])
    guessed = float(explain(black_box, rows[0] / 4095, 1, masker="center-box").probability)
    batch = explainer(brightness, **options)({"image": list(rows)})
    saved = explain_dataset(black_box, folder, output_dir=tmp_path / "run", **options)
    np.testing.assert_allclose(batch["probability"], wanted, atol=1e-6)
    np.testing.assert_allclose([row.probability for row in saved.rows()], wanted, atol=1e-6)
    assert abs(wanted[0] - guessed) > 1e-3
    with pytest.raises(InputError, match=r"other settings: data.*pixel range"):
        explain_dataset(
            black_box, folder, output_dir=tmp_path / "run", **options | {"pixel_range": (0, 4095)}
        )
