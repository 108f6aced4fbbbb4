"""The plugin: objects, files that are safe to read, and that importing it is cheap."""

import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import saliencykit_sklearn
import torch
from saliencykit_sklearn.sklearn_black_box import SklearnBlackBox
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from saliencykit import InputError, explain
from saliencykit.registry.coerce import as_black_box

skops = pytest.importorskip("skops.io")


@pytest.fixture
def fitted():
    random = np.random.default_rng(0)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(
        random.random((20, 8 * 8)), np.arange(20) % 3
    )


def test_objects_are_recognized(fitted):
    assert isinstance(as_black_box(fitted), SklearnBlackBox)
    assert explain(fitted, torch.rand(1, 8, 8), 1, masker="rise:samples=8").mask.shape == (
        1,
        1,
        8,
        8,
    )
    assert saliencykit_sklearn.wrap_model(torch.nn.Flatten()) is None
    assert saliencykit_sklearn.wrap_model(LogisticRegression) is None
    assert saliencykit_sklearn.wrap_model("timm") is None
    with pytest.raises(InputError, match="Ridge is not a classifier"):
        as_black_box(Ridge())


def test_files_of_skops(fitted, tmp_path):
    skops.dump(fitted, tmp_path / "model.skops")
    images = torch.rand(3, 1, 8, 8)
    for text in (
        str(tmp_path / "model.skops"),
        tmp_path / "model.skops",
        f"sklearn:{tmp_path / 'model.skops'},channels=1",
    ):
        assert torch.equal(as_black_box(text)(images), as_black_box(fitted)(images))


def test_types_that_nobody_trusts_are_not_loaded(fitted, tmp_path):
    fitted.steps.insert(0, ("mine", FunctionTransformer(np.abs)))
    path = tmp_path / "model.skops"
    skops.dump(make_pipeline(FunctionTransformer(_mine), fitted), path)
    with pytest.raises(
        InputError, match=r"holds types that are not known to be safe: .*_mine.* write trusted="
    ) as raised:
        as_black_box(str(path))
    named = str(raised.value).split("trusted=")[1].rstrip(".")
    assert isinstance(
        as_black_box(f"sklearn:{path},channels=1,size=8,trusted={named}"), SklearnBlackBox
    )


def _mine(rows):
    return rows


class Evil:
    def __reduce__(self):
        return (open, ("opened", "w"))


def test_pickles_are_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model.pkl", "model.joblib", "model.pickle"):
        (tmp_path / name).write_bytes(pickle.dumps(Evil()))
        with pytest.raises(
            InputError,
            match=r"is a pickle, which can run any code .* pass the object; or save it with skops",
        ):
            as_black_box(name)
    (tmp_path / "model.skops").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match=r"'model\.skops' cannot be read as a skops file: "):
        as_black_box("model.skops")
    assert not (tmp_path / "opened").exists()


def test_damaged_files(tmp_path):
    (tmp_path / "a.skops").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "b.skops", "w") as file:
        file.writestr("schema.json", "{}")
    for name in ("a", "b"):
        with pytest.raises(InputError, match="cannot be read as a skops file"):
            as_black_box(str(tmp_path / f"{name}.skops"))
    with pytest.raises(InputError, match="there is no file"):
        as_black_box("nowhere.skops")


def test_importing_it_and_querying_for_its_names_loads_nothing_heavy():
    code = (
        "import sys, saliencykit_sklearn as it; it.provide_black_boxes(); it.wrap_model(3); "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "skops", "scipy", "torchvision"} & set(done.stdout.split())
