"""Cache: views of the training pictures, with everything about them that does not change while the
network learns.
"""

from dataclasses import dataclass
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
from saliencykit.networks.module_layers import module_of

FILLS = 2  # draws of the alternative a view: one for the kept and one for the dropped picture
_CHUNK = 16


@final
@dataclass(frozen=True)
class Views:
    """Crops and flips of pictures: what is drawn is fixed by the seed, the picture's number and the
    view's.

    Attributes:
        pictures: What they are views of.
        picture: (V,) which picture.
        view: (V,) which view of it; 0 is the whole picture.
        seed: Of the crops.
    """

    pictures: TrainingImages
    picture: Tensor
    view: Tensor
    seed: int

    def __len__(self) -> int:
        """V."""
        return len(self.picture)

    def images(self, index: Tensor) -> Images:
        """Raw pixels in [0, 1] of some views."""
        whole = self.pictures.images(self.picture[index])
        rows = []
        for image, picture, view in zip(
            whole, self.picture[index].tolist(), self.view[index].tolist(), strict=True
        ):
            rows.append(
                image
                if view == 0
                else _crop(
                    image, Generator().manual_seed(hash((self.seed, picture, view)) & (2**62 - 1))
                )
            )
        return torch.stack(rows)


def make_views(pictures: TrainingImages, *, views: int, most: int, seed: int) -> Views:
    """The first `views` views of every picture, at most `most` in all: whole pictures first, then
    crops.
    """
    order = torch.randperm(len(pictures), generator=Generator().manual_seed(seed))
    picture = order.repeat(views)[:most]
    view = torch.arange(views).repeat_interleave(len(pictures))[:most]
    return Views(pictures, picture, view, seed)


def _crop(image: Tensor, generator: Generator) -> Tensor:
    """At random: a crop of 40 to 100 % of the area at the old size, and half of them flipped."""
    area, x, y, flip, aspect = torch.rand(5, generator=generator).tolist()
    height, width = image.shape[1:]
    share = (0.4 + 0.6 * area) ** 0.5
    stretch = (4 / 3) ** (aspect - 0.5)
    down, across = (
        max(4, round(height * min(1, share * stretch))),
        max(4, round(width * min(1, share / stretch))),
    )
    top, left = round(y * (height - down)), round(x * (width - across))
    part = image[None, :, top : top + down, left : left + across]
    part = F.interpolate(
        part, size=(height, width), mode="bilinear", align_corners=False, antialias=True
    )[0].clamp(0, 1)
    return part.flip(2) if flip < 0.5 else part


@final
@dataclass(frozen=True)
class Cache:
    """What is known of every view, in half precision.

    Attributes:
        views: The views.
        labels: (V,) the class asked about: the user's, or the box's own top class of that view.
        maps: The encoder's maps, one tensor (V, C, h, w) per scale; empty where the encoder is
            trained.
        mixing: The box's maps at the layer of late mixing, of the view and of its fills, (V, 1 +
            FILLS, C, h, w); None without.
    """

    views: Views
    labels: Tensor
    maps: tuple[Tensor, ...]
    mixing: Tensor | None

    def features(self, index: Tensor, device: torch.device) -> Features | None:
        """The encoder's features of some views, or None where they are not kept."""
        if not self.maps:
            return None
        height, width = self.views.pictures.pixels.shape[2:]
        return Features(
            tuple(m[index].to(device).float() for m in self.maps), None, (height, width)
        )


def bytes_per_view(encoder: Encoder, feature_map: FeatureMap | None) -> int:
    """How much memory one cached view takes."""
    kept = (
        0
        if encoder.trained
        else sum(c * s[0] * s[1] for c, s in zip(encoder.channels, encoder.sides, strict=True))
    )
    return 2 * (
        kept
        + (
            0
            if feature_map is None
            else (1 + FILLS) * feature_map.channels * feature_map.side[0] * feature_map.side[1]
        )
    )


def fill_cache(
    views: Views,
    black_box: BlackBox,
    encoder: Encoder,
    feature_map: FeatureMap | None,
    alternative: Alternative,
) -> Cache:
    """Ask the box about every view once, and about the beginning of the way for each fill.

    Args:
        views: The views.
        black_box: Ready for many evaluations.
        encoder: Its maps are kept unless it is trained.
        feature_map: The layer of late mixing, or None.
        alternative: Drawn FILLS times for each view.
    """
    stores: list[Tensor] = []
    mixing: Tensor | None = None
    labels = torch.empty(len(views), dtype=torch.int64)
    generator = Generator().manual_seed(views.seed)
    device = black_box.device
    for first in range(0, len(views), _CHUNK):
        index = torch.arange(first, min(first + _CHUNK, len(views)))
        images = views.images(index).to(device)
        with torch.no_grad():
            features = None if encoder.trained else encoder.encode(black_box, images)
            logits = (
                black_box(images)
                if features is None or features.logits is None
                else features.logits
            )
            if features is not None:
                if not stores:
                    stores = [
                        torch.empty(len(views), *m.shape[1:], dtype=torch.float16)
                        for m in features.maps
                    ]
                for store, m in zip(stores, features.maps, strict=True):
                    store[index] = _half(m)
            if feature_map is not None:
                fills = [alternative(images, generator=generator) for _ in range(FILLS)]
                parts = torch.stack(
                    [maps_until(black_box, pictures, feature_map) for pictures in (images, *fills)],
                    1,
                )
                if mixing is None:
                    mixing = torch.empty(len(views), *parts.shape[1:], dtype=torch.float16)
                mixing[index] = _half(parts)
        labels[index] = (
            logits.argmax(1).cpu()
            if views.pictures.labels is None
            else views.pictures.labels[views.picture[index]]
        )
    return Cache(views, labels, tuple(stores), mixing)


def maps_until(black_box: BlackBox, images: Images, feature_map: FeatureMap) -> Tensor:
    """The maps of one layer; the rest of the network does not run."""
    rows: list[Tensor] = []

    def stop(module: Any, given: Any, output: Tensor) -> None:
        rows.append(feature_map.read(output, images.shape[2:]).clone())
        raise _EnoughError

    handle = module_of(black_box).get_submodule(feature_map.name).register_forward_hook(stop)
    try:
        for chunk in torch.split(images, black_box.max_batch_size or len(images)):
            try:
                black_box(chunk)
            except _EnoughError:
                continue
    finally:
        handle.remove()
    return torch.cat(rows)


class _EnoughError(BaseException):
    """Ends a pass; no Exception, so that nobody on the way takes it for an error."""


def _half(maps: Tensor) -> Tensor:
    return maps.clamp(-65504, 65504).to(torch.float16).cpu()
