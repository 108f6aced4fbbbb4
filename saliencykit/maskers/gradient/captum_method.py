"""AttributionMasker: any attribution method of Captum as a masker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import torch
from torch import Generator, Tensor

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.types import Images, Labels
from saliencykit.maskers.gradient.captum_binding import (
    BoundMethod,
    arguments,
    captum_class,
    global_seed,
)
from saliencykit.maskers.gradient.pixel_attribution import PixelAttribution


@final
@dataclass(frozen=True, kw_only=True)
class AttributionMasker(PixelAttribution):
    """Any attribution method of Captum as a masker.

    As good and as costly as the wrapped method. Gradients are with respect to raw pixels. Captum's
    baseline of 0 is the color that the black box's normalization maps to 0 (the method's inputs are
    differences from it), so that results agree with Captum's on normalized images; `baselines`
    among the options are such differences too. Methods that draw random numbers are seeded from the
    generator and the image. Methods that take many passes run on an optimized copy of the model,
    unless they read its layers.

    Args:
        method: A class of `captum.attr` or its name; or a function that takes a forward function (a
            module, for classes that need one) and returns an object with `.attribute`.
        layer: For methods that take one: its dotted name, as in `model.named_modules()`. None: the
            layer that Grad-CAM uses.
        options: Further arguments of `.attribute`, such as `{"n_steps": 20}`. Tensors with one row
            per image are split with the images.
        sign: See `PixelAttribution`.
        channels: See `PixelAttribution`.

    Raises:
        InputError: Captum is not installed or has no such class, an option is not one of those
            above, the method raised an error, or its result is not a map over the image.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> masker = AttributionMasker(method="Saliency", options={"abs": False})
        >>> masker(black_box, images, labels, generator=g).shape
        torch.Size([2, 1, 16, 16])

    References:
        Kokhlikyan et al. 2020, "Captum: A unified and generic model interpretability library for
        PyTorch".
    """

    method: Any = "Saliency"
    layer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if not callable(self._factory()):
            raise InputError(
                f"AttributionMasker(method={self.method!r}): expected a class of captum.attr such "
                "as 'Saliency', or a function such as lambda f: NoiseTunnel(Saliency(f))."
            )
        if clash := {"inputs", "target"} & set(self.options):
            raise InputError(
                "AttributionMasker(options=...): the masker itself passes "
                f"{', '.join(sorted(clash))}; remove it."
            )

    @property
    def needs_gradient(self) -> bool:  # type: ignore[override]
        """False for Captum's perturbation methods, such as FeatureAblation."""
        bases = getattr(self._factory(), "__mro__", ())
        return "PerturbationAttribution" not in {base.__name__ for base in bases}

    def prepared(self, black_box: BlackBox, images: Images, passes: int) -> BlackBox:
        """The black box itself for methods that read layers: batch norms of a copy are folded."""
        if {"model", "layer"} & set(arguments(self._factory())):
            return black_box
        return super().prepared(black_box, images, passes)

    def attribution(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Tensor:
        """The method's own result, (B, C, h, w).

        Raises:
            ContractError: The method returned no tensor, or NaN or infinite values.
        """
        factory = self._factory()
        single_pass = getattr(factory, "__name__", "") in ("Saliency", "InputXGradient")
        black_box = self.prepared(black_box, images, 1 if single_pass else 2)
        bound, seed = BoundMethod(factory, black_box, images, self.layer), rng.seed(generator)
        parts = []
        for row, image_key in enumerate(rng.image_keys(images)):  # most methods draw numbers
            one = slice(row, row + 1)
            options = {
                key: value[one] if bound.has_rows(key, value, len(images)) else value
                for key, value in self.options.items()
            }
            with global_seed(seed ^ (int(image_key) & (2**62 - 1)), images.device):
                parts.append(bound(images[one], labels[one], options))
        return torch.cat(parts)

    def _factory(self) -> Any:
        return captum_class(self.method) if isinstance(self.method, str) else self.method
