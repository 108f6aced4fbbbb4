"""Exploration: one explained image, which is queried again for another budget or alternative."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, final

import numpy as np
import torch
from torch import Generator

from saliencykit.app.workbench import AUTOMATIC, Workbench
from saliencykit.black_boxes.contrast import Contrast
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import relative_to, reported
from saliencykit.core.types import Images, Logits, Mask
from saliencykit.explanation.explain_images import explain
from saliencykit.explanation.result import Explanation
from saliencykit.registry.coerce import as_alternative
from saliencykit.visualization.heatmap import Array

OnQuery: TypeAlias = Callable[[int, int | None], None]
"""Called with the evaluations of the model so far, and of all, if known."""

T = TypeVar("T")
_SIDE = 512  # pixels; the longer side of what is shown
_TOP = 5


@final
@dataclass(frozen=True)
class Choice:
    """What a person chose on the page.

    Attributes:
        model: A name of the workbench.
        masker: A name of the workbench.
        label: The explained class; None: the top one.
        against: The class that it is contrasted with, or None.
    """

    model: str
    masker: str = AUTOMATIC
    label: int | None = None
    against: int | None = None


@final
@dataclass(frozen=True)
class View:
    """An explanation at one budget.

    Attributes:
        explanation: Its mask has the budget's area; verified.
        answers: The model's own logits of the whole, the kept and the dropped image, (3, K).
        edited: The kept and the dropped image as the model got them, (2, C, H, W).
        is_composed: Are they the image under the mask, and one fill elsewhere?
    """

    explanation: Explanation
    answers: Logits
    edited: Images
    is_composed: bool


@final
@dataclass(frozen=True, eq=False)
class Exploration:
    """An image that was explained once.

    Attributes:
        choice: What was chosen; its label is known.
        explanation: Of one image, without verification.
        whole: The model's own logits, (1, K); those of the explanation are relative for a contrast.
        black_box: The model, optimized.
        name: Of the image's file, for people.
    """

    choice: Choice
    explanation: Explanation
    whole: Logits
    black_box: BlackBox
    name: str
    _remembered: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def area(self) -> float:
        """Of the masker's own mask."""
        return float(self.explanation.area[0])

    def class_name(self, label: int) -> str:
        """Of a class of the model; synonyms are left out."""
        names = self.explanation.class_names
        return names[label].split(",")[0] if names else f"class {label}"

    def top(self) -> list[tuple[int, float]]:
        """The most probable classes of the whole image, with what the model says of them."""
        count = min(_TOP, self.whole.shape[1])
        best = self.whole[0].topk(count).indices
        output = self.black_box.output
        values = reported(self.whole.expand(count, -1), best, output)
        return list(zip(best.tolist(), values.tolist(), strict=True))

    def view(self, budget: float | None, alternative: str) -> View:
        """The explanation with a mask of another area, verified by two queries in one batch.

        Args:
            budget: The area, in (0, 1). None: the masker's own mask.
            alternative: Replaces pixels in the verification, a text.

        Raises:
            InputError: The budget is outside of (0, 1), or the model raised.
            RegistryError: There is no such alternative.
        """
        own = self.explanation
        mask = own.mask if budget is None else own.nested((budget,))
        fill, replaced = self._fill(alternative)
        images, keep = own.images.to(self.black_box.device), mask.to(self.black_box.device)
        with torch.no_grad():
            edited = torch.cat(_edits(fill, images, [keep, 1 - keep]))
            logits = self.black_box(edited).cpu()
        kept, dropped = (self._relative(each) for each in (logits[:1], logits[1:]))
        explanation = replace(
            own,
            mask=mask,
            preserved=kept,
            destroyed=dropped,
            replaced=self._relative(replaced),
            provenance=own.provenance | {"budget": budget, "alternative": repr(fill)},
        )
        answers = torch.cat([self.whole, logits])
        return View(explanation, answers, edited.cpu(), type(fill).edit is Alternative.edit)

    def display(self) -> tuple[Array, Geometry]:
        """What the model saw of the source image, at a size for the page: (H, W, 3) in [0, 1], and
        where the model's input lies in it.
        """
        return self.remember("display", lambda: _display(self.explanation))

    def remember(self, key: Any, make: Callable[[], T]) -> T:
        """What does not change with the budget, made once.

        Args:
            key: Of it, hashable.
            make: Called the first time.
        """
        if key not in self._remembered:
            self._remembered[key] = make()
        return self._remembered[key]  # type: ignore[no-any-return]

    def _fill(self, text: str) -> tuple[Alternative, Logits]:
        """The alternative, and the model's answer to nothing else; made once."""

        def make() -> tuple[Alternative, Logits]:
            fill = as_alternative(text).for_black_box(self.black_box)
            images = self.explanation.images.to(self.black_box.device)
            with torch.no_grad():
                nothing = _edits(fill, images, [torch.zeros_like(images[:, :1])] * 3)[-1]
                return fill, self.black_box(nothing).cpu()

        return self.remember(("fill", text), make)

    def _relative(self, logits: Logits) -> Logits:
        return relative_to(logits, self.choice.against)


