"""What all tests share: one thread, hypothesis profiles, the boxes and the data folder."""

import gc
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies

from saliencykit.runs import write_buffer
from saliencykit.testing.black_boxes import PlantedEvidence

# collecting garbage among 700,000 objects of imported libraries takes half a second each time
gc.disable()


def pytest_collection_finish() -> None:
    """What was imported stays, so that the collector need not look at it during the tests."""
    gc.enable()
    given(strategies.none())(lambda _: None)()  # hypothesis < 6.140 looks who owns its random state
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)  # 700 by default: many times in each test


CHROMIUM = Path("/usr/bin/chromium")

# torch.manual_seed writes a stack trace for each kind of accelerator that is absent: milliseconds
for _accelerator in (torch.cuda, torch.xpu, torch.mtia):
    if not _accelerator.is_available():
        _accelerator.manual_seed_all = lambda seed: None

# small tensors: threads cost more than they bring, and sums come out the same everywhere
torch.set_num_threads(1)

_SLOW_MACHINES = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("quick", max_examples=8, derandomize=True, **_SLOW_MACHINES)
# pytest --hypothesis-profile=deep
settings.register_profile("deep", max_examples=500, **_SLOW_MACHINES)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Every test starts from one global random state: weights that a test draws do not depend on
    the tests before it.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def black_box() -> PlantedEvidence:
    """A differentiable box of 4 classes that takes RGB images with sides >= 4."""
    return PlantedEvidence()


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs a line of the command line in this process, in an empty directory: exit code, stdout,
    stderr.
    """
    from saliencykit.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("SALIENCYKIT_TRACEBACK", "1")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["saliencykit", *args])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


class _Full:
    """A file on a full disk: half of what is written is there."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> "_Full":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, text: Any) -> None:
        self._file.write(text[: len(text) // 2])
        self._file.flush()
        raise OSError(28, "No space left on device")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path, str], bool]], None]:
    """Fills the disk for the files that a function of path and mode names; `monkeypatch.undo()`
    makes room again.
    """
    real = Path.open

    def fill(is_full: Callable[[Path, str], bool]) -> None:
        def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
            file = real(path, mode, *args, **options)
            return _Full(file) if is_full(path, mode) else file

        monkeypatch.setattr(Path, "open", opened)

    return fill


@pytest.fixture
def written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write every batch of results as soon as it is there."""
    monkeypatch.setattr(write_buffer, "SECONDS", 0.0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def examples(black_box, generator):
    """Four images of 16x16 with their labels 0..3, one planted patch each."""
    return black_box.examples(4, generator=generator)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder with real images and trained classifiers; the test is skipped where there is none.
    Mark such tests `data`.
    """
    folder = Path(
        os.environ.get("SALIENCYKIT_DATA", Path(__file__).parents[1] / ".." / "shared" / "data")
    ).resolve()
    if not folder.is_dir():
        pytest.skip("no data folder: set SALIENCYKIT_DATA")
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Headless Chromium, driven by Playwright; the test is skipped without them. Mark such tests
    `slow`.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--use-fake-device-for-media-stream",  # a camera
                "--use-fake-ui-for-media-stream",
            ],
        )
        yield browser
        browser.close()
