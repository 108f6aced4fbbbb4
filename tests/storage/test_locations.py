"""Data, runs, maskers and reports on a store without append, rename and locks."""

import io
import sys
import uuid
from typing import ClassVar

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from PIL import Image

from saliencykit import SavedExplanations, Scores, evaluate, explain_dataset
from saliencykit.core.errors import InputError
from saliencykit.data.dataset import Dataset
from saliencykit.explanation.shard_merge import merge_shards
from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
from saliencykit.registry.coerce import as_masker
from saliencykit.reports.report_files import write_report
from saliencykit.runs.lock import locked
from saliencykit.storage import locations
from saliencykit.storage.locations import as_os_error, is_remote, local_copy, location
from tests.hostile.kinds import KINDS, black_box

pytest.importorskip("upath")


class Elsewhere(MemoryFileSystem):
    """A store in memory that answers as those of `gs://` and `hf://` do: without a first slash."""

    protocol = ("gs", "hf")
    root_marker = ""
    store: ClassVar = {}
    pseudo_dirs: ClassVar = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return path.partition("://")[2] if "://" in path else path.strip("/")


@pytest.fixture
def store():
    """An empty bucket in memory."""
    return location(f"memory://{uuid.uuid4().hex}")


@pytest.fixture(params=["gs", pytest.param("hf", marks=pytest.mark.slow)])
def elsewhere(request, monkeypatch):
    """An empty bucket, or repository, of a store that is not here."""
    monkeypatch.setitem(_registry, request.param, Elsewhere)
    return location(f"{request.param}://datasets/{uuid.uuid4().hex}")


@pytest.fixture
def images(tmp_path):
    """A folder of six images, two of each class."""
    for i in range(6):
        (tmp_path / "images" / "red").mkdir(parents=True, exist_ok=True)
        noise = torch.randint(0, 255, (16, 16, 3), generator=torch.Generator().manual_seed(i))
        Image.fromarray(noise.byte().numpy()).save(tmp_path / "images" / "red" / f"{i}.png")
    return tmp_path / "images"


def uploaded(folder, target):
    for path in folder.rglob("*"):
        if path.is_file():
            place = target / path.relative_to(folder).as_posix()
            place.fs.pipe_file(place.path, path.read_bytes())
    return str(target)


def explained(data, out, **options):
    options = {"masker": "center-box", "batch_size": 2, "overlays": 1} | options
    return explain_dataset(black_box(), data, output_dir=out, **options)


def facts(saved):
    skipped = {"seconds", "block", "file_key"}
    rows = [{k: v for k, v in vars(row).items() if k not in skipped} for row in saved.rows()]
    return rows, [saved.map_of(row).tolist() for row in saved.rows()]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_run_on_a_store_is_that_of_a_disk(form, images, store, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    data, run = uploaded(images, store / "images"), str(store / "run")
    wanted = facts(explained(images, tmp_path / "run"))
    assert facts(explained(data, run, format=form, max_images=3))[0] == wanted[0][:3]
    assert facts(explained(data, run, format=form)) == wanted
    assert facts(SavedExplanations.load(run)) == wanted
    assert (store / "run" / "overlays" / "0000" / "0000000.png").exists()
    names = [path.name for path in (store / "run").iterdir()]
    assert sorted(names) == ["blocks", "manifest.json", "overlays", "table.csv", "threads.txt"]
    page = write_report(SavedExplanations.load(run), f"{run}/page.html")
    assert "of the images</h2>" in page.read_text()


def test_runs_data_and_maskers_on_other_stores(elsewhere, images, tmp_path):
    data, run = uploaded(images, elsewhere / "images"), str(elsewhere / "run")
    wanted = facts(explained(images, tmp_path / "run"))
    for part in range(2):
        explained(data, run, shard=(part, 2))
    assert facts(merge_shards(run)) == wanted
    assert facts(explained(f"{data}/red", f"{run}-2"))[1] == wanted[1]
    explained(data, f"{run}-2", resume=False)
    KINDS["masker with a trunk"].make(tmp_path)
    uploaded(tmp_path, elsewhere)
    assert isinstance(as_masker(str(elsewhere / "m.safetensors")), RealTimeMasker)


def test_shards_on_a_store(images, store, tmp_path):
    data, run = uploaded(images, store / "images"), str(store / "run")
    for part in range(2):
        explained(data, run, shard=(part, 2))
    assert facts(merge_shards(run)) == facts(explained(images, tmp_path / "run"))
    assert not (store / "run" / "shards").exists()


@pytest.mark.filterwarnings("ignore:files were replaced:UserWarning")
def test_an_object_that_was_replaced_is_explained_again(images, store):
    data, run = uploaded(images, store / "images"), str(store / "run")
    first = facts(explained(data, run))[0]
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 9, 9)).save(buffer, format="PNG")
    changed = store / "images" / "red" / "2.png"
    changed.fs.pipe_file(changed.path, buffer.getvalue())
    second = facts(explained(data, run))[0]
    assert [a == b for a, b in zip(first, second, strict=True)] == [True] * 2 + [False] + [True] * 3


