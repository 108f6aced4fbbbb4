"""Large images: decoded within a budget, and a row where there is no memory for them."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.data import decoding_budget, image_files
from saliencykit.data.dataset import Dataset
from saliencykit.data.decoding_budget import DecodingBudget, reduced
from saliencykit.data.image_files import open_image


def test_threads_stay_within_the_budget_and_a_larger_image_is_alone():
    budget, most, together = DecodingBudget(100), [], []

    def decode(pixels):
        with budget.block():
            budget.claim(pixels)
            most.append(budget.used)
            if pixels > 100:
                together.append(budget.used)
            time.sleep(0.002)

    sizes = [10, 60, 250, 40, 99, 1, 0, 30] * 4
    threads = [threading.Thread(target=decode, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert budget.used == 0
    assert len(most) == len(sizes)
    assert set(together) <= {250}  # zero more pixels may join it
    assert max(used for used in most if used != 250) <= 100


def test_an_error_gives_its_pixels_back(tmp_path, monkeypatch):
    budget = DecodingBudget(10)
    monkeypatch.setattr(image_files, "DECODING", budget)
    Image.new("RGB", (4, 4)).save(tmp_path / "damaged.bmp")
    (tmp_path / "damaged.bmp").write_bytes((tmp_path / "damaged.bmp").read_bytes()[:-9])
    with pytest.raises(InputError), budget.block():
        open_image(tmp_path / "damaged.bmp")
    assert budget.used == 0


def test_a_thread_may_claim_twice_and_nothing_outside_of_a_block():
    budget = DecodingBudget(10)
    budget.claim(7)
    assert budget.used == 0
    with budget.block():
        budget.claim(8)
        budget.claim(8)  # no other thread decodes: it does not wait for itself
        assert budget.used == 16
    assert budget.used == 0


def test_a_reduced_source_shows_the_mask_in_the_same_place(monkeypatch):
    monkeypatch.setattr(decoding_budget, "_SHOWN", 5000)
    image = Image.new("RGB", (400, 200))
    geometry = Geometry((200, 400), (100.0, 0.0, 300.0, 200.0), (50, 50))
    small, where = reduced(image, geometry)
    assert small.size == (100, 50)
    assert where.source_size == (50, 100)
    mask = torch.linspace(0, 1, 50).expand(1, 1, 50, 50)
    expected = torch.nn.functional.avg_pool2d(geometry.to_source(mask), 4)
    assert torch.allclose(where.to_source(mask), expected, atol=0.05)
    assert reduced(Image.new("RGB", (10, 10)), geometry) == (Image.new("RGB", (10, 10)), geometry)


def test_a_decompression_bomb_and_a_prepare_that_raises_are_rows(black_box, tmp_path, monkeypatch):
    for name, side in (("a.png", 10), ("b.png", 200), ("c.png", 11)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # b has more than twice as many
    failures = [each.failure for each in Dataset.open(tmp_path, black_box).load(num_workers=2)]
    assert [failure is None for failure in failures] == [True, False, True]
    assert "too large to be opened safely" in failures[1]

    class Raising(type(black_box)):
        def prepare(self, image):
            raise MemoryError if image.width == 11 else ValueError("odd")

    raising = [each.failure for each in Dataset.open(tmp_path, Raising(black_box.model)).load()]
    assert raising[0] == "ValueError: odd"
    assert "MemoryError" in raising[2]


LIMITED = """
import os, resource, sys, warnings
os.environ["OMP_NUM_THREADS"] = "1"
from pathlib import Path
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.demo import demo_black_box
warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
model = demo_black_box()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
saved = explain_dataset(model, folder / "images", output_dir=folder / "out", masker="center-box",
                        label="top", num_workers=2)
print([(row.name, row.failure is None) for row in saved.rows()])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's memory figures")
def test_an_image_without_memory_for_it_costs_no_other(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a", "c"):
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / f"{name}.png")
    Image.new("RGB", (13000, 13000)).save(tmp_path / "images" / "b.png")  # 507 MB
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.strip() == "[('a.png', True), ('b.png', False), ('c.png', True)]", (
        done.stderr
    )
