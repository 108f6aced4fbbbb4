"""OnnxBlackBox: an ONNX file or a session of onnxruntime as a black box that can only be queried."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from saliencykit import BlackBox, Geometry, InputError
from saliencykit.black_boxes.class_names import check_names, read_class_names
from saliencykit.black_boxes.input_spec import InputSpec, Layout, declared, warn_of_bare_pixels
from saliencykit.black_boxes.outputs import OUTPUTS, Outputs, look_like_probabilities, read_logits
from saliencykit.black_boxes.preprocessing import Fit
from saliencykit.core.checks import first_line
from saliencykit.core.types import Images, Logits
from saliencykit_onnx.session import answer_output, open_session, picture_input

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".onnx", ".ort")
_BATCH = 32  # pictures at once where nothing else is said
_NUMBERS = ("white", "mean", "std", "fit", "crop_share", "interpolation")  # what InputForm is told
_TELLING = (*_NUMBERS, "size", "layout", "outputs", "input", "output", "providers")


@final
@dataclass(frozen=True, eq=False)
class OnnxBlackBox(BlackBox):
    """An image classifier in an ONNX file, or a session of onnxruntime, asked and never
    differentiated.

    It suits maskers that only query: `rise`, `occlusion`. Name, size, axes, precision and batch of
    the input are read from the graph; a fixed batch is filled up with copies of the last picture.
    What a file does not say is how pixels are normalised: raw RGB in [0, 1] goes in as it is unless
    `mean` and `std` are given, and a warning says so.

    Args:
        model: The file's path, or an `onnxruntime.InferenceSession`, which is used as it is.
        mean: Subtracted, one number or one per channel, in units of `white`. None: the graph
            normalises by itself.
        std: Divided by, > 0, with `mean`.
        white: What the model takes for a white pixel: 1, or 255 if it takes pixels in 0..255.
        size: Side or (height, width) in pixels, where the graph leaves them open.
        layout: `NCHW` or `NHWC`. None: where the graph has 1 or 3 channels.
        outputs: `logits`, or `probabilities` if the graph ends in a softmax or sigmoid.
        class_names: One name per class, or a file with one name a line (`.json`: a list).
        input: The name of the input. None: the only one.
        output: The name of the output. None: the only float one, else the one called `logits`,
            `probabilities` or `scores`.
        max_batch_size: Pictures at once, >= 1; a graph of a fixed batch gets a multiple of it. None: 32.
        fit: How a picture is brought to size: `crop`, `squash` or `pad`.
        crop_share: The share of the resized side that is kept, in (0, 1]; 224 of 256 is 0.875.
        interpolation: Of the resizing.
        providers: Of onnxruntime, in order; in a text joined by `+`. None: CUDA where it is there,
            then the CPU.
        threads: Of the CPU provider, >= 1. None: as many as torch has.
        options: `onnxruntime.SessionOptions` of your own, in place of `threads`.

    Raises:
        InputError: The file is missing or no model, its input is no picture, or an option is out of
            range.

    Example:
        >>> OnnxBlackBox("no-such-file.onnx")
        Traceback (most recent call last):
        saliencykit.core.errors.InputError: there is no ONNX file 'no-such-file.onnx'.

    References:
        https://onnx.ai/onnx/repo-docs/IR.html; https://onnxruntime.ai/docs/api/python
    """

    model: Any
    mean: float | Sequence[float] | None = None
    std: float | Sequence[float] | None = None
    white: float = 1.0
    size: int | tuple[int, int] | None = None
    layout: Layout | None = None
    outputs: Outputs = "logits"
    class_names: str | Sequence[str] | None = field(default=None, repr=False)
    input: str | None = None
    output: str | None = None
    max_batch_size: int | None = None
    fit: Fit = "crop"
    crop_share: float = 1.0
    interpolation: str = "bilinear"
    providers: str | Sequence[str] | None = None
    threads: int | None = None
    options: Any = field(default=None, repr=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = False

    def __post_init__(self) -> None:
        """Open the file and read what it says of its input and output."""
        if self.outputs not in OUTPUTS:
            raise InputError(
                f"OnnxBlackBox: outputs is one of {', '.join(OUTPUTS)}; got {self.outputs!r}."
            )
        for name in ("max_batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise InputError(f"OnnxBlackBox: {name} is >= 1 or None; got {value!r}.")
        session = self._opened()
        name, shape, dtype = picture_input(session, self.input, self._name)
        answer, answer_shape = answer_output(session, self.output, self._name)
        try:
            form = declared(shape, self.layout)
            numbers: dict[str, Any] = {key: getattr(self, key) for key in _NUMBERS}
            self._facts["form"] = InputSpec(
                channels=form.channels or 3,
                size=form.size(self.size),
                layout=form.layout,
                dtype=dtype,
                **numbers,
            )
        except InputError as error:
            raise InputError(f"{self._name}: {error}") from error
        batch, most = form.batch, self.max_batch_size or _BATCH
        self._facts.update(session=session, input=name, output=answer, batch=batch)
        object.__setattr__(
            self, "max_batch_size", most if batch is None else batch * max(1, most // batch)
        )
        object.__setattr__(self, "class_names", read_class_names(self.class_names))
        classes = answer_shape[1] if len(answer_shape) in (2, 4) else None
        if isinstance(classes, int) and classes >= 1:
            self._learn(max(2, classes))  # one column is a sigmoid's: two classes

    def __repr__(self) -> str:
        """What makes the answers what they are, where it is not the default."""
        default = {entry.name: entry.default for entry in fields(self)}
        said = [
            f"{name}={value!r}"
            for name in _TELLING
            if (value := getattr(self, name)) != default[name]
        ]
        return f"OnnxBlackBox({', '.join([repr(self._name), *said])})"

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, as the graph declares it; else the model is asked about one grey image of `size`."""
        if "num_classes" not in self._facts:
            self.logits(torch.full((1, self._form.channels, *self.input_size), 0.5))
        return int(self._facts["num_classes"])

    @property
    def session(self) -> Any:
        """The session of onnxruntime that answers."""
        return self._facts["session"]

    @property
    def baseline_color(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw colour that normalising maps to 0."""
        return self._form.baseline_color

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._form.input_size

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The picture at the size of the input; see `BlackBox.prepare`."""
        if self._form.bare and "said" not in self._facts:
            self._facts["said"] = True
            warn_of_bare_pixels(self._name)
        return self._form.prepare(picture)

    def logits(self, images: Images) -> Logits:
        """Normalise, ask the session, read its answer."""
        arrays = self._form.arrays(images)
        step = self._facts["batch"] or len(arrays)
        answers = [
            self._run(arrays[first : first + step], step) for first in range(0, len(arrays), step)
        ]
        logits = read_logits(
            torch.from_numpy(np.concatenate(answers)), len(images), self.outputs, self._name
        )
        if "num_classes" not in self._facts:
            self._learn(logits.shape[1])
        if self.outputs == "logits" and "looked" not in self._facts:
            self._facts["looked"] = True
            if look_like_probabilities(logits):
                warnings.warn(
                    f"{self._name} returned rows that sum to 1: these look like probabilities, "
                    "and are read as logits. If the graph ends in a softmax, write "
                    "outputs=probabilities.",
                    stacklevel=4,
                )
        return logits.to(images.device, images.dtype)

    def _run(
        self, rows: "np.ndarray[Any, np.dtype[Any]]", step: int
    ) -> "np.ndarray[Any, np.dtype[Any]]":
        missing = step - len(rows)
        given = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
        try:
            (answer,) = self.session.run([self._facts["output"]], {self._facts["input"]: given})
        except Exception as error:
            raise InputError(
                f"{self._name} failed on an array {given.shape} of {given.dtype}: "
                f"{first_line(error)}."
            ) from error
        found = np.asarray(answer)
        if found.dtype == np.float16:
            found = found.astype(np.float32)  # the logarithm of a small probability needs the range
        if missing and len(found) != step:
            raise InputError(
                f"{self._name} returned {found.shape} for {step} pictures; a classifier returns "
                f"({step}, K)."
            )
        return found[: len(rows)] if missing else found

    def _opened(self) -> Any:
        if not isinstance(self.model, str | os.PathLike):
            if not hasattr(self.model, "get_inputs") or not hasattr(self.model, "run"):
                raise InputError(
                    "OnnxBlackBox takes a path or an onnxruntime.InferenceSession; got "
                    f"{type(self.model).__name__}."
                )
            if self.providers is not None or self.threads is not None or self.options is not None:
                raise InputError(
                    "OnnxBlackBox: providers, threads and options are those of the session that "
                    "was given."
                )
            return self.model
        providers = self.providers.split("+") if isinstance(self.providers, str) else self.providers
        return open_session(Path(self.model).expanduser(), providers, self.threads, self.options)

    def _learn(self, count: int) -> None:
        check_names(self.class_names, count, self._name)
        self._facts["num_classes"] = count

    @property
    def _form(self) -> InputSpec:
        form: InputSpec = self._facts["form"]
        return form

    @property
    def _name(self) -> str:
        return (
            str(self.model)
            if isinstance(self.model, str | os.PathLike)
            else type(self.model).__name__
        )
