"""saliencykit-sklearn: scikit-learn classifiers and pipelines as black boxes of saliencykit.

Importing it does not import scikit-learn: who has an estimator has done so.
"""

import os
from collections.abc import Callable, Mapping

from saliencykit import BlackBox, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """`sklearn:model.skops`, with the options of `SklearnBlackBox`."""
    from saliencykit_sklearn.sklearn_black_box import SklearnBlackBox

    return {"sklearn": SklearnBlackBox}


@hookimpl
def wrap_model(model: object) -> BlackBox | None:
    """A fitted classifier with `predict_proba` or `decision_function`, or the path of a file of
    one.
    """
    from saliencykit_sklearn.estimator import SUFFIXES, is_estimator
    from saliencykit_sklearn.sklearn_black_box import SklearnBlackBox

    if isinstance(model, str | os.PathLike):
        return SklearnBlackBox(model) if str(model).lower().endswith(SUFFIXES) else None
    return SklearnBlackBox(model) if is_estimator(model) else None
