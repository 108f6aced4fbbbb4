"""Pastes: training images shown small on others and in mosaics, where what is right is known."""

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.output import probability
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.realtime.encoder import Encoder, Features
from saliencykit.training.cache import Cache, half_precision

_SCALES = (0.3, 0.7)  # of the side: of a pasted image
_MOSAIC_RATE = 0.25  # of the composed images
_SEEN = 0.1  # probability of a class that the classifier still sees, if there are ten or more
_MOST_TRIED = 3  # composed images that are tried for each one that is wanted
_CHUNK = 16


@final
@dataclass(frozen=True)
class Layouts:
    """Which views a composed image shows, and where: the later ones cover the earlier ones.

    Attributes:
        views: (C, 4) the numbers of the views; -1: none.
        places: (C, 4, 4) top, left, bottom and right of each, as fractions of the side.
    """

    views: Tensor
    places: Tensor

    def rows(self, index: Tensor) -> "Layouts":
        """Some of the composed images."""
        return Layouts(self.views[index], self.places[index])

    def compose(self, tiles: Tensor, size: tuple[int, int]) -> Tensor:
        """Composed images or masks.

        Args:
            tiles: What each view shows, (C, 4, channels, h, w).
            size: Height and width of the result.
        """
        whole = tiles.new_zeros(len(self.views), tiles.shape[2], *size)
        for row, views in enumerate(self.views.tolist()):
            for slot, view in enumerate(views):
                if view >= 0:
                    top, left, bottom, right = _pixels(self.places[row, slot], size)
                    tile, side = tiles[row, slot][None], (bottom - top, right - left)
                    whole[row, :, top:bottom, left:right] = F.interpolate(
                        tile, side, mode="bilinear", align_corners=False, antialias=True
                    )[0]
        return whole


def _pixels(place: Tensor, size: tuple[int, int]) -> tuple[int, int, int, int]:
    corners = (place * torch.tensor([*size, *size], device="cpu")).round().long()
    top, left, bottom, right = corners.tolist()
    return top, left, max(bottom, top + 1), max(right, left + 1)


def make_layouts(candidates: Tensor, count: int, generator: Generator) -> Layouts:
    """Random layouts: three quarters show one view on another at 0.3 to 0.7 of its side, the rest
    four views.

    Args:
        candidates: The numbers of the views to choose from.
        count: C.
        generator: Draws views, scales and places.
    """
    drawn = torch.randint(len(candidates), (count, 4), generator=generator, device="cpu")
    views = candidates[drawn]
    numbers = torch.rand(count, 4, generator=generator, dtype=torch.float32, device="cpu")
    mosaic = numbers[:, 0] < _MOSAIC_RATE
    low, high = _SCALES
    side = low + (high - low) * numbers[:, 1]
    corner = numbers[:, 2:] * (1 - side[:, None])
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float32, device="cpu").expand(count, 4)
    pasted = torch.cat([corner, corner + side[:, None]], 1)
    quarters = [[y, x, y + 0.5, x + 0.5] for y in (0.0, 0.5) for x in (0.0, 0.5)]
    places = torch.stack([whole, pasted, whole, whole], 1)
    places[mosaic] = torch.tensor(quarters, device="cpu")
    views[~mosaic, 2:] = -1
    return Layouts(views, places)


@final
@dataclass(frozen=True)
class Pastes:
    """Composed images with their features, and the classes in them that the classifier still sees.

    Attributes:
        layouts: Of C composed images.
        maps: The encoder's feature maps of these, one tensor (C, channels, h, w) per scale, in half
            precision.
        image: (R,) for each row to learn from, its composed image.
        label: (R,) the class of the row.
        size: Height and width of the images in pixels.
    """

    layouts: Layouts
    maps: tuple[Tensor, ...]
    image: Tensor
    label: Labels
    size: tuple[int, int]

    def __len__(self) -> int:
        """R, the number of rows."""
        return len(self.image)

    def features(self, index: Tensor, device: torch.device) -> Features:
        """The features of the images of some rows."""
        images = self.image[index]
        return Features(tuple(m[images].to(device).float() for m in self.maps), None, self.size)

    def targets(self, index: Tensor, masks: Mask, labels: Labels) -> Mask:
        """The mask of each row: the mask of the whole view, scaled down with it.

        Args:
            index: (n,) the rows.
            masks: (V, 1, h, w) of the views.
            labels: (V,) their classes.
        """
        layouts = self.layouts.rows(self.image[index])
        views = layouts.views.clamp_min(0)
        same = labels[views] == self.label[index][:, None]
        tiles = masks[views].float() * same[:, :, None, None, None]
        return layouts.compose(tiles, (masks.shape[2], masks.shape[3])).clamp(0, 1)


def make_pastes(
    cache: Cache, black_box: BlackBox, encoder: Encoder, *, count: int, seed: int
) -> Pastes | None:
    """Compose images, query the black box with them, and keep those whose classes it still sees.

    Args:
        cache: The views; only whole images are pasted.
        black_box: An optimized copy.
        encoder: Its feature maps are cached.
        count: Composed images that are wanted; up to three times as many are tried.
        seed: Random seed.

    Returns:
        None if the black box sees none of the classes.
    """
    generator = Generator().manual_seed(seed)
    candidates = (cache.views.view == 0).nonzero().flatten()
    size = (cache.views.sources.pixels.shape[2], cache.views.sources.pixels.shape[3])
    kept: list[Layouts] = []
    maps: list[list[Tensor]] = [[] for _ in encoder.channels]
    image, label, found, tried = [], [], 0, 0
    while found < count and tried < _MOST_TRIED * count:
        layouts = make_layouts(candidates, _CHUNK, generator)
        tried += _CHUNK
        features, seen = _seen(layouts, cache, black_box, encoder, size)
        use = (seen[:, 1:]).any(1).nonzero().flatten()[: count - found]
        if len(use) == 0:
            continue
        kept.append(layouts.rows(use))
        for store, m in zip(maps, features.maps, strict=True):
            store.append(half_precision(m[use.to(m.device)]))
        labels = cache.labels[layouts.views[use].clamp_min(0)]
        for row, (own, visible) in enumerate(zip(labels, seen[use], strict=True)):
            for number in sorted(set(own[visible].tolist())):
                image.append(found + row)
                label.append(number)
        found += len(use)
    if not kept:
        return None
    layouts = Layouts(torch.cat([k.views for k in kept]), torch.cat([k.places for k in kept]))
    stores = tuple(torch.cat(store) for store in maps)
    return Pastes(
        layouts, stores, torch.tensor(image, device="cpu"), torch.tensor(label, device="cpu"), size
    )


@torch.no_grad()
def _seen(
    layouts: Layouts, cache: Cache, black_box: BlackBox, encoder: Encoder, size: tuple[int, int]
) -> tuple[Features, Tensor]:
    """The features of composed images, and which of their views the black box still recognizes,
    (C, 4) bool.
    """
    views = layouts.views.clamp_min(0)
    tiles: Images = cache.views.images(views.flatten())
    images = layouts.compose(tiles.view(*views.shape, *tiles.shape[1:]), size)
    images = images.clamp(0, 1).to(black_box.device)
    features = encoder.encode(black_box, images)
    logits = features.logits_of(black_box, images)
    labels = cache.labels[views].to(logits.device)
    each = [probability(logits, own, black_box.output) for own in labels.unbind(1)]
    least = 0.5 if black_box.output == "sigmoid" else max(_SEEN, 1 / black_box.num_classes)
    return features, (torch.stack(each, 1) >= least).cpu() & (layouts.views >= 0)
