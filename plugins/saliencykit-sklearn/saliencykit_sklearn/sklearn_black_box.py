"""SklearnBlackBox: a scikit-learn classifier or pipeline as a black box that is only queried."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, final

import numpy as np
import torch

from saliencykit import BlackBox, Geometry, InputError
from saliencykit.black_boxes import (
    Fit,
    InputSpec,
    Layout,
    check_class_names,
    read_class_names,
    read_logits,
)
from saliencykit.core import Images, Logits, check_fields, first_line
from saliencykit_sklearn.estimator import Method, choose_method, image_shape, read_estimator

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True, eq=False)
class SklearnBlackBox(BlackBox):
    """A fitted classifier with `predict_proba` or `decision_function`: over pixels, or over
    features of your own.

    It suits maskers that only query: `rise`, `occlusion`. The estimator gets one row per image: its
    pixels, flattened as numpy does, row by row with the channels last; with `flatten=False` the
    images as they are, for a pipeline that begins with a step of your own; with `features` what
    that function returns for the images. Labels are indices into `classes_`, not its values.

    Args:
        model: The estimator, or a skops file; pickles are refused, since reading one can run any
            code.
        features: From images, numpy (B, height, width, channels) in [0, `max_pixel_value`], to
            rows (B, F). None: the pixels.
        size: Side or (height, width) in pixels. None: of square images, from the number of
            features.
        channels: 3 (RGB) or 1 (gray). None: from the number of features, else 3.
        max_pixel_value: The value of a white pixel where the estimator was fitted: 1, 255, or
            16 for scikit-learn's digits.
        layout: How pixels are flattened: `NHWC`, channels last, or `NCHW`.
        flatten: False: the estimator takes arrays of four axes.
        method: `predict_proba` or `decision_function`. None: the first one that it has.
        class_names: One name per class, or a file with one name per line. None: `classes_`.
        max_batch_size: Images at once, >= 1.
        fit: How an image is resized: `crop`, `squash` or `pad`.
        crop_pct: The fraction of the resized side that is kept, in (0, 1].
        interpolation: Of the resizing.
        trusted: With a file: types that skops does not know and that you trust.

    Raises:
        InputError: It is not a fitted classifier, or size and features do not agree.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> pixels = np.random.default_rng(0).random((20, 8 * 8 * 3))
        >>> black_box = SklearnBlackBox(LogisticRegression().fit(pixels, np.arange(20) % 2))
        >>> black_box
        SklearnBlackBox(LogisticRegression, size=(8, 8), channels=3, method='predict_proba')
        >>> black_box(torch.rand(4, 3, 8, 8)).shape
        torch.Size([4, 2])
    """

    model: Any
    features: Callable[[Any], Any] | None = None
    size: int | tuple[int, int] | None = None
    channels: int | None = None
    max_pixel_value: float = 1.0
    layout: Layout = "NHWC"
    flatten: bool = True
    method: Method | None = None
    class_names: str | Sequence[str] | None = field(default=None, repr=False)
    max_batch_size: Annotated[int | None, "[1, inf)"] = 256
    fit: Fit = "squash"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    trusted: str | Sequence[str] = field(default=(), repr=False)
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = False

    def __post_init__(self) -> None:
        """Read what the estimator takes."""
        check_fields(self)
        if self.features is not None and not callable(self.features):
            raise InputError(
                "SklearnBlackBox: features must be a function from images to rows; got "
                f"{self.features!r}."
            )
        path = isinstance(self.model, str | os.PathLike)
        estimator = read_estimator(self.model, self.trusted) if path else self.model
        method = choose_method(estimator, self.method)
        channels, size = self.channels or 3, self.size
        if self.flatten and self.features is None:
            channels, size = image_shape(estimator, self.channels, self.size)
        options = ("max_pixel_value", "layout", "fit", "crop_pct", "interpolation")
        try:
            spec = InputSpec(
                channels=channels,
                size=size,
                dtype="float64",
                **{key: getattr(self, key) for key in options},
            )
        except InputError as error:
            raise InputError(f"{type(estimator).__name__}: {error}") from error
        self._state.update(estimator=estimator, method=method, spec=spec)
        classes = [str(name) for name in estimator.classes_]
        names = read_class_names(self.class_names) or tuple(classes)
        check_class_names(names, len(classes), type(estimator).__name__)
        object.__setattr__(self, "class_names", names)

    def __repr__(self) -> str:
        """The configuration."""
        spec = self._spec
        features = "" if self.features is None else f", features={_name(self.features)}"
        white = "" if self.max_pixel_value == 1 else f", max_pixel_value={self.max_pixel_value}"
        return (
            f"SklearnBlackBox({self._name}{features}{white}, size={spec.size}, "
            f"channels={spec.channels}, method={self._state['method']!r})"
        )

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, the length of `classes_`."""
        return len(self.class_names or ())

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._spec.input_size

    def prepare(self, image: "Image") -> tuple[Images, Geometry]:
        """The image at the size of the input; see `BlackBox.prepare`."""
        return self._spec.prepare(image)

    def logits(self, images: Images) -> Logits:
        """Call the estimator."""
        rows = self._rows(self._spec.arrays(images))
        method = self._state["method"]
        try:
            output = np.asarray(getattr(self._state["estimator"], method)(rows), dtype=np.float64)
        except Exception as error:
            raise InputError(
                f"{self._name}.{method} failed on an array {rows.shape}: {type(error).__name__}: "
                f"{first_line(error)}."
            ) from error
        columns = 1 if output.ndim == 1 else output.shape[-1]
        if columns != self.num_classes and (columns, self.num_classes) != (1, 2):
            hint = (
                " (an SVC needs decision_function_shape='ovr')"
                if method == "decision_function"
                else ""
            )
            raise InputError(
                f"{self._name}.{method} returned {columns} numbers for {self.num_classes} "
                f"classes{hint}."
            )
        logits = read_logits(
            torch.from_numpy(output),
            len(images),
            f"{self._name}.{method}",
            probabilities=method == "predict_proba",
        )
        return logits.to(images.device, images.dtype)

    def _rows(self, images: Any) -> Any:
        if self.features is None:
            return images.reshape(len(images), -1) if self.flatten else images
        try:
            rows = np.asarray(self.features(images))
        except Exception as error:
            raise InputError(
                f"{_name(self.features)} failed on images {images.shape}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if rows.ndim < 2 or len(rows) != len(images):
            raise InputError(
                f"{_name(self.features)} returned {rows.shape} for {len(images)} images; "
                "expected one row for each."
            )
        return rows

    @property
    def _spec(self) -> InputSpec:
        spec: InputSpec = self._state["spec"]
        return spec

    @property
    def _name(self) -> str:
        return type(self._state["estimator"]).__name__


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
