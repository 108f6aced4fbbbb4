"""Views of the training images, and a cache of their labels and features, which training never
changes.
"""

from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.data.training_images import TrainingImages
from saliencykit.maskers.realtime.encoder import Encoder, Features
from saliencykit.networks.feature_map import FeatureMap
from saliencykit.networks.forward_hooks import hooked
from saliencykit.training.absent_labels import absent_labels

FILLS = 2  # fills per view: one for the kept and one for the dropped image
_CHUNK = 16


@final
@dataclass(frozen=True)
class Views:
    """Random crops and flips of the training images, determined by the seed, the image and the
    number of the view.

    Attributes:
        sources: The training images.
        source: (V,) the index of each view's training image.
        view: (V,) the number of the view of that image; 0 is the whole image.
        seed: Random seed of the crops.
    """

    sources: TrainingImages
    source: Tensor
    view: Tensor
    seed: int

    def __len__(self) -> int:
        """V, the number of views."""
        return len(self.source)

    def images(self, index: Tensor) -> Images:
        """Raw pixels in [0, 1] of some views."""
        source, view = self.source[index], self.view[index]
        rows = []
        for image, *key in zip(
            self.sources.images(source), source.tolist(), view.tolist(), strict=True
        ):
            seed = hash((self.seed, *key)) & (2**62 - 1)
            rows.append(image if key[1] == 0 else _crop(image, Generator().manual_seed(seed)))
        return torch.stack(rows)


def make_views(images: TrainingImages, *, views: int, most: int, seed: int) -> Views:
    """The first `views` views of every image, at most `most` in all: whole images first, then
    crops.
    """
    order = torch.randperm(len(images), generator=Generator().manual_seed(seed), device="cpu")
    source = order.repeat(views)[:most]
    view = torch.arange(views, device="cpu").repeat_interleave(len(images))[:most]
    return Views(images, source, view, seed)


def _crop(image: Tensor, generator: Generator) -> Tensor:
    """A random crop of 40 to 100 % of the area at the size of the image, flipped half the time."""
    numbers = torch.rand(5, generator=generator, dtype=torch.float32, device="cpu")
    area, x, y, flip, aspect = numbers.tolist()
    height, width = image.shape[1:]
    share = (0.4 + 0.6 * area) ** 0.5
    stretch = (4 / 3) ** (aspect - 0.5)
    down = max(4, round(height * min(1, share * stretch)))
    across = max(4, round(width * min(1, share / stretch)))
    top, left = round(y * (height - down)), round(x * (width - across))
    part, size = image[None, :, top : top + down, left : left + across], (height, width)
    part = F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)[0]
    part = part.clamp(0, 1)
    return part.flip(2) if flip < 0.5 else part


@final
@dataclass(frozen=True)
class Cache:
    """The labels and features of every view, in half precision.

    Attributes:
        views: The views.
        labels: (V,) the class to explain: the user's label, or the classifier's top class; of
            independent labels any that it affirms.
        absent: (V, K) bool, the labels that it denies; None where classes exclude each other.
        maps: The encoder's feature maps, one tensor (V, C, h, w) per scale; empty if the encoder
            is trained.
        mixing: The classifier's feature maps at the split layer, of the view and of its fills,
            (V, 1 + FILLS, C, h, w); None without feature mixing.
    """

    views: Views
    labels: Tensor
    absent: Tensor | None
    maps: tuple[Tensor, ...]
    mixing: Tensor | None

    def features(self, index: Tensor, device: torch.device) -> Features | None:
        """The encoder's features of some views, or None if they are not cached."""
        if not self.maps:
            return None
        height, width = self.views.sources.pixels.shape[2:]
        maps = tuple(m[index].to(device).float() for m in self.maps)
        return Features(maps, None, (height, width))


def bytes_per_view(encoder: Encoder, feature_map: FeatureMap | None) -> int:
    """The memory that one cached view takes, in bytes."""
    values = 0
    if not encoder.trained:
        values += sum(c * prod(s) for c, s in zip(encoder.channels, encoder.sides, strict=True))
    if feature_map is not None:
        values += (1 + FILLS) * feature_map.channels * prod(feature_map.side)
    return 2 * values


def fill_cache(
    views: Views,
    black_box: BlackBox,
    encoder: Encoder,
    feature_map: FeatureMap | None,
    alternative: Alternative,
) -> Cache:
    """Query the black box with every view, and run its layers up to the split for each fill.

    Args:
        views: The views.
        black_box: An optimized copy.
        encoder: Its feature maps are cached unless it is trained.
        feature_map: The split layer for feature mixing, or None.
        alternative: Drawn FILLS times for each view.
    """
    stores: list[Tensor] = []  # allocated once: there is no memory for the parts and the whole
    labels, absent = torch.empty(len(views), dtype=torch.int64, device="cpu"), list[Tensor]()
    generator = Generator().manual_seed(views.seed)
    for index in torch.split(torch.arange(len(views), device="cpu"), _CHUNK):
        images = views.images(index).to(black_box.device)
        parts: list[Tensor] = []
        with torch.no_grad():
            features = None if encoder.trained else encoder.encode(black_box, images)
            logits = (
                black_box(images) if features is None else features.logits_of(black_box, images)
            )
            parts += [] if features is None else features.maps
            if feature_map is not None:
                batches = [images]
                batches += [alternative(images, generator=generator) for _ in range(FILLS)]
                until = [maps_until(black_box, batch, feature_map) for batch in batches]
                parts.append(torch.stack(until, 1))
        stores = stores or [
            torch.empty(len(views), *part.shape[1:], dtype=torch.float16, device="cpu")
            for part in parts
        ]
        for store, part in zip(stores, parts, strict=True):
            store[index] = half_precision(part)
        if (denied := absent_labels(logits, black_box.output)) is not None:
            absent.append(denied)
        labels[index] = (
            _affirmed(logits, denied, generator)
            if views.sources.labels is None
            else views.sources.labels[views.source[index]]
        )
    mixing = None if feature_map is None else stores.pop()
    return Cache(views, labels, torch.cat(absent) if absent else None, tuple(stores), mixing)


def _affirmed(logits: Tensor, denied: Tensor | None, generator: Generator) -> Tensor:
    """The top classes; of independent labels any of those that are affirmed, if there are any."""
    top = logits.argmax(1).cpu()
    if denied is None:
        return top
    affirmed = (~denied).scatter(1, top[:, None], True)
    return torch.multinomial(affirmed.float(), 1, generator=generator)[:, 0]


def maps_until(black_box: BlackBox, images: Images, feature_map: FeatureMap) -> Tensor:
    """The feature maps of one layer; the layers after it do not run."""
    rows: list[Tensor] = []

    def stop(module: Any, given: Any, output: Tensor) -> None:
        rows.append(feature_map.read(output, images.shape[2:]).clone())
        raise _StopForwardError

    with hooked(black_box, [feature_map.name], lambda _: stop) as own:
        for chunk in torch.split(images, black_box.max_batch_size or len(images)):
            with suppress(_StopForwardError):
                own(chunk)
    return torch.cat(rows)


class _StopForwardError(BaseException):
    """Ends a forward pass early; not an Exception, so that no model catches it as an error."""


def half_precision(maps: Tensor) -> Tensor:
    """Feature maps on the CPU in half precision, without infinities."""
    return maps.clamp(-65504, 65504).to(torch.float16).cpu()