def test_evaluations_and_tables_on_a_store(images, store):
    data = uploaded(images, store / "images")
    table = store / "images" / "table.csv"
    table.fs.pipe_file(table.path, b"path,label\nred/0.png,red\nred/1.png,blue\nno.png,red\n")
    options = {"baselines": False, "report_images": 1}
    metrics, run = ["insertion:steps=2"], str(store / "scores")
    evaluate(black_box(), ["center-box"], metrics, str(table), output_dir=run, **options)
    rows = Scores.load(run).rows
    assert [row.label for row in rows] == [0, 2, None]
    assert "there is no file" in rows[2].failure
    assert len(list(Dataset.open(data, black_box()).load())) == 6


def test_a_marker_refuses_a_second_process_and_what_a_killed_one_left(images, store):
    run = store / "run"
    with locked(run / "lock"), pytest.raises(InputError, match=r"is writing to .*lock.json"):
        explained(images, str(run))
    assert len(list(explained(images, str(run)).rows())) == 6


def test_a_masker_is_read_from_a_store(store, tmp_path):
    KINDS["masker with a trunk"].make(tmp_path)
    uploaded(tmp_path, store)
    assert isinstance(as_masker(str(store / "m.safetensors")), RealTimeMasker)
    with pytest.raises(InputError, match=r"none.safetensors cannot be read"):
        as_masker(str(store / "none.safetensors"))


def test_errors_of_a_stores_own_package_are_one_line():
    with (
        pytest.raises(OSError, match=r"^\[Errno 0\] KeyError: 'no bucket") as caught,
        as_os_error(),
    ):
        raise KeyError("no bucket\nsee the manual")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:UPath 'ftp' filesystem not explicitly")  # before 0.3.8
def test_a_missing_package_or_protocol_is_one_line(monkeypatch):
    with pytest.raises(InputError, match="cannot be reached"):
        location("ftp://no-such-host.invalid/x.png")
    with pytest.raises(InputError, match="fsspec does not know it"):
        location("nonsense://bucket/x")
    for protocol, package in {"gs": "gcsfs", "hf": "huggingface_hub", "s3": "s3fs"}.items():
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(_registry, protocol, raising=False)
        with pytest.raises(InputError, match=f"pip install {package}"):
            location(f"{protocol}://bucket/x")
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(InputError, match=r"pip install 'saliencykit\[remote\]'"):
        location("s3://bucket/x")


@pytest.mark.parametrize("place", ["a/b", "C:/a", "timm:resnet18", "http://host/x", "voc:folder"])
def test_paths_names_and_addresses_are_not_remote(place):
    assert not is_remote(place)
    assert local_copy(place) == place


def test_the_slashes_that_a_path_swallows_come_back():
    from pathlib import Path

    assert str(location(Path("memory://bucket/run"))) == "memory://bucket/run"
    assert locations.is_remote(Path("s3://bucket/run"))
