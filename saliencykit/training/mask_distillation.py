"""Distillation: the decoder learns the masks of a cheap teacher and its own, on cached features."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import enlarge_boxes, tight_boxes
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Masker
from saliencykit.core.query_batches import in_batches
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.cam.cam import Cam
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.gradient.excitation_backprop import ExcitationBackprop
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.universal.universal_masker import Universal
from saliencykit.training.absent_labels import other_labels
from saliencykit.training.cache import Cache
from saliencykit.training.pastes import Layouts, Pastes, make_pastes
from saliencykit.training.schedule import Schedule
from saliencykit.training.validation import curve_score

_BLUR = 8 / 224  # of the side: excitation backprop blurred so shows the extent of objects
_ENERGY = 0.7  # of the teacher's sum: where its soft mask is 0.5
_STEEP = 4.0  # the soft mask is sigmoid(4 (value / threshold - 1)): 0.02 at zero
_PASTED = 0.5  # of the rows
_FAKES = 0.2  # of the rows: classes that are not in the image
_SMALL = 0.35  # of the image: masks of smaller areas are made again in a window around them
_MARGIN = 0.3  # of the sides of the mask's box: what its window adds
_LEAST, _MOST = 0.3, 0.8  # of the side and of the area of the image: the size of a window
_CHUNK = 16


@final
@dataclass(frozen=True)
class Distillation:
    """What the network learns from in distillation, and where it comes from.

    Attributes:
        features: Of the views, from the cache.
        labels: (V,) of the views.
        targets: (V, 1, h, w) the mean of the teacher's masks and the network's own, in half
            precision.
        pastes: Composed images, or None.
        facts: For the log and the file: the teacher, the scores of all, the number of pastes.
    """

    cache: Cache
    candidates: Tensor
    targets: Mask
    pastes: Pastes | None
    facts: dict[str, Any]

    def loss(
        self,
        network: MaskingNetwork,
        black_box: BlackBox,
        batch_size: int,
        generator: Generator,
    ) -> tuple[Tensor, Mask, int]:
        """The loss of one step, the masks, and how many of them are of classes that are there.

        Half of the rows show pasted views, whose target is the mask of the whole view scaled down;
        a fifth more are of classes that are not in the image, whose target is empty.

        Args:
            network: In train mode.
            black_box: Its device and number of classes count.
            batch_size: Rows, without those of other classes.
            generator: Draws rows and classes.
        """
        device = black_box.device
        composed = 0 if self.pastes is None else round(_PASTED * batch_size)
        count, size = len(self.candidates), (batch_size - composed,)
        drawn = self.candidates[torch.randint(count, size, generator=generator, device="cpu")]
        features = self.cache.features(drawn, device)
        assert features is not None  # there is no distillation without cached features
        maps, labels, wanted = features.maps, self.cache.labels[drawn], self.targets[drawn].float()
        if self.pastes is not None:
            rows = torch.randint(len(self.pastes), (composed,), generator=generator, device="cpu")
            more = self.pastes.features(rows, device)
            maps = tuple(torch.cat(pair) for pair in zip(maps, more.maps, strict=True))
            labels = torch.cat([labels, self.pastes.label[rows]])
            small = self.pastes.targets(rows, self.targets, self.cache.labels)
            wanted = torch.cat([wanted, small])
        count = round(_FAKES * batch_size) if black_box.num_classes > 1 else 0
        again = torch.randperm(len(drawn), generator=generator, device="cpu")[:count]
        absent = None if self.cache.absent is None else self.cache.absent[drawn[again]]
        others = other_labels(labels[again], black_box.num_classes, generator, absent)
        order = torch.cat([torch.arange(len(labels), device="cpu"), again]).to(device)
        every = Features(maps, None, features.size).rows(order)
        masks, _ = network(every, torch.cat([labels, others]).to(device))
        empty = wanted.new_zeros(len(again), *wanted.shape[1:])
        goal = torch.cat([wanted, empty]).to(device)
        loss = F.binary_cross_entropy(masks.float().clamp(1e-4, 1 - 1e-4), goal)
        return loss, masks, len(labels)


def distillation(
    network: MaskingNetwork,
    black_box: BlackBox,
    fast: BlackBox,
    cache: Cache,
    held_out: tuple[Images, Labels],
    schedule: Schedule,
    say: Callable[[str], None],
) -> Distillation | None:
    """Choose a teacher on held-out images, and make its targets and pastes.

    Teachers are excitation backprop blurred by 8 pixels of 224, the universal masker, CAM, and
    where there is no CAM Grad-CAM: the one whose best pixels keep most and whose removal drops
    most.

    Args:
        network: Its own masks are half of the targets.
        black_box: The classifier.
        fast: Its optimized copy.
        cache: The views with their features.
        held_out: Images and labels to compare teachers on.
        schedule: The alternative, the batch size and the number of steps count.
        say: Called with lines for the user.

    Returns:
        None if no teacher works with this classifier.
    """
    scores: dict[str, float] = {}
    works: dict[str, Masker] = {}
    for name, teacher in _teachers(cache.views.sources.pixels.shape[2]).items():
        if name == "grad-cam" and "cam" in works:
            continue
        try:
            masks = teacher_masks(teacher, black_box, *held_out)
        except InputError:
            continue
        works[name] = teacher
        fill, seed = schedule.alternative, schedule.seed
        scores[name] = curve_score(fast, *held_out, masks, alternative=fill, seed=seed)
    if not works:
        say("no cheap teacher works with this model: no distillation")
        return None
    best = max(scores, key=scores.__getitem__)
    compared = ", ".join(f"{name} {score:+.3f}" for name, score in scores.items())
    say(f"teacher of distillation: {best} (kept minus dropped: {compared})")
    candidates = (cache.views.view == 0).nonzero().flatten()
    near = _windows_help(works[best], network, black_box, fast, held_out, schedule)
    say(f"masks of small objects are made again in a window: {'yes' if near else 'no'}")
    targets = _targets(works[best], network, black_box, cache, candidates, windows=near)
    wanted = min(len(candidates), schedule.distill_steps * schedule.batch_size // 4 + 1)
    pastes = make_pastes(cache, fast, network.encoder, count=wanted, seed=schedule.seed)
    facts = {"teacher": best, "scores": scores, "windows": near}
    facts |= {"pastes": 0 if pastes is None else len(pastes)}
    return Distillation(cache, candidates, targets, pastes, facts)


def _teachers(side: int) -> dict[str, Masker]:
    return {
        "excitation-backprop": ExcitationBackprop(blur=_BLUR * side),
        "universal": Universal(),
        "cam": Cam(),
        "grad-cam": GradCam(),
    }


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


@torch.no_grad()
def _own_masks(network: MaskingNetwork, cache: Cache, index: Tensor, device: torch.device) -> Mask:
    features = cache.features(index, device)
    assert features is not None
    masks: Mask = network(features, cache.labels[index].to(device))[0]
    return masks.cpu()


def _windows_help(
    teacher: Masker,
    network: MaskingNetwork,
    black_box: BlackBox,
    fast: BlackBox,
    held_out: tuple[Images, Labels],
    schedule: Schedule,
) -> bool:
    """Do windows make the masks to learn from better, by kept minus dropped on held-out images?"""
    was = network.training
    network.eval()
    scores = []
    for windows in (False, True):
        masks = []
        for images, labels in in_batches(_CHUNK, *held_out):
            with torch.no_grad():
                own, _ = network(network.encoder.encode(black_box, images), labels)
            given = teacher, network, black_box, images, labels, own.cpu()
            masks.append(_mean_masks(*given, windows=windows))
        every = resize_maps(torch.cat(masks), held_out[0].shape[2:]).to(held_out[0])
        fill, seed = schedule.alternative, schedule.seed
        scores.append(curve_score(fast, *held_out, every, alternative=fill, seed=seed))
    network.train(was)
    return scores[1] > scores[0]


def _targets(
    teacher: Masker,
    network: MaskingNetwork,
    black_box: BlackBox,
    cache: Cache,
    candidates: Tensor,
    *,
    windows: bool,
) -> Mask:
    """The mean of the teacher's and the network's masks for the candidates; 0 for other views."""
    was, side = network.training, network.decoder.side
    network.eval()
    targets = torch.zeros(len(cache.views), 1, *side, dtype=torch.float16, device="cpu")
    for index in torch.split(candidates, _CHUNK):
        images, labels = cache.views.images(index), cache.labels[index]
        own = _own_masks(network, cache, index, black_box.device)
        given = teacher, network, black_box, images, labels, own
        targets[index] = _mean_masks(*given, windows=windows).half()
    network.train(was)
    return targets


def _mean_masks(
    teacher: Masker,
    network: MaskingNetwork,
    black_box: BlackBox,
    images: Images,
    labels: Labels,
    own: Mask,
    *,
    windows: bool,
) -> Mask:
    """The mean of the teacher's masks and the network's, `own`; those of small objects are made
    again in a window around them, if wanted.
    """
    side = network.decoder.side
    taught = teacher_masks(teacher, black_box, images, labels).cpu()
    both = (resize_maps(taught, side) + resize_maps(own, side)) / 2
    rows, boxes = small_windows(own, (images.shape[2], images.shape[3]))
    if windows and len(rows):
        parts, classes, device = enlarge_boxes(images[rows], boxes), labels[rows], black_box.device
        with torch.no_grad():
            features = network.encoder.encode(black_box, parts.to(device))
            own = network(features, classes.to(device))[0].cpu()
        closer = _mean_masks(teacher, network, black_box, parts, classes, own, windows=False)
        corners = boxes[:, [1, 0, 3, 2]] / torch.tensor(images.shape[2:] * 2, device="cpu")
        first = torch.zeros(len(rows), 1, dtype=torch.int64, device="cpu")
        both[rows] = Layouts(first, corners[:, None]).compose(closer[:, None], side)
    return both


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
