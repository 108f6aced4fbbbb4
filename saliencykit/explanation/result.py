"""Explanation: the immutable result of `explain`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from torch import Tensor

from saliencykit.core import checks
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry, boxes_in_source
from saliencykit.core.masker_output import MaskerOutput
from saliencykit.core.output import Output, reported
from saliencykit.core.types import Images, Labels, Logits, Mask, PerImage
from saliencykit.core.verdict import Verdict, verdicts
from saliencykit.core.visible_text import visible
from saliencykit.explanation import result_files
from saliencykit.explanation.audit_record import write_record
from saliencykit.explanation.smallest_regions import KINDS, SmallestRegions
from saliencykit.visualization.captions import as_text, caption
from saliencykit.visualization.display import display_arrays
from saliencykit.visualization.heatmap import Array
from saliencykit.visualization.html_page import plain
from saliencykit.visualization.mask_overlay import Style, draw_overlay
from saliencykit.visualization.mask_panels import mask_panels

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class Explanation:
    """The pixels that the decisions on a batch depend on. All tensors are on the CPU.

    Attributes:
        images: (B, C, H, W), what the model saw, as `provenance["inputs"]` says: raw in [0, 1], or
            normalized.
        labels: (B,), the explained classes.
        mask: (B, 1, H, W) in [0, 1]; 1 keeps.
        logits: The black box's logits of the whole images, (B, K).
        preserved: Its logits with only the masked region visible, (B, K); None without
            verification.
        destroyed: Its logits with the masked region replaced, (B, K), or None.
        replaced: Its logits with all pixels replaced, (B, K), or None.
        attributions: Raw, signed scores behind the mask, (B, 1, H, W), where the masker has any.
        channel_attributions: The same for each channel of the pixels, (B, C, H, W), where the
            masker tells them apart, as the gradient methods do.
        standard_error: Their standard error, (B, 1, H, W) or (B,), where the masker estimates it.
        box_thresholds: The value at which each mask is cut for its bounding box, (B,), where the
            masker chooses it.
        sufficient: The smallest regions that are enough, see `SmallestRegions`; None where
            `explain` did not search them.
        destroying: The smallest regions whose removal loses the decision, or None.
        class_names: A name for each class, where known.
        source_images: The source images, where images and not tensors were given.
        geometries: Where each input lies in its source image; None for tensors.
        output: What a column of the logits means, see `BlackBox`.
        provenance: Names, settings, seed and versions: enough to reproduce it.

    Example:
        >>> import torch
        >>> from saliencykit import explain
        >>> from saliencykit.testing import PlantedEvidence
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explanation = explain(PlantedEvidence(), images, [0, 1], masker="rise:samples=32")
        >>> explanation.mask.shape, len(explanation)
        (torch.Size([2, 1, 16, 16]), 2)
    """

    images: Images
    labels: Labels
    mask: Mask
    logits: Logits
    preserved: Logits | None = None
    destroyed: Logits | None = None
    replaced: Logits | None = None
    attributions: Tensor | None = None
    channel_attributions: Tensor | None = None
    standard_error: Tensor | None = None
    box_thresholds: PerImage | None = None
    sufficient: SmallestRegions | None = None
    destroying: SmallestRegions | None = None
    class_names: tuple[str, ...] | None = None
    source_images: "tuple[Image | None, ...]" = ()
    geometries: tuple[Geometry | None, ...] = ()
    output: Output = "softmax"
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """B, the number of images."""
        return len(self.images)

    @property
    def probability(self) -> PerImage:
        """p(label) of the whole image, in [0, 1]; for scores the score."""
        return reported(self.logits, self.labels, self.output)

    @property
    def kept(self) -> PerImage | None:
        """The same with only the masked region visible; None without verification."""
        return self._reported(self.preserved)

    @property
    def dropped(self) -> PerImage | None:
        """The same with the masked region replaced; None without verification."""
        return self._reported(self.destroyed)

    def _reported(self, logits: Logits | None) -> PerImage | None:
        return None if logits is None else reported(logits, self.labels, self.output)

    @property
    def verdicts(self) -> tuple[Verdict, ...] | None:
        """What `kept` and `dropped` show, one word per image; None without verification."""
        if self.preserved is None or self.destroyed is None:
            return None
        trials = (self.logits, self.preserved, self.destroyed, self.replaced)
        return verdicts(self.labels, *trials, output=self.output)

    @property
    def area(self) -> PerImage:
        """Mean of the mask, in [0, 1]: the fraction of pixels in it."""
        return self.mask.mean((1, 2, 3))

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, or their numbers where the names are unknown."""
        return tuple(
            self.class_names[i] if self.class_names else str(i) for i in self.labels.tolist()
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the masker says of each mask, such as its certificate; often empty."""
        return tuple(map(str, self.provenance.get("remarks") or ()))

    def heatmaps(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """The masks as numpy, (B, H, W) float32 in [0, 1]."""
        return np.asarray(self.mask[:, 0].float().numpy(), dtype=np.float32)

    def nested(self, areas: Sequence[float]) -> Mask:
        """Masks of other areas, smaller ones inside larger ones, in the order of the pixels of each
        mask; without another query.

        Args:
            areas: n fractions of the pixels, in (0, 1).

        Returns:
            (B, n, H, W) in [0, 1]; their means are the areas.

        Raises:
            InputError: An area is outside (0, 1).
        """
        return MaskerOutput(self.mask, self.attributions).nested(areas)

    def boxes(self, threshold: float | None = None) -> Tensor:
        """The tightest bounding box around each mask's pixels >= threshold, in its source image.

        Args:
            threshold: In (0, 1]. A mask that is below it everywhere gives the whole input of the
                model. None: the one that the masker chose for each mask, where it was trained to
                (`fit(..., boxes=)`), else 0.5.

        Returns:
            (B, 4) float: x0, y0, x1, y1 in pixels of the source image, or of `images` where tensors
            were given; x1 and y1 exclusive.

        Raises:
            InputError: The threshold is outside (0, 1].
        """
        if threshold is not None:
            checks.numbers("boxes", "(0, 1]", threshold=threshold)
        values = self.mask.new_full((len(self),), 0.5 if threshold is None else threshold)
        if threshold is None and self.box_thresholds is not None:
            values = self.box_thresholds.to(values)
        return boxes_in_source(self.mask >= values[:, None, None, None], self.geometries)

    def to_source(self) -> list[Mask]:
        """Each mask in the coordinates of its source image, (1, 1, H0, W0); 0 outside of the
        model's input.

        For tensors, which have no source image, the mask as it is.
        """
        places = self.geometries or (None,) * len(self)
        return [
            m[None] if g is None else g.to_source(m[None])
            for m, g in zip(self.mask, places, strict=True)
        ]

    def display_arrays(self, index: int = 0) -> tuple[Array, Array]:
        """One image (H, W, 3) and its mask (H, W), in [0, 1], at a size that suits a screen.

        Args:
            index: Which image, in [0, B).

        Raises:
            InputError: There is no such image.
        """
        if not 0 <= index < len(self):
            raise InputError(
                f"image {index}: the explanation has {len(self)} image(s), 0..{len(self) - 1}."
            )
        mask = self.mask[index : index + 1]
        source = self.source_images[index] if self.source_images else None
        if source is None or not self.geometries:
            return display_arrays(self.images[index : index + 1], mask)
        return display_arrays(source, mask, self.geometries[index])

    def overlay(self, index: int = 0, *, style: Style = "outline") -> "Image":
        """Draw a mask over its image.

        Args:
            index: Which image, in [0, B).
            style: `outline`: the kept pixels inside a line, the rest dark and gray. `heatmap`: the
                mask in colors over the image in gray, with a color bar. `kept`: the kept pixels on
                plain gray.

        Returns:
            An RGB image with the proportions of the source image (of the model's input if there is
            none), 320 to 1600 pixels wide and high where its proportions allow it; a heat map is
            wider by its color bar.

        Raises:
            InputError: There is no such image or style.
        """
        return draw_overlay(*self.display_arrays(index), style=style)

    def caption(self, index: int = 0) -> str:
        """One line: the class, its probability on the whole image, kept and dropped, the area, and
        the verdict in words.

        Args:
            index: Which image, in [0, B).
        """
        verdict, numbers = self._words(index) or None, self._numbers(index)
        return caption(self.label_names[index], **numbers, output=self.output, verdict=verdict)

    def _words(self, index: int) -> str:
        """The verdict, and what the searches found, in one line."""
        verdict = [] if self.verdicts is None else [self.verdicts[index].words]
        return "; ".join(verdict + self.region_words(index))

    def region_words(self, index: int = 0) -> list[str]:
        """A clause for each search: how much is enough, and how much must go.

        Args:
            index: Which image, in [0, B).
        """
        regions = {kind: getattr(self, kind) for kind in KINDS}
        return [r.words(index, k, self.output) for k, r in regions.items() if r is not None]

    def _numbers(self, index: int) -> dict[str, float]:
        names = ("probability", "kept", "dropped", "area")
        values = {name: getattr(self, name) for name in names}
        return {name: float(each[index]) for name, each in values.items() if each is not None}

    def panels(self, index: int = 0, *, height: int = 190) -> str:
        """HTML, self-contained: the image, the mask as a heat map, what it keeps and what it drops
        (the rest blurred), with the numbers and the verdict in words.

        Args:
            index: Which image, in [0, B).
            height: Of each panel on the screen, in pixels.

        Raises:
            InputError: There is no such image.
        """
        arrays, numbers = self.display_arrays(index), self._numbers(index)
        area = f"mask: {numbers.pop('area'):.1%} of the pixels"
        shown = {name: as_text(value, self.output) for name, value in numbers.items()}
        kept, dropped = (
            f"{name}: {shown[name]}" if name in shown else name for name in ("kept", "dropped")
        )
        return mask_panels(
            *arrays,
            self.label_names[index].split(",")[0],
            self._words(index),
            (f"image: {shown['probability']}", area, kept, dropped),
            height=height,
        )

    def save(self, directory: str | Path, *, style: Style = "outline", audit: bool = False) -> Path:
        """Write maps (safetensors), overlays (PNG) and, last, a manifest (JSON); nothing is
        pickled.

        Args:
            directory: Created if needed; an explanation in it is replaced.
            style: That of the overlays, see `overlay`.
            audit: Also write `audit.json`, see `explanation.audit`, which adds sanity checks.

        Returns:
            The directory.

        Raises:
            InputError: The directory cannot be written, or there is no such style.
        """
        directory = result_files.save(self, Path(directory), style)
        if audit:
            write_record(directory, self.facts())
        return directory

    def facts(self) -> dict[str, Any]:
        """What an audit record says about it: captions, verdicts, and the provenance."""
        return {
            "subject": "explanation",
            "images": len(self),
            "captions": [self.caption(index) for index in range(len(self))],
            "verdicts": self.verdicts,
            "model": {key: self.provenance.get(key) for key in ("model", "fingerprint")},
            "masker": self.provenance.get("masker"),
            "certificate": list(self.remarks) or None,
            "settings": self.provenance,
        }

    @staticmethod
    def load(directory: str | Path) -> "Explanation":
        """Read what `save` wrote.

        Args:
            directory: The directory that was given to `save`.

        Raises:
            InputError: There is no complete explanation in the directory, or it is damaged or of an
                unknown format.
        """
        return Explanation(**result_files.load(Path(directory)))

    def _repr_html_(self) -> str:
        shown = range(min(len(self), 8))
        masker = str(self.provenance.get("masker", "a masker")).split("(")[0]
        more = f"... and {len(self) - 8} more, " if len(self) > 8 else ""
        panels = "".join(map(self.panels, shown))
        return f"<div>{panels}<p style='margin:0'>{plain(f'{more}by {masker}')}</p></div>"

    def __repr__(self) -> str:
        """One line per image: label, probabilities, area and verdict."""
        rows = [f"  {visible(self.caption(index))}" for index in range(min(len(self), 10))]
        rows += [f"  {visible(each)}" for each in dict.fromkeys(self.remarks)]
        masker = str(self.provenance.get("masker", "a masker")).split("(")[0]
        more = [f"  ... and {len(self) - 10} more"] if len(self) > 10 else []
        images = len(set(self.provenance.get("sources") or range(len(self))))
        masks = f"{len(self)} masks of " if images < len(self) else ""
        return "\n".join([f"Explanation of {masks}{images} image(s) by {masker}", *rows, *more])
