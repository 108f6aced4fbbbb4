"""Tars and Parquet files of images: the same images as in a folder, and each shard reads its own
files.
"""

import io
import os
import tarfile
import warnings

import pytest
import torch
from PIL import Image

from saliencykit import SavedExplanations, evaluate, explain_dataset, merge_shards
from saliencykit.core.errors import InputError
from saliencykit.data.archives import archive_paths
from saliencykit.data.dataset import Dataset
from saliencykit.data.sources import archives_of
from saliencykit.data.training_images import read_training_images
from saliencykit.runs.division import FILE
from saliencykit.storage.locations import location
from tests.data.conftest import DRAWN, NAMES, paint

PER_FILE = 3
SLOW = pytest.param("hugging-face", marks=pytest.mark.slow)  # to import
KINDS = ("tar", "webdataset", "parquet", "paths", SLOW)


def encoded(drawn):
    file = io.BytesIO()
    paint(drawn).save(file, "PNG")
    return file.getvalue()


def add(tar, name, content, **facts):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in facts.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def write(kind, path, some):
    """One archive of some of the drawn images, with labels and without a suffix."""
    path.parent.mkdir(exist_ok=True)
    if kind == "tar":
        with tarfile.open(path.with_suffix(".tar"), "w") as tar:
            for each in some:
                add(tar, f"{each.stem}.png", encoded(each))
                add(tar, f"{each.stem}.cls", each.color.encode())
    elif kind == "webdataset":
        webdataset = pytest.importorskip("webdataset")
        with webdataset.TarWriter(str(path.with_suffix(".tar"))) as tar:
            for each in some:
                label = {"json": {"label": each.color, "other": 1}}
                tar.write({"__key__": each.stem, "png": encoded(each), "txt": "a photo", **label})
    elif kind == "hugging-face":
        datasets = pytest.importorskip("datasets")
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))}
        rows = [{"image": paint(each), "label": each.color} for each in some]
        table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
        table.to_parquet(str(path.with_suffix(".parquet")), batch_size=2)
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        import pyarrow

        for each in some if kind == "paths" else ():
            (path.parent / f"{each.stem}.image").write_bytes(encoded(each))
        images = [f"{each.stem}.image" if kind == "paths" else encoded(each) for each in some]
        columns = {"image": images, "id": [each.stem for each in some]}
        table = pyarrow.table(columns | {"label": [NAMES.index(each.color) for each in some]})
        parquet.write_table(table, path.with_suffix(".parquet"), row_group_size=2)


def write_all(kind, folder):
    for number in range(4):
        write(kind, folder / f"{number:03}", DRAWN[PER_FILE * number : PER_FILE * (number + 1)])
    return folder


@pytest.fixture
def shards(tmp_path):
    return write_all("tar", tmp_path / "shards")


