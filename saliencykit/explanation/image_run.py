"""The images of one call of explain(), in batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from saliencykit._version import __version__
from saliencykit.black_boxes.repeated import is_known_as_steady
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import GradientError, InputError, SaliencyKitError
from saliencykit.core.masker import Masker
from saliencykit.core.types import Images, Labels, Logits
from saliencykit.data.images import ImageBatch
from saliencykit.explanation.disjoint_regions import explain_regions
from saliencykit.explanation.doubts import unsteady_answers
from saliencykit.explanation.given_labels import label_index
from saliencykit.explanation.result import Explanation
from saliencykit.explanation.smallest_regions import region_tensors, smallest_regions
from saliencykit.maskers.certified import NO_GUARANTEE, OTHER_CLASS
from saliencykit.metrics.region_search import RegionSearch
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.runs.batch_runner import BatchResult, run_batch
from saliencykit.runs.run_settings import text_of

_CHUNK = 16  # images that are explained together; results do not depend on it


@final
@dataclass(frozen=True)
class ImageRun:
    """What one call of `explain` does with its images.

    Args:
        black_box: The classifier.
        masker: Bound to it.
        batch: The images.
        labels: By image, the classes to explain; None stands for the predicted one.
        regions: The number of regions of each class.
        fill: The alternative, bound to the black box.
        verify: Query the model with each mask kept and replaced?
        seed: Of the masks.
        repeats: How often each query is averaged; only a model queried once is tested for noise.
        searches: For the smallest regions, by name.
        messages: What to warn of; filled while it runs.
    """

    black_box: BlackBox
    masker: Masker
    batch: ImageBatch
    labels: Sequence[Sequence[object]]
    regions: int
    fill: Alternative
    verify: bool
    seed: int
    repeats: int
    searches: Mapping[str, RegionSearch]
    messages: list[str] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of an Explanation for all images, in batches."""
        rows: list[dict[str, Tensor]] = []
        for first in range(0, len(self.batch), _CHUNK):
            rows += run_batch(
                self.explain,
                range(first, min(first + _CHUNK, len(self.batch))),
                self.failed,
                device=self.black_box.device,
                who=name_of(self.masker),
                split=True,
            )
        return {key: torch.cat([row[key] for row in rows]) for key in rows[0]}

    def explanation(self, tensors: dict[str, Any], seconds: float) -> Explanation:
        """The result, with where each mask comes from."""
        black_box, batch = self.black_box, self.batch
        owners = [row for row in range(len(batch)) for _ in range(self.masks(row))]
        provenance = {
            "saliencykit": __version__,
            "torch": torch.__version__,
            "model": repr(black_box),
            "fingerprint": fingerprint(black_box),
            "masker": text_of(self.masker),
            "alternative": repr(self.fill) if self.verify else None,
            "output": black_box.output,
            "inputs": batch.inputs,
            "pixel_range": black_box.pixel_range,
            "regions": self.regions,
            "sources": [batch.sources[row] for row in owners],
            "remarks": self.remarks(tensors),
            "seed": self.seed,
            "seconds": round(seconds, 3),
        }
        geometries = tuple(batch.geometries[row] for row in owners)
        tensors |= smallest_regions(tensors, self.searches, geometries, black_box.output)
        return Explanation(
            **tensors,
            class_names=None if black_box.class_names is None else tuple(black_box.class_names),
            source_images=tuple(batch.source_images[row] for row in owners),
            geometries=geometries,
            output=black_box.output,
            provenance=provenance,
        )

    def remarks(self, tensors: Mapping[str, Tensor]) -> list[str]:
        """What the masker has to say, by mask; a certificate that does not hold is a warning."""
        if self.regions > 1:  # they were chosen for one mask
            return []
        some = (tensors["images"], tensors["logits"], tensors["labels"])
        remarks = self.masker.remarks(*some)
        for reason in (NO_GUARANTEE, OTHER_CLASS):
            if lost := remarks.count(reason):
                self.messages.append(f"{lost} of {len(remarks)} masks: {reason}.")
        return list(remarks)

    def explain(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """The tensors of an Explanation for each of these neighboring rows."""
        images = self.batch.images[rows[0] : rows[-1] + 1].to(self.black_box.device)
        results = explain_regions(
            self.black_box,
            self.masker,
            images,
            partial(self._choose, rows),
            regions=self.regions,
            fill=self.fill,
            verify=self.verify,
            seed=self.seed,
        )
        search = partial(region_tensors, self.searches, self.black_box, images)
        found = [
            _tensors(images, result) | _on_cpu(search(result, fill=self.fill, seed=self.seed))
            for result in results
        ]
        if rows[0] == 0 and self._looks_for_noise:  # after what refuses the black box unqueried
            self.messages[:] = unsteady_answers(self.black_box, images[:1])
        return [
            {
                key: torch.cat([each[key][i : i + 1] for each in found[: self.masks(row)]])
                for key in found[0]
            }
            for i, row in enumerate(rows)
        ]

    def evaluations(self) -> int | None:
        """How many evaluations of the model it takes, where the masker knows."""
        known = self.masker.evaluations(self.black_box, self.batch.images[:1])
        if known is None:
            return None
        masks = sum(map(self.masks, range(len(self.batch))))
        pixels, scores = self.batch.images[0, 0].numel(), self.black_box.output == "score"
        searched = sum(each.queries(pixels, scores=scores) for each in self.searches.values())
        return (
            masks * (known + 3 * self.verify + searched)
            + len(self.batch)
            + 2 * self._looks_for_noise
        )

    @property
    def _looks_for_noise(self) -> bool:
        """Is the first image queried twice more? That is part of the first verification."""
        return self.verify and self.repeats == 1 and not is_known_as_steady(self.black_box)

    def masks(self, row: int) -> int:
        """The number of masks of an image."""
        return len(self.labels[row]) * self.regions

    def _choose(self, rows: Sequence[int], logits: Logits) -> Labels:
        """The labels of these rows, (B, n); rows with fewer labels repeat their last one."""
        most = max(len(self.labels[row]) for row in rows)
        chosen = []
        for row, best in zip(rows, logits.argmax(1).tolist(), strict=True):
            wanted = self.labels[row]
            known = [
                best if each is None else label_index(each, self.black_box, row) for each in wanted
            ]
            chosen.append(known + known[-1:] * (most - len(known)))
            if self.black_box.against in known:
                raise InputError(
                    f"class {self.black_box.against} is contrasted with itself; explain another "
                    "class against it, Contrast(label, against=...)."
                )
        return torch.tensor(chosen, dtype=torch.int64, device=logits.device)

    def failed(self, row: int, error: Exception) -> dict[str, Tensor]:
        """Raise the error with the name of the image, if there are several."""
        name = self.batch.sources[row]
        if len(self.batch) == 1 or isinstance(error, GradientError) or name in str(error):
            raise error
        if isinstance(error, SaliencyKitError):
            raise type(error)(f"{name}: {error}") from error
        error.add_note(f"This was {name} of explain.")
        raise error


def _tensors(images: Images, result: BatchResult) -> dict[str, Tensor]:
    """What an Explanation keeps of a result, on the CPU."""
    output, trial = result.output, result.trial
    tensors = {
        "images": images,
        "labels": result.labels,
        "mask": output.mask,
        "logits": result.logits,
        "attributions": output.attributions,
        "channel_attributions": output.channel_attributions,
        "standard_error": output.standard_error,
        "box_thresholds": output.box_threshold,
        "preserved": None if trial is None else trial.preserved,
        "destroyed": None if trial is None else trial.destroyed,
        "replaced": result.replaced,
    }
    return _on_cpu({key: value for key, value in tensors.items() if value is not None})


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu() for key, value in tensors.items()}
