"""explain_frames(): explanations of moving pictures, one after the other."""

import warnings
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import torch

from saliencykit._version import __version__
from saliencykit.core import checks
from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.core.geometry import Geometry
from saliencykit.core.masker import Masker, resize_maps
from saliencykit.core.objective import run_trial
from saliencykit.core.types import Images
from saliencykit.data.label_lookup import class_index_by_name
from saliencykit.explanation.result import Explanation
from saliencykit.registry.coerce import as_alternative, as_black_box, as_masker, trained_masker
from saliencykit.runs.batch_runner import memory_advice
from saliencykit.video.frame import Frame, as_frames, paced
from saliencykit.video.label_tracker import LabelTracker
from saliencykit.video.prefetch import prefetch as made_ahead
from saliencykit.video.smoothing import Smoothing, Watch

if TYPE_CHECKING:
    from PIL.Image import Image


def explain_frames(
    model: object,
    frames: Iterable[Any] | str | Path,
    label: int | str | None = None,
    masker: Masker | str | None = None,
    *,
    fps: float | None = None,
    smoothing: float = 0.75,
    alternative: Alternative | str | None = None,
    inputs: Literal["auto", "raw", "normalized"] = "auto",
    verify: bool = False,
    batch_size: int = 4,
    prefetch: int = 1,
    seed: int = 0,
) -> Generator[Explanation, None, None]:
    """Explain the frames of a clip or of a camera as they come: in order, a few at a time, with
    memory that does not grow.

    The frames are read and brought to the model's size in one thread and explained in another, so
    that both go on while you draw and write. Close the generator (or let go of it) and both stop.

    Args:
        model: As `explain` takes it.
        frames: Pictures in order, each as `explain` takes one, from anything that can be iterated,
            endless or not; `Frame`s, which know their time; or the path of a clip (needs
            `saliencykit[video]`).
        label: The class asked about. An index or a name: that one; None: the first frame's top
            class; `follow`: the top class of each frame, which changes only when the probability of
            another one, averaged over some frames, is larger by a tenth, or at a cut.
        masker: As `explain` takes it. None: a trained one made for exactly this model, which is
            what keeps up with a video.
        fps: Explain at most so many frames a second, > 0, and leave the others out; the frames must
            know their time.
        smoothing: Of each mask, how much is the last one moved to where its content is now, in [0, 1);
            0: each frame for itself. At cuts, and where the class changes, it begins anew.
        alternative: What replaces pixels in the check. None: blur.
        inputs: What tensors hold, as for `explain`.
        verify: Ask the model again with each mask kept and replaced; three times the work.
        batch_size: Frames that go through the model together, >= 1; 1 answers soonest.
        prefetch: Batches that each of the two threads may be ahead of what comes after it, >= 0; in
            all up to (3 + 2 * ahead) * batch frames are held. 0: no threads, and a frame is read
            when its answer is asked for.
        seed: Of everything that is drawn.

    Returns:
        A generator of Explanations of one image each, on the CPU. `provenance["frame"]` is the
        frame's number, `["time"]` its time in seconds or None, `["cut"]` whether a shot begins with
        it.

    Raises:
        InputError: As `explain`; or an argument is out of its range, or a frame cannot be used
            (named when its turn comes).
        GradientError: The masker needs gradients and the model can only be queried.
        RegistryError: A name is unknown.

    Warns:
        UserWarning: No masker is trained for this model, so each frame takes as long as a picture.

    Example:
        >>> from saliencykit.testing import PlantedEvidence
        >>> clip = torch.rand(5, 3, 16, 16)
        >>> answers = explain_frames(PlantedEvidence(), clip, label=2, masker="center-box")
        >>> [answer.provenance["frame"] for answer in answers]
        [0, 1, 2, 3, 4]

    References:
        Dabkowski & Gal 2017, section 6: masks in real time, for video.
    """
    _check_numbers(fps, smoothing, batch_size, prefetch, seed)
    black_box = as_black_box(model)
    found = trained_masker(black_box) if masker is None else as_masker(masker)
    if found is None:
        found = as_masker("iterative" if black_box.differentiable else "rise")
        warnings.warn(
            "no masker is trained for this model, so each frame takes as long as a picture "
            f"({name_of(found)}). Train one with fit(model, pictures), or write masker='grad-cam'.",
            stacklevel=2,
        )
    if isinstance(frames, str | Path):
        from saliencykit.video.reader import Clip

        frames = Clip(Path(frames))
    if not isinstance(frames, Iterable):
        raise InputError(
            "explain_frames takes pictures to iterate over, or a clip's path; got "
            f"{name_of(frames)}."
        )
    look = _Look(
        black_box=black_box,
        masker=found,
        fill=as_alternative("blur" if alternative is None else alternative) if verify else None,
        asked=LabelTracker(_which(label, black_box)),
        smoothing=Smoothing(smoothing),
        seed=seed,
    )
    ready = _prepared(
        paced(as_frames(frames), fps), black_box, inputs, isinstance(model, BlackBox | str)
    )
    batches = made_ahead(_batched(ready, batch_size), prefetch, "saliencykit-read")
    return _one_by_one(made_ahead(_looked(look, batches), prefetch, "saliencykit-look"))


@dataclass(frozen=True)
class _Ready:
    """A frame as the model takes it."""

    frame: Frame
    images: Images
    kind: Literal["raw", "normalized"]
    picture: "Image | None"
    geometry: Geometry | None


