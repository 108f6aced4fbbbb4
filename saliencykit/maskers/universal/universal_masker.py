"""Universal: the evidence of any classifier, sharpened by one trained network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from saliencykit.core.black_box import BlackBox
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Inputs, Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels, Logits, PerImage
from saliencykit.maskers.cam.grad_cam import GradCam
from saliencykit.maskers.perturbation.rise import Rise
from saliencykit.maskers.universal.class_evidence import (
    ClassEvidence,
    cells_of,
    compared_layers,
    on_grid,
    read_evidence,
    relative_strength,
    similarities_of,
)
from saliencykit.maskers.universal.sharpening_network import SharpeningNetwork
from saliencykit.networks.layer_activations import read_feature_maps
from saliencykit.storage.tensor_file import fill
from saliencykit.storage.typed_json import Facts
from saliencykit.storage.weights_file import WeightsFile

_FILES: WeightsFile[Facts] = WeightsFile(
    "universal masker", 1, Facts, "the recipe universal_masker.py", "maskers of fit go to masker="
)
SHIPPED = Path(__file__).with_name("universal.safetensors")
_MIDDLE, _SMALL, _LARGE = 128, 48, 320  # pixels of the shorter side, of the longer side
_SAMPLES = 64  # masks of RISE


def encoder_images(images: Images) -> Images:
    """Images as the network takes them: of three channels, small ones enlarged so that a mask has
    a position per pixel (below 48 px) or per two (below 128 px), very large ones reduced.

    Args:
        images: (B, C, H, W).
    """
    if images.shape[1] != 3:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    least, most = min(images.shape[2:]), max(images.shape[2:])
    factor = 4.0 if least < _SMALL else 2.0 if least < _MIDDLE else min(1.0, _LARGE / most)
    if factor == 1:
        return images
    size = [max(1, round(side * factor)) for side in images.shape[2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=factor < 1)


def save_network(path: Path, network: SharpeningNetwork, facts: Mapping[str, Any]) -> None:
    """Write a network with the facts of its training."""
    _FILES.write(path, network.state_dict(), facts)


@lru_cache(maxsize=4)
def read_network(path: Path, device: torch.device) -> SharpeningNetwork:
    """The network of a file in evaluation mode, with batch norms folded; the same object each time.

    Args:
        path: What `save_network` wrote.
        device: Where it runs.

    Raises:
        InputError: The file is not a universal masker that this version reads.
    """
    _, weights = _FILES.read(path)
    with torch.inference_mode(False), torch.no_grad():
        with torch.device("meta"):  # its first weights would be drawn
            network = SharpeningNetwork()
        fill(network, weights, f"the universal masker in {str(path)!r}")
        network.eval().requires_grad_(False).encoder.fold()
        return network.to(device)


@final
@dataclass(frozen=True, kw_only=True)
class Universal(Masker):
    """The evidence map of any classifier, sharpened in one pass by one small network that was
    trained over several others.

    The classifier's own map says where its evidence is, in cells of 32 pixels or so; the network
    says which pixels share it: those that look alike, to it and to the classifier's feature maps.
    It cannot add evidence, see `SharpeningNetwork`; where the map is wrong the mask is. The map of
    a class that the classifier sees less than its top class counts less.

    Good where a mask is wanted now and no masker was trained for this model. Prediction and mask
    take 1.0 to 1.2 times as long as the prediction of MobileNetV2 alone, 1.6 times its optimized
    copy's. A masker trained for the model is better.

    Args:
        evidence: The masker whose map is sharpened. None: the class activation map, in the same
            pass as the prediction, where the head is pooling and one linear layer; else Grad-CAM;
            for a black box without a torch module RISE with 64 masks. The map of
            `Cam(scales=(1, 10 / 7, 2))` is finer and costs seven predictions; its masks are better.
        network: A file of another training. None: the one that comes with the package.

    Raises:
        InputError: The file is no universal masker; or the evidence cannot be computed.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> Universal()(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", section 2, for
        the class activation map; `SharpeningNetwork` is this project's, with its sources there.
    """

    evidence: Masker | None = None
    network: str | Path | None = None

    def for_black_box(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> "Universal":
        """The masker of the evidence bound to the black box."""
        if self.evidence is None:
            return self
        return replace(self, evidence=self.evidence.bound_to(black_box, inputs=inputs))

    def one_pass(self, black_box: BlackBox, images: Images) -> tuple[Masker, Logits]:
        """The logits of images, and a masker that computes their masks from the same pass, where
        the evidence comes with it.

        Args:
            black_box: The classifier, or its optimized copy.
            images: (B, C, H, W) on its device.
        """
        known = read_evidence(black_box, images) if self.evidence is None else None
        if known is None:
            with torch.no_grad():
                return self, black_box(images)
        return _Known(self, known), known.logits

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """The mask, and the scores that it was made from as its attributions."""
        known = read_evidence(black_box, images) if self.evidence is None else None
        if known is not None:
            return self.sharpened(images, labels, known)
        masker = self.evidence or _evidence_masker(black_box)
        evidence, offset = _evidence_of(masker, black_box, images, labels, generator)
        similarities: Sequence[Tensor | None] = ()
        with torch.no_grad():
            if black_box.module is None or not any(layers := compared_layers(black_box, images)):
                logits = black_box(images)
            else:
                read = [layer for layer in layers if layer is not None]
                logits, maps = read_feature_maps(black_box, images, read)
                similarities = similarities_of(layers, maps, evidence.shape[2:])
        strength = relative_strength(logits, labels[:, None], black_box.output)
        return self._masks(images, evidence, strength, similarities, offset)

    def sharpened(self, images: Images, labels: Labels, known: ClassEvidence) -> MaskerOutput:
        """The masks from what one pass of the classifier gave.

        Args:
            images: (B, C, H, W).
            labels: (B,).
            known: Of these images.
        """
        one = labels[:, None]
        offset = known.head.feature_map.offset
        return self._masks(images, known.of(one), known.strength(one), known.similarities, offset)

    def _masks(
        self,
        images: Images,
        evidence: Tensor,
        strength: PerImage,
        similarities: Sequence[Tensor | None],
        offset: tuple[float, float],
    ) -> MaskerOutput:
        path = SHIPPED if self.network is None else Path(self.network).expanduser()
        network, shown = read_network(path, images.device), encoder_images(images.float())
        down, right = (
            off * large / small
            for off, large, small in zip(offset, shown.shape[2:], images.shape[2:], strict=True)
        )
        with torch.no_grad():
            given = (shown, evidence.float(), strength.float(), similarities, (down, right))
            mask, scores = network(*given)
        size = [min(pair) for pair in zip(mask.shape[2:], images.shape[2:], strict=True)]
        mask, scores = (resize_maps(each, size).to(images.dtype) for each in (mask, scores))
        return MaskerOutput(mask.clamp(0, 1), scores)


@final
@dataclass(frozen=True, eq=False)
class _Known(Masker):
    """A masker of images whose evidence is known."""

    masker: Universal
    known: ClassEvidence

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        return self.masker.sharpened(images, labels, self.known)


def _evidence_masker(black_box: BlackBox) -> Masker:
    readable = black_box.module is not None and black_box.differentiable
    return GradCam() if readable else Rise(samples=_SAMPLES)


def _evidence_of(
    masker: Masker, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
) -> tuple[Tensor, tuple[float, float]]:
    """A masker's signed map in cells, divided by its maximum, (B, 1, h, w), and its offset."""
    with torch.set_grad_enabled(masker.needs_gradient):
        answer = masker.mask(black_box, images, labels, generator)
    output = answer if isinstance(answer, MaskerOutput) else MaskerOutput(answer)
    maps = output.mask if output.attributions is None else output.attributions
    cells = on_grid(maps.detach(), cells_of(maps.shape[2:]))
    # a map of rounding noise has a mask that is nearly empty
    return cells * output.mask.detach().amax((2, 3), keepdim=True), output.offset
