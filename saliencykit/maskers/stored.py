"""StoredMasks: the masks of an earlier run of `explain_dataset`, as a masker."""

from dataclasses import dataclass, field
from typing import ClassVar, final

import torch
from torch import Generator

from saliencykit.core import rng
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Mask
from saliencykit.storage.saved_explanations import SavedExplanations


@final
@dataclass(frozen=True, kw_only=True)
class StoredMasks(Masker):
    """The masks in a run directory of `explain_dataset`, to be scored without computing them again.

    Images are looked up by the pixels that the model gets, so names, order and batch size make no
    difference; the model must preprocess images as it did in that run. There is a mask only for the
    class that was explained, so a metric that needs the mask of another class, or of an edited
    image, has no score.

    Args:
        run: The run directory.

    Raises:
        InputError: It contains no explanations; or, when the mask is made, none for the image or
            the class.

    Example:
        >>> import tempfile
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> run, data = tempfile.mkdtemp(), list(zip(images, labels.tolist()))
        >>> _ = explain_dataset(black_box, data, masker="center-box:area=0.25", output_dir=run)
        >>> StoredMasks(run=run)(black_box, images, labels, generator=g).mean().item()
        0.25
    """

    run: str
    _saved: SavedExplanations = field(init=False, repr=False, compare=False)

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Read the manifest."""
        object.__setattr__(self, "_saved", SavedExplanations.load(self.run))

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """The stored masks, at the size of the images."""
        rows = zip(rng.image_keys(images).tolist(), labels.tolist(), strict=True)
        masks = [self._one(row, key, label) for row, (key, label) in enumerate(rows)]
        return torch.cat(masks).to(images)

    def _one(self, row: int, key: int, label: int) -> Mask:
        known = self._saved.of_pixels(key)
        for explained in known:
            if explained.label == label:
                return self._saved.mask_of(explained)
        if known:
            raise InputError(
                f"{self.run} has a mask of {known[0].name} for class {known[0].label}, but not for "
                f"class {label}; run explain_dataset with that label."
            )
        raise InputError(
            f"{self.run} has no mask of image {row}: no image with the same pixels was explained. "
            "Use the same data, and a model with the same preprocessing."
        )