def _prepared(
    frames: Iterable[Frame],
    black_box: BlackBox,
    inputs: Literal["auto", "raw", "normalized"],
    given_black_box: bool,
) -> Iterator[_Ready]:
    from saliencykit.data.images import as_images

    kind: Literal["raw", "normalized"] | None = None
    for frame in frames:
        try:
            read = as_images(
                frame.picture, black_box, inputs=inputs, given_black_box=given_black_box
            )
        except InputError as error:
            raise InputError(f"frame {frame.index}: {error}") from error
        if len(read) != 1:
            raise InputError(
                f"frame {frame.index} holds {len(read)} pictures; a frame is one: iterate over "
                "them."
            )
        kind = read.inputs if kind is None else kind
        if read.inputs != kind:
            raise InputError(
                f"frame {frame.index} holds {read.inputs} pixels and the frames before {kind}; "
                "give inputs=..."
            )
        yield _Ready(frame, read.images, kind, read.source_images[0], read.geometries[0])


def _batched(ready: Iterable[_Ready], size: int) -> Iterator[list[_Ready]]:
    """Up to `size` frames that go into one tensor."""
    held: list[_Ready] = []
    for one in ready:
        if held and (
            one.images.shape != held[0].images.shape or one.images.dtype != held[0].images.dtype
        ):
            yield held
            held = []
        held.append(one)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held


def _looked(
    look: "_Look", batches: Generator[list[_Ready], None, None]
) -> Iterator[list[Explanation]]:
    with closing(batches):
        for batch in batches:
            yield look(batch)


def _one_by_one(
    groups: Generator[list[Explanation], None, None],
) -> Generator[Explanation, None, None]:
    with closing(groups):
        for group in groups:
            yield from group


@dataclass
class _Look:
    """Frames to explanations; remembers what the next frames need to know of the last."""

    black_box: BlackBox
    masker: Masker
    fill: Alternative | None
    asked: LabelTracker
    smoothing: Smoothing
    seed: int
    watch: Watch = field(default_factory=Watch)
    started: bool = False
    fast: dict[Any, BlackBox] = field(default_factory=dict)

    def __call__(self, batch: list[_Ready]) -> list[Explanation]:
        advice = memory_advice(self.black_box.device, name_of(self.masker), len(batch))
        with torch.inference_mode(False), torch.no_grad(), advice:
            return self._explain(batch)

    def _explain(self, batch: list[_Ready]) -> list[Explanation]:
        if not self.started:
            self._start(batch[0].kind)
        images = torch.cat([one.images for one in batch]).to(self.black_box.device)
        black_box = self._copy_for(images)
        generator = torch.Generator().manual_seed(self.seed)
        finder, logits = self.masker.predict_masker(black_box, images)
        steps = self.watch(images)
        labels = self.asked(logits, steps.cuts)
        found = finder.attribute(black_box, images, labels, generator=generator)
        small = self.smoothing(
            found.mask if found.low_res_mask is None else found.low_res_mask, labels, steps
        )
        parts = {
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
        for key, value in (
            ("attributions", found.attributions),
            ("standard_error", found.standard_error),
        ):
            if value is not None:
                parts[key] = value
        parts = {key: value.detach().cpu() for key, value in parts.items()}
        names = None if self.black_box.class_names is None else tuple(self.black_box.class_names)
        return [
            Explanation(
                **{
                    key: value[row : row + 1].clone() for key, value in parts.items()
                },  # whoever keeps one keeps no batch
                class_names=names,
                source_images=(one.picture,),
                geometries=(one.geometry,),
                provenance=self._provenance(one, steps.cuts[row]),
            )
            for row, one in enumerate(batch)
        ]

    def _start(self, kind: Literal["raw", "normalized"]) -> None:
        if kind == "normalized":
            self.black_box = self.black_box.without_preprocessing()
        self.masker = self.masker.for_black_box(self.black_box, inputs=kind)
        if self.fill is not None:
            self.fill = self.fill.for_black_box(self.black_box)
        self.started = True

    def _copy_for(self, images: Images) -> BlackBox:
        """The box's frozen copy for pictures of this size; that of another size is let go."""
        key = (tuple(images.shape[1:]), images.dtype)
        if key not in self.fast:
            self.fast = {key: self.black_box.optimized_for(images)}
        return self.fast[key]

    def _provenance(self, one: _Ready, cut: bool) -> dict[str, Any]:
        time = one.frame.time
        return {
            "saliencykit": __version__,
            "torch": torch.__version__,
            "model": repr(self.black_box),
            "masker": repr(self.masker),
            "alternative": None if self.fill is None else repr(self.fill),
            "inputs": one.kind,
            "sources": [f"frame {one.frame.index}"],
            "smooth": self.smoothing.share,
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
    if isinstance(label, str):
        return class_index_by_name(label, black_box)
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise InputError(
            f"explain_frames(label={label!r}): a label is a class index, a class name, 'follow' "
            "or None."
        )
    # its range is checked with the first answer: a bare module's classes are not known before
    return int(label.__index__())


def _check_numbers(
    fps: object, smooth: object, batch: object, prefetch: object, seed: object
) -> None:
    if fps is not None and not (_is_real(fps) and 0 < fps < float("inf")):
        raise InputError(f"explain_frames(fps={fps!r}): frames a second, > 0, or None for all.")
    if not (_is_real(smooth) and 0 <= smooth < 1):
        raise InputError(
            f"explain_frames(smoothing={smooth!r}): a share in [0, 1); 0 is without smoothing."
        )
    if not (type(batch) is int and batch >= 1 and type(prefetch) is int and prefetch >= 0):
        raise InputError(
            f"explain_frames(batch_size={batch!r}, prefetch={prefetch!r}): whole numbers, "
            "batch_size >= 1 and prefetch >= 0."
        )
    checks.seed(seed, "explain_frames")


def _is_real(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
