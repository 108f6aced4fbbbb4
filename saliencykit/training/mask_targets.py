"""MaskTargets: the masks that a network learns from in distillation."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.geometry import enlarge_boxes, tight_boxes
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Masker
from saliencykit.core.query_batches import in_batches
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.training.cache import Cache
from saliencykit.training.eval_mode import eval_mode
from saliencykit.training.pastes import Layouts

_ENERGY = 0.7  # of the teacher's sum: where its soft mask is 0.5
_STEEP = 4.0  # the soft mask is sigmoid(4 (value / threshold - 1)): 0.02 at zero
_SMALL = 0.35  # of the image: masks of smaller areas are made again in a window around them
_MARGIN = 0.3  # of the sides of the mask's box: what its window adds
_LEAST, _MOST = 0.3, 0.8  # of the side and of the area of the image: the size of a window
_CHUNK = 16


@final
@dataclass(frozen=True)
class MaskTargets:
    """The means of a teacher's masks and the network's own.

    With `windows=True` those of small objects are made again in a window around them.

    Args:
        teacher: Any masker that works with this classifier.
        network: Runs in eval mode; its own mode is restored.
        black_box: The classifier.
    """

    teacher: Masker
    network: MaskingNetwork
    black_box: BlackBox

    def of_views(self, cache: Cache, candidates: Tensor, *, windows: bool) -> Mask:
        """For the views, (V, 1, h, w) in half precision; 0 for those that are no candidates.

        Args:
            cache: The views with their features.
            candidates: (n,) numbers of views.
            windows: See above.
        """
        side = self.network.decoder.side
        targets = torch.zeros(len(cache.views), 1, *side, dtype=torch.float16, device="cpu")
        with eval_mode(self.network):
            for index in torch.split(candidates, _CHUNK):
                features = cache.features(index, self.black_box.device)
                assert features is not None  # there is no distillation without cached features
                images, labels = cache.views.images(index), cache.labels[index]
                masks = self._mean(images, labels, self._own(features, labels), windows=windows)
                targets[index] = masks.half()
        return targets

    def of_images(self, images: Images, labels: Labels, *, windows: bool) -> Mask:
        """For images without cached features, (N, 1, h, w).

        Args:
            images: (N, C, H, W).
            labels: (N,).
            windows: See above.
        """
        masks = []
        with eval_mode(self.network):
            for some, own in in_batches(_CHUNK, images, labels):
                known = self._own(self._encoded(some), own)
                masks.append(self._mean(some, own, known, windows=windows))
        return torch.cat(masks)

    @torch.no_grad()
    def _encoded(self, images: Images) -> Features:
        return self.network.encoder.encode(self.black_box, images.to(self.black_box.device))

    @torch.no_grad()
    def _own(self, features: Features, labels: Labels) -> Mask:
        masks: Mask = self.network(features, labels.to(self.black_box.device))[0]
        return masks.cpu()

    def _mean(self, images: Images, labels: Labels, own: Mask, *, windows: bool) -> Mask:
        """The mean of the teacher's masks and the network's, `own`."""
        side = self.network.decoder.side
        taught = teacher_masks(self.teacher, self.black_box, images, labels).cpu()
        both = (resize_maps(taught, side) + resize_maps(own, side)) / 2
        rows, boxes = small_windows(own, (images.shape[2], images.shape[3]))
        if windows and len(rows):
            parts, classes = enlarge_boxes(images[rows], boxes), labels[rows]
            own = self._own(self._encoded(parts), classes)
            closer = self._mean(parts, classes, own, windows=False)
            corners = boxes[:, [1, 0, 3, 2]] / torch.tensor(images.shape[2:] * 2, device="cpu")
            first = torch.zeros(len(rows), 1, dtype=torch.int64, device="cpu")
            both[rows] = Layouts(first, corners[:, None]).compose(closer[:, None], side)
        return both


def teacher_masks(teacher: Masker, black_box: BlackBox, images: Images, labels: Labels) -> Mask:
    """Soft masks of a teacher: 0.5 where the pixels that hold 70 % of its sum end.

    Args:
        teacher: Any masker.
        black_box: The classifier.
        images: (B, C, H, W).
        labels: (B,).

    Raises:
        InputError: The teacher does not work with this classifier.
    """
    masks = []
    for some, own in in_batches(_CHUNK, images, labels):
        given = some.to(black_box.device), own.to(black_box.device)
        masks.append(soft_masks(teacher(black_box, *given, generator=Generator().manual_seed(0))))
    return torch.cat(masks)


def soft_masks(maps: Mask) -> Mask:
    """Sigmoids around the value that the pixels with 70 % of each map's sum reach.

    Args:
        maps: (B, 1, h, w), >= 0; an empty one stays empty.
    """
    ranked = maps.flatten(1).sort(1, descending=True).values
    sums = ranked.double().cumsum(1)
    last = torch.searchsorted(sums, _ENERGY * sums[:, -1:]).clamp_max(ranked.shape[1] - 1)
    threshold = ranked.gather(1, last).clamp_min(1e-6)[:, :, None, None]
    return (_STEEP * (maps / threshold - 1)).sigmoid()


def small_windows(masks: Mask, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The masks of small objects, and a window around each.

    Args:
        masks: (B, 1, h, w) in [0, 1].
        size: Height and width of the images.

    Returns:
        The rows of these masks (n,), and their windows (n, 4): x0, y0, x1, y1 in pixels.
    """
    height, width = size
    sides = torch.tensor([width, height], dtype=torch.float32, device="cpu")
    grid = sides / torch.tensor([masks.shape[3], masks.shape[2]], device="cpu")
    boxes = tight_boxes(masks >= 0.5) * grid.repeat(2)
    lengths = ((1 + _MARGIN) * (boxes[:, 2:] - boxes[:, :2])).maximum(_LEAST * sides)
    lengths = lengths.minimum(sides)
    first = ((boxes[:, :2] + boxes[:, 2:] - lengths) / 2).clamp_min(0).minimum(sides - lengths)
    small = (masks >= 0.5).float().mean((1, 2, 3)) < _SMALL
    small &= lengths.prod(1) < _MOST * sides.prod()
    rows = small.nonzero().flatten()
    return rows, torch.cat([first, first + lengths], 1)[rows].round().long()
