"""evaluate(): the same rows however it is batched, interrupted or shared; every failure is a row
or one error.
"""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit.core import rng
from saliencykit.core.errors import GradientError, InputError, SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.evaluation.scores import Scores
from saliencykit.testing.black_boxes import Counting, PlantedEvidence, QueryOnly


class Area(Metric):
    higher_is_better = False

    def score(self, black_box, sample, mask, *, explain, generator):
        return mask.mean((1, 2, 3))


class Drawn(Metric):
    """A metric that draws, queries the black box and explains again."""

    higher_is_better = True

    def score(self, black_box, sample, mask, *, explain, generator):
        noise = rng.uniform(sample.images, (1,), generator=generator)[:, 0]
        again = explain(sample.images, sample.labels)
        assert torch.allclose(again, mask, atol=1e-5), "the masker answers as it did"
        return {"noise": noise, "logit": black_box(sample.images).amax(1)}


METRICS = {"area": Area(), "drawn": Drawn()}
MASKER = "rise:samples=16,estimate=mean"


@pytest.fixture
def sample(black_box, generator):
    images, labels = black_box.examples(10, generator=generator)
    return Sample(images, labels)


def run(black_box, sample, **options):
    return evaluate(
        black_box,
        MASKER,
        METRICS,
        sample,
        batch_size=options.pop("batch_size", 4),
        **options,
    )


def facts(scores):
    """Everything but times."""
    return [
        (
            row.sample,
            row.index,
            row.masker,
            row.label,
            row.probability,
            dict(row.scores),
            row.failure,
        )
        for row in scores.rows
    ]


def test_batches_in_a_list_are_scored_to_their_last_image(black_box, sample, tmp_path):
    """A list of two batches holds ten images and not two."""
    batches = [(sample.images[:7], sample.labels[:7]), (sample.images[7:], sample.labels[7:])]
    told = []
    scores = run(
        black_box,
        batches,
        baselines=False,
        on_row=lambda row, done, total: told.append((done, total)),
    )
    assert [row.index for row in scores.rows] == list(range(10))
    assert told == [(i, 10) for i in range(1, 11)]
    assert [row.scores for row in scores.rows] == [
        row.scores for row in run(black_box, sample, baselines=False).rows
    ]
    assert (
        len(
            run(black_box, batches, baselines=False, output_dir=tmp_path / "run", max_images=8).rows
        )
        == 8
    )
    assert len(run(black_box, batches, baselines=False, output_dir=tmp_path / "run").rows) == 10


def test_another_list_of_the_same_length_is_refused(black_box, sample, tmp_path):
    pairs = list(zip(sample.images, sample.labels.tolist(), strict=True))
    run(black_box, pairs, baselines=False, output_dir=tmp_path / "run")
    with pytest.raises(InputError, match="other settings: data: 10 items of list"):
        run(black_box, pairs[::-1], baselines=False, output_dir=tmp_path / "run")


def test_there_is_a_row_for_every_image_and_masker_with_baselines(black_box, sample, tmp_path):
    scores = run(black_box, sample, output_dir=tmp_path / "run")
    assert scores.maskers == (MASKER, "center-box", "whole-image", "random")
    assert scores.names == ("area", "drawn/noise", "drawn/logit")
    assert [(row.index, row.masker) for row in scores.rows] == [
        (i, m) for i in range(10) for m in scores.maskers
    ]
    assert scores.means()["whole-image"]["area"] == 1
    row = next(row for row in scores.rows if row.index == 7)
    logits = black_box(sample.images[7:8])
    assert row.label == int(sample.labels[7])
    assert row.label_name == black_box.class_names[row.label]
    assert row.probability == pytest.approx(float(logits.softmax(1)[0, row.label]), rel=1e-5)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    ]
    assert len(lines) == 40
    assert (tmp_path / "run" / "table.csv").read_text().splitlines()[
        0
    ] == "masker,score,mean,median,low,high,n,missing"
    assert len(json.loads((tmp_path / "run" / "table.json").read_text())) == 12
    assert facts(Scores.load(tmp_path / "run")) == facts(scores)


