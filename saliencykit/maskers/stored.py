"""StoredMasks: the masks of a run of `explain_dataset`, as a masker."""

from dataclasses import dataclass, field
from pathlib import Path
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
    """Masks that were found before: a run directory of `explain_dataset`, to be judged without
    finding them again.

    Pictures are known by the pixels that the model is shown, so names, order and batches make no
    difference; the model must prepare pictures as it did then. It answers only for the class that
    was asked about then, so metrics that ask about another class, or about an edited picture, have
    no score.

    Args:
        run: The run directory.

    Raises:
        InputError: There are no explanations in it; or, when asked, it holds none of a picture or a
            class.

    Example:
        >>> import tempfile
        >>> from saliencykit import explain_dataset
        >>> from saliencykit.testing.black_boxes import PlantedEvidence
        >>> black_box, g = PlantedEvidence(), Generator().manual_seed(0)
        >>> images, labels = black_box.examples(2, generator=g)
        >>> run = tempfile.mkdtemp()
        >>> _ = explain_dataset(black_box, list(zip(images, labels.tolist())), masker="center-box:area=0.25", output_dir=run)
        >>> StoredMasks(run=run)(black_box, images, labels, generator=g).mean().item()
        0.25
    """

    run: str
    _saved: SavedExplanations = field(init=False, repr=False, compare=False)

    needs_gradient: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Read the manifest."""
        object.__setattr__(self, "_saved", SavedExplanations.load(Path(self.run)))

    def mask(
        self, black_box: BlackBox, images: Images, labels: Labels, generator: Generator
    ) -> Mask:
        """What is stored, at the size of the images; the black box is not asked."""
        rows = zip(rng.image_keys(images).tolist(), labels.tolist(), strict=True)
        return torch.cat(
            [self._one(place, key, label) for place, (key, label) in enumerate(rows)]
        ).to(images)

    def _one(self, place: int, key: int, label: int) -> Mask:
        known = self._saved.of_pixels(key)
        for row in known:
            if row.label == label:
                return self._saved.mask_of(row)
        if known:
            raise InputError(
                f"{self.run} holds the mask of {known[0].name} for class {known[0].label}, and "
                f"not for class {label}; explain_dataset with that label finds it."
            )
        raise InputError(
            f"{self.run} holds no mask of picture {place}: its pixels are not among those that "
            "were explained. Give the same data, and a model that prepares pictures in the same "
            "way."
        )
