"""RealTimeMasker: a trained masking network, ready to use."""

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast, final

import torch
from torch import Generator

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Inputs, Masker
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.maskers.realtime.encoder import Features, TrunkEncoder
from saliencykit.maskers.realtime.masker_file import read_network, write_network
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.maskers.realtime.model_binding import (
    bound_network,
    read_head,
    warn_of_other_weights,
)
from saliencykit.maskers.realtime.onnx_export import export_onnx
from saliencykit.maskers.realtime.pretrained_encoder import PretrainedEncoder
from saliencykit.maskers.realtime.selector import ClassFilters
from saliencykit.networks.model_fingerprint import count_values, fingerprint
from saliencykit.networks.structure_cache import state_of


@final
@dataclass(frozen=True, eq=False)
class RealTimeMasker(Masker):
    """A trained masking network: the mask of any class in one forward pass, without gradients.

    With a `TrunkEncoder` that pass is the classifier's own, so that prediction and mask together
    cost little more than the prediction. Masks are as good as the training; on images unlike the
    training data, look at the scores of the mask (kept and dropped).

    Args:
        network: Trained, or as `masking_network` made it.
        confidence: Positive for smaller masks, negative for larger ones, in log-odds; 0 as trained.
        metadata: What a file stores beside the weights: training, validation, fingerprint.

    Example:
        >>> from saliencykit.maskers import masking_network
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), torch.Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> masker = RealTimeMasker(masking_network(black_box, images)).bind(black_box)
        >>> logits, mask = masker.predict(images)
        >>> logits.shape, mask.shape
        (torch.Size([2, 4]), torch.Size([2, 1, 16, 16]))

    References:
        Dabkowski & Gal 2017, section 4.
    """

    network: MaskingNetwork
    confidence: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _cache: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    needs_gradient: ClassVar[bool] = False

    def __repr__(self) -> str:
        """The kind of network, not its layers."""
        parts = (type(part).__name__ for part in (self.network.encoder, self.network.decoder))
        return f"RealTimeMasker({', '.join(parts)}, confidence={self.confidence})"

    def bind(self, black_box: BlackBox) -> "RealTimeMasker":
        """The same masker for the black box it was trained for, ready for `predict`.

        Args:
            black_box: What `predict` queries.
        """
        metadata = dict(self.metadata)
        if "fingerprint" not in metadata:
            metadata |= {"fingerprint": fingerprint(black_box), "values": count_values(black_box)}
        bound = replace(self, metadata=metadata)
        selector = self.network.selector
        if isinstance(selector, ClassFilters) and not selector.weight.any():  # as a file has them
            read_head(self.network, black_box)
        bound._cache.update({"black box": black_box, "state": _state(black_box)})
        return bound

    def for_black_box(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> "RealTimeMasker":
        """The masker bound to a black box, with class filters read from its head.

        Args:
            black_box: The classifier.
            inputs: What the images will hold: `raw` RGB in [0, 1], or `normalized`: what `model(x)`
                takes.

        Raises:
            InputError: The black box has other layers, or inputs are normalized and the encoder
                takes raw pixels.

        Warns:
            UserWarning: The masker was trained for other weights.
        """
        if inputs == "normalized" and not isinstance(self.network.encoder, TrunkEncoder):
            raise InputError(
                "this masker has an encoder of its own, which takes raw pixels in [0, 1]; give "
                "explain an image, or TorchBlackBox(model, mean=..., std=...) and inputs='raw'."
            )
        if black_box.target is not None:
            raise InputError(
                "a trained masker has a filter for each class of its model, and a target is "
                f"explained here, {checks.name_of(black_box.target)}, which has none; write "
                "masker='grad-cam', or masker='rise' for any model. Two classes can be compared: "
                "target=Contrast(against=...)."
            )
        for masker in (self, self._cache.get("bound", self)):
            held: BlackBox | None = masker._cache.get("black box")
            if held is not None and _same_classes(held, black_box):
                masker._follow_black_box()
                return masker
        network = bound_network(self.network, black_box, self.metadata)
        self._cache["bound"] = bound = replace(self, network=network).bind(black_box)
        return bound

    def one_pass(self, black_box: BlackBox, images: Images) -> tuple[Masker, Logits]:
        """The logits of images, and a masker that computes their masks from the same features.

        Args:
            black_box: The one that the masker is bound to, or its optimized copy.
            images: (B, C, H, W) on its device.
        """
        features = self.encode(black_box, images)
        with torch.no_grad():
            return _WithFeatures(self, features), features.logits_of(black_box, images)

    @property
    def fit_options(self) -> Mapping[str, object]:
        """The kind of its encoder, or the encoder where that is a network."""
        encoder = self.network.encoder
        return {"encoder": encoder if isinstance(encoder, PretrainedEncoder) else encoder.kind}

    def identity(self) -> str:
        """The repr, and a hash of the weights: the repr is the same for each training."""
        weights = hashlib.sha256()
        for value in self.network.state_dict().values():
            weights.update(value.detach().cpu().contiguous().numpy().tobytes())
        return f"{self!r} {weights.hexdigest()[:12]}"

    @property
    def black_box(self) -> BlackBox:
        """The black box that the masker is bound to.

        Raises:
            InputError: It is not bound.
        """
        if "black box" not in self._cache:
            raise InputError(
                "this RealTimeMasker is not bound to a model; write RealTimeMasker.load(path, "
                "black_box)."
            )
        return self._cache["black box"]  # type: ignore[no-any-return]

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """One pass of the network; deterministic."""
        bound = self.for_black_box(black_box)
        return bound.with_threshold(bound.decode(bound.encode(black_box, images), labels))

    def with_threshold(self, mask: Mask) -> MaskerOutput:
        """A mask with the threshold of its bounding box, where the network was trained to choose.

        Args:
            mask: (B, 1, h, w) at the network's resolution.
        """
        choose = self.network.box_threshold
        return MaskerOutput(mask, box_threshold=None if choose is None else choose(mask))

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The features of images, and with a `TrunkEncoder` their logits too.

        Args:
            black_box: The one that the masker is bound to, or its optimized copy.
            images: (B, C, H, W) on its device.
        """
        with torch.no_grad():
            return self.inference_network(images.device).encoder.encode(black_box, images)

    def decode(self, features: Features, labels: Labels) -> Mask:
        """Masks at the network's resolution, (B, 1, h, w) or (B, n, h, w).

        Args:
            features: Of B images, from `encode`.
            labels: (B,) int64, or (B, n) for n classes of each image.
        """
        network = self.inference_network(features.maps[0].device)
        with torch.no_grad():
            mask, _ = network(features, labels, self.confidence)
        return torch.clamp(mask, 0, 1)

    def predict(
        self,
        images: Images,
        labels: Labels | None = None,
        *,
        budget: float | Sequence[float] | None = None,
    ) -> tuple[Logits, Mask]:
        """Prediction and mask, with a `TrunkEncoder` in one pass of an optimized copy of the model.

        Args:
            images: (B, C, H, W) as the black box takes them.
            labels: (B,), or (B, n) for n masks of each image; None: the top classes.
            budget: The mask's area, a fraction of the pixels in (0, 1), or k areas of nested masks,
                which take no further pass. None: the area that the network chooses.

        Returns:
            Logits (B, K), and masks (B, 1, H, W) or (B, n, H, W) in [0, 1]; 1 keeps a pixel. With k
            budgets (B, k, H, W) or, for n labels, (B, n, k, H, W).

        Raises:
            InputError: The masker is not bound, or images, labels or budgets are malformed.
        """
        self._follow_black_box()
        key = images.shape[1:]
        with torch.inference_mode():
            if (known := self._cache.get(key)) is None:  # another thread may forget it meanwhile
                optimized = self.black_box.optimized_for(images)
                known = optimized, self.inference_network(images.device).encoder.reader(optimized)
                self._cache[key] = known
            optimized, read = known
            features = read(images)
            logits = features.logits_of(optimized, images)
            if labels is None:
                labels = logits.argmax(1)
            else:
                rows = len(images) if labels.ndim == 1 else labels.numel()
                checks.labels(labels.flatten(), rows, logits.shape[1], "RealTimeMasker.predict")
            mask = self.decode(features, labels)
            if budget is not None:
                mask = _with_areas(mask, budget)
                mask = mask.squeeze(1) if labels.ndim == 1 and mask.ndim == 5 else mask
        with torch.no_grad():  # tensors made in inference mode cannot be changed outside of it
            maps = resize_maps(mask.flatten(0, -4), features.size)
            maps = torch.clamp(maps, 0, 1, out=None if maps.is_inference() else maps)
            return logits.clone(), maps.view(*mask.shape[:-2], *features.size)

    def inference_network(self, device: torch.device) -> MaskingNetwork:
        """A copy of the network with batch norms folded, made once per device.

        Args:
            device: Where it runs.
        """
        if (network := self._cache.get(device)) is None:
            with torch.inference_mode(False), torch.no_grad():
                network = MaskingNetwork(
                    copy.deepcopy(self.network.encoder),
                    copy.deepcopy(self.network.selector),
                    self.network.decoder.folded(),
                )
                network = network.eval().requires_grad_(False).to(device)
            self._cache[device] = network
        return cast(MaskingNetwork, network)

    def _follow_black_box(self) -> None:
        """Forget the copies, and read the head again, if the black box has changed since."""
        state = _state(self.black_box)
        if state == self._cache["state"]:
            return
        warn_of_other_weights(self.metadata, self.black_box)
        read_head(self.network, self.black_box)
        for key in set(self._cache) - {"black box", "state", "bound"}:
            self._cache.pop(key, None)
        self._cache["state"] = state

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with a JSON header.

        Args:
            path: The file; an existing one is replaced atomically.

        Returns:
            The path.

        Raises:
            InputError: The network has parts that are not the package's own.
            SaliencyKitError: The file cannot be written.
        """
        path = Path(path).expanduser()
        write_network(path, self.network, self.confidence, self.metadata)
        return path

    @staticmethod
    def load(
        path: str | Path, black_box: BlackBox | None = None, *, encoder: BlackBox | None = None
    ) -> "RealTimeMasker":
        """Read a file that `save` wrote.

        Args:
            path: The file.
            black_box: The black box to bind the masker to; None: the first that it explains.
            encoder: The network that it reads images with, where that is one of your own.

        Raises:
            InputError: The file is not a masker that this version reads, the black box has another
                architecture, or the weights of its encoder cannot be had.

        Warns:
            UserWarning: The masker was trained for other weights.
        """
        masker = RealTimeMasker(*read_network(Path(path).expanduser(), encoder))
        return masker if black_box is None else masker.for_black_box(black_box)

    def export_onnx(
        self, path: str | Path, size: int | tuple[int, int] | None = None, *, labels: bool = False
    ) -> Path:
        """Write black box and masker as one ONNX graph: images in, logits and masks out; see
        `onnx_export.export_onnx`.

        Args:
            path: The file; an existing one is replaced atomically.
            size: Side or (height, width) of the images in pixels. None: the black box's own.
            labels: Does the graph take a second input, the class (B,) of each mask? False: the top
                class.

        Returns:
            The path.

        Raises:
            InputError: onnx is not installed, the masker is not bound, or its black box does more
                than normalize images and call its module.
            SaliencyKitError: The model has an operation that ONNX lacks, or the graph's outputs
                differ from the black box's.
        """
        network, path = self.inference_network(torch.device("cpu")), Path(path).expanduser()
        return export_onnx(path, self.black_box, network, self.confidence, size, labels=labels)


def _with_areas(masks: Mask, budget: float | Sequence[float]) -> Mask:
    """Masks (B, n, h, w) of one area, or (B, n, k, h, w) of k areas."""
    several = MaskerOutput(masks.flatten(0, 1)[:, None])
    if isinstance(budget, int | float):
        return several.nested((budget,)).view(masks.shape)
    nested = several.nested(tuple(budget))
    return nested.view(*masks.shape[:2], *nested.shape[1:])


@final
@dataclass(frozen=True, eq=False)
class _WithFeatures(Masker):
    """A masker of images whose features are known."""

    masker: RealTimeMasker
    features: Features

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        return self.masker.with_threshold(self.masker.decode(self.features, labels))


def _same_classes(held: BlackBox, black_box: BlackBox) -> bool:
    """Is a masker that is bound to the one black box ready for the other?"""
    same = held.module is not None and held.module is black_box.module
    return held is black_box or (same and held.against == black_box.against)


def _state(black_box: BlackBox) -> list[Any] | None:
    return None if black_box.module is None else state_of(black_box.module)