@pytest.mark.parametrize("kind", KINDS)
def test_the_images_are_those_of_a_folder(kind, black_box, class_folders, tmp_path):
    wanted = {each.name[-6:-4]: each for each in Dataset.open(class_folders, black_box).load()}
    folder = write_all(kind, tmp_path / "shards")
    pattern = f"{folder}/*.{'tar' if kind in ('tar', 'webdataset') else 'parquet'}"
    for source, threads in ((folder, 0), (str(folder), 3), (pattern, 1)):
        data = Dataset.open(source, black_box)
        assert (data.count, data.files) == (None, [None] * 4), "nothing is listed yet"
        found = list(data.load(num_workers=threads))
        assert data.files == [PER_FILE] * 4
        assert [each.failure for each in found] == [None] * 12
        assert [each.index for each in found] == [FILE * (i // 3) + i % 3 for i in range(12)]
        for image, drawn in zip(found, DRAWN, strict=True):
            assert image.name.startswith("00")
            assert image.label == wanted[drawn.stem[-2:]].label
            assert torch.equal(image.image, wanted[drawn.stem[-2:]].image)


def test_ranges_and_patterns_name_files(shards, black_box):
    for text, count in (("{000..003}.tar", 4), ("{001..002}.tar", 2), ("00[03].tar", 2)):
        assert len(Dataset.open(f"{shards}/{text}", black_box).files) == count
    assert len(archive_paths("a{1..2}/b{08..10}.parquet")) == 6
    for source, count in ((shards, 4), (f"{shards}/*.tar", 4), (shards.parent / "no", 0), ([], 0)):
        assert len(archives_of(source)) == count
    with pytest.raises(InputError, match=r"004\.tar"):
        Dataset.open(f"{shards}/{{000..004}}.tar", black_box)


def test_the_first_images_and_evenly_spaced_ones(shards, black_box):
    first = Dataset.open(shards, black_box, max_images=4)
    assert [each.index for each in first.load()] == [0, 1, 2, FILE]
    some = Dataset.open(shards, black_box).evenly_spaced(2)
    assert [each.index for each in some] == [0, 2 * FILE]
    assert len(list(Dataset.open(shards, black_box).evenly_spaced(30))) == 12
    every = Dataset.open(shards, black_box)
    assert next(every.first()).index == 0
    assert [each.index for each in every.load()][3] == FILE
    assert len(every.records()) == 12
    assert [each.index for each in every.load()] == list(range(12))


def test_labels_and_boxes_by_name(shards, black_box, xml, flat):
    options = {"labels": {each.stem: each.color for each in DRAWN}, "boxes": xml}
    found, wanted = (
        list(Dataset.open(each, black_box, **options).load()) for each in (shards, flat)
    )
    for one, other in zip(found, wanted, strict=True):
        assert (one.label, one.failure) == (other.label, None)
        assert torch.equal(one.boxes, other.boxes)
    with pytest.raises(InputError, match="labels by name"):
        Dataset.open(shards, black_box, labels=[0] * 12)


def failures(source, black_box):
    return {e.name: e.failure for e in Dataset.open(source, black_box).load(num_workers=2)}


def test_damaged_members_of_a_tar_are_named_and_the_others_are_read(tmp_path, black_box):
    path, good = tmp_path / "a.tar", encoded(DRAWN[0])
    with tarfile.open(path, "w") as tar:
        add(tar, "good.JPG", good)
        add(tar, "no.image.txt", b"text")
        add(tar, "only.cls", b"1")
        add(tar, "damaged.png", good[:-40])
        add(tar, "program.png", b"%!PS-Adobe-3.0 EPSF-3.0\n")
        add(tar, "link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "label.png", good)
        add(tar, "label.cls", b"\xff\xfe")
        add(tar, "object.png", good)
        add(tar, "object.json", b"[1]")
        add(tar, "class.png", good)
        add(tar, "class.cls", b"77")
        add(tar, "last.png", good)
    found = failures(path, black_box)
    assert [name for name, words in found.items() if not words] == [
        "a.tar/good.jpg",
        "a.tar/last.png",
    ]
    for name, words in {
        "damaged": "truncated or damaged", "program": "not an image", "link": "a link",
        "label": "can't decode", "object": "expected `object`", "class": "77",
    }.items():  # fmt: skip
        assert words in found[f"a.tar/{name}.png"], name


def test_a_damaged_archive_is_a_row_and_the_others_are_read(shards, black_box):
    pytest.importorskip("pyarrow")
    whole = (shards / "000.tar").read_bytes()
    starts = [whole.index(f"{each.stem}.png".encode()) for each in DRAWN[:3]]
    broken = bytearray(whole)
    broken[starts[1] : starts[1] + 8] = b"\0garbage"
    for content, count in (
        (whole[: starts[1] + 600], 1),  # inside of an image
        (whole[: starts[2] + 100], 2),  # inside of a header
        (bytes(broken), 1),
        (b"no archive" * 100, 0),
        (b"", 0),
    ):
        (shards / "000.tar").write_bytes(content)
        found = failures(shards, black_box)
        assert f"is damaged after {count}" in found["000.tar"] or len(found) == 9 + 3, content[:20]
        assert sum(failure is None for failure in found.values()) == 9 + count
    (shards / "004.parquet").write_bytes(b"PAR1" + b"x" * 100 + b"PAR1")
    assert "is damaged" in failures(shards, black_box)["004.parquet"]


def run(black_box, data, out, **options):
    fixed = {"masker": "center-box", "batch_size": 2, "overlays": 0} | options
    return explain_dataset(black_box, data, output_dir=out, **fixed)


def table(saved):
    rows = [{**vars(row), "seconds": 0, "block": 0, "file_key": 0} for row in saved.rows()]
    return rows, [saved.map_of(row).tolist() for row in saved.rows() if row.failure is None]


@pytest.mark.parametrize("count", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 4))])
def test_shards_read_their_own_files_and_together_are_one_run(count, shards, black_box, tmp_path):
    (shards / "003.tar").write_bytes((shards / "003.tar").read_bytes()[:-4000])
    one = run(black_box, shards, tmp_path / "one")
    read = []
    for part in range(count):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            run(
                black_box, shards, tmp_path / "run", shard=(part, count),
                on_row=lambda row, *_: read.append(row.name[:3]),
            )  # fmt: skip
        assert ("4 files for 5 processes" in "".join(str(each.message) for each in said)) == (
            count == 5
        )
        if count < 5:
            assert set(read) == {f"{number:03}" for number in range(4) if number % count == part}
        read.clear()
        if part < min(count, 4) - 1:
            with pytest.raises(InputError, match=f"{part + 1}/{count} .not started"):
                merge_shards(tmp_path / "run")
    assert table(merge_shards(tmp_path / "run")) == table(one)
    assert table(SavedExplanations.load(tmp_path / "run")) == table(one)


