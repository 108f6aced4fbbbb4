"""explain_dataset(): the same rows and maps however it is interrupted or shared; what goes wrong is
a row or one sentence.
"""

import gc
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.core import rng
from saliencykit.core.errors import GradientError, InputError, SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Sample
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.explain_images import explain
from saliencykit.reports.report_files import write_report
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.testing.black_boxes import PlantedEvidence, QueryOnly
from tests.helpers import table_rows

COUNT = 24
MASKER = "rise:samples=24,estimate=mean"


def pairs_of(black_box):
    images, labels = black_box.examples(COUNT, generator=torch.Generator().manual_seed(0))
    return list(zip(images, labels.tolist(), strict=True))


@pytest.fixture
def pairs(black_box):
    return pairs_of(black_box)


def run(black_box, data, out, **options):
    return explain_dataset(
        black_box,
        data,
        output_dir=out,
        **({"masker": MASKER, "batch_size": 4, "overlays": 2} | options),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing stopped."""
    black_box = PlantedEvidence()
    return run(black_box, pairs_of(black_box), tmp_path_factory.mktemp("whole") / "run")


def facts(saved):
    """Everything but times and where the maps lie, with the maps."""
    out = []
    for row in saved.rows():
        numbers = (row.probability, row.area, row.kept, row.dropped)
        out.append(
            (
                (
                    row.index,
                    row.name,
                    row.label,
                    row.label_name,
                    row.size,
                    row.image_key,
                    row.failure,
                ),
                numbers,
            )
        )
    return out, {row.index: saved.map_of(row) for row in saved.rows() if row.failure is None}


def assert_same(one, two):
    (rows, maps), (others, their) = facts(one), facts(two)
    assert [row for row, _ in rows] == [row for row, _ in others]
    for (_, a), (_, b) in zip(rows, others, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert maps.keys() == their.keys()
    for index, mask in maps.items():
        assert torch.equal(mask, their[index])


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_rows_maps_and_table_say_what_explain_says(black_box, pairs, tmp_path):
    saved = run(black_box, pairs, tmp_path / "run")
    wanted = explain(
        black_box,
        [image for image, _ in pairs],
        [label for _, label in pairs],
        masker=MASKER,
        inputs="raw",
    )
    assert saved.names == tuple(map(str, range(COUNT)))
    for i, row in enumerate(saved.rows()):
        assert (row.index, row.label, row.label_name) == (
            i,
            pairs[i][1],
            black_box.class_names[pairs[i][1]],
        )
        found = (row.probability, row.area, row.kept, row.dropped)
        assert found == pytest.approx(
            [float(x[i]) for x in (wanted.probability, wanted.area, wanted.kept, wanted.dropped)],
            abs=1e-5,
        )
        assert row.predicted == int(wanted.logits[i].argmax())
        assert row.predicted_name == black_box.class_names[row.predicted]
        assert row.seconds > 0
        assert torch.allclose(saved.mask_of(row)[0], wanted.mask[i], atol=1 / 510 + 1e-6)
    assert files(tmp_path / "run") == [
        "blocks/000000000-000000023.jsonl", "blocks/000000000-000000023.safetensors", "lock",
        "manifest.json", "overlays/0000/0000000.png", "overlays/0000/0000012.png", "table.csv",
        "threads.txt",
    ]  # fmt: skip
    table = table_rows(tmp_path / "run" / "table.csv")
    assert [float(line["area"]) for line in table] == [row.area for row in saved.rows()]
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["masker"].startswith("Rise(samples=24")
    assert manifest["precision"] == "uint8"
    assert {"model", "seed", "data", "versions", "command", "format"} <= set(manifest)


class Coarse(Masker):
    """A map of 2 x 2, the image's own brightness."""

    def mask(self, black_box, images, labels, generator):
        return torch.nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("verify", [True, False])
def test_rows_have_the_smallest_regions_that_explain_finds(verify, black_box, pairs, tmp_path):
    options = {"masker": MASKER, "sufficient": 0.8, "destroying": True, "verify": verify}
    saved = explain_dataset(black_box, pairs[:6], output_dir=tmp_path, batch_size=4, **options)
    images, labels = zip(*pairs[:6], strict=True)
    one = explain(black_box, torch.stack(images), list(labels), inputs="raw", **options)
    for kind in ("sufficient", "destroying"):
        for name in ("area", "probability"):
            found = [getattr(row, f"{kind}_{name}") for row in saved.rows()]
            wanted = getattr(getattr(one, kind), name)
            assert [value is None for value in found] == wanted.isnan().tolist()
            found = torch.tensor([float("nan") if value is None else value for value in found])
            assert torch.allclose(found, wanted, atol=1e-5, equal_nan=True)
    assert all((row.kept is not None) == verify for row in saved.rows())
    with pytest.raises(InputError, match="regions"):
        explain_dataset(black_box, pairs[:6], output_dir=tmp_path, masker=MASKER, verify=verify)


def test_maps_have_the_maskers_own_resolution(black_box, pairs, tmp_path):
    for precision, close in (("uint8", 1 / 510), ("float16", 1 / 4096)):
        saved = run(
            black_box, pairs[:3], tmp_path / precision, masker=Coarse(), map_dtype=precision
        )
        wanted = explain(
            black_box, [image for image, _ in pairs[:3]], masker=Coarse(), inputs="raw"
        ).mask
        assert saved.map("1").shape == (1, 1, 2, 2)
        assert saved.mask("1").shape == (1, 1, 16, 16)
        assert float((saved.mask("1")[0] - wanted[1]).abs().max()) <= close + 1e-6


def test_the_class_queried_about(black_box, pairs, tmp_path):
    bare = [(image, None) for image, _ in pairs[:4]]
    own = [row.label for row in run(black_box, bare, tmp_path / "own").rows()]
    assert own == [label for _, label in pairs[:4]]  # the box is right about its own patches
    assert [row.label for row in run(black_box, pairs[:4], tmp_path / "two", label=2).rows()] == [
        2
    ] * 4
    assert [
        row.label
        for row in run(
            black_box, pairs[:4], tmp_path / "name", label=black_box.class_names[1]
        ).rows()
    ] == [1] * 4
    wrong = [(image, 3) for image, _ in pairs[:4]]
    assert [row.label for row in run(black_box, wrong, tmp_path / "top", label="top").rows()] == own
    sample = Sample(torch.stack([image for image, _ in pairs]), torch.tensor([3] * COUNT))
    assert [
        row.label
        for row in run(black_box, sample, tmp_path / "sample", label="top", max_images=4).rows()
    ] == own


def slowly(out, waits=False):
    """A run that one can stop; that `waits` does so once it has written something."""
    torch.set_num_threads(1)
    black_box = PlantedEvidence()

    def on_row(*_):
        time.sleep(60 if waits and any(out.glob("blocks/0*.jsonl")) else 0.01)

    run(black_box, pairs_of(black_box), out, on_row=on_row)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_rows_and_maps(
    black_box, pairs, whole, tmp_path, written_at_once
):
    out, moments, killed = tmp_path / "run", random.Random(0), 0
    fork = multiprocessing.get_context("fork")  # no import of torch in every child
    for _ in range(8):
        child = fork.Process(target=slowly, args=(out,))
        child.start()
        time.sleep(moments.uniform(0.01, 0.1))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            killed += 1
        child.join()
    assert killed >= 3
    assert_same(run(black_box, pairs, out), whole)
    assert [name for name in files(out) if not name.startswith("blocks")] == [
        name for name in files(whole.folder) if not name.startswith("blocks")
    ]


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("moves", "form"),
    [
        (1, "jsonl"),
        pytest.param(5, "jsonl", marks=pytest.mark.slow),
        (6, "jsonl"),
        pytest.param(1, "parquet", marks=pytest.mark.slow),
    ],
)
def test_killed_between_any_two_files(
    moves, form, black_box, pairs, whole, tmp_path, monkeypatch, written_at_once
):
    """What SIGKILL does, at the places where it matters: nothing after the step is done."""
    if form == "parquet":
        pytest.importorskip("pyarrow")
    out, done, real = tmp_path / "run", [], Path.replace

    def replace(self, target):
        if "blocks" in str(target) and done.append(target) is None and len(done) == moves:
            raise Killed
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(Killed):
        run(black_box, pairs, out, format=form)
    monkeypatch.undo()
    half = SavedExplanations.load(out)
    assert all(half.map_of(row).shape == (1, 1, 16, 16) for row in half.rows()), (
        "what has a row has its map"
    )
    there, queried = len(half), []
    assert there <= COUNT
    saved = run(
        black_box,
        pairs,
        out,
        on_row=lambda row, done, total: queried.append((row.index, done, total)),
    )
    assert_same(saved, whole)
    assert len(queried) == COUNT - there, "nothing is done twice"
    assert not queried or queried[-1][1:] == (COUNT, COUNT)
    orphans = list(out.glob("blocks/*.safetensors"))
    assert all(path.with_suffix(".jsonl").exists() for path in orphans)


