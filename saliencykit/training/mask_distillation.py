"""Distillation: the decoder learns the masks of a cheap teacher and its own, on cached features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.maskers.cam.cam import Cam
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.gradient.excitation_backprop import ExcitationBackprop
from saliencykit.maskers.realtime.encoder import Features
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.universal.universal_masker import Universal
from saliencykit.training.absent_labels import other_labels
from saliencykit.training.cache import Cache
from saliencykit.training.mask_targets import MaskTargets, teacher_masks
from saliencykit.training.pastes import Pastes, make_pastes
from saliencykit.training.schedule import Schedule
from saliencykit.training.validation import curve_score

_BLUR = 8 / 224  # of the side: excitation backprop blurred so shows the extent of objects
_PASTED = 0.5  # of the rows
_FAKES = 0.2  # of the rows: classes that are not in the image


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
    fill, seed = schedule.alternative, schedule.seed
    score = partial(curve_score, fast, *held_out, alternative=fill, seed=seed)
    scores: dict[str, float] = {}
    works: dict[str, Masker] = {}
    for name, teacher in _teachers(cache.views.sources.pixels.shape[2]).items():
        if name == "grad-cam" and "cam" in works:
            continue
        try:
            masks = teacher_masks(teacher, black_box, *held_out)
        except InputError:
            continue
        works[name], scores[name] = teacher, score(masks)
    if not works:
        say("no cheap teacher works with this model: no distillation")
        return None
    best = max(scores, key=scores.__getitem__)
    compared = ", ".join(f"{name} {score:+.3f}" for name, score in scores.items())
    say(f"teacher of distillation: {best} (kept minus dropped: {compared})")
    candidates = (cache.views.view == 0).nonzero().flatten()
    maker = MaskTargets(works[best], network, black_box)
    near = _windows_help(maker, held_out, score)
    say(f"masks of small objects are made again in a window: {'yes' if near else 'no'}")
    targets = maker.of_views(cache, candidates, windows=near)
    wanted = min(len(candidates), schedule.distill_steps * schedule.batch_size // 4 + 1)
    pastes = make_pastes(cache, fast, network.encoder, count=wanted, seed=seed)
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


def _windows_help(
    maker: MaskTargets, held_out: tuple[Images, Labels], score: Callable[[Mask], float]
) -> bool:
    """Do windows make the masks to learn from better, by kept minus dropped on held-out images?"""
    images = held_out[0]
    plain, near = (maker.of_images(*held_out, windows=windows) for windows in (False, True))
    plain, near = (resize_maps(masks, images.shape[2:]).to(images) for masks in (plain, near))
    return score(near) > score(plain)
