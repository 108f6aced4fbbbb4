"""Runs in a directory: one at a time, without leftovers, with the threads they were started with,
outside of their own data, and aware of files that were replaced.
"""

import json
import os
import socket
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from saliencykit.black_boxes.torch_module import TorchBlackBox
from saliencykit.core.errors import InputError, SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.runs.lock import locked
from saliencykit.runs.resumed_run import run_in
from saliencykit.storage.atomic_files import write_text
from saliencykit.surrogate.surrogate_training import fit_surrogate
from saliencykit.training.fit_masker import fit
from saliencykit.video.disk_full_guard import ReserveFile


def explained(model, data, out, **options):
    options = {"masker": "center-box", "label": "top", "overlays": 2} | options
    saved = explain_dataset(model, data, output_dir=out, **options)
    return [(row.name, row.image_key, row.failure) for row in saved.rows()]


def evaluated(model, data, out, **options):
    given = {"baselines": False, "report_images": 0, "labels": None} | options
    scores = evaluate(model, "center-box", "saliency-score", data, output_dir=out, **given)
    return [(row.sample, row.probability, row.failure) for row in scores.rows]


def trained(model, data, out):
    return fit(
        model, data, encoder="own", steps=2, warmup_steps=0, batch_size=2, checkpoint_dir=out
    )


def surrogate(model, data, out):
    return fit_surrogate(model, data, queries=50, steps=2, batch_size=2, checkpoint_dir=out)


@pytest.fixture
def black_box():
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)]
    model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(4, 4))
    return TorchBlackBox(model, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), size=16)


RUNS = (explained, evaluated, trained, surrogate)


