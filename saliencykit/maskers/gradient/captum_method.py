"""AttributionMasker: any attribution method of Captum as a masker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Generator, Tensor

from saliencykit.core import checks, rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker, MaskerOutput
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.gradient.captum_binding import Bound, arguments, captum_class, seeded
from saliencykit.maskers.normalize import mask_from_attributions

Sign: TypeAlias = Literal["absolute", "positive"]
Channels: TypeAlias = Literal["max", "sum", "mean"]

# one pass: no copy pays
_ONCE = (
    "Saliency",
    "InputXGradient",
    "LayerActivation",
    "LayerGradientXActivation",
    "LayerGradCam",
)
# known to draw nothing
_STEADY = (
    *_ONCE,
    "IntegratedGradients",
    "DeepLift",
    "Occlusion",
    "FeatureAblation",
)


@final
@dataclass(frozen=True, kw_only=True)
class AttributionMasker(Masker):
    """Any attribution method of Captum, made a masker: it is bound to the black box anew at each
    call, and no state is kept.

    As good and as costly as the method that it wraps. Gradients are with respect to raw pixels.
    Captum's baseline of 0 is the colour that the box's normalisation maps to 0 (its inputs are the
    pixels' differences from it), so that numbers agree with Captum's on normalised images; a
    `baselines` of your own is such a difference too. Methods that draw are seeded from the
    generator and the picture. Methods that pass many images in turn run on the box's frozen copy,
    in batches that suit it.

    The score of a pixel is one signed number made of its channels, and the mask is its magnitude,
    or its positive part, divided by the largest in the picture. A gradient's sign says whether a
    pixel should become brighter or darker, so there the magnitude counts; the sign of methods that
    multiply with the input says whether the pixel speaks for the label or against it.

    Args:
        method: A class of `captum.attr` or its name; a function that takes a forward function (a
            module, for those classes that need one) and gives an object with `.attribute`; or such
            an object, whose own function or model is replaced in a copy.
        sign: `absolute` or `positive`: the part of a score that becomes the mask.
        channels: What one score is made of: the channel of the largest magnitude (`max`), their
            `sum` or their `mean`.
        layer: For methods that attribute to a layer: its dotted name. None: as Grad-CAM finds it,
            see `target_layer`.
        options: Further arguments of `.attribute`, such as `{"n_steps": 20}`. A tensor with one row
            per image is dealt out with the images.

    Raises:
        InputError: Captum is not installed or has no such class, a word is not one of those above,
            the method raised, or its answer is no map over the picture.

    Example:
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> AttributionMasker(method="Saliency", options={"abs": False})(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Kokhlikyan et al. 2020, "Captum". For magnitude and maximum over channels: Simonyan et al.
        2014, section 3.1.
    """

    method: Any = "Saliency"
    sign: Sign = "absolute"
    channels: Channels = "max"
    layer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the words, and that the method is one."""
        words(self, self.sign, self.channels)
        if isinstance(self.method, str):
            captum_class(self.method)
        elif not callable(self.method) and not hasattr(self.method, "attribute"):
            raise InputError(
                f"AttributionMasker(method={self.method!r}) takes a class of captum.attr such as "
                "'Saliency', a function that makes an attribution of a forward function, or an "
                "attribution."
            )
        if clash := {"inputs", "target"} & set(self.options):
            raise InputError(
                "AttributionMasker(options=...): the masker itself gives "
                f"{', '.join(sorted(clash))}; drop it."
            )

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        """False for methods that only ask, such as Captum's FeatureAblation."""
        kind = self._made()
        return "PerturbationAttribution" not in {
            c.__name__ for c in (kind if isinstance(kind, type) else type(kind)).__mro__
        }

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> MaskerOutput:
        """One signed score per position, and the chosen part of it as the mask."""
        kind = self._made()
        once = (kind.__name__ if isinstance(kind, type) else checks.name_of(kind)) in _ONCE
        black_box = black_box if once or self.reads_layers else black_box.optimized_for(images)
        return found(
            self.attribution(black_box, images, labels, generator), self.sign, self.channels
        )

    @property
    def reads_layers(self) -> bool:
        """Does the method read or hook the model's own layers? Then it takes no frozen copy, whose
        batch norms are folded.
        """
        kind = self._made()
        return bool({"model", "layer"} & {*arguments(kind), *getattr(kind, "__dict__", ())})

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """What the method answers, channels and signs as they are, (B, C, h, w).

        Args:
            black_box: The classifier; it is asked as it is.
            images: (B, C, H, W).
            labels: (B,).
            generator: Methods that draw are seeded with it.

        Raises:
            ContractError: The method returned None, NaN or infinite values.
        """
        bound = self.bound(black_box, images)
        size, parts = bound.images_at_once, []
        if bound.name in _STEADY:
            rows = [slice(first, first + size) for first in range(0, len(images), size)]
            return torch.cat(
                [bound(images[some], labels[some], some, len(images)) for some in rows]
            )
        seed = rng.seed(generator)
        # the first image alone shows whether the method draws: then all of them are taken alone
        first, step = (
            0,
            1,
        )
        while first < len(images):
            some = slice(first, first + step)
            key = int(rng.image_keys(images[first : first + 1]))
            with seeded(seed ^ (key & (2**62 - 1)), images.device) as drew:
                parts.append(bound(images[some], labels[some], some, len(images)))
            first, step = first + step, 1 if drew() else size
        return torch.cat(parts)

    def bound(self, black_box: BlackBox, images: Images) -> Bound:
        """The method, ready to be asked about parts of a batch."""
        return Bound(self._made(), black_box, images, layer=self.layer, options=self.options)

    def _made(self) -> Any:
        return captum_class(self.method) if isinstance(self.method, str) else self.method


def found(maps: Tensor, sign: Sign, channels: Channels) -> MaskerOutput:
    """One signed score per position of maps (B, C, h, w), and the mask made of it.

    Example:
        >>> found(torch.tensor([[[[-4.0]], [[2.0]]]]), "absolute", "max").attributions.item()
        -4.0
    """
    if channels == "max":
        # ten times as fast as argmax of the magnitudes
        highest, lowest = (
            maps.amax(1, keepdim=True),
            maps.amin(1, keepdim=True),
        )
        scores = torch.where(highest >= -lowest, highest, lowest)
    else:
        scores = maps.sum(1, keepdim=True) if channels == "sum" else maps.mean(1, keepdim=True)
    return MaskerOutput(
        mask_from_attributions(scores.abs() if sign == "absolute" else scores), scores
    )


def words(masker: Masker, sign: str, channels: str) -> None:
    """Raise InputError unless sign and channels are known."""
    for name, value, known in (
        ("sign", sign, ("absolute", "positive")),
        ("channels", channels, ("max", "sum", "mean")),
    ):
        if value not in known:
            raise InputError(
                f"{checks.name_of(masker)}({name}={value!r}): it is one of {', '.join(known)}."
            )
