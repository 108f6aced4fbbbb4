"""Worker: explains the pictures of one block together; what fails is a row with its reason."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.checks import name_of, reason_of
from saliencykit.core.class_scores import probability
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.data.loaded_image import LoadedImage
from saliencykit.runs.batch_runner import explain_batch, run_batch
from saliencykit.storage.explanation_rows import ExplainedRow, hexadecimal
from saliencykit.storage.map_shards import Precision, packed
from saliencykit.visualization.display import display_arrays
from saliencykit.visualization.mask_overlay import draw_overlay

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True)
class Explained:
    """What is known of one picture.

    Attributes:
        row: Without its place in a shard.
        map: (h, w), as it is stored; None if there is a reason.
        mask: (1, 1, H, W), as it was found.
    """

    row: ExplainedRow
    map: Tensor | None = None
    mask: Tensor | None = None


@final
@dataclass(frozen=True)
class Worker:
    """A classifier, a masker and a check, ready for many pictures.

    Args:
        black_box: The classifier.
        masker: Made ready for it, see `Masker.for_black_box`.
        fill: What replaces pixels in the check; None: no check.
        label: The class asked about for every picture; `top`: the model's own answer; None: each
            picture's own class, or the model's answer where it has none.
        seed: Of everything that is drawn.
        precision: Of the stored maps.
    """

    black_box: CachedCopies
    masker: Masker
    fill: Alternative | None
    label: int | Literal["top"] | None
    seed: int
    precision: Precision

    def explain(self, images: Sequence[LoadedImage]) -> list[Explained]:
        """Images of one size, in their order; if something fails, each alone.

        Raises:
            DeviceMemoryError: The device's memory is too small.
        """

        def failed(row: int, error: Exception) -> Explained:
            name, index = images[row].name, images[row].index
            return Explained(ExplainedRow(name=name, index=index, reason=reason_of(error)))

        return run_batch(
            lambda rows: self._together([images[row] for row in rows]),
            range(len(images)),
            failed,
            device=self.black_box.device,
            who=name_of(self.masker),
        )

    def _together(self, pictures: Sequence[LoadedImage]) -> list[Explained]:
        images = torch.cat([picture.image for picture in pictures if picture.image is not None])
        fixed = None if self.label == "top" else self.label
        own = [picture.label if self.label is None else fixed for picture in pictures]

        def choose(logits: Logits) -> Labels:
            top = logits.argmax(1).tolist()
            chosen = [
                best if label is None else label for label, best in zip(own, top, strict=True)
            ]
            return torch.tensor(chosen, dtype=torch.int64, device=logits.device)

        started = time.perf_counter()
        images_there = images.to(self.black_box.device)
        fast = self.black_box.optimized_for(images_there)
        answer = explain_batch(
            self.black_box,
            self.masker,
            images_there,
            choose,
            fill=self.fill,
            seed=self.seed,
            optimized=fast,
        )
        found, trial, labels = answer.output, answer.trial, answer.labels
        small = packed(
            (found.mask if found.low_res_mask is None else found.low_res_mask)[:, 0], self.precision
        )
        columns = {
            "probability": probability(answer.logits, labels).tolist(),
            "area": found.mask.float().mean((1, 2, 3)).tolist(),
        }
        if trial is not None:
            columns["kept"] = probability(trial.preserved, labels).tolist()
            columns["dropped"] = probability(trial.destroyed, labels).tolist()
        mask = found.mask.cpu()
        # the answers have come back: a GPU is done too
        seconds = (time.perf_counter() - started) / len(pictures)
        keys, names = rng.image_keys(images).tolist(), self.black_box.class_names
        size = (images.shape[2], images.shape[3])
        rows = []
        for i, (picture, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
            row = ExplainedRow(
                name=picture.name,
                index=picture.index,
                label=label,
                label_name=names[label] if names is not None and label < len(names) else None,
                seconds=seconds,
                size=size,
                picture=hexadecimal(keys[i]),
                **{name: values[i] for name, values in columns.items()},
            )
            rows.append(Explained(row, small[i], mask[i : i + 1]))
        return rows


def overlaid(picture: LoadedImage, image: Images, mask: Mask) -> "Image":
    """The picture with its mask over it.

    Args:
        picture: With the original, if it was kept.
        image: As the model saw it, (1, C, H, W).
        mask: (1, 1, H, W).
    """
    if picture.source_image is None:
        return draw_overlay(*display_arrays(image, mask))
    return draw_overlay(*display_arrays(picture.source_image, mask, picture.geometry))