@pytest.fixture
def images(tmp_path):
    """A folder of six images, and a function that writes one of them."""

    def paint(number, seed=None):
        generator = np.random.default_rng(number if seed is None else seed)
        pixels = generator.integers(0, 255, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")

    (tmp_path / "images").mkdir()
    for number in range(6):
        paint(number)
    return tmp_path / "images", paint


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("run", RUNS)
def test_a_second_process_is_refused_before_any_query(run, black_box, images, tmp_path):
    class Paid(type(black_box)):
        def logits(self, images):
            raise AssertionError("this query costs money")

    (tmp_path / "out").mkdir()
    words, paid = rf"process {os.getpid()} on .* is writing to", Paid(black_box.model)
    with locked(tmp_path / "out" / "lock"), pytest.raises(InputError, match=words):
        run(paid, images[0], tmp_path / "out")


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("place", [".", "results", "a/b"])
def test_results_inside_the_images_are_refused(run, place, black_box, images):
    before = sorted(images[0].iterdir())
    with pytest.raises(InputError, match=r"inside the images in .*; choose a directory outside"):
        run(black_box, images[0], images[0] / place)
    assert sorted(images[0].iterdir()) == before


def test_results_beside_the_images_and_through_a_link_are_scored_by_where_they_lie(
    black_box, images, tmp_path
):
    explained(black_box, images[0], tmp_path / "images-results")
    (tmp_path / "link").symlink_to(images[0])
    with pytest.raises(InputError, match="inside the images"):
        explained(black_box, images[0], tmp_path / "link" / "out")


@pytest.mark.filterwarnings("ignore:files were replaced:UserWarning")
@pytest.mark.parametrize("run", [explained, evaluated])
def test_a_file_replaced_under_its_name_is_computed_again(run, black_box, images, tmp_path):
    folder, paint = images
    first = run(black_box, folder, tmp_path / "out")
    paint(2, seed=99)  # another image
    paint(3)  # the same one, at another time
    os.utime(folder / "4.png", ns=(1, 1))
    with pytest.warns(UserWarning, match=r"replaced and their results are computed again: 2.png$"):
        second = run(black_box, folder, tmp_path / "out")
    assert [a == b for a, b in zip(first, second, strict=True)] == [True] * 2 + [False] + [True] * 3
    assert second == run(black_box, folder, tmp_path / "fresh")
    assert second == run(black_box, folder, tmp_path / "out")
    (folder / "5.png").unlink()
    paint(5, seed=7)
    os.utime(folder / "5.png", (folder / "0.png").stat()[7:9])
    assert run(black_box, folder, tmp_path / "out") == run(black_box, folder, tmp_path / "third")


@pytest.mark.filterwarnings("ignore:files were replaced:UserWarning")
@pytest.mark.parametrize("run", [explained, evaluated])
def test_a_damaged_file_that_was_mended_is_computed(run, black_box, images, tmp_path):
    folder, paint = images
    (folder / "1.png").write_bytes(b"damaged")
    assert run(black_box, folder, tmp_path / "out")[1][2] is not None
    paint(1)
    assert run(black_box, folder, tmp_path / "out")[1][2] is None


@pytest.mark.parametrize("run", [explained, evaluated])
def test_what_was_too_large_for_memory_is_tried_again(run, black_box, images, tmp_path):
    class Hungry(Masker):
        hungry = True

        def mask(self, black_box, images, labels, generator):
            if self.hungry:
                raise MemoryError
            return images.new_ones(len(images), 1, *images.shape[2:])

        def identity(self):
            return "Hungry"

    Image.new("RGB", (40, 24)).save(images[0] / "9.png")
    masker = Hungry()
    options = {"masker": masker, "batch_size": 1}
    saved = explain_dataset(black_box, images[0], output_dir=tmp_path / "a", label="top", **options)
    assert all("needs more memory than cpu has for one image" in r.failure for r in saved.rows())
    masker.hungry = False
    saved = explain_dataset(black_box, images[0], output_dir=tmp_path / "a", label="top", **options)
    assert [row.failure for row in saved.rows()] == [None] * 7


def test_a_run_is_resumed_with_its_threads(tmp_path):
    own = torch.get_num_threads()
    try:
        for used, resume in ((3, True), (1, True), (2, False), (1, True)):
            torch.set_num_threads(used)
            with run_in(tmp_path, resume=resume):
                inside = torch.get_num_threads()
            assert torch.get_num_threads() == used
            assert inside == {3: 3, 1: inside, 2: 2}[used]
            assert int((tmp_path / "threads.txt").read_text()) == inside
        assert inside == 2
        for damaged in ("", "-1", "999999999", "two"):
            (tmp_path / "threads.txt").write_text(damaged)
            with run_in(tmp_path, resume=True):
                assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(own)


def unfinished(name, process, host=None):
    host = socket.gethostname() if host is None else host
    return f".{name}.{zlib.crc32(host.encode()):08x}-{process}"


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_write_removes_what_a_killed_one_of_the_same_file_left(tmp_path, dead):
    left = unfinished("a.json", dead)
    kept = {
        *(unfinished("a.json", os.getppid()), unfinished("b.json", dead)),
        *(unfinished("a.json", dead, "elsewhere"), ".a.json", "a.json.12"),
    }
    for name in {left, *kept}:
        (tmp_path / name).write_text("half")
    write_text(tmp_path / "a.json", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", *kept}


def test_a_video_removes_what_a_killed_one_left(tmp_path, dead):
    for name in ("a.mp4", "a.mp4.reserve"):
        (tmp_path / unfinished(name, dead)).write_bytes(b"half")
    spool = ReserveFile(tmp_path / "a.mp4", 1000)
    spool.write(b"whole")
    spool.keep()
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_run_removes_everything_that_killed_ones_left(tmp_path, dead):
    (tmp_path / "deep").mkdir()
    (tmp_path / unfinished("deep", 4, "elsewhere")).mkdir()
    for name in (unfinished("x", dead), f"deep/{unfinished('y', dead)}", "deep/z"):
        (tmp_path / name).write_text("x")
    with run_in(tmp_path, resume=True):
        pass
    assert {path.name for path in tmp_path.rglob("*")} == {"deep", "z", "lock", "threads.txt"}


def test_a_shard_removes_only_what_killed_ones_of_its_machine_left(tmp_path, dead):
    left, running = unfinished("x", dead), unfinished("x", os.getppid())
    for name in (left, running, unfinished("x", dead, "elsewhere")):
        (tmp_path / name).write_text("x")
    with run_in(tmp_path, resume=True, alone=False):
        pass
    there = {running, unfinished("x", dead, "elsewhere"), "threads.txt"}
    assert {path.name for path in tmp_path.iterdir()} == there


def test_rows_know_their_files(black_box, images, tmp_path):
    explained(black_box, images[0], tmp_path / "out")
    (block,) = (tmp_path / "out/blocks").glob("*.jsonl")
    rows = [json.loads(line) for line in block.read_text().splitlines()]
    sizes = [(images[0] / row["name"]).stat().st_size for row in rows]
    assert [int(row["file_key"].split("-")[0]) for row in rows] == sizes


@pytest.mark.parametrize("run", [trained, surrogate])
def test_a_training_is_not_resumed_with_images_of_which_one_pixel_differs(
    run, black_box, images, tmp_path
):
    run(black_box, images[0], tmp_path / "out")
    run(black_box, images[0], tmp_path / "out")
    changed = np.asarray(Image.open(images[0] / "3.png")).copy()
    changed[5, 7, 1] ^= 255
    Image.fromarray(changed).save(images[0] / "3.png")
    with pytest.raises(InputError, match=r"another training|for other images"):
        run(black_box, images[0], tmp_path / "out")


def test_a_surrogates_network_is_tried_before_the_first_query(images):
    class Paid(TorchBlackBox):
        def logits(self, images):
            raise AssertionError("this query costs money")

    paid = Paid(
        torch.nn.Identity(), mean=(0.0,) * 3, std=(1.0,) * 3, size=16, class_names=["a"] * 4
    )
    wrong = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(3, 3), torch.nn.Flatten(), "timm:nope", 7
    for network in wrong:
        with pytest.raises(SaliencyKitError, match=r"network|timm"):
            fit_surrogate(paid, images[0], queries=50, network=network)