def test_a_row_whose_map_is_lost_is_done_again(black_box, pairs, tmp_path):
    whole = run(black_box, pairs, tmp_path / "run")
    masks = facts(whole)
    whole = SavedExplanations.load(tmp_path / "run")
    # a machine that went down before its disk had written it
    (tmp_path / "run" / "blocks" / "000000000-000000023.safetensors").unlink()
    with pytest.raises(InputError, match=r"safetensors cannot be read: No such file"):
        whole.mask("3")
    again = facts(run(black_box, pairs, tmp_path / "run"))
    assert again[0] == masks[0]
    assert all(torch.equal(again[1][index], mask) for index, mask in masks[1].items())


def test_what_is_finished_is_not_done_again_and_more_images_may_come(
    black_box, pairs, whole, tmp_path
):
    run(black_box, pairs, tmp_path / "run", max_images=10)
    queried = []
    saved = run(
        black_box,
        pairs,
        tmp_path / "run",
        on_row=lambda row, done, total: queried.append((done, total)),
    )
    assert queried == [(i + 1, COUNT) for i in range(10, COUNT)]
    assert_same(saved, whole)
    queried.clear()
    run(black_box, pairs, tmp_path / "run", on_row=lambda *it: queried.append(it))
    assert not queried


def test_a_second_run_is_refused_while_the_first_one_writes(
    black_box, pairs, tmp_path, written_at_once
):
    child = multiprocessing.get_context("fork").Process(
        target=slowly, args=(tmp_path / "run", True)
    )
    child.start()
    try:
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("run/blocks/0*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(InputError, match=rf"process {child.pid} on .* is writing to"):
            run(black_box, pairs, tmp_path / "run")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert len(run(black_box, pairs, tmp_path / "run")) == COUNT, (
        "what a dead process left is taken over"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed: 0 in the directory, 1 in this call"),
        ({"masker": "random"}, "masker: Rise"),
        ({"verify": False}, "alternative: Blur"),
    ],
)
def test_other_settings_are_refused_and_named(black_box, pairs, tmp_path, change, words):
    run(black_box, pairs[:4], tmp_path / "run")
    with pytest.raises(InputError, match=words):
        run(black_box, pairs[:4], tmp_path / "run", **change)
    assert len(run(black_box, pairs[:4], tmp_path / "run", resume=False, **change)) == 4


