"""Shards: parts that know nothing of each other and together are the run of one process."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.shard_merge import merge_shards
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.testing.black_boxes import PlantedEvidence

COUNT = 24


def run(out, *, iterable=False, **options):
    torch.set_num_threads(1)
    black_box = PlantedEvidence()
    images, labels = black_box.examples(COUNT, generator=torch.Generator().manual_seed(0))
    pairs = list(zip(images, labels.tolist(), strict=True))
    fixed = {"masker": "rise:samples=24,estimate=mean", "batch_size": 4, "overlays": 2}
    data = iter(pairs) if iterable else pairs
    return explain_dataset(black_box, data, output_dir=out, **fixed | options)


def facts(saved):
    """Everything but times and where the maps are; the maps."""
    rows = [{**vars(row), "seconds": 0, "block": 0} for row in saved.rows()]
    return rows, {row.name: saved.map_of(row) for row in saved.rows()}


def assert_same(one, other):
    (rows, maps), (others, their) = facts(one), facts(other)
    assert rows == others
    assert all(torch.equal(mask, their[name]) for name, mask in maps.items())


def files(folder):
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if not path.startswith("blocks"))


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run of one process."""
    return run(tmp_path_factory.mktemp("one") / "run")


@pytest.mark.parametrize("form", ["jsonl", pytest.param("parquet", marks=pytest.mark.slow)])
def test_four_shards_merged_are_the_run_of_one_process(form, one, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    for part in (2, 0, 3, 1):
        run(tmp_path / "run", shard=(part, 4), format=form)
    assert_same(SavedExplanations.load(tmp_path / "run"), one)
    assert_same(merge_shards(tmp_path / "run"), one)
    assert files(tmp_path / "run") == files(one.folder)
    assert {path.suffix for path in (tmp_path / "run" / "blocks").iterdir()} == (
        {".parquet"} if form == "parquet" else {".jsonl", ".safetensors"}
    )
    assert_same(run(tmp_path / "run"), one)
    with pytest.raises(InputError, match="has no shards"):
        merge_shards(tmp_path / "run")


@pytest.mark.parametrize("iterable", [pytest.param(False, marks=pytest.mark.slow), True])
def test_more_shards_than_batches_of_images_are_merged_too(iterable, one, tmp_path):
    for part in range(8):
        run(tmp_path / "run", shard=f"{part}/8", iterable=iterable)
    assert_same(merge_shards(tmp_path / "run"), one)


def slowly(out):
    run(out, shard=(1, 2), on_row=lambda *_: time.sleep(0.2))


def test_a_killed_shard_is_named_and_resumed_and_a_missing_one_too(
    one, tmp_path, monkeypatch, written_at_once
):
    out = tmp_path / "run"
    child = multiprocessing.get_context("fork").Process(target=slowly, args=(out,))
    child.start()
    deadline = time.monotonic() + 30
    while not list(out.glob("blocks/0*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    words = r"2 of 2 shards .*: 0/2 \(not started\), 1/2 \(4 of 12 images\); run: "
    with pytest.raises(InputError, match=rf"{words}.*shard=\(0, 2\)\); explain_dataset"):
        merge_shards(out)
    command = ["/bin/saliencykit", "explain", "{photos}", "--shard", "0/2", "--output", "run"]
    monkeypatch.setattr("sys.argv", command)
    run(out, shard=(0, 2))
    words = r"1 of 2 shards .* run: saliencykit explain '{photos}' --output run --shard 1/2\."
    with pytest.raises(InputError, match=words):
        merge_shards(out)
    new = []
    run(out, shard=(1, 2), on_row=lambda row, *_: new.append(row.index))
    assert 0 < len(new) < COUNT / 2, "what the killed shard left is kept"
    assert_same(merge_shards(out), one)


def test_what_a_dead_shard_left_is_redistributed(tmp_path):
    for part in range(3):
        run(tmp_path / "run", shard=(part, 4), batch_size=2)
    new = []
    for part in range(3):
        shares = len(new)
        run(
            tmp_path / "run",
            shard=(part, 3),
            batch_size=2,
            on_row=lambda row, *_: new.append(row.index),
        )
        assert len(new) > shares, "each takes some of it"
    assert sorted(new) == [6, 7, 14, 15, 22, 23]
    assert_same(merge_shards(tmp_path / "run"), run(tmp_path / "one", batch_size=2))


def test_two_shards_of_the_same_part_write_the_same(one, tmp_path):
    fork = multiprocessing.get_context("fork")
    call = {"target": run, "args": (tmp_path / "run",), "kwargs": {"shard": (0, 1)}}
    twins = [fork.Process(**call) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    assert [twin.exitcode for twin in twins] == [0, 0]
    assert_same(merge_shards(tmp_path / "run"), one)


def test_shards_of_other_settings_or_another_batch_are_refused(tmp_path):
    run(tmp_path / "run", shard=(0, 2))
    for options, words in (
        ({"seed": 1}, "seed: 0"),
        ({"batch_size": 2}, "batch: 4"),
        ({"format": "parquet"}, "blocks: jsonl"),
    ):
        with pytest.raises(InputError, match=words):
            run(tmp_path / "run", shard=(1, 2), **options)
    with pytest.raises(InputError, match="delete the directory"):
        run(tmp_path / "run", shard=(1, 2), resume=False)
    run(tmp_path / "run", shard=(1, 2))
    assert len(merge_shards(tmp_path / "run")) == COUNT


def test_the_command_line_explains_shards_and_merges_them(command, tmp_path):
    from saliencykit.demo import demo_image

    (tmp_path / "photos").mkdir()
    for i in range(2):
        demo_image().save(tmp_path / "photos" / f"{i}.png")
    explain = ["explain", "photos", "--masker", "center-box", "--batch-size", "1"]
    code, out, err = command(*explain, "--output", "run", "--shard", "0/2")
    assert (code, "saliencykit merge run" in out) == (0, True), err
    code, _, err = command("merge", "run")
    assert code == 2
    assert "--shard 1/2" in err
    assert command(*explain, "--output", "run", "--shard", "1/2")[0] == 0
    code, out, err = command("merge", "run")
    assert (code, "2 of 2 images explained" in out) == (0, True), err
