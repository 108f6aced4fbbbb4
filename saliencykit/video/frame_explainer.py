"""explain_frames(): explanations of the frames of a video or camera, in order."""

import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch

from saliencykit._version import __version__
from saliencykit.core import checks, rng
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.map_placement import resize_maps
from saliencykit.core.masker import Masker
from saliencykit.core.objective import run_trial
from saliencykit.core.types import Images
from saliencykit.data.label_lookup import class_index_by_name, plain_label
from saliencykit.explanation.result import Explanation
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker, trained_masker
from saliencykit.runs.batch_runner import memory_advice
from saliencykit.video.frame import as_frames, paced
from saliencykit.video.frame_batches import PreparedFrame, frame_batches, prepared_frames
from saliencykit.video.label_tracker import LabelTracker
from saliencykit.video.prefetch import prefetch as prefetched
from saliencykit.video.reader import Clip
from saliencykit.video.smoothing import MotionEstimator, Smoothing


def explain_frames(
    model: object,
    frames: Iterable[Any] | str | Path,
    label: int | str | None = None,
    masker: Masker | str | None = None,
    *,
    budget: float | None = None,
    fps: float | None = None,
    smoothing: float = 0.75,
    alternative: Alternative | str | None = None,
    inputs: Literal["auto", "raw", "normalized"] = "auto",
    verify: bool = False,
    batch_size: int = 4,
    prefetch: int = 1,
    seed: int = 0,
) -> Generator[Explanation, None, None]:
    """Explain the frames of a clip or camera as they arrive: in order, in small batches, with
    constant memory.

    Frames are read and resized in one thread and explained in another, while you draw and write.
    Close the generator (or drop it) and both stop.

    Args:
        model: As for `explain`.
        frames: Images in order, each as `explain` takes one, from any iterable, endless or not;
            `Frame`s, which have a time; or the path of a clip (needs `saliencykit[video]`).
        label: The class to explain, by index or name. None: the first frame's top class. `follow`:
            the top class of each frame; it changes only at a cut, or when the probability of
            another class, averaged over some frames, is larger by 0.1.
        masker: As for `explain`. None: the one trained for this model, which is fast enough for
            video.
        budget: As for `explain`; smoothing may change the area of a mask.
        fps: Explain at most this many frames per second, > 0, and skip the others; the frames must
            have a time.
        smoothing: Weight of the last mask, moved along with its content, in [0, 1). 0: no
            smoothing. It restarts at cuts and when the class changes.
        alternative: What replaces pixels in the verification. None: blur.
        inputs: What tensors contain, as for `explain`.
        verify: Query the model with each mask kept and removed; three times the work.
        batch_size: Frames per forward pass, >= 1; 1 has the lowest latency.
        prefetch: Batches that each of the two threads may be ahead, >= 0; at most
            (3 + 2 * prefetch) * batch_size frames are in memory. 0: no threads; a frame is read
            when its explanation is requested.
        seed: Random seed in [0, 2**63).

    Returns:
        A generator of Explanations of one image each, on the CPU. `provenance["frame"]` is the
        frame's number, `["time"]` its time in seconds or None, `["cut"]` whether a new shot starts.

    Raises:
        InputError: As for `explain`; or an argument is out of range, or a frame cannot be used
            (raised when it is reached).
        GradientError: The masker needs gradients and the model can only be queried.
        RegistryError: A name is unknown.

    Warns:
        UserWarning: No masker is trained for this model, so each frame is as slow as an image.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> clip = torch.rand(5, 3, 16, 16)
        >>> answers = explain_frames(PlantedEvidence(), clip, label=2, masker="center-box")
        >>> [answer.provenance["frame"] for answer in answers]
        [0, 1, 2, 3, 4]

    References:
        Dabkowski & Gal 2017, section 6: masks in real time, for video.
    """
    if fps is not None:
        checks.numbers("explain_frames", "(0, inf)", fps=fps)
    checks.numbers("explain_frames", "[0, 1)", smoothing=smoothing)
    checks.counts("explain_frames", batch_size=batch_size)
    checks.counts("explain_frames", 0, prefetch=prefetch)
    checks.seed(seed, "explain_frames")
    black_box = as_black_box(model)
    found = trained_masker(black_box) if masker is None else as_masker(masker)
    if found is None:
        found = as_masker("iterative" if black_box.differentiable else "rise")
        warnings.warn(
            f"no masker is trained for this model, so each frame is as slow as an image "
            f"({name_of(found)}). Train one with fit(model, images), or write masker='grad-cam'.",
            stacklevel=2,
        )
    if isinstance(frames, str | Path):
        frames = Clip(Path(frames))
    if not isinstance(frames, Iterable):
        raise InputError(
            f"explain_frames takes an iterable of images or the path of a clip; got "
            f"{name_of(frames)}."
        )
    explain = _Explainer(
        black_box=black_box,
        masker=found.with_budget(budget),
        fill=as_alternative("blur" if alternative is None else alternative) if verify else None,
        tracker=LabelTracker(_which(label, black_box), output=black_box.output),
        smoothing=Smoothing(smoothing),
        seed=seed,
    )
    ready = prepared_frames(
        paced(as_frames(frames), fps), black_box, inputs, isinstance(model, BlackBox | str)
    )
    batches = prefetched(frame_batches(ready, batch_size), prefetch, "saliencykit-read")

    def explained() -> Iterator[list[Explanation]]:
        with closing(batches):
            yield from map(explain, batches)

    def one_by_one() -> Generator[Explanation, None, None]:
        with closing(prefetched(explained(), prefetch, "saliencykit-explain")) as groups:
            yield from chain.from_iterable(groups)

    return one_by_one()


