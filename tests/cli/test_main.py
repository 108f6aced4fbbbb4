"""The command line, as a user meets it: output, exit codes, one line per mistake."""

import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit.cli.main import main
from saliencykit.testing.part_images import machine_parts

RUN = [sys.executable, "-m", "saliencykit"]
Command = Callable[..., tuple[int, str, str]]


def run(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "160"} | env
    return subprocess.run(
        [*RUN, *args],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_explain_without_arguments_explains_the_demo_photo_offline(
    tmp_path: Path, command: Command
) -> None:
    code, out, err = command("explain")
    assert code == 0, err
    assert "espresso" in out
    assert "model: demo, 200 classes, 80 px; use --model for yours\n" in out
    assert re.search(r"^kept \d\d\.\d%, dropped \d\.\d%: this region alone", out, re.MULTILINE)
    with Image.open(tmp_path / "explanation" / "overlay-0000.png") as overlay:
        assert overlay.size == (480, 380)
    assert {p.name for p in (tmp_path / "explanation").iterdir()} == {
        "manifest.json", "maps.safetensors", "overlay-0000.png", "image-0000.png",
    }  # fmt: skip


def test_json_is_the_only_output_on_stdout(tmp_path: Path, command: Command) -> None:
    Image.new("RGB", (70, 50), (90, 120, 30)).save(tmp_path / "a.png")
    options = ("--masker", "rise:samples=16", "--label", "3", "--json", "--output", "here")
    code, out, err = command("explain", "a.png", *options)
    assert code == 0, err
    facts = json.loads(out)
    (row,) = facts["images"]
    assert row["image"] == "a.png"
    assert row["label"] == 3
    assert 0 <= row["dropped"] <= 1
    assert facts["provenance"]["seed"] == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("missing.png",), "missing.png"),
        (("empty.png",), "empty.png"),
        (("truncated.png",), "truncated.png"),
        (("--label", "200"), "outside 0..199"),
        (("--label", "tabbby"), "Did you mean"),
        (("--label", "²"), "no class is called '²'"),
        (("x" * 300,), "cannot be read or written: File name too long"),
        (("--masker", "rize"), "Did you mean 'rise'"),
        (("--masker", "rise:sample=3"), "options are"),
        (("--masker", "rise:samples=0"), "samples"),
        (("--alternative", "fog"), "unknown alternative 'fog'"),
        (("--model", "resnet18"), "unknown model 'resnet18'"),
        (("--model", "timm:resnet1818"), "resnet1818"),
        (("--model", "torchvision:resnet1818"), "resnet1818"),
        (("--device", "cuda:99"), "--device cuda:99"),
        (("--output", "file/below"), "cannot write to"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2_and_nothing_is_written(
    args: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (70, 50)).save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "truncated.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    (tmp_path / "file").write_text("in the way")
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["saliencykit", "explain", *args])
    monkeypatch.setenv("SALIENCYKIT_TRACEBACK", "1")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own
    with pytest.raises(SystemExit) as stop:
        main()
    written = capsys.readouterr().err
    assert stop.value.code == 2, written
    lines = [line for line in written.splitlines() if not line.startswith("Warning")]
    assert len(lines) == 1, written
    assert words in lines[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == before


SMALL = "timm:test_resnet,pretrained=false"  # random weights, 160 px


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve small images, one of them in a folder below, and one that is damaged."""
    pytest.importorskip("accelerate")
    pytest.importorskip("timm")
    images, _, _ = machine_parts(12, generator=torch.Generator().manual_seed(0), size=32)
    below = tmp_path / "parts" / "more"
    below.mkdir(parents=True)
    for i, image in enumerate(images):
        pixels = (image.permute(1, 2, 0) * 255).to(torch.uint8).numpy()
        Image.fromarray(pixels).save((below if i == 11 else below.parent) / f"part-{i:02}.png")
    (below.parent / "damaged.png").write_bytes((below / "part-11.png").read_bytes()[:200])
    return tmp_path


def fit_in_this_process(monkeypatch: pytest.MonkeyPatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["saliencykit", "fit", *args])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own
    main()


@pytest.mark.slow
def test_fit_writes_a_masker_that_explain_takes(folder: Path) -> None:
    train = (
        "fit",
        "--model",
        SMALL,
        "--data",
        "parts",
        "--output",
        "mine.safetensors",
        "--steps",
        "2",
    )
    done = run(*train, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "fit leaves out 1 of 13 images: 'parts/damaged.png' cannot be read" in done.stderr
    assert "10 images of 160x160 on cpu; encoder trunk" in done.stderr
    assert "held-out images (2): area" in done.stdout
    assert (
        f"next: saliencykit explain PHOTO --model {SMALL} --masker mine.safetensors" in done.stdout
    )
    log = [
        json.loads(line)
        for line in (folder / "mine-training" / "log.jsonl").read_text().splitlines()
    ]
    kinds = [next(iter(row)) for row in log]
    assert set(kinds[:-1]) == {"step", "distillation"}
    assert kinds[-1] == "final"
    assert (folder / "mine-training" / "state.safetensors").exists()
    found = run(
        "explain",
        "parts/part-00.png",
        "--model",
        SMALL,
        "--masker",
        "mine.safetensors",
        "--json",
        cwd=folder,
    )
    assert found.returncode == 0, found.stderr
    assert "RealTimeMasker(TrunkEncoder" in json.loads(found.stdout)["provenance"]["masker"]
    assert "another model" not in found.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ("--data", "parts", "--output", "mine.pt"),
            "--output must be a file that ends in .safetensors; got 'mine.pt'",
        ),
        (("--data", "missing"), "'missing' is not a folder"),
        (("--data", "empty"), "there are no images in 'empty'"),
        (
            ("--data", "parts/more"),
            "at least 4 images that can be read; hundreds are better. Got 1",
        ),
        (("--data", "parts", "--objective", "papr"), "Did you mean 'paper'"),
        (("--data", "parts", "--area", "30"), "area=30.0) takes a number in (0, 1)"),
        (("--data", "parts", "--mixed-precision", "fp8"), "'no' or 'bf16'"),
        (
            ("--data", "parts", "--encoder", "resnet50"),
            "encoder='resnet50': expected 'auto', 'trunk', 'paper', 'own'",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:fit leaves out 1 of 13 images")
def test_a_mistake_in_fit_is_one_line_with_exit_code_2(
    args: tuple[str, ...],
    words: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SALIENCYKIT_TRACEBACK", "1")
    with pytest.raises(SystemExit) as stop:
        fit_in_this_process(monkeypatch, "--model", SMALL, "--steps", "2", *args)
    written = capsys.readouterr()
    assert stop.value.code == 2, written.err
    errors = [line for line in written.err.splitlines() if line.startswith("Error")]
    assert len(errors) == 1, written.err
    assert words in errors[0]
    assert written.out == ""
    assert not list(folder.glob("*.safetensors"))


def test_an_interrupted_fit_tells_how_to_resume(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **options: Path) -> None:
        options["checkpoint_dir"].mkdir()
        (options["checkpoint_dir"] / "state.safetensors").touch()
        raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr("saliencykit.training.fit_masker.fit", interrupted)
    with pytest.raises(SystemExit) as stop:
        fit_in_this_process(monkeypatch, "--data", "parts")
    assert stop.value.code == 130
    assert capsys.readouterr().err.splitlines() == [
        "Run the same command again to resume from the last checkpoint in masker-training.",
        "Interrupted.",
    ]


def test_plugins_and_doctor_list_what_is_installed(command: Command) -> None:
    code, listed, err = command("plugins", "list")
    assert code == 0, err
    for name in (
        "saliencykit/rise",
        "saliencykit/blur",
        "saliencykit/timm",
        "saliencykit/area",
        "saliencykit/saliency-score",
    ):
        assert name in listed
    code, health, _ = command("doctor")
    assert code == 0, health
    for word in ("python", "torch", "devices", "demo model"):
        assert word in health


@pytest.mark.slow
def test_a_broken_plugin_is_reported_and_breaks_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('made to fail')\n")
    info = tmp_path / "broken_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[saliencykit]\nbroken = broken_plugin\n")
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(tmp_path)])
    listed = run("plugins", "list", cwd=tmp_path, PYTHONPATH=path)
    assert listed.returncode == 0
    assert "made to fail" in listed.stdout
    assert "saliencykit/rise" in listed.stdout
    health = run("doctor", cwd=tmp_path, PYTHONPATH=path)
    assert health.returncode == 1
    assert "made to fail" in health.stdout
    quiet = run("doctor", cwd=tmp_path, PYTHONPATH=path, SALIENCYKIT_DISABLE="broken")
    assert quiet.returncode == 0
    fine = run("explain", "--masker", "whole-image", cwd=tmp_path, PYTHONPATH=path)
    assert fine.returncode == 0
    assert "made to fail" in fine.stderr


def test_a_bug_is_one_line_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("saliencykit.cli.main.app", lambda **_: 1 / 0)
    monkeypatch.delenv("SALIENCYKIT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert "SALIENCYKIT_TRACEBACK=1" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(130)], ids=repr)
def test_an_interrupt_is_reported(
    stop: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(**_: object) -> None:
        raise stop

    monkeypatch.setattr("saliencykit.cli.main.app", interrupted)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def test_the_version_is_printed(tmp_path: Path) -> None:
    import saliencykit

    assert run("--version", cwd=tmp_path).stdout.strip() == saliencykit.__version__


def test_only_one_of_several_processes_prints_and_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(*_: object, **options: object) -> None:
        warnings.warn("said by all of them", stacklevel=2)
        options["on_message"]("news")

    monkeypatch.chdir(folder)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("saliencykit.training.fit_masker.fit", trained)
    with warnings.catch_warnings(), pytest.raises(SystemExit) as stop:
        fit_in_this_process(monkeypatch, "--data", "parts")
    assert stop.value.code == 0
    assert capsys.readouterr() == ("", "")
    assert not (folder / "masker.safetensors").exists()
