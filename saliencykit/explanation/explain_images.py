"""explain(): the pixels that a decision depends on."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias, final

import torch
from torch import Tensor

from saliencykit._version import __version__
from saliencykit.black_boxes.contrast import Contrast
from saliencykit.black_boxes.pixel_range import with_pixel_range
from saliencykit.black_boxes.repeated import averaged, is_known_as_steady
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import (
    GradientError,
    InputError,
    ReliabilityWarning,
    SaliencyKitError,
)
from saliencykit.core.masker import Masker
from saliencykit.core.output import Output
from saliencykit.core.types import Images, Labels, Logits, Target
from saliencykit.data.images import ImageBatch, as_images
from saliencykit.explanation.disjoint_regions import explain_regions
from saliencykit.explanation.doubts import doubts, unsteady_answers
from saliencykit.explanation.given_labels import label_index, label_lists
from saliencykit.explanation.query_progress import Progress, reporting
from saliencykit.explanation.result import Explanation
from saliencykit.explanation.smallest_regions import (
    region_tensors,
    searches_for,
    smallest_regions,
)
from saliencykit.explanation.targeted import with_target
from saliencykit.maskers.certified import NO_GUARANTEE, OTHER_CLASS
from saliencykit.maskers.optimization.iterative import Iterative
from saliencykit.metrics.region_search import RegionForm, RegionSearch
from saliencykit.networks.model_fingerprint import fingerprint
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker, trained_masker
from saliencykit.runs.batch_runner import BatchResult, run_batch
from saliencykit.runs.run_settings import text_of

_Label: TypeAlias = int | str | None
_CHUNK = 16  # images that are explained together; results do not depend on it


def explain(
    model: object,
    image: Any,
    label: _Label | Tensor | Sequence[_Label | Sequence[_Label]] = None,
    *,
    masker: Masker | str | None = None,
    refine: int = 0,
    budget: float | None = None,
    alternative: Alternative | str | None = None,
    output: Output | None = None,
    target: Contrast | Target | None = None,
    regions: int = 1,
    sufficient: bool | float = False,
    destroying: bool | float = False,
    region_form: RegionForm = "mask",
    inputs: Literal["auto", "raw", "normalized"] = "auto",
    pixel_range: tuple[float, float] | None = None,
    verify: bool = True,
    repeats: int = 1,
    seed: int = 0,
    progress: Progress = False,
) -> Explanation:
    """Find the pixels that a classifier's decision depends on, and verify them by querying the
    classifier again.

    Args:
        model: A torch module, a function from numpy (B, H, W, C) to (B, K), a name
            (`timm:resnet18`, `torchvision:mobilenet_v2`, `demo`), or a BlackBox.
        image: A path, a PIL image, a numpy array (H, W, C), a tensor (C, H, W) or (B, C, H, W),
            or a list of these.
        label: The class to explain: its index, its name, or one of these per image. Several
            classes of each image as lists, `[[281, "tiger cat"]]`. None: the model's top class.
        masker: The attribution method: a Masker, a text like `rise:samples=500`, or the file of a
            trained masker. None: the one trained for exactly this model, if there is one; else
            `iterative`, or `rise` if the model is query-only.
        refine: Steps of `iterative` that start from the masker's mask; ten are a good number. 0:
            none.
        budget: Area of every mask, a fraction of the pixels in (0, 1): the best ones in the
            masker's own order. None: the area that the masker chooses.
        alternative: Replaces pixels in the verification: an Alternative or a text like
            `blur:sigma=11`. None: blur.
        output: What a column of the model's output means: `softmax` (an exclusive class), `sigmoid`
            (a label on its own: multi-label) or `score` (a number without a scale: regression,
            similarity). None: `softmax`, or what the black box says.
        target: Something else than a class: a callable from what the model returns to scores (B,)
            or (B, K), such as `Similarity`, `SegmentationClass` or `DetectionScore`; or a
            `Contrast` of two classes.
        regions: How many regions that do not overlap, each found with the former ones replaced.
        sufficient: Search the smallest region that is enough, for about 10 queries: with only it
            visible the label has at least this fraction of the whole image's probability. True:
            0.9.
        destroying: Search the smallest region whose removal leaves at most this fraction. True:
            0.1.
        region_form: Of these two: `mask`: the best pixels of the mask. `crop`: their bounding box,
            cropped and enlarged, as in the paper's metric.
        inputs: What tensors contain: `raw`: RGB in [0, 1]; `normalized`: what `model(x)` takes;
            `auto`: `normalized` unless a BlackBox or a name was given. Image files are always raw.
        pixel_range: The values of black and white in raw images of more than 8 bits, such as `(0,
            4095)`. None: what the file declares, else a guess with a warning.
        verify: Query the model with the mask kept and with the mask replaced, and twice with the
            first image, to see whether it is deterministic.
        repeats: Queries to average wherever the model is queried, for models that are not
            deterministic; see `RepeatedQueries`.
        seed: Random seed. An image gets the same mask alone and in a batch.
        progress: Show a progress bar (tqdm; a widget in notebooks)? Or a function, called after
            each query with the numbers of evaluations so far and of all, or None where that is
            unknown.

    Returns:
        An Explanation of the B images, on the CPU; with several classes or regions an image has a
        row for each: all regions of its first class, of the second, ...

    Raises:
        InputError: The model, image or label cannot be used; the message names the image and says
            what to write.
        GradientError: The masker needs gradients and the model is query-only.
        RegistryError: A name is unknown.
        ContractError: The model or a plugin returned what its contract forbids.

    Warns:
        ReliabilityWarning: A mask is constant, or its verdict is `neither` or `saturated`; or the
            model answers the same query differently.

    Example:
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> explanation = explain(model, torch.rand(3, 32, 32), 2, masker="iterative:steps=3")
        >>> explanation.mask.shape
        torch.Size([1, 1, 32, 32])

    References:
        Dabkowski & Gal 2017, "Real Time Image Saliency for Black Box Classifiers".
    """
    started = time.perf_counter()
    black_box = with_pixel_range(as_black_box(model, output), pixel_range)
    batch = as_images(
        image, black_box, inputs=inputs, given_black_box=isinstance(model, BlackBox | str)
    )
    if batch.inputs == "normalized":
        black_box = black_box.without_preprocessing()
    if target is not None:
        if output is not None and not isinstance(target, Contrast):
            raise InputError(
                f"explain(output={output!r}, target=...): the result of a target is a score, "
                "whatever the model's own output means; leave output= out, or make the classes the "
                "model's own output with a small nn.Module that returns them."
            )
        black_box = with_target(black_box, target)
        label = target.label if isinstance(target, Contrast) and label is None else label
    black_box = averaged(black_box, repeats)
    chosen = default_masker(black_box, regions) if masker is None else as_masker(masker)
    chosen = chosen.bound_to(black_box, inputs=batch.inputs)
    chosen = (Iterative(steps=refine, start=chosen) if refine else chosen).with_budget(budget)
    fill = as_alternative("blur" if alternative is None else alternative).for_black_box(black_box)
    checks.seed(seed, "explain")
    checks.counts("explain", regions=regions)
    labels = label_lists(label, len(batch))
    searches = searches_for(sufficient, destroying, region_form)
    run = _Run(black_box, chosen, batch, labels, regions, fill, verify, seed, repeats, searches)
    counted = reporting(black_box, progress, run.evaluations())
    with rng.isolated(black_box.device), counted as queried:
        tensors = replace(run, black_box=queried).tensors()
    explanation = run.explanation(tensors, time.perf_counter() - started)
    for message in [*run.messages, *doubts(explanation)]:
        warnings.warn(message, ReliabilityWarning, stacklevel=2)
    return explanation


@final
@dataclass(frozen=True)
class _Run:
    """What one call of `explain` does with its images."""

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


def default_masker(black_box: BlackBox, regions: int = 1) -> Masker:
    """The masker trained for exactly this model, if there is one; else one that it allows.

    One of several regions need not hold all evidence: `iterative` then only keeps.
    """
    keeping = ":objective=sufficient" if regions > 1 else ""
    trained = None if black_box.module is None else trained_masker(black_box)
    return trained or as_masker(f"iterative{keeping}" if black_box.differentiable else "rise")