def test_rows_do_not_depend_on_batch_order_or_directory(black_box, sample, tmp_path):
    one, other = (
        run(black_box, sample, batch_size=4),
        run(black_box, sample, batch_size=10, output_dir=tmp_path / "run"),
    )
    turned = torch.arange(9, -1, -1)
    back = run(black_box, Sample(sample.images[turned], sample.labels[turned]), batch_size=3)
    found = {(9 - row.index, row.masker): row.scores for row in back.rows}
    for a, b in zip(one.rows, other.rows, strict=True):
        assert a.key == b.key
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
        assert a.scores == pytest.approx(found[a.key], abs=1e-4)


def test_the_global_random_state_is_unchanged(black_box, sample):
    before = torch.get_rng_state()
    run(black_box, sample)
    assert torch.equal(before, torch.get_rng_state())


def test_baselines_can_be_omitted_or_chosen(black_box, sample):
    assert run(black_box, sample, baselines=False).maskers == (MASKER,)
    assert run(black_box, sample, baselines=["center-box:area=0.1"]).maskers == (
        MASKER,
        "center-box:area=0.1",
    )
    assert evaluate(black_box, "random", METRICS, sample).maskers == (
        "random",
        "center-box",
        "whole-image",
    )


def test_grad_cam_is_a_baseline_if_the_model_has_feature_maps(sample):
    from torch import nn

    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    # it can be read once only, and an image is needed to look for the layer
    scores = evaluate(net, [], METRICS, iter([sample]))
    assert scores.maskers == ("center-box", "whole-image", "random", "grad-cam")
    assert len(scores.rows) == 40
    assert not scores.failures(), (
        "the model is watched while it answers: an answer from memory would not do"
    )


def test_the_whole_image_is_queried_once_for_all_maskers(sample):
    black_box = Counting(PlantedEvidence())
    evaluate(black_box, [], METRICS, sample, batch_size=5)
    assert black_box.num_images == 10


