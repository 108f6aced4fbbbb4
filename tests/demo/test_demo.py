"""The embedded default: weights, card and photo."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from saliencykit.demo import DEMO_DIR, demo_black_box, demo_image


def test_the_weights_are_small_and_the_card_says_what_they_reach() -> None:
    assert (DEMO_DIR / "classifier.safetensors").stat().st_size <= 6e6
    facts = json.loads((DEMO_DIR / "classifier.json").read_text())
    assert len(facts["classes"]) == 200
    assert facts["top1"] >= 0.25
    assert f"{100 * facts['top1']:.1f} %" in (DEMO_DIR / "card.md").read_text()


def test_the_photo_is_a_cat() -> None:
    black_box = demo_black_box()
    images, geometry = black_box.prepare(demo_image())
    assert geometry.source_size == (300, 451)
    with torch.no_grad():
        shares = black_box(images).softmax(1)[0]
    names = black_box.class_names
    assert "cat" in names[int(shares.argmax())]
    assert (
        float(
            shares[
                [
                    "tabby" in name or "Persian cat" in name or "Egyptian cat" in name
                    for name in names
                ]
            ].sum()
        )
        > 0.4
    )


@pytest.mark.data
def test_the_figure_of_the_card_is_true(data_folder: Path) -> None:
    """The first 1,000 validation pictures; the card's figure is of all 10,000."""
    import numpy as np

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
