"""RealTimeMasker: a trained masking network, ready to use."""

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from torch import Generator

from saliencykit.core import checks
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Inputs, Masker, resize_maps
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.maskers.realtime.encoder import Features, TrunkEncoder
from saliencykit.maskers.realtime.masking_network import MaskingNetwork
from saliencykit.networks.model_fingerprint import count_values, fingerprint


@final
@dataclass(frozen=True, eq=False)
class RealTimeMasker(Masker):
    """A trained masking network: the mask of any class in one forward pass, without gradients or
    further queries.

    With the `trunk` encoder that pass is the classifier's own, so prediction and mask together cost
    little more than the prediction. It is as good as its training; on pictures unlike those look at
    the check (kept and dropped).

    Args:
        network: Trained, or as `masking_network` made it.
        confidence: The knob: > 0 for smaller masks, < 0 for larger ones, in log-odds; 0 as trained.
        metadata: What a file stores beside the weights: training, validation, fingerprint.

    Example:
        >>> from saliencykit.maskers.realtime.masking_network import masking_network
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
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
    _held: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    needs_gradient: ClassVar[bool] = False

    def __repr__(self) -> str:
        """The kind of network, not its layers."""
        encoder = self.network.encoder
        return f"RealTimeMasker({type(encoder).__name__}, {type(self.network.decoder).__name__}, confidence={self.confidence})"

    def bind(self, black_box: BlackBox) -> "RealTimeMasker":
        """The same masker, for `predict`: it holds the box, and when it is first asked a frozen
        copy of it.

        Args:
            black_box: The box that `predict` asks, the one it was trained for.
        """
        facts = dict(self.metadata)
        if "fingerprint" not in facts:
            facts |= {"fingerprint": fingerprint(black_box), "values": count_values(black_box)}
        twin = replace(self, metadata=facts)
        twin._held["box"] = black_box
        return twin

    def for_black_box(self, black_box: BlackBox, *, inputs: Inputs = "raw") -> "RealTimeMasker":
        """Bound to a box that it is about to be asked about, with the head's rows of that box;
        warns if it was made for another.

        Args:
            black_box: The box.
            inputs: What the images will hold: `raw` RGB in [0, 1], or `normalized`: what `model(x)`
                takes.

        Raises:
            InputError: The box lacks the layers, or an encoder of its own would be shown something
                else than raw pixels.
        """
        from saliencykit.maskers.realtime.masker_file import attach

        if inputs == "normalized" and not isinstance(self.network.encoder, TrunkEncoder):
            raise InputError(
                "this masker has an encoder of its own, which takes raw pixels in [0, 1]; give "
                "explain a picture, or TorchBlackBox(model, mean=..., std=...) and inputs='raw'."
            )
        mine: RealTimeMasker | None
        for mine in (self, self._held.get("attached")):
            held = None if mine is None else mine._held.get("box")
            if mine is None or held is None:
                continue
            if held is black_box or (held.module is not None and held.module is black_box.module):
                return mine
        self._held["attached"] = attach(self, black_box)
        return self._held["attached"]  # type: ignore[no-any-return]

    def one_pass(self, black_box: BlackBox, images: Images) -> tuple[Masker, Logits]:
        """Ask about pictures once: the logits, and a masker that finds the masks of these pictures
        without asking again.

        Args:
            black_box: The box that it is attached to, or its copy for many evaluations.
            images: (B, C, H, W) on the box's device.
        """
        features = self.encode(black_box, images)
        logits = features.logits
        if logits is None:
            with torch.no_grad():
                logits = black_box(images)
        return _Seen(self, features), logits

    @property
    def fit_options(self) -> Mapping[str, object]:
        """The kind of its encoder."""
        return {"encoder": self.network.encoder.kind}

    def identity(self) -> str:
        """The repr, and a hash of the weights: the repr is the same for each training."""
        weights = hashlib.sha256()
        for value in self.network.state_dict().values():
            weights.update(value.detach().cpu().contiguous().numpy().tobytes())
        return f"{self!r} {weights.hexdigest()[:12]}"

    @property
    def black_box(self) -> BlackBox:
        """The box it is bound to.

        Raises:
            InputError: It is not bound.
        """
        if "box" not in self._held:
            raise InputError(
                "this RealTimeMasker is not bound to a model; write RealTimeMasker.load(path, box)."
            )
        return self._held["box"]  # type: ignore[no-any-return]

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """One pass of the network; nothing is drawn."""
        mine = self.for_black_box(black_box)
        return mine.decode(mine.encode(black_box, images), labels)

    def encode(self, black_box: BlackBox, images: Images) -> Features:
        """The features of pictures, and with the trunk the box's logits too.

        Args:
            black_box: The box that it is attached to, or its copy for many evaluations.
            images: (B, C, H, W) on the box's device.
        """
        with torch.no_grad():
            return self._ready(images.device).encoder.encode(black_box, images)

    def decode(self, features: Features, labels: Labels) -> Mask:
        """Masks at the network's resolution, (B, 1, h, w) or (B, n, h, w).

        Args:
            features: Of B pictures, from `encode`.
            labels: (B,) int64, or (B, n) for n classes of each picture.
        """
        with torch.no_grad():
            mask, _ = self._ready(features.maps[0].device)(features, labels, self.confidence)
        return torch.clamp(mask, 0, 1)

    def predict(self, images: Images, labels: Labels | None = None) -> tuple[Logits, Mask]:
        """Prediction and mask, with the trunk in one pass of a frozen copy of the model.

        Args:
            images: (B, C, H, W) as the box takes them.
            labels: (B,), or (B, n) for n masks of each picture; None: the top classes.

        Returns:
            Logits (B, K), and masks (B, 1, H, W) or (B, n, H, W) in [0, 1], 1 keeps.

        Raises:
            InputError: It is not bound, or images or labels do not fit.
        """
        key = f"box for {tuple(images.shape[1:])}"
        with torch.inference_mode():
            if key not in self._held:
                self._held[key] = self.black_box.optimized_for(images)
            black_box = self._held[key]
            features = self._ready(images.device).encoder.encode(black_box, images)
            logits = black_box(images) if features.logits is None else features.logits
            if labels is None:
                labels = logits.argmax(1)
            elif labels.ndim == 2:
                checks.labels(
                    labels.flatten(), labels.numel(), logits.shape[1], "RealTimeMasker.predict"
                )
            else:
                checks.labels(labels, len(images), logits.shape[1], "RealTimeMasker.predict")
            mask, _ = self._ready(images.device)(features, labels, self.confidence)
        with torch.no_grad():  # what was made in inference mode may not be changed outside of it
            return logits.clone(), resize_maps(mask, features.size).clamp(0, 1)

    def _ready(self, device: torch.device) -> MaskingNetwork:
        """The network for inference: a copy with batch norms folded, made once per device."""
        key = f"network on {device}"
        if key not in self._held:
            with torch.inference_mode(False), torch.no_grad():
                twin = MaskingNetwork(
                    copy.deepcopy(self.network.encoder),
                    copy.deepcopy(self.network.selector),
                    self.network.decoder.folded(),
                )
                self._held[key] = twin.eval().requires_grad_(False).to(device)
        return self._held[key]  # type: ignore[no-any-return]

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with a JSON header; see `file.save_masker`.

        Args:
            path: The file; one that is there is replaced at once or not at all.

        Returns:
            The path.

        Raises:
            InputError: The network has parts that are not the package's own.
            SaliencyKitError: The file cannot be written.
        """
        from saliencykit.maskers.realtime.masker_file import save_masker

        return save_masker(self, Path(path).expanduser())

    def export_onnx(
        self, path: str | Path, size: int | tuple[int, int] | None = None, *, labels: bool = False
    ) -> Path:
        """Write box and masker as one ONNX graph: pictures in, logits and mask out; see
        `export.export_onnx`.

        Args:
            path: Of the file.
            size: Side or (height, width) of the pictures in pixels. None: the box's own.
            labels: Does the graph take a second input, the class (B,) that the mask is for? False:
                the top class.

        Returns:
            The path.

        Raises:
            InputError: onnx is not installed, the masker is not bound, or its box does more than
                normalise and ask its module.
            SaliencyKitError: The model has something that ONNX lacks, or the graph answers
                otherwise than the box.
        """
        from saliencykit.maskers.realtime.onnx_export import export_onnx

        return export_onnx(self, Path(path).expanduser(), size, labels)

    @staticmethod
    def load(path: str | Path, black_box: BlackBox | None = None) -> "RealTimeMasker":
        """Read a file that `save` wrote; see `file.load_masker`.

        Args:
            path: The file.
            black_box: The box to bind it to. A masker whose selector is the box's own head must be
                given one before it is used.

        Raises:
            InputError: The file is not a masker that this version reads, or the box is of another
                architecture.
        """
        from saliencykit.maskers.realtime.masker_file import load_masker

        return load_masker(Path(path).expanduser(), black_box)


@final
@dataclass(frozen=True, eq=False)
class _Seen(Masker):
    """The masks of pictures whose features are known."""

    masker: RealTimeMasker
    features: Features

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        return self.masker.decode(self.features, labels)