def explore(
    workbench: Workbench,
    image: Any,
    choice: Choice,
    *,
    name: str | None = None,
    on_query: OnQuery | None = None,
) -> Exploration:
    """Explain one image of any form that `explain` takes, except tensors.

    Args:
        workbench: Has the model and the masker.
        image: A file, a PIL image or an array; None: nothing was dropped yet.
        choice: What a person chose.
        name: For people; None: that of the file, or `image.png`.
        on_query: Progress.

    Raises:
        InputError: The image cannot be read, there are several or a tensor, the classes are the
            same, or the model raised.
        GradientError: The masker needs gradients and the model is query-only.
        RegistryError: The masker is unknown.
    """
    if image is None:
        raise InputError("drop an image, or take one with the camera.")
    name = name or (Path(image).name if isinstance(image, str) else "image.png")
    black_box = workbench.black_box(choice.model)
    target = None if choice.against is None else Contrast(against=choice.against)
    explanation = explain(
        black_box,
        image,
        choice.label,
        masker=workbench.masker(choice.masker, choice.model),
        target=target,
        verify=False,
        progress=on_query or False,
    )
    if len(explanation) != 1 or not any(explanation.source_images):
        raise InputError("one image is explored: a file, a PIL image or a uint8 array (H, W, C).")
    images = explanation.images.to(black_box.device)
    optimized = workbench.optimized(choice.model, images)
    with torch.no_grad():
        whole = optimized(images).cpu() if target else explanation.logits
    chosen = replace(choice, label=int(explanation.labels[0]))
    return Exploration(chosen, explanation, whole, optimized, name)


def _edits(fill: Alternative, images: Images, masks: Sequence[Mask]) -> list[Images]:
    """The images with masks of theirs, with the random numbers of `explain`: the mask advances them
    by one, then come the kept, the dropped and the replaced image.
    """
    generator = Generator().manual_seed(0)
    rng.fork(generator)
    return [fill.edit(images, mask, generator) for mask in masks]


def _display(explanation: Explanation) -> tuple[Array, Geometry]:
    image, geometry = explanation.source_images[0], explanation.geometries[0]
    assert image is not None  # files are read as images
    assert geometry is not None
    x0, y0, x1, y1 = geometry.region
    left, top = max(0, round(x0)), max(0, round(y0))
    right, bottom = min(image.width, round(x1)), min(image.height, round(y1))
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    scale = _SIDE / max(right - left, bottom - top)
    width, height = (max(1, round(side * scale)) for side in (right - left, bottom - top))
    shown = image.convert("RGB").resize((width, height), box=(left, top, right, bottom))
    across, down = width / (right - left), height / (bottom - top)
    region = ((x0 - left) * across, (y0 - top) * down, (x1 - left) * across, (y1 - top) * down)
    pixels = np.asarray(shown, dtype=np.float32) / 255
    return pixels, replace(geometry, source_size=(height, width), region=region)