def test_other_images_are_refused(black_box, tmp_path):
    images, labels = black_box.examples(4, generator=torch.Generator().manual_seed(0))
    run(black_box, [Sample(images, labels)], tmp_path / "run")
    with pytest.raises(InputError, match="images in memory"):
        run(black_box, [Sample(images.flip(0), labels)], tmp_path / "run")


class Moody(Masker):
    def __init__(self, key):
        self.key = key

    def mask(self, black_box, images, labels, generator):
        if self.key in rng.image_keys(images).tolist():
            raise ZeroDivisionError("division by zero")
        return images.new_full((len(images), 1, 1, 1), 0.25)


def test_what_fails_for_one_image_costs_no_other(black_box, pairs, tmp_path):
    key = int(rng.image_keys(pairs[6][0][None]))
    data = [*pairs[:9], (pairs[9][0], 7)]
    saved = run(black_box, data, tmp_path / "run", masker=Moody(key))
    reasons = {row.index: row.failure for row in saved.rows() if row.failure}
    assert reasons == {
        6: "ZeroDivisionError: division by zero",
        9: "class 7 is outside 0..3, the classes of the model.",
    }
    assert {row.area for row in saved.rows() if row.index not in reasons} == {0.25}
    with pytest.raises(InputError, match="6 has no map: ZeroDivisionError"):
        saved.mask("6")


