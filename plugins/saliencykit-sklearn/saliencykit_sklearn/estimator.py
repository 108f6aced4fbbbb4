"""scikit-learn classifiers: recognizing them, their method and input, and reading files."""

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from saliencykit import InputError
from saliencykit.core import first_line

Method = Literal["predict_proba", "decision_function"]
METHODS = ("predict_proba", "decision_function")
_PICKLES = (".pkl", ".pickle", ".joblib")
SUFFIXES = (".skops", *_PICKLES)


def is_estimator(model: object) -> bool:
    """Is it a classifier with scikit-learn's interface, its own or that of XGBoost, LightGBM,
    skorch and others?

    Args:
        model: Any object.
    """
    if isinstance(model, type) or not hasattr(model, "fit") or not hasattr(model, "predict"):
        return False
    base = getattr(sys.modules.get("sklearn.base"), "BaseEstimator", ())
    return isinstance(model, base) or any(hasattr(model, method) for method in METHODS)


def choose_method(estimator: Any, wanted: Method | None) -> Method:
    """The method to call: as wanted, else `predict_proba`, else `decision_function`.

    Args:
        estimator: Fitted.
        wanted: The method that the user wants, or None.

    Raises:
        InputError: It is not fitted, or has neither.
    """
    who = type(estimator).__name__
    if not hasattr(estimator, "classes_"):
        fits = any(hasattr(estimator, method) for method in METHODS)
        why = (
            "is not fitted yet: call its fit first"
            if fits
            else "is not a classifier: it has neither of " + ", ".join(METHODS)
        )
        raise InputError(f"{who} {why}.")
    for method in METHODS:
        if wanted in (None, method) and hasattr(estimator, method):
            return method  # type: ignore[return-value]
    raise InputError(
        f"{who} has no {wanted or ' and no '.join(METHODS)}, which give a score for each class."
    )


def image_shape(
    estimator: Any, channels: int | None, size: int | tuple[int, int] | None
) -> tuple[int, tuple[int, int] | None]:
    """Channels and (height, width) of flattened images, from the number of features that the
    estimator was fitted on.

    Args:
        estimator: Fitted.
        channels: 3 or 1, or None to infer it: a number is never both a square and three times one.
        size: The user's, or None.

    Raises:
        InputError: They do not agree with the number of features.

    Example:
        >>> from types import SimpleNamespace
        >>> image_shape(SimpleNamespace(n_features_in_=64), None, None)
        (1, (8, 8))
        >>> image_shape(SimpleNamespace(n_features_in_=3072), None, None)
        (3, (32, 32))
    """
    features = getattr(estimator, "n_features_in_", None)
    sides = (size, size) if isinstance(size, int) else size
    if features is None:
        return channels or 3, sides
    if sides is None:
        for depth in (1, 3) if channels is None else (channels,):
            side = math.isqrt(features // depth)
            if depth * side * side == features:
                return depth, (side, side)
        raise InputError(
            f"{type(estimator).__name__} takes {features} features, which is not a square image of "
            "1 or 3 channels; write size=(height, width), or features= for what it takes, or "
            "flatten=False."
        )
    depths = (1, 3) if channels is None else (channels,)
    for depth in depths:
        if depth * sides[0] * sides[1] == features:
            return depth, sides
    have = " or ".join(
        f"{depth * sides[0] * sides[1]} with {depth} channel{'s' * (depth > 1)}" for depth in depths
    )
    raise InputError(
        f"{type(estimator).__name__} takes {features} features, and images of {sides[0]} x "
        f"{sides[1]} have {have}."
    )


def read_estimator(path: str | os.PathLike[str], trusted: str | Sequence[str]) -> Any:
    """An estimator from a skops file, which runs no code when it is read.

    Args:
        path: The file, `.skops`.
        trusted: Types beyond skops' own list that you trust; in a text joined by `+`.

    Raises:
        InputError: It cannot be read, is a pickle, or holds types that are not trusted.
    """
    file = Path(path).expanduser()
    if file.suffix.lower() in _PICKLES:
        raise InputError(
            f"{str(file)!r} is a pickle, which can run any code while it is read, and is not "
            "opened. If you trust it, load it yourself and pass the object; or save it with "
            "skops: skops.io.dump(estimator, 'model.skops')."
        )
    if not file.is_file():
        raise InputError(f"there is no file {str(file)!r}.")
    import skops.io

    known = trusted.split("+") if isinstance(trusted, str) and trusted else list(trusted)
    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=file) if name not in known]
        if not unknown:
            return skops.io.load(file, trusted=known)
    except Exception as error:  # whatever a damaged archive leads to
        raise InputError(
            f"{str(file)!r} cannot be read as a skops file: {first_line(error)}."
        ) from error
    raise InputError(
        f"{str(file)!r} holds types that are not known to be safe: {', '.join(unknown)}. If you "
        f"trust them, write trusted={'+'.join(unknown)}."
    )
