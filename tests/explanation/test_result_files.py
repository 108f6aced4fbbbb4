"""Explanations on disk."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit import Explanation, InputError, TorchBlackBox, explain
from saliencykit.reports.report_files import write_report


@pytest.fixture
def answer() -> Explanation:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 4))
    black_box = TorchBlackBox(
        model, mean=(0.0,) * 3, std=(1.0,) * 3, size=8, class_names=["a", "b", "c", "d"]
    )
    images = [Image.new("RGB", (20, 10), (200, 30, 10)), Image.new("L", (9, 9), 90)]
    return explain(black_box, images, masker="rise:samples=16")


def test_what_was_saved_is_loaded(answer: Explanation, tmp_path: Path) -> None:
    assert answer.save(tmp_path / "new" / "place") == tmp_path / "new" / "place"
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.rglob("*") if path.is_file()}
    assert len(modes) == 1, "others may read them, as any other file"
    again = Explanation.load(tmp_path / "new" / "place")
    for name in ("images", "labels", "mask", "logits", "preserved", "destroyed", "attributions"):
        assert torch.equal(getattr(again, name), getattr(answer, name)), name
    assert again.class_names == answer.class_names
    assert again.geometries == answer.geometries
    assert again.provenance == json.loads(json.dumps(answer.provenance, default=str))
    assert [p.size for p in again.source_images] == [(20, 10), (9, 9)]
    assert list(again.overlay(0).getdata())[:50] == list(answer.overlay(0).getdata())[:50]
    names = sorted(p.name for p in (tmp_path / "new" / "place").iterdir())
    assert names == [
        "image-0000.png", "image-0001.png", "manifest.json", "maps.safetensors",
        "overlay-0000.png", "overlay-0001.png",
    ]  # fmt: skip


def test_a_failure_while_writing_leaves_what_was_there(
    answer: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(self: Image.Image, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        answer.save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written_is_refused(answer: Explanation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write to"):
        answer.save(tmp_path / "file" / "below")


@pytest.mark.parametrize(
    "damage",
    [
        "missing",
        "no json",
        "other format",
        "newer",
        "truncated maps",
        "wrong rows",
        "missing image",
    ],
)
def test_what_is_damaged_is_named(answer: Explanation, tmp_path: Path, damage: str) -> None:
    answer.save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    if damage == "missing":
        os.remove(tmp_path / "manifest.json")
    elif damage == "no json":
        (tmp_path / "manifest.json").write_text("{")
    elif damage in ("other format", "newer"):
        manifest |= {"format": "x"} if damage == "other format" else {"version": 99}
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    elif damage == "truncated maps":
        (tmp_path / "maps.safetensors").write_bytes(
            (tmp_path / "maps.safetensors").read_bytes()[:100]
        )
    elif damage == "wrong rows":
        from safetensors.torch import load_file, save_file

        tensors = load_file(tmp_path / "maps.safetensors")
        save_file(tensors | {"mask": tensors["mask"][:1].clone()}, tmp_path / "maps.safetensors")
    else:
        os.remove(tmp_path / "image-0000.png")
    words = "mask returned shape" if damage == "wrong rows" else str(tmp_path)
    with pytest.raises(InputError, match=words):
        Explanation.load(tmp_path)


def test_a_place_at_home(
    answer: Explanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert answer.save("~/cat") == tmp_path / "cat"
    assert len(Explanation.load("~/cat")) == len(answer)
    assert write_report(answer, "~/cat.html") == tmp_path / "cat.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cat", "cat.html"]
