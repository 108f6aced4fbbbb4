"""The embedded default: weights, card and photo."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from saliencykit import explain
from saliencykit.core.verdict import Verdict
from saliencykit.demo import DEMO_DIR, demo_black_box, demo_image


def test_the_weights_are_small_and_the_card_says_what_they_reach() -> None:
    assert (DEMO_DIR / "classifier.safetensors").stat().st_size <= 6e6
    facts = json.loads((DEMO_DIR / "classifier.json").read_text())
    assert len(facts["classes"]) == 200
    assert facts["top1"] >= 0.25
    assert f"{100 * facts['top1']:.1f} %" in (DEMO_DIR / "card.md").read_text()


def test_the_region_of_the_photo_alone_decides() -> None:
    explanation = explain("demo", demo_image())
    assert explanation.label_names == ("espresso",)
    assert float(explanation.probability) > 0.7
    assert explanation.verdicts == (Verdict.BOTH,)
    assert float(explanation.area) < 0.35


@pytest.mark.slow
@pytest.mark.data
def test_the_verdicts_of_the_card_are_true(data_folder: Path) -> None:
    from benchmarks.verdicts import sure_images

    verdicts = explain(demo_black_box(), sure_images("val", 220)[:40]).verdicts
    assert len(verdicts) == 40
    stated = int(re.search(r"(\d+) `both`", (DEMO_DIR / "card.md").read_text())[1])
    assert abs(verdicts.count(Verdict.BOTH) - stated) <= 1  # another machine may round differently


@pytest.mark.slow
@pytest.mark.data
def test_the_figure_of_the_card_is_true(data_folder: Path) -> None:
    """The first 1,000 validation images; the card's figure is of all 10,000."""
    from benchmarks.data import Pack

    pack = Pack(data_folder / "tiny-imagenet-200" / "val.npz")
    labels = pack.labels
    chosen = np.random.default_rng(0).permutation(len(labels))[:1000]
    black_box, right = demo_black_box(), 0
    for part in np.array_split(chosen, 10):
        images = F.interpolate(
            pack.pixels(part).float() / 255,
            size=black_box.input_size,
            mode="bilinear",
            align_corners=False,
        )
        with torch.no_grad():
            right += int((black_box(images).argmax(1) == labels[part]).sum())
    facts = json.loads((DEMO_DIR / "classifier.json").read_text())
    assert abs(right / 1000 - facts["top1"]) < 0.04
