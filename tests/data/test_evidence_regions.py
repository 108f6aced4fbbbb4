"""`inside`: images that say where the evidence of a decision should be."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from saliencykit import InputError, TorchBlackBox, evaluate
from saliencykit.core import Sample
from saliencykit.data.dataset import Dataset


@pytest.fixture
def black_box() -> TorchBlackBox:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, 2))
    return TorchBlackBox(
        model, mean=(0.0,) * 3, std=(1.0,) * 3, size=8, class_names=["good", "bad"]
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photos, 16 x 32: the model sees the middle half of them, at half size."""
    for name in ("good/a.jpg", "bad/b.jpg", "bad/c.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 16), (9, 99, 200)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def left_half(path: Path, size: tuple[int, int] = (32, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    region = Image.new("L", size, 0)
    region.paste(255, (0, 0, size[0] // 2, size[1]))
    region.save(path)


def test_regions_follow_the_images_through_resizing_and_cropping(
    black_box: TorchBlackBox, photos: Path, tmp_path: Path
) -> None:
    left_half(tmp_path / "regions" / "bad" / "b.png")
    left_half(tmp_path / "regions" / "a.png")  # by the file's name alone
    data = Dataset.open(photos, black_box, inside=tmp_path / "regions")
    loaded = {each.name: each.inside for each in data.load()}
    expected = (torch.arange(8) < 4).float().expand(1, 1, 8, 8)
    for name in ("good/a.jpg", "bad/b.jpg"):
        region = loaded[name]
        assert region is not None
        assert torch.allclose(region, expected, atol=0.2)  # resized without a hard border
    assert loaded["bad/c.jpg"] is None


def test_the_share_of_a_mask_inside_is_counted_by_class(
    black_box: TorchBlackBox, photos: Path, tmp_path: Path
) -> None:
    for name in ("good/a.png", "bad/b.png"):
        left_half(tmp_path / "regions" / name)
    scores = evaluate(
        black_box, "whole-image", "energy-pointing-game", photos,
        inside=tmp_path / "regions", baselines=False,
    )  # fmt: skip
    lines = scores.by_class("energy-pointing-game")
    assert {line.label_name: (round(line.mean, 2), line.n) for line in lines} == {
        "good": (0.5, 1), "bad": (0.5, 1),
    }  # fmt: skip
    with pytest.raises(InputError, match="unknown score 'x'; this evaluation has energy-pointing"):
        scores.by_class("x")


def test_a_column_of_a_table_names_regions(black_box: TorchBlackBox, photos: Path) -> None:
    left_half(photos / "r.png")
    table = photos / "table.csv"
    table.write_text("path,inside,label\ngood/a.jpg,r.png,good\nbad/b.jpg,,bad\n")
    first, second = Dataset.open(table, black_box).load()
    assert first.inside is not None
    assert second.inside is None


def test_regions_of_another_size_and_missing_folders_are_refused(
    black_box: TorchBlackBox, photos: Path, tmp_path: Path
) -> None:
    left_half(tmp_path / "regions" / "a.png", (16, 16))
    data = Dataset.open(photos, black_box, inside=tmp_path / "regions")
    failures = {each.name: each.failure for each in data.load()}
    assert "has another size than good/a.jpg" in str(failures["good/a.jpg"])
    assert failures["bad/b.jpg"] is None
    with pytest.raises(InputError, match="is no folder"):
        Dataset.open(photos, black_box, inside=tmp_path / "none")


def test_a_sample_checks_its_regions() -> None:
    images, labels = torch.rand(2, 3, 8, 8), torch.tensor([0, 1])
    with pytest.raises(InputError, match=r"Sample\.inside"):
        Sample(images, labels, inside=torch.rand(2, 1, 4, 4))


def test_regions_of_a_sample_reach_the_metric(black_box: TorchBlackBox) -> None:
    region = (torch.arange(8) < 2).float().expand(3, 1, 8, 8)
    sample = Sample(torch.rand(3, 3, 8, 8), torch.tensor([0, 1, 1]), inside=region)
    scores = evaluate(
        black_box, "whole-image", "energy-pointing-game", sample, baselines=False, batch_size=2
    )
    assert scores.means()["whole-image"]["energy-pointing-game"] == pytest.approx(0.25)
