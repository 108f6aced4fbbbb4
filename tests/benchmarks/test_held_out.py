import ast
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.held_out import Road
from saliencykit.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = r"from benchmarks\.(cifar10|data|split) import [\w, ]+$"
"""What recipes take from here: which photos are for training, and the classifiers."""


def generator():
    return torch.Generator().manual_seed(0)


def test_nothing_that_is_shipped_or_trained_refers_to_the_held_out_alternatives():
    sources = [
        path for folder in ("saliencykit", "plugins") for path in (ROOT / folder).rglob("*.py")
    ]
    sources = [
        path
        for path in sources
        if path != ROOT / "saliencykit" / "metrics" / "held_out_alternatives.py"
    ]
    sources = [
        path
        for path in sources
        if path != ROOT / "saliencykit" / "metrics" / "held_out_area_curves.py"
    ]
    assert len(sources) > 20
    forbidden = re.compile(
        r"\bunseen\b.*import|import.*\bunseen\b|\bbenchmarks\.|(from|import)\s+benchmarks|ShuffledBlocks|\bRoad\b"
    )
    found = [
        f"{path.relative_to(ROOT)}: {line}"
        for path in sources
        for line in path.read_text().splitlines()
        if forbidden.search(line)
        and not ("recipes" in path.parts and re.match(PHOTOS, line.strip()))
    ]
    assert not found


def test_nothing_but_scoring_imputes():
    """The package has ROAD as a metric; no mask was made for its imputation either."""
    sources = [
        path for folder in ("saliencykit", "plugins") for path in (ROOT / folder).rglob("*.py")
    ]
    scoring = [ROOT / "saliencykit" / "metrics", ROOT / "saliencykit" / "registry" / "builtins.py"]
    others = [path for path in sources if not any(path.is_relative_to(one) for one in scoring)]
    assert 20 < len(others) < len(sources)
    forbidden = re.compile(
        r"metrics\.(linear_imputation|road|held_out)|metrics import "
        r"(linear_imputation|road|held_out)|\bimpute\b|RemoveAndDebias|RoadImputation"
    )
    assert not [
        str(path.relative_to(ROOT)) for path in others if forbidden.search(path.read_text())
    ]


def test_what_recipes_may_import_does_not_lead_to_the_held_out_alternatives():
    names = {"cifar10", "data", "split"}
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    for name in names:
        source = (ROOT / "benchmarks" / f"{name}.py").read_text()
        words = {
            word
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for word in re.findall(r"\w+", ast.unparse(node).partition("benchmarks")[2])
        }
        assert words & modules <= names, name


def test_the_held_out_alternatives_have_no_name_in_the_registry():
    from saliencykit.registry.manager import registry

    assert not [
        name
        for name in registry().names("alternative")
        if name.startswith("saliencykit/") and ("road" in name or "shuffle" in name)
    ]


def test_road_solves_the_published_system():
    images = torch.rand(1, 3, 6, 7, dtype=torch.float64, generator=generator())
    mask = (torch.rand(1, 1, 6, 7, generator=generator()) > 0.6).double()
    fill = Road(std=0.0)(images, generator=generator(), mask=mask)[0].numpy()
    kept = mask[0, 0].numpy() == 1
    assert np.array_equal(fill[:, kept], images[0].numpy()[:, kept])
    for y, x in zip(*np.nonzero(~kept), strict=True):
        total, weights = np.zeros(3), 0.0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy or dx) and 0 <= y + dy < 6 and 0 <= x + dx < 7:
                    weight = 1 / 12 if dy and dx else 1 / 6
                    total += weight * fill[:, y + dy, x + dx]
                    weights += weight
        assert np.allclose(fill[:, y, x], total / weights, atol=1e-9)


def test_road_adds_noise_to_removed_pixels_only():
    images = torch.full((1, 3, 32, 32), 0.5)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., :16] = 1
    fill = Road()(images, generator=generator(), mask=mask)
    assert bool((fill[..., :16] == 0.5).all())
    assert fill[..., 16:].std().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_road_leaves_the_image_alone(dtype):
    images = torch.rand(1, 3, 6, 7, dtype=dtype, generator=generator())
    before = images.clone()
    Road()(images, generator=generator(), mask=(images[:, :1] > 0.5).to(dtype))
    assert torch.equal(images, before)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_road_of_nothing_and_of_everything(value):
    images = torch.rand(2, 3, 8, 8, generator=generator())
    edit = Road(std=0.0).edit(images, torch.full((2, 1, 8, 8), value), generator())
    wanted = images if value else images.mean((2, 3), keepdim=True).expand_as(images)
    assert torch.allclose(edit, wanted)


def test_road_uses_a_soft_mask_as_a_binary_one():
    images = torch.rand(1, 3, 8, 8, generator=generator())
    soft = torch.rand(1, 1, 8, 8, generator=generator())
    edits = [Road().edit(images, mask, generator()) for mask in (soft, (soft >= 0.5).float())]
    assert torch.equal(*edits)


def test_wrong_numbers_are_refused():
    with pytest.raises(InputError):
        Road(std=-1.0)
