import json

import pytest
import torch

from saliencykit.core import rng
from saliencykit.core.errors import InputError
from saliencykit.storage.blocks import Blocks
from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal
from saliencykit.storage.saved_explanations import (
    FORMAT,
    VERSION,
    SavedExplanations,
    explanations_manifest,
    is_saved,
)


@pytest.fixture
def folder(tmp_path):
    """A run of two processes that is not finished."""
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT, "version": VERSION}))
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    keys = rng.image_keys(images).tolist()
    facts = {"height": 8, "width": 8}
    rows = [
        ExplainedRow(name=f"{i}.png", index=i, label=i % 2, image_key=hexadecimal(key), **facts)
        for i, key in enumerate([*keys, keys[0]])
    ]
    rows.append(ExplainedRow(name="bad.png", index=4, failure="it is damaged"))
    blocks = Blocks(tmp_path / "blocks")
    for part in (rows[:1], rows[1:3], rows[3:], rows[3:4]):
        maps = {r.index: torch.full((2, 2), 51 * r.index, dtype=torch.uint8) for r in part}
        blocks.write(part, {i: mask for i, mask in maps.items() if i < 4}, "jsonl")
    return tmp_path, keys


def test_rows_and_maps_by_name_of_a_run_that_is_not_finished(folder):
    saved = SavedExplanations.load(folder[0])
    assert len(saved) == 5
    assert "3.png" in saved
    assert "nobody" not in saved
    assert [row.index for row in saved.rows()] == [0, 1, 2, 3, 4]
    for i in range(4):
        assert saved.row(f"{i}.png").index == i
        assert torch.allclose(saved.map(f"{i}.png"), torch.full((1, 1, 2, 2), 0.2 * i))
        assert torch.allclose(saved.mask(f"{i}.png"), torch.full((1, 1, 8, 8), 0.2 * i))
    with pytest.raises(InputError, match=r"bad.png has no map: it is damaged"):
        saved.mask("bad.png")
    with pytest.raises(InputError, match="no row of 'nobody'"):
        saved.row("nobody")


def test_rows_by_their_pixels(folder):
    saved = SavedExplanations.load(folder[0])
    assert sorted(row.name for row in saved.of_pixels(folder[1][0])) == ["0.png", "3.png"]
    assert saved.of_pixels(12345) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no manifest.json"),
        ("{", "is not JSON"),
        ("[]", "expected `object`, got `array`"),
        (
            '{"format": "saliencykit-explanation"}',
            "has format saliencykit-explanation, version None; this version",
        ),
    ],
)
def test_other_manifests_are_refused(tmp_path, text, words):
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    assert not is_saved(tmp_path)
    with pytest.raises(InputError, match=words):
        explanations_manifest(tmp_path)
