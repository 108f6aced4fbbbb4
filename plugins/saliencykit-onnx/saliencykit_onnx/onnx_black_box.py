"""OnnxBlackBox: an ONNX file or an onnxruntime session as a black box that is only queried."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

import numpy as np
import torch

from saliencykit import BlackBox, Geometry, InputError
from saliencykit.black_boxes import (
    Fit,
    InputSpec,
    Layout,
    check_class_names,
    num_columns,
    read_class_names,
    read_input_shape,
    read_logits,
    warn_of_misreading,
    warn_unknown_normalization,
)
from saliencykit.core import Images, Logits, Output, check_fields, first_line
from saliencykit_onnx.session import image_input, logits_output, open_session

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".onnx", ".ort")
_MAX_BATCH_SIZE = 32  # by default
_PREPROCESSING = ("max_pixel_value", "mean", "std", "fit", "crop_pct", "interpolation")
_IN_REPR = (
    *_PREPROCESSING,
    "size",
    "layout",
    "output",
    "probabilities",
    "input_name",
    "output_name",
    "providers",
)

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, eq=False)
class OnnxBlackBox(BlackBox):
    """An image classifier in an ONNX file, or a session of onnxruntime; it has no gradients.

    It suits maskers that only query: `rise`, `occlusion`. Name, size, axes, precision and batch
    size of the input are read from the graph; a fixed batch is filled up with copies of the last
    image. A file does not say how pixels are normalized: raw RGB in [0, 1] goes in as it is unless
    `mean` and `std` are given, and a warning says so.

    Args:
        model: The file's path, or an `onnxruntime.InferenceSession`, which is used as it is.
        mean: Subtracted, one number or one per channel, in units of `max_pixel_value`. None: the
            graph normalizes by itself.
        std: Divided by, > 0, with `mean`.
        max_pixel_value: The value of a white pixel: 1, or 255 if the model takes pixels in 0..255.
        size: Side or (height, width) in pixels, where the graph leaves them open.
        layout: `NCHW` or `NHWC`. None: where the graph has 1 or 3 channels.
        output: What a column means: `softmax`, `sigmoid` or `score`, see `TorchBlackBox`.
        probabilities: The graph ends in a softmax or sigmoid.
        class_names: One name per class, or a file with one name per line (`.json`: a list).
        input_name: The name of the input. None: the only one.
        output_name: The name of the output. None: the only float one, else the one called `logits`,
            `probabilities` or `scores`.
        max_batch_size: Images at once, >= 1; a graph of a fixed batch gets a multiple of it. None:
            32.
        fit: How an image is resized: `crop`, `squash` or `pad`.
        crop_pct: The fraction of the resized side that is kept, in (0, 1]; 224 of 256 is 0.875.
        interpolation: Of the resizing.
        providers: Of onnxruntime, in order; in a text joined by `+`. None: CUDA where it is
            available, then the CPU.
        threads: Of the CPU provider, >= 1. None: as many as torch has.
        options: `onnxruntime.SessionOptions` of your own, in place of `threads`.

    Raises:
        InputError: The file is missing or not a model, its input is not an image, or an option is
            out of range.

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
    max_pixel_value: float = 1.0
    size: int | tuple[int, int] | None = None
    layout: Layout | None = None
    output: Output = "softmax"
    probabilities: bool = False
    class_names: str | Sequence[str] | None = field(default=None, repr=False)
    input_name: str | None = None
    output_name: str | None = None
    max_batch_size: Annotated[int | None, "[1, inf)"] = None
    fit: Fit = "crop"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    providers: str | Sequence[str] | None = None
    threads: Annotated[int | None, "[1, inf)"] = None
    options: Any = field(default=None, repr=False)
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = False

    def __post_init__(self) -> None:
        """Open the file, and read what it declares of its input and output."""
        check_fields(self)
        session = self._open()
        name, shape, dtype = image_input(session, self.input_name, self._name)
        output, output_shape = logits_output(session, self.output_name, self._name)
        try:
            declared = read_input_shape(shape, self.layout)
            options: dict[str, Any] = {key: getattr(self, key) for key in _PREPROCESSING}
            options["dtype"] = dtype
            spec = InputSpec(
                channels=declared.channels or 3,
                size=declared.size(self.size),
                layout=declared.layout,
                **options,
            )
        except InputError as error:
            raise InputError(f"{self._name}: {error}") from error
        fixed, most = declared.batch_size, self.max_batch_size or _MAX_BATCH_SIZE
        self._state.update(session=session, input=name, output=output, batch_size=fixed, spec=spec)
        most = most if fixed is None else fixed * max(1, most // fixed)
        object.__setattr__(self, "max_batch_size", most)
        object.__setattr__(self, "class_names", read_class_names(self.class_names))
        classes = output_shape[1] if len(output_shape) in (2, 4) else None
        if isinstance(classes, int) and classes >= 1:
            self._set_num_classes(num_columns(classes, self.output))

    def __repr__(self) -> str:
        """What determines the logits, where it is not the default."""
        default = {entry.name: entry.default for entry in fields(self)}
        values = {name: getattr(self, name) for name in _IN_REPR}
        options = [f"{name}={v!r}" for name, v in values.items() if v != default[name]]
        return f"OnnxBlackBox({', '.join([repr(self._name), *options])})"

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, as the graph declares it; else one gray image of `size` is evaluated."""
        if "num_classes" not in self._state:
            self.logits(torch.full((1, self._spec.channels, *self.input_size), 0.5))
        return int(self._state["num_classes"])

    @property
    def session(self) -> Any:
        """The session of onnxruntime."""
        return self._state["session"]

    @property
    def baseline_color(self) -> tuple[float, ...] | None:  # type: ignore[override]
        """The raw color that normalization maps to 0."""
        return self._spec.baseline_color

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._spec.input_size

    def prepare(self, image: "Image") -> tuple[Images, Geometry]:
        """The image at the size of the input; see `BlackBox.prepare`."""
        if self._spec.normalization_unknown and not self._state.get("warned"):
            self._state["warned"] = True
            warn_unknown_normalization(self._name)
        return self._spec.prepare(image)

    def logits(self, images: Images) -> Logits:
        """Normalize, run the session, read its output."""
        arrays = self._spec.arrays(images)
        step = self._state["batch_size"] or len(arrays)
        chunks = (arrays[first : first + step] for first in range(0, len(arrays), step))
        output = torch.from_numpy(np.concatenate([self._run(chunk, step) for chunk in chunks]))
        logits = read_logits(output, len(images), self._name, self.output, self.probabilities)
        if "num_classes" not in self._state:
            self._set_num_classes(logits.shape[1])
        if not self._state.get("checked"):
            self._state["checked"] = True
            warn_of_misreading(logits, self._name, self.output, self.probabilities)
        return logits.to(images.device, images.dtype)

    def _run(self, rows: Array, step: int) -> Array:
        missing = step - len(rows)
        batch = np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows
        try:
            (output,) = self.session.run([self._state["output"]], {self._state["input"]: batch})
        except Exception as error:
            raise InputError(
                f"{self._name} failed on an array {batch.shape} of {batch.dtype}: "
                f"{first_line(error)}."
            ) from error
        values = np.asarray(output)
        if values.dtype == np.float16:
            values = values.astype(np.float32)  # the log of a small probability needs the range
        if missing and len(values) != step:
            raise InputError(
                f"{self._name} returned {values.shape} for {step} images; a classifier returns "
                f"({step}, K)."
            )
        return values[: len(rows)] if missing else values

    def _open(self) -> Any:
        if isinstance(self.model, str | os.PathLike):
            split = isinstance(self.providers, str)
            providers = self.providers.split("+") if split else self.providers  # type: ignore
            path = Path(self.model).expanduser()
            return open_session(path, providers, self.threads, self.options)
        if not hasattr(self.model, "get_inputs") or not hasattr(self.model, "run"):
            raise InputError(
                "OnnxBlackBox takes a path or an onnxruntime.InferenceSession; got "
                f"{type(self.model).__name__}."
            )
        if self.providers is not None or self.threads is not None or self.options is not None:
            raise InputError(
                "OnnxBlackBox: the session that was given has its own providers, threads and "
                "options; leave them out."
            )
        return self.model

    def _set_num_classes(self, count: int) -> None:
        check_class_names(self.class_names, count, self._name)
        self._state["num_classes"] = count

    @property
    def _spec(self) -> InputSpec:
        spec: InputSpec = self._state["spec"]
        return spec

    @property
    def _name(self) -> str:
        path = isinstance(self.model, str | os.PathLike)
        return str(self.model) if path else type(self.model).__name__
