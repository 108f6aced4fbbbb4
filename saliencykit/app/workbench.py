"""Workbench: the models and maskers that a page offers, loaded once for all of its browsers."""

from collections.abc import Mapping, Sequence
from threading import Lock
from typing import final

from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images
from saliencykit.explanation.explain_images import default_masker
from saliencykit.registry.coerce import as_black_box, as_masker
from saliencykit.registry.listing import list_maskers

AUTOMATIC = "automatic"
"""The name of the masker that `explain` takes where none is given."""

# they need something that a page has no field for: a file, bounding boxes, a surrogate
_NOT_OFFERED = ("attribution", "demo", "ground-truth", "on-surrogate", "stored")


@final
class Workbench:
    """What a page offers; only these names come from a browser.

    Args:
        models: Black boxes, models or names of models, by the name that is shown.
        maskers: Maskers, texts like `rise:samples=500` or files of trained maskers, offered before
            the others; the first one is chosen at first.

    Raises:
        InputError: There is no model, or one cannot be used.
        RegistryError: The name of a model or masker is unknown.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> Workbench({"mine": PlantedEvidence()}, ["center-box"]).masker_names[:2]
        ['center-box', 'automatic']
    """

    def __init__(self, models: Mapping[str, object], maskers: Sequence[Masker | str] = ()) -> None:
        if not models:
            raise InputError("the page needs a model; write launch_app({'mine': model}).")
        self._black_boxes = {name: as_black_box(model) for name, model in models.items()}
        own = {each if isinstance(each, str) else name_of(each): each for each in maskers}
        self._maskers = {name: as_masker(each) for name, each in own.items()}
        self._optimized: dict[tuple[str, tuple[int, ...]], BlackBox] = {}
        self._lock = Lock()

    @property
    def model_names(self) -> list[str]:
        """The models, the first one is the default."""
        return list(self._black_boxes)

    @property
    def masker_names(self) -> list[str]:
        """The maskers, the first one is the default."""
        known = [name for name in list_maskers() if name not in _NOT_OFFERED]
        return list(dict.fromkeys([*self._maskers, AUTOMATIC, *known]))

    def black_box(self, model: str) -> BlackBox:
        """A model.

        Args:
            model: One of `model_names`.

        Raises:
            InputError: The page does not offer it.
        """
        if model not in self._black_boxes:
            raise InputError(f"the page does not offer the model {model!r}.")
        return self._black_boxes[model]

    def masker(self, masker: str, model: str) -> Masker:
        """A masker, made once.

        Args:
            masker: One of `masker_names`.
            model: Decides which one is automatic.

        Raises:
            InputError: The page does not offer it.
        """
        if masker not in self.masker_names:
            raise InputError(f"the page does not offer the masker {masker!r}.")
        key = f"{AUTOMATIC} for {model}" if masker == AUTOMATIC else masker
        with self._lock:
            if key not in self._maskers:
                automatic = masker == AUTOMATIC
                black_box = self.black_box(model)
                made = default_masker(black_box) if automatic else as_masker(masker)
                self._maskers[key] = made
            return self._maskers[key]

    def optimized(self, model: str, images: Images) -> BlackBox:
        """The optimized copy of a model for images of this size, made once.

        Args:
            model: One of `model_names`.
            images: (B, C, H, W) on its device.
        """
        key = (model, tuple(images.shape[1:]))
        with self._lock:
            if key not in self._optimized:
                self._optimized[key] = self.black_box(model).optimized_for(images)
            return self._optimized[key]