def test_a_run_is_resumed_and_a_replaced_archive_is_explained_again(shards, black_box, tmp_path):
    new = []

    def count_new(**options):
        new.clear()
        return run(
            black_box,
            shards,
            tmp_path / "run",
            on_row=lambda row, *_: new.append(row.index),
            **options,
        )

    run(black_box, shards, tmp_path / "run", max_images=5)
    one = table(count_new())
    assert len(new) == 7
    assert (table(count_new()), new) == (one, [])
    os.utime(shards / "001.tar", ns=(0, 0))  # as of a copy
    assert (table(count_new()), new) == (one, [])
    write("tar", shards / "001", [DRAWN[5], DRAWN[4]])
    with pytest.warns(UserWarning, match="replaced"):
        count_new()
    assert new == [FILE], "the second image is the same, and the third has gone"
    fresh = run(black_box, shards, tmp_path / "fresh")
    assert table(SavedExplanations.load(tmp_path / "run")) == table(fresh)


@pytest.mark.parametrize("kind", ["tar", pytest.param("parquet", marks=pytest.mark.slow)])
def test_archives_in_a_store(kind, black_box, tmp_path):
    pytest.importorskip("upath")
    store, folder = (
        location(f"memory://{kind}-{tmp_path.name}"),
        write_all(kind, tmp_path / "shards"),
    )
    for path in folder.iterdir():
        store.fs.pipe_file((store / path.name).path, path.read_bytes())
    wanted = table(run(black_box, folder, tmp_path / "one"))
    assert table(run(black_box, str(store), tmp_path / "two")) == wanted
    assert table(run(black_box, f"{store}/*.{kind}", tmp_path / "three")) == wanted
    assert table(run(black_box, f"{store}/{{000..003}}.{kind}", tmp_path / "four")) == wanted


def test_evaluate_and_fit_take_them_too(shards, black_box, class_folders):
    options = {"baselines": False, "batch_size": 3}
    scores = [
        evaluate(black_box, "center-box", "saliency-score", data, **options).means()["center-box"]
        for data in (shards, class_folders)
    ]
    assert scores[0] == pytest.approx(scores[1])
    images = read_training_images(Dataset.open(f"{shards}/*.tar", black_box))
    assert (len(images), images.labels.tolist()) == (12, [i % 3 for i in range(12)])


def test_a_file_that_is_no_data_set_says_so(tmp_path, black_box):
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    parquet.write_table(pyarrow.table({"age": [1]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="has the columns age; images are read from"):
        list(Dataset.open(tmp_path / "a.parquet", black_box).load())
    Image.new("RGB", (4, 4)).save(tmp_path / "b.png")
    assert archive_paths(tmp_path / "b.png") == []


def test_archives_beside_images_are_said_not_to_be_read(tmp_path, black_box):
    Image.new("RGB", (16, 16)).save(tmp_path / "photo.png")
    (tmp_path / "a.tar").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 tar or Parquet files, such as a.tar, which are not"):
        data = Dataset.open(tmp_path, black_box)
    assert [each.name for each in data.load()] == ["photo.png"]
    assert archives_of(tmp_path) == []
