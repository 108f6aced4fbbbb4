"""Worker: explains images of one size together; what fails alone is a row with its failure."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.black_boxes.repeated import RepeatedQueries
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.errors import GradientError, ReliabilityWarning
from saliencykit.core.masker import Masker
from saliencykit.core.output import Output, reported
from saliencykit.core.types import Labels, Logits, Mask
from saliencykit.data.batches import by_size
from saliencykit.data.label_lookup import class_index
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.data.record import Label
from saliencykit.explanation.doubts import unsteady_answers
from saliencykit.explanation.explain_images import default_masker
from saliencykit.explanation.smallest_regions import region_tensors, searches_for
from saliencykit.metrics.region_search import RegionSearch
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker
from saliencykit.runs.batch_runner import BatchResult, explain_batch, run_batch
from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal
from saliencykit.storage.map_encoding import Precision, packed
from saliencykit.visualization.display import display_arrays
from saliencykit.visualization.mask_overlay import draw_overlay

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class Explained:
    """The result for one image.

    Attributes:
        image: The image.
        row: Its row.
        map: (h, w), as it will be stored; None after a failure.
        mask: (1, 1, H, W), as the masker returned it.
    """

    image: LoadedImage
    row: ExplainedRow
    map: Tensor | None = None
    mask: Tensor | None = None


@final
@dataclass(frozen=True)
class Worker:
    """A classifier, a masker and a verification, ready for many images.

    Args:
        black_box: The classifier.
        masker: Made ready for it, see `Masker.for_black_box`.
        fill: Replaces pixels in the verification and the searches.
        label: The class to explain for all images; `top`: the model's top class; None: each image's
            own class, or the top class where it has none.
        seed: Random seed.
        verify: Query the model with the mask kept and with the mask replaced.
        precision: Data type of the stored maps.
        searches: Of smallest regions, by kind; they need a `fill`.
        tested: Not empty once the black box was tested for answers that differ.
    """

    black_box: CachedCopies
    masker: Masker
    fill: Alternative | None
    label: int | Literal["top"] | None
    seed: int
    precision: Precision
    verify: bool = True
    searches: Mapping[str, RegionSearch] = field(default_factory=dict)
    tested: list[bool] = field(default_factory=list)

    @staticmethod
    def of(
        model: object,
        *,
        masker: Masker | str | None,
        budget: float | None = None,
        alternative: Alternative | str | None,
        label: Label | None,
        classes: Mapping[str, int] | None = None,
        verify: bool,
        seed: int,
        sufficient: bool | float = False,
        destroying: bool | float = False,
        precision: Precision = "uint8",
    ) -> "Worker":
        """A worker from what a user gives; the arguments are those of `explain_dataset`.

        Raises:
            InputError: An argument cannot be used.
            GradientError: The masker needs gradients and the model is query-only.
            RegistryError: A name is unknown.
        """
        black_box = as_black_box(model)
        chosen = default_masker(black_box) if masker is None else as_masker(masker)
        if chosen.needs_gradient and not black_box.differentiable:
            raise GradientError(
                f"{name_of(chosen)} needs gradients and {name_of(black_box)} is query-only; write "
                "masker='rise'."
            )
        chosen = chosen.bound_to(black_box).with_budget(budget)
        fill = as_alternative("blur" if alternative is None else alternative)
        fill = fill.for_black_box(black_box)
        fixed: int | Literal["top"] | None = "top" if label == "top" else None
        if label is not None and label != "top":
            fixed = class_index(label, black_box, classes)
        copies = CachedCopies(black_box)
        searches = searches_for(sufficient, destroying, "mask")
        used = fill if verify or searches else None
        return Worker(copies, chosen, used, fixed, seed, precision, verify, searches)

    def explain(self, images: Sequence[LoadedImage]) -> list[Explained]:
        """Images of any sizes, in their order; those of one size together, or each alone if that
        fails.

        Raises:
            DeviceMemoryError: The device's memory is too small.
        """
        explained = [
            Explained(each, failed_row(each, each.failure)) for each in images if each.image is None
        ]
        for same in by_size(images):
            explained += self._of_one_size(same)
        return sorted(explained, key=lambda each: each.row.index)

    def _of_one_size(self, images: Sequence[LoadedImage]) -> list[Explained]:

        def failed(row: int, error: Exception) -> Explained:
            return Explained(images[row], failed_row(images[row], reason_of(error)))

        return run_batch(
            lambda rows: self._together([images[row] for row in rows]),
            range(len(images)),
            failed,
            device=self.black_box.device,
            who=name_of(self.masker),
        )

    def _together(self, loaded: Sequence[LoadedImage]) -> list[Explained]:
        images = torch.cat([each.image for each in loaded if each.image is not None])
        fixed = None if self.label == "top" else self.label
        own = [each.label if self.label is None else fixed for each in loaded]

        def choose(logits: Logits) -> Labels:
            top = logits.argmax(1).tolist()
            chosen = [t if label is None else label for label, t in zip(own, top, strict=True)]
            return torch.tensor(chosen, dtype=torch.int64, device=logits.device)

        moved = images.to(self.black_box.device)
        if not self.tested:
            self.tested.append(True)
            repeated = isinstance(self.black_box.black_box, RepeatedQueries)
            for message in [] if repeated else unsteady_answers(self.black_box, moved[:1]):
                warnings.warn(message, ReliabilityWarning, stacklevel=2)
        started, optimized = time.perf_counter(), self.black_box.optimized_for(moved)
        result = explain_batch(
            self.black_box,
            self.masker,
            moved,
            choose,
            fill=self.fill if self.verify else None,
            seed=self.seed,
            optimized=optimized,
        )
        output, columns = result.output, _columns(result, self.black_box.output)
        if self.fill is not None:
            some = (self.searches, optimized, moved, result)
            columns |= _region_columns(region_tensors(*some, fill=self.fill, seed=self.seed))
        small = output.mask if output.low_res_mask is None else output.low_res_mask
        maps, mask = packed(small[:, 0], self.precision), output.mask.cpu()
        # the results are on the CPU: a GPU has finished
        columns["seconds"] = [(time.perf_counter() - started) / len(loaded)] * len(loaded)
        keys, names = rng.image_keys(images).tolist(), self.black_box.class_names or ()
        name_of_class = dict(enumerate(names)).get
        tops = result.logits.argmax(1).tolist() if self.black_box.output == "softmax" else None
        explained = []
        for i, (each, label) in enumerate(zip(loaded, result.labels.tolist(), strict=True)):
            row = ExplainedRow(
                name=each.name,
                index=each.index,
                label=label,
                label_name=name_of_class(label),
                predicted=tops[i] if tops else None,
                predicted_name=name_of_class(tops[i]) if tops else None,
                height=images.shape[2],
                width=images.shape[3],
                image_key=hexadecimal(keys[i]),
                file_key=each.file_key,
                **{name: values[i] for name, values in columns.items()},  # type: ignore[arg-type]
            )
            explained.append(Explained(each, row, maps[i], mask[i : i + 1]))
        return explained


def _columns(result: BatchResult, output: Output) -> dict[str, Sequence[float | str | None]]:
    """The numbers of the rows, and the verdicts."""
    columns = {
        "probability": reported(result.logits, result.labels, output),
        "area": result.output.mask.float().mean((1, 2, 3)),
    }
    if result.trial is not None:
        columns["kept"] = reported(result.trial.preserved, result.labels, output)
        columns["dropped"] = reported(result.trial.destroyed, result.labels, output)
    found = result.verdicts(output)
    known = {} if found is None else {"verdict": found}
    return known | {name: values.tolist() for name, values in columns.items()}


def _region_columns(tensors: Mapping[str, Tensor]) -> dict[str, Sequence[float | None]]:
    """The areas and probabilities of smallest regions; None where there is no region."""
    return {
        name.replace(".", "_"): [None if value != value else value for value in values.tolist()]
        for name, values in tensors.items()
        if not name.endswith(".mask")
    }


def failed_row(image: LoadedImage, failure: str | None) -> ExplainedRow:
    """The row of an image that has no map."""
    return ExplainedRow(
        name=image.name, index=image.index, file_key=image.file_key, failure=failure
    )


def draw(image: LoadedImage, mask: Mask) -> "Image":
    """The overlay of a mask over its source image, or over the model's input if that was not kept.

    Args:
        image: The image, which could be read.
        mask: (1, 1, H, W).
    """
    if image.source_image is not None:
        return draw_overlay(*display_arrays(image.source_image, mask, image.geometry))
    assert image.image is not None
    return draw_overlay(*display_arrays(image.image, mask))