@dataclass
class _Explainer:
    """From frames to explanations, with the state that the next frames need."""

    black_box: BlackBox
    masker: Masker
    fill: Alternative | None
    tracker: LabelTracker
    smoothing: Smoothing
    seed: int
    motion: MotionEstimator = field(default_factory=MotionEstimator)
    started: bool = False
    fast: dict[Any, BlackBox] = field(default_factory=dict)

    def __call__(self, batch: list[PreparedFrame]) -> list[Explanation]:
        advice = memory_advice(self.black_box.device, name_of(self.masker), len(batch))
        with rng.isolated(self.black_box.device), torch.no_grad(), advice:
            return self._explain(batch)

    def _explain(self, batch: list[PreparedFrame]) -> list[Explanation]:
        if not self.started:
            self._start(batch[0].kind)
        images = torch.cat([one.images for one in batch]).to(self.black_box.device)
        black_box = self._optimized(images)
        generator = torch.Generator().manual_seed(self.seed)
        finder, logits = self.masker.predict_masker(black_box, images)
        steps = self.motion(images)
        labels = self.tracker(logits, steps.cuts)
        found = finder.attribute(black_box, images, labels, generator=generator)
        small = self.smoothing(
            found.mask if found.low_res_mask is None else found.low_res_mask, labels, steps
        )
        parts: dict[str, Any] = {
            "images": images,
            "labels": labels,
            "logits": logits,
            "mask": resize_maps(small, images.shape[2:]).clamp(0, 1),
        }
        if self.fill is not None:
            trial = run_trial(
                black_box, images, labels, parts["mask"], alternative=self.fill, generator=generator
            )
            parts |= {"preserved": trial.preserved, "destroyed": trial.destroyed}
        maps = {"attributions": found.attributions, "standard_error": found.standard_error}
        parts = {k: v.detach().cpu() for k, v in (parts | maps).items() if v is not None}
        names = None if self.black_box.class_names is None else tuple(self.black_box.class_names)
        return [
            Explanation(
                **{key: value[row : row + 1].clone() for key, value in parts.items()},
                class_names=names,
                source_images=(one.image,),
                geometries=(one.geometry,),
                output=black_box.output,
                provenance=self._provenance(one, steps.cuts[row]),
            )
            for row, one in enumerate(batch)
        ]

    def _start(self, kind: Literal["raw", "normalized"]) -> None:
        if kind == "normalized":
            self.black_box = self.black_box.without_preprocessing()
        self.masker = self.masker.bound_to(self.black_box, inputs=kind)
        if self.fill is not None:
            self.fill = self.fill.for_black_box(self.black_box)
        self.started = True

    def _optimized(self, images: Images) -> BlackBox:
        """The optimized copy for images of this size; that of another size is dropped."""
        key = (tuple(images.shape[1:]), images.dtype)
        if key not in self.fast:
            self.fast = {key: self.black_box.optimized_for(images)}
        return self.fast[key]

    def _provenance(self, one: PreparedFrame, cut: bool) -> dict[str, Any]:
        time = one.frame.time
        return {
            "saliencykit": __version__,
            "torch": torch.__version__,
            "model": repr(self.black_box),
            "masker": repr(self.masker),
            "alternative": None if self.fill is None else repr(self.fill),
            "inputs": one.kind,
            "sources": [f"frame {one.frame.index}"],
            "smoothing": self.smoothing.share,
            "seed": self.seed,
            "frame": one.frame.index,
            "time": None if time is None else float(time),
            "cut": cut,
        }


def _which(label: int | str | None, black_box: BlackBox) -> int | Literal["first", "follow"]:
    if label is None:
        return "first"
    if label == "follow":
        return "follow"
    # the range is checked with the first logits: a bare module's classes are unknown before
    index = plain_label(label)
    return class_index_by_name(index, black_box) if isinstance(index, str) else index