def test_a_stopped_run_is_resumed(black_box, sample, tmp_path):
    whole = run(black_box, sample, output_dir=tmp_path / "whole")

    def stop(row, done, total):
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(black_box, sample, output_dir=tmp_path / "run", on_row=stop)
    (rows,) = (tmp_path / "run").glob("rows-0-*.jsonl")
    text = rows.read_bytes()
    rows.write_bytes(text[: -len(text.splitlines()[-1]) // 2])  # a disk that was damaged
    seen = []
    again = run(
        black_box,
        sample,
        output_dir=tmp_path / "run",
        on_row=lambda row, done, total: seen.append((row.key, done, total)),
    )
    assert facts(again) == facts(whole)
    assert (tmp_path / "run" / "table.csv").read_bytes() == (
        tmp_path / "whole" / "table.csv"
    ).read_bytes()
    assert seen[-1][1:] == (40, 40)
    assert len(seen) < 33
    seen.clear()
    run(black_box, sample, output_dir=tmp_path / "run", on_row=lambda *it: seen.append(it))
    assert not seen, "what is finished is not done again"


def slowly(sample, out, waits=False):
    """A run that one can stop; that `waits` does so once it has written something."""
    torch.set_num_threads(1)

    def on_row(*_):
        time.sleep(60 if waits and any(out.glob("rows-*.jsonl")) else 0.01)

    run(PlantedEvidence(), sample, output_dir=out, on_row=on_row, report_images=2)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_same_table(
    black_box, sample, tmp_path, written_at_once
):
    whole = run(black_box, sample, output_dir=tmp_path / "whole", report_images=2)
    out, moments = tmp_path / "run", random.Random(0)
    fork = multiprocessing.get_context("fork")  # no import of torch in every child
    killed = 0
    for _ in range(8):
        child = fork.Process(target=slowly, args=(sample, out))
        child.start()
        time.sleep(moments.uniform(0.02, 0.12))
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            killed += 1
        child.join()
    assert killed >= 3
    assert facts(run(black_box, sample, output_dir=out, report_images=2)) == facts(whole)
    for name in ("table.csv", "table.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    kept = {p.relative_to(out) for p in out.rglob("*.png") if not p.name.startswith(".")}
    assert kept == {p.relative_to(tmp_path / "whole") for p in (tmp_path / "whole").rglob("*.png")}


def test_a_second_process_is_refused_while_the_first_one_writes(
    black_box, sample, tmp_path, written_at_once
):
    child = multiprocessing.get_context("fork").Process(
        target=slowly, args=(sample, tmp_path / "run", True)
    )
    child.start()
    try:
        deadline = time.monotonic() + 10
        while not list(tmp_path.glob("run/rows-*.jsonl")) and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(InputError, match=rf"process {child.pid} on .* is writing to"):
            run(black_box, sample, output_dir=tmp_path / "run")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert len(run(black_box, sample, output_dir=tmp_path / "run").rows) == 40, (
        "what a dead process left is taken over"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed: 0 in the directory, 1 in this call"),
        ({"classes": {"a": 1}}, "data: .*classes=1 entries"),
    ],
)
def test_other_settings_are_refused_and_named(black_box, sample, tmp_path, change, words):
    sample = Sample(sample.images[:2], sample.labels[:2])
    run(black_box, sample, output_dir=tmp_path / "run")
    with pytest.raises(InputError, match=words):
        run(black_box, sample, output_dir=tmp_path / "run", **change)
    assert run(black_box, sample, output_dir=tmp_path / "run", resume=False, **change).rows


def test_a_run_is_extended_by_further_maskers_and_images(black_box, sample, tmp_path):
    pairs = [(image, int(label)) for image, label in zip(sample.images, sample.labels, strict=True)]

    def some(masker, out, **options):
        return evaluate(
            black_box,
            masker,
            {"area": Area()},
            pairs,
            output_dir=tmp_path / out,
            batch_size=3,
            report_images=2,
            **options,
        )

    some({"a/b": "rise:samples=8"}, "run", max_images=4)
    counted = []
    some(
        {"a:b": "occlusion:window=8,stride=8"},
        "run",
        max_images=4,
        on_row=lambda row, done, total: counted.append((row.masker, done, total)),
    )
    assert [who for who, *_ in counted] == ["a:b"] * 4
    assert counted[-1][1:] == (16, 16)
    grown = some({"a/b": "rise:samples=8"}, "run")
    assert len(grown.rows) == 4 + len(pairs) * 4  # the second masker has its four images
    once = some({"a/b": "rise:samples=8", "a:b": "occlusion:window=8,stride=8"}, "once")
    again = some({"a:b": "occlusion:window=8,stride=8"}, "run").means()
    for name, scores in once.means().items():
        assert again[name] == pytest.approx(scores)
    assert {p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*.png")} == {
        Path(str(p.relative_to(tmp_path / "once"))) for p in (tmp_path / "once").rglob("*.png")
    }
    with pytest.raises(
        InputError,
        match=r"maskers \(a/b: .*samples=8.* in the directory, .*samples=9.* in this call",
    ):
        some({"a/b": "rise:samples=9"}, "run")
    with pytest.raises(InputError, match=r"metrics \(twice: none in the directory"):
        evaluate(
            black_box,
            "rise:samples=8",
            {"area": Area(), "twice": Area()},
            pairs,
            output_dir=tmp_path / "run",
        )
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["max_images"] is None
    assert settings["command"].count("&&") == 2


def test_other_images_are_refused(black_box, sample, tmp_path):
    run(black_box, sample, output_dir=tmp_path / "run")
    with pytest.raises(InputError, match="images in memory"):
        run(black_box, Sample(sample.images.flip(0), sample.labels), output_dir=tmp_path / "run")


class Moody(Masker):
    """Raises for an image, answers with NaN for another."""

    def __init__(self, raises, fails):
        self.keys = raises, fails

    def mask(self, black_box, images, labels, generator):
        keys = rng.image_keys(images).tolist()
        if self.keys[0] in keys:
            raise InputError("unsupported image")
        mask = images.new_ones(len(images), 1, 4, 4)
        if self.keys[1] in keys:
            mask[keys.index(self.keys[1])] = float("nan")
        return mask


class Picky(Area):
    def __init__(self, key):
        self.key = key

    def score(self, black_box, sample, mask, *, explain, generator):
        if self.key in rng.image_keys(sample.images).tolist():
            raise ZeroDivisionError("division by zero")
        return mask.mean((1, 2, 3))


def test_one_failing_image_does_not_affect_the_others(black_box, sample):
    keys = rng.image_keys(sample.images).tolist()
    scores = evaluate(
        black_box,
        {"moody": Moody(keys[2], keys[5])},
        {"area": Area(), "picky": Picky(keys[7])},
        sample,
        baselines=False,
    )
    reasons = {row.index: row.failure for row in scores.rows if row.failure}
    assert set(reasons) == {2, 5, 7}
    assert reasons[2] == "unsupported image"
    assert "NaN" in reasons[5]
    assert reasons[7] == "picky: ZeroDivisionError: division by zero"
    assert scores.rows[7].scores == {"area": 1.0}
    lines = {line.score: (line.n, line.missing) for line in scores.table()}
    assert lines == {"area": (8, 2), "picky": (7, 3)}


def test_a_damaged_image_is_a_row_with_its_failure(black_box, sample, tmp_path):
    for i in range(3):
        pixels = (sample.images[i].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "1.png").write_bytes(b"nothing")
    data = [(tmp_path / f"{i}.png", int(sample.labels[i])) for i in range(3)]
    from saliencykit.black_boxes.function import FunctionBlackBox

    function = FunctionBlackBox(
        lambda x: black_box(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy(),
        num_classes=4,
        size=16,
        probabilities=False,
    )
    scores = evaluate(function, "rise:samples=8", METRICS, data)
    assert not scores.rows[0].failure
    assert [row.failure is None for row in scores.rows] == [True] * 4 + [False] * 4 + [True] * 4
    assert "not an image" in scores.rows[4].failure
    assert scores.rows[4].label is None


def test_a_full_disk_is_one_error_and_finished_rows_are_kept(
    black_box, sample, tmp_path, monkeypatch, full_disk, written_at_once
):
    full_disk(lambda path, mode: "rows-0-2" in path.name and mode == "wb")
    with pytest.raises(
        SaliencyKitError,
        match=r"rows-0-\d.jsonl cannot be written: No space left on device. Finished",
    ):
        run(black_box, sample, output_dir=tmp_path / "run")
    monkeypatch.undo()
    assert len(Scores.load(tmp_path / "run").rows) >= 8
    assert facts(run(black_box, sample, output_dir=tmp_path / "run")) == facts(
        run(black_box, sample)
    )


def test_mistakes_are_named_before_anything_is_computed(black_box, sample, tmp_path):
    with pytest.raises(GradientError, match="iterative needs gradients"):
        evaluate(QueryOnly(black_box), "iterative", METRICS, sample)
    with pytest.raises(InputError, match="at least one metric"):
        evaluate(black_box, "rise", [], sample)
    with pytest.raises(InputError, match="two maskers are called 'rise'"):
        evaluate(black_box, ["rise", "rise"], METRICS, sample)
    with pytest.raises(InputError, match="seed"):
        evaluate(black_box, "rise", METRICS, sample, seed=-1)
    with pytest.raises(InputError, match="batch"):
        evaluate(black_box, "rise", METRICS, sample, batch_size=0)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        evaluate(black_box, "rise", METRICS, sample, output_dir=tmp_path / "file" / "run")


LAUNCHED = """
import sys, torch
from saliencykit.core.metric import Sample
from saliencykit.evaluation.evaluate_maskers import evaluate
from saliencykit.testing.black_boxes import PlantedEvidence
torch.set_num_threads(1)
black_box = PlantedEvidence()
sample = Sample(*black_box.examples(10, generator=torch.Generator().manual_seed(0)))
metric, options = "saliency-score", {"batch_size": 2, "output_dir": sys.argv[1]}
scores = evaluate(black_box, "rise:samples=16", metric, sample, **options)
assert len(scores.rows) == 40
"""


@pytest.mark.slow
def test_several_processes_share_the_images_and_end_with_the_same_rows(tmp_path):
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
    ]
    for start, out in (([sys.executable], "one"), (launch, "two")):
        done = subprocess.run(
            [*start, "script.py", out],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    one, two = Scores.load(tmp_path / "one"), Scores.load(tmp_path / "two")
    assert facts(one) == facts(two)
    assert (tmp_path / "one" / "table.csv").read_bytes() == (
        tmp_path / "two" / "table.csv"
    ).read_bytes()
    assert not list((tmp_path / "two").glob("rows-*")), "merged"
