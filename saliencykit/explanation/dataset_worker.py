"""Worker: explains the pictures of one block together; what fails is a row with its reason."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, final

import torch
from torch import Tensor

from saliencykit.black_boxes.cached import CachedCopies
from saliencykit.core import rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.checks import reason_of
from saliencykit.core.class_scores import probability
from saliencykit.core.errors import SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Logits, Mask
from saliencykit.data.loader import LoadedImage, SampleBatch
from saliencykit.explanation.explain_images import explain_batch
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

    def explain(self, pictures: Sequence[LoadedImage]) -> list[Explained]:
        """Pictures of one size, in their order; if something fails, each on its own, so that one
        costs no other.

        Raises:
            SaliencyKitError: The device's memory does not suffice.
        """
        try:
            return self._together(pictures)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            raise SaliencyKitError(
                f"{len(pictures)} pictures at once need more memory than {self.black_box.device} has; "
                "make the batch smaller (--batch-size 1)."
            ) from error
        except Exception as error:
            if len(pictures) > 1:
                return [one for picture in pictures for one in self.explain([picture])]
            return [
                Explained(
                    ExplainedRow(
                        name=pictures[0].name, index=pictures[0].index, reason=reason_of(error)
                    )
                )
            ]

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
            fast=fast,
        )
        found, trial, labels = answer.found, answer.trial, answer.labels
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


def in_blocks(each: Iterable[LoadedImage | SampleBatch], batch: int) -> Iterator[list[LoadedImage]]:
    """Pictures of one block of `batch` indices, as they come one after the other; those of a Sample
    on their own.

    Which pictures come together is decided by their indices alone, so that the answers, which
    depend on the batch in their last digits, are the same in whatever process and after whatever
    interruption.
    """
    waiting: list[LoadedImage] = []
    for one in each:
        for picture in _of_sample(one) if isinstance(one, SampleBatch) else (one,):
            if waiting and picture.index // batch != waiting[0].index // batch:
                yield waiting
                waiting = []
            waiting.append(picture)
    if waiting:
        yield waiting


def by_size(pictures: Iterable[LoadedImage]) -> list[list[LoadedImage]]:
    """Those that could be read, each size together."""
    sizes: dict[tuple[int, ...], list[LoadedImage]] = {}
    for picture in pictures:
        if picture.image is not None:
            sizes.setdefault(tuple(picture.image.shape[1:]), []).append(picture)
    return list(sizes.values())


def overlaid(picture: LoadedImage, image: Images, mask: Mask) -> "Image":
    """The picture with its mask over it.

    Args:
        picture: With the original, if it was kept.
        image: As the model saw it, (1, C, H, W).
        mask: (1, 1, H, W).
    """
    if picture.picture is None:
        return draw_overlay(*display_arrays(image, mask))
    return draw_overlay(*display_arrays(picture.picture, mask, picture.geometry))


def _of_sample(given: SampleBatch) -> Iterator[LoadedImage]:
    sample = given.sample
    for i, name in enumerate(given.names):
        yield LoadedImage(
            given.first + i, name, sample.images[i : i + 1].cpu(), int(sample.labels[i])
        )
