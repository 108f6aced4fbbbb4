"""Shards: parts that know nothing of each other, merged into the run of one process."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from saliencykit.core.errors import InputError
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.shard_merge import merge_shards
from saliencykit.testing.black_boxes import PlantedEvidence

COUNT = 24


def run(out, **options):
    torch.set_num_threads(1)
    black_box = PlantedEvidence()
    images, labels = black_box.examples(COUNT, generator=torch.Generator().manual_seed(0))
    pairs = list(zip(images, labels.tolist(), strict=True))
    fixed = {"masker": "rise:samples=24", "batch_size": 4, "overlays": 2}
    return explain_dataset(black_box, pairs, output_dir=out, **fixed | options)


def facts(saved):
    """Everything but times and where the maps are; the maps."""
    rows = [{**vars(row), "seconds": 0, "shard": 0} for row in saved.rows()]
    return rows, {row.name: saved.map_of(row) for row in saved.rows()}


def assert_same(one, other):
    (rows, maps), (others, their) = facts(one), facts(other)
    assert rows == others
    assert all(torch.equal(mask, their[name]) for name, mask in maps.items())


def files(folder):
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if not path.startswith("maps"))


def test_four_shards_merged_are_the_run_of_one_process(tmp_path):
    one = run(tmp_path / "one")
    counts = [len(run(tmp_path / "run", shard=(part, 4))) for part in (2, 0, 3, 1)]
    assert counts == [4, 8, 4, 8]
    assert_same(merge_shards(tmp_path / "run"), one)
    assert files(tmp_path / "run") == files(tmp_path / "one")
    assert_same(run(tmp_path / "run"), one)
    with pytest.raises(InputError, match="has the explanations of a whole run"):
        run(tmp_path / "run", shard=(0, 4))
    with pytest.raises(InputError, match="has no shards"):
        merge_shards(tmp_path / "run")


def test_more_shards_than_blocks_of_images_are_merged_too(tmp_path):
    for part in range(8):
        run(tmp_path / "run", shard=f"{part}/8")
    assert_same(merge_shards(tmp_path / "run"), run(tmp_path / "one"))


def slowly(out):
    run(out, shard=(1, 2), on_row=lambda *_: time.sleep(0.2))


def test_a_killed_shard_is_named_and_resumed_and_a_missing_one_too(tmp_path, monkeypatch):
    out = tmp_path / "run"
    child = multiprocessing.get_context("fork").Process(target=slowly, args=(out,))
    child.start()
    rows, deadline = out / "shards" / "1-of-2" / "rows-1.jsonl", time.monotonic() + 30
    while not rows.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with pytest.raises(InputError, match=r"2 of 2 shards .*shard=\(0, 2\)\); explain_dataset"):
        merge_shards(out)
    command = ["/bin/saliencykit", "explain", "photos", "--shard", "0/2", "--output", "run"]
    monkeypatch.setattr("sys.argv", command)
    run(out, shard=(0, 2))
    words = r"1 of 2 shards .* run: saliencykit explain photos --output run --shard 1/2\."
    with pytest.raises(InputError, match=words):
        merge_shards(out)
    new = []
    run(out, shard=(1, 2), on_row=lambda row, *_: new.append(row.index))
    assert 0 < len(new) < COUNT / 2, "what the killed shard left is kept"
    assert_same(merge_shards(out), run(tmp_path / "one"))


@pytest.mark.parametrize("moves", [1, 3, 5])
def test_a_killed_merge_is_completed_by_the_next(moves, tmp_path, monkeypatch):
    for part in range(2):
        run(tmp_path / "run", shard=(part, 2))
    done, real = [], os.replace

    def replace(source, target):
        real(source, target)
        if "shards" in str(source) and done.append(source) is None and len(done) == moves:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        merge_shards(tmp_path / "run")
    monkeypatch.undo()
    assert_same(merge_shards(tmp_path / "run"), run(tmp_path / "one"))


def test_shards_of_other_settings_or_another_division_are_refused(tmp_path):
    run(tmp_path / "run", shard=(0, 2))
    for options, words in (({"seed": 1}, "seed: [01]"), ({"batch_size": 2}, "batch: [24]")):
        with pytest.raises(InputError, match=words):
            run(tmp_path / "run", shard=(0, 2), **options)
        run(tmp_path / "run", shard=(1, 2), resume=False, **options)
        with pytest.raises(InputError, match=words):
            merge_shards(tmp_path / "run")
    run(tmp_path / "run", shard=(1, 2), resume=False)
    assert len(merge_shards(tmp_path / "run")) == COUNT
    run(tmp_path / "other", shard=(0, 2))
    run(tmp_path / "other", shard=(0, 4))
    with pytest.raises(InputError, match="has shards of 2 and of 4"):
        merge_shards(tmp_path / "other")


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