def folder_of(black_box, folder, count=6):
    """A folder of PNG files with one damaged among them, and a box that prepares images."""
    from saliencykit.black_boxes.function import FunctionBlackBox

    folder.mkdir()
    for i, (image, _) in enumerate(pairs_of(black_box)[:count]):
        Image.fromarray((image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()).save(
            folder / f"{i}.png"
        )
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:80])
    (folder / "3.png").write_bytes(b"")
    return FunctionBlackBox(
        lambda x: black_box(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy(),
        num_classes=4,
        size=16,
        probabilities=False,
    )


def test_corrupt_images_are_rows_and_overlays_are_written(black_box, tmp_path):
    prepared = folder_of(black_box, tmp_path / "in")
    saved = run(prepared, tmp_path / "in", tmp_path / "run", overlays=5)
    rows = list(saved.rows())
    assert [row.name for row in rows] == [f"{i}.png" for i in range(6)]
    assert [row.index for row in rows if row.failure is not None] == [2, 3]
    assert "truncated or damaged" in rows[2].failure
    assert "empty (0 bytes)" in rows[3].failure
    assert [row.label for row in rows] == [0, 1, None, None, 0, 1]
    shown = sorted(path.name for path in (tmp_path / "run" / "overlays" / "0000").iterdir())
    assert shown == ["0000000.png", "0000001.png", "0000004.png"]
    with Image.open(tmp_path / "run" / "overlays" / "0000" / shown[0]) as overlay:
        assert overlay.size == (320, 320)
    assert "saw" not in (tmp_path / "run" / "table.csv").read_text()
    assert "truncated or damaged" in write_report(saved, tmp_path / "page.html").read_text()


def test_a_folder_of_folders_that_are_no_classes(black_box, tmp_path):
    prepared = folder_of(black_box, tmp_path / "in")
    (tmp_path / "in" / "holiday").mkdir()
    (tmp_path / "in" / "0.png").rename(tmp_path / "in" / "holiday" / "0.png")
    with pytest.raises(InputError, match=r"holiday.*label='top'"):
        run(prepared, tmp_path / "in", tmp_path / "run")
    saved = run(prepared, tmp_path / "in", tmp_path / "run", label="top")
    assert saved.row("holiday/0.png").label == 0


def test_a_run_can_be_evaluated(black_box, pairs, tmp_path):
    run(black_box, pairs[:8], tmp_path / "run", map_dtype="float16")
    given = {"stored": f"stored:{tmp_path / 'run'}", "again": MASKER}
    scores = evaluate(black_box, given, "saliency-score", pairs[:8], baselines=False)
    means = scores.means()
    assert not scores.failures()
    assert means["stored"]["saliency-score/score"] == pytest.approx(
        means["again"]["saliency-score/score"], rel=0.02
    )


@pytest.mark.parametrize(
    "ending",
    [".safetensors", *(pytest.param(e, marks=pytest.mark.slow) for e in (".jsonl", ".parquet"))],
)
def test_a_full_disk_is_one_sentence_and_what_was_finished_is_there(
    ending, black_box, pairs, whole, tmp_path, monkeypatch, full_disk, written_at_once
):
    """The third batch finds no room; half of what it writes is there."""
    form = "parquet" if ending == ".parquet" else "jsonl"
    if form == "parquet":
        pytest.importorskip("pyarrow")
    seen = []
    third = "000000008-"
    full_disk(lambda path, mode: ending in path.name and mode == "wb" and third in path.name)
    with pytest.raises(
        SaliencyKitError,
        match=r"cannot be written: No space left on device. Finished results are kept",
    ):
        run(black_box, pairs, tmp_path / "run", format=form, on_row=lambda *it: seen.append(it))
    monkeypatch.undo()
    assert len(seen) >= 8 <= len(SavedExplanations.load(tmp_path / "run")) < COUNT
    assert not [name for name in files(tmp_path / "run") if Path(name).name.startswith(".")]
    assert_same(run(black_box, pairs, tmp_path / "run"), whole)


def test_mistakes_are_named_before_anything_is_computed(black_box, pairs, tmp_path):
    for options, words in (
        ({"seed": -1}, "seed=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_images": 0}, "max_images=0"),
        ({"num_workers": -2}, "num_workers=-2"),
        ({"map_dtype": "int4"}, "takes 'uint8' or 'float16'"),
        ({"format": "csv"}, "takes 'jsonl' or 'parquet'"),
        ({"label": 9}, "class 9 is outside"),
    ):
        with pytest.raises(InputError, match=words):
            run(black_box, pairs, tmp_path / "run", **options)
    with pytest.raises(GradientError, match="query-only"):
        run(QueryOnly(black_box), pairs, tmp_path / "run", masker="iterative")
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        run(black_box, pairs, tmp_path / "file" / "run")


