"""Machine parts: synthetic photos of twelve classes with known locations, for tutorials and tests
of training.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.checks import counts
from saliencykit.core.types import Images, Labels, Mask

SHAPES = ("disc", "plate", "wedge", "ring")
SURFACES = ("plain", "striped", "dotted")
PARTS: Sequence[str] = tuple(f"{surface} {shape}" for shape in SHAPES for surface in SURFACES)
"""The class names, by label."""


def machine_parts(
    count: int, *, generator: Generator, size: int = 64
) -> tuple[Images, Labels, Mask]:
    """Photos of a part on a bench: four shapes with three surfaces, of random place, size, rotation
    and light.

    The bench is cluttered with shadows, grain and a few screws, which are no evidence for a class.

    Args:
        count: Number of images, >= 1. The labels cycle.
        generator: Everything is drawn from it.
        size: Side in pixels, >= 32.

    Returns:
        Images (count, 3, size, size) in [0, 1], labels (count,) in 0..11, and masks of the parts,
        (count, 1, size, size), 1 inside.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> images, labels, masks = machine_parts(12, generator=Generator().manual_seed(0))
        >>> images.shape, PARTS[int(labels[4])], masks.shape
        (torch.Size([12, 3, 64, 64]), 'striped plate', torch.Size([12, 1, 64, 64]))
    """
    _check("machine_parts", count, size)
    labels = torch.arange(count, device="cpu") % len(PARTS)
    images, masks = zip(*(_photo(int(label), size, generator) for label in labels), strict=True)
    return torch.stack(images), labels, torch.stack(masks)


def empty_benches(count: int, *, generator: Generator, size: int = 64) -> Images:
    """Photos of the bench of `machine_parts` with no part on it.

    Args:
        count: Number of images, >= 1.
        generator: Everything is drawn from it.
        size: Side in pixels, >= 32.

    Returns:
        (count, 3, size, size) in [0, 1].

    Raises:
        InputError: A number is out of range.

    Example:
        >>> empty_benches(2, generator=Generator().manual_seed(0)).shape
        torch.Size([2, 3, 64, 64])
    """
    _check("empty_benches", count, size)
    return torch.stack([_grainy(_bench(size, generator), generator) for _ in range(count)])


def _check(who: str, count: int, size: int) -> None:
    counts(who, count=count)
    counts(who, 32, size=size)


def _photo(label: int, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
    shape, surface = SHAPES[label // len(SURFACES)], SURFACES[label % len(SURFACES)]
    bench = _bench(size, generator)
    ranges = ((0.32, 0.68), (0.32, 0.68), (0.17, 0.28), (0, 6.28))
    x, y, radius, angle = _between(ranges, generator)
    across, down = _rotated(size, x, y, angle)
    inside = _inside(shape, across / radius, down / radius)
    metal = 0.35 + 0.4 * _uniform((3, 1, 1), generator) + 0.15 * (across / radius)
    image = torch.where(inside, metal * _texture(surface, across / radius, down / radius), bench)
    image = _grainy(image, generator)
    return image, inside.to(image.dtype)[None]


def _grainy(image: Tensor, generator: Generator) -> Tensor:
    grain = torch.randn(image.shape, generator=generator, dtype=torch.float32, device="cpu")
    return (image + 0.03 * grain).clamp(0, 1)


def _bench(size: int, generator: Generator) -> Tensor:
    """Smooth light and shadow, and up to three screws."""
    coarse = _uniform((1, 3, 4, 4), generator) * 0.35 + 0.3
    bench = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[0]
    for _ in range(int(torch.randint(4, (1,), generator=generator, device="cpu"))):
        ranges = ((0.05, 0.95), (0.05, 0.95), (0.03, 0.05))
        x, y, radius = _between(ranges, generator)
        across, down = _rotated(size, x, y, 0.0)
        screw = _uniform((3, 1, 1), generator) * 0.6
        bench = torch.where(across**2 + down**2 < radius**2, screw, bench)
    return bench


def _inside(shape: str, across: Tensor, down: Tensor) -> Tensor:
    distance = (across**2 + down**2).sqrt()
    if shape == "disc":
        return distance < 1
    if shape == "ring":
        return (distance < 1) & (distance > 0.55)
    if shape == "plate":
        return (across.abs() < 0.95) & (down.abs() < 0.6)
    return (down > -0.7) & (down < 0.9 - 1.8 * across.abs())  # a wedge


def _texture(surface: str, across: Tensor, down: Tensor) -> Tensor:
    if surface == "striped":
        return 1 - 0.65 * (torch.sin(across * 14) > 0).float()
    if surface == "dotted":
        return 1 - 0.75 * ((torch.sin(across * 11) > 0.35) & (torch.sin(down * 11) > 0.35)).float()
    return torch.ones_like(across)


def _rotated(size: int, x: float, y: float, angle: float) -> tuple[Tensor, Tensor]:
    grid = (torch.arange(size, device="cpu") + 0.5) / size
    right, down = grid[None, :] - x, grid[:, None] - y
    turn = torch.tensor(angle, dtype=torch.float32, device="cpu")
    cos, sin = turn.cos(), turn.sin()
    return right * cos + down * sin, down * cos - right * sin


def _uniform(shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")


def _between(ranges: Sequence[tuple[float, float]], generator: Generator) -> list[float]:
    return [low + (high - low) * float(_uniform((1,), generator)) for low, high in ranges]
