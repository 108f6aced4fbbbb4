"""SklearnBlackBox: a scikit-learn classifier or pipeline as a black box that can only be queried."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from saliencykit import BlackBox, Geometry, InputError
from saliencykit.black_boxes.class_names import check_class_names, read_class_names
from saliencykit.black_boxes.input_spec import InputSpec, Layout
from saliencykit.black_boxes.model_output import read_logits
from saliencykit.black_boxes.preprocessing import Fit
from saliencykit.core.checks import first_line
from saliencykit.core.types import Images, Logits
from saliencykit_sklearn.estimator import Method, method_of, read_estimator, taken_size

if TYPE_CHECKING:
    from PIL.Image import Image


@final
@dataclass(frozen=True, eq=False)
class SklearnBlackBox(BlackBox):
    """A fitted classifier with `predict_proba` or `decision_function`: over pixels, or over
    features of yours.

    It suits maskers that only query: `rise`, `occlusion`. The estimator gets one row per picture:
    its pixels, flattened as numpy does, row by row with the channels last; with `flatten=False` the
    pictures as they are, for a pipeline that begins with a step of your own; with `features` what
    that function makes of the pictures. Labels are places in `classes_`, not its values.

    Args:
        model: The estimator, or a file of skops; pickles are refused, since reading one can run any
            code.
        features: From pictures, numpy (B, height, width, channels) in [0, `max_pixel_value`], to rows (B, F).
            None: the pixels.
        size: Side or (height, width) in pixels. None: of square pictures, from the number of
            features.
        channels: 3 (RGB) or 1 (grey). None: from the number of features, else 3.
        max_pixel_value: The number of a white pixel where the estimator was fitted: 1, 255, or 16 for
            scikit-learn's digits.
        layout: How pixels are flattened: `NHWC`, channels last, or `NCHW`.
        flatten: False: the estimator takes arrays of four axes.
        method: `predict_proba` or `decision_function`. None: the first one that it has.
        class_names: One name per class, or a file with one name a line. None: `classes_`.
        max_batch_size: Pictures at once, >= 1.
        fit: How a picture is brought to size: `crop`, `squash` or `pad`.
        crop_pct: The share of the resized side that is kept, in (0, 1].
        interpolation: Of the resizing.
        trusted: With a file: types that skops does not know and you trust.

    Raises:
        InputError: It is no fitted classifier, or size and features do not fit each other.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> pixels = np.random.default_rng(0).random((20, 8 * 8 * 3))
        >>> black_box = SklearnBlackBox(LogisticRegression().fit(pixels, np.arange(20) % 2))
        >>> black_box, black_box(torch.rand(4, 3, 8, 8)).shape
        (SklearnBlackBox(LogisticRegression, size=(8, 8), channels=3, method='predict_proba'), torch.Size([4, 2]))
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
    max_batch_size: int | None = 256
    fit: Fit = "squash"
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    trusted: str | Sequence[str] = field(default=(), repr=False)
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    differentiable = False

    def __post_init__(self) -> None:
        """Look at the estimator."""
        if self.max_batch_size is not None and (
            not isinstance(self.max_batch_size, int) or self.max_batch_size < 1
        ):
            raise InputError(
                f"SklearnBlackBox: max_batch_size is >= 1 or None; got {self.max_batch_size!r}."
            )
        if self.features is not None and not callable(self.features):
            raise InputError(
                "SklearnBlackBox: features is a function from pictures to rows; got "
                f"{self.features!r}."
            )
        path = isinstance(self.model, str | os.PathLike)
        estimator = read_estimator(self.model, self.trusted) if path else self.model
        method = method_of(estimator, self.method)
        channels, size = self.channels or 3, self.size
        if self.flatten and self.features is None:
            channels, size = taken_size(estimator, self.channels, self.size)
        options = ("max_pixel_value", "layout", "fit", "crop_pct", "interpolation")
        try:
            form = InputSpec(
                channels=channels,
                size=size,
                dtype="float64",
                **{key: getattr(self, key) for key in options},
            )
        except InputError as error:
            raise InputError(f"{type(estimator).__name__}: {error}") from error
        self._facts.update(estimator=estimator, method=method, form=form)
        classes = [str(name) for name in estimator.classes_]
        names = read_class_names(self.class_names) or tuple(classes)
        check_class_names(names, len(classes), type(estimator).__name__)
        object.__setattr__(self, "class_names", names)

    def __repr__(self) -> str:
        """The configuration."""
        form, features = (
            self._form,
            "" if self.features is None else f", features={_name(self.features)}",
        )
        white = "" if self.max_pixel_value == 1 else f", max_pixel_value={self.max_pixel_value}"
        return (
            f"SklearnBlackBox({self._name}{features}{white}, size={form.size}, "
            f"channels={form.channels}, method={self._facts['method']!r})"
        )

    @property
    def num_classes(self) -> int:  # type: ignore[override]
        """K, the length of `classes_`."""
        return len(self.class_names or ())

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input in pixels."""
        return self._form.input_size

    def prepare(self, picture: "Image") -> tuple[Images, Geometry]:
        """The picture at the size of the input; see `BlackBox.prepare`."""
        return self._form.prepare(picture)

    def logits(self, images: Images) -> Logits:
        """Ask the estimator."""
        rows = self._rows(self._form.arrays(images))
        method = self._facts["method"]
        try:
            answer = np.asarray(getattr(self._facts["estimator"], method)(rows), dtype=np.float64)
        except Exception as error:
            raise InputError(
                f"{self._name}.{method} failed on an array {rows.shape}: {type(error).__name__}: "
                f"{first_line(error)}."
            ) from error
        columns = 1 if answer.ndim == 1 else answer.shape[-1]
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
        outputs = "probabilities" if method == "predict_proba" else "logits"
        logits = read_logits(
            torch.from_numpy(answer), len(images), outputs, f"{self._name}.{method}"
        )  # type: ignore[arg-type]
        return logits.to(images.device, images.dtype)

    def _rows(self, pictures: Any) -> Any:
        if self.features is None:
            return pictures.reshape(len(pictures), -1) if self.flatten else pictures
        try:
            rows = np.asarray(self.features(pictures))
        except Exception as error:
            raise InputError(
                f"{_name(self.features)} failed on pictures {pictures.shape}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if rows.ndim < 2 or len(rows) != len(pictures):
            raise InputError(
                f"{_name(self.features)} returned {rows.shape} for {len(pictures)} pictures; "
                "expected one row for each."
            )
        return rows

    @property
    def _form(self) -> InputSpec:
        form: InputSpec = self._facts["form"]
        return form

    @property
    def _name(self) -> str:
        return type(self._facts["estimator"]).__name__


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