def test_a_trained_masker_answers_as_in_explain(tmp_path):
    """On the frozen copy, in one pass; at its own resolution."""
    from saliencykit.demo import demo_black_box

    black_box = demo_black_box()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(3)]
    saved = explain_dataset(
        black_box,
        [(image, None) for image in images],
        output_dir=tmp_path / "run",
        overlays=0,
    )
    wanted = explain(black_box, images)
    assert saved.manifest["masker"].startswith("RealTimeMasker(")
    for i, row in enumerate(saved.rows()):
        assert row.label == int(wanted.labels[i])
        assert (row.area, row.kept) == pytest.approx(
            (float(wanted.area[i]), float(wanted.kept[i])), abs=1e-4
        )
        assert saved.map_of(row).shape[2] < row.size[0]
        assert float((saved.mask_of(row)[0] - wanted.mask[i]).abs().max()) < 1 / 255


LAUNCHED = f"""
import sys

import torch

from saliencykit.explanation import explain_dataset
from saliencykit.testing import PlantedEvidence

torch.set_num_threads(1)
black_box = PlantedEvidence()
images, labels = black_box.examples(24, generator=torch.Generator().manual_seed(0))
pairs = list(zip(images, labels.tolist()))
saved = explain_dataset(
    black_box, pairs, masker={MASKER!r}, batch_size=4, output_dir=sys.argv[1], overlays=2
)
assert len(saved) == 24
"""


@pytest.mark.slow
def test_several_processes_share_the_images_and_end_with_the_same_rows(black_box, pairs, tmp_path):
    pytest.importorskip("accelerate")
    (tmp_path / "script.py").write_text(LAUNCHED)
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_USE_CPU": "true",
    }
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "script.py",
        "two",
    ]
    done = subprocess.run(
        launch,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two = SavedExplanations.load(tmp_path / "two")
    assert_same(two, run(black_box, pairs, tmp_path / "one"))
    assert len(list((tmp_path / "two" / "blocks").glob("*.jsonl"))) > 1
    assert [row.index for row in two.rows()] == list(range(24))


def test_images_that_are_explained_do_not_stay_in_memory(black_box, pairs, tmp_path):
    held = []

    def on_row(row, done, total):
        if done == total:
            gc.collect()  # what other tests left
            held.append(sum(isinstance(each, LoadedImage) for each in gc.get_objects()))

    options = {"batch_size": 1, "num_workers": 1, "masker": "center-box", "verify": False}
    run(black_box, pairs, tmp_path / "run", on_row=on_row, **options)
    (left,) = held
    assert left < COUNT / 4
