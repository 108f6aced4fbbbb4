"""saliencykit: which pixels does this decision rest on?

    from saliencykit import explain
    explain(model, image, label).overlay().show()

The names are imported when they are first used; only `core` (torch, numpy) is imported with the
package.
"""

from typing import TYPE_CHECKING, Any

from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import (
    ContractError,
    GradientError,
    InputError,
    RegistryError,
    SaliencyKitError,
)
from saliencykit.core.geometry import Geometry
from saliencykit.core.masker import Found, Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.core.objective import Loss, Objective, Term, Trial, run_trial
from saliencykit.explanation.result import Explanation
from saliencykit.registry.hookspecs import hookimpl

if TYPE_CHECKING:
    from saliencykit.black_boxes.function import FunctionBlackBox
    from saliencykit.black_boxes.surrogate import Surrogate
    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.data.samples import read_samples
    from saliencykit.evaluation.evaluate import evaluate
    from saliencykit.evaluation.scores import Scores
    from saliencykit.explanation.explain import explain
    from saliencykit.explanation.explain_dataset import explain_dataset
    from saliencykit.maskers.on_surrogate import OnSurrogate
    from saliencykit.maskers.realtime.realtime_masker import RealTimeMasker
    from saliencykit.registry.manager import register
    from saliencykit.storage.saved_explanations import SavedExplanations
    from saliencykit.surrogate.fit_surrogate import fit_surrogate
    from saliencykit.training.fit import fit
    from saliencykit.video.explain_frames import explain_frames

__version__ = "0.1.0"

_LATER = {
    "RealTimeMasker": "saliencykit.maskers.realtime.realtime_masker",
    "FunctionBlackBox": "saliencykit.black_boxes.function",
    "OnSurrogate": "saliencykit.maskers.on_surrogate",
    "Surrogate": "saliencykit.black_boxes.surrogate",
    "TorchBlackBox": "saliencykit.black_boxes.torch_module",
    "SavedExplanations": "saliencykit.storage.saved_explanations",
    "Scores": "saliencykit.evaluation.scores",
    "evaluate": "saliencykit.evaluation.evaluate",
    "explain": "saliencykit.explanation.explain",
    "explain_dataset": "saliencykit.explanation.explain_dataset",
    "explain_frames": "saliencykit.video.explain_frames",
    "fit": "saliencykit.training.fit",
    "fit_surrogate": "saliencykit.surrogate.fit_surrogate",
    "read_samples": "saliencykit.data.samples",
    "register": "saliencykit.registry.manager",
}

__all__ = [
    "Alternative",
    "BlackBox",
    "ContractError",
    "Explanation",
    "Found",
    "FunctionBlackBox",
    "Geometry",
    "GradientError",
    "InputError",
    "Loss",
    "Masker",
    "Metric",
    "Objective",
    "OnSurrogate",
    "RealTimeMasker",
    "RegistryError",
    "SaliencyKitError",
    "Sample",
    "SavedExplanations",
    "Scores",
    "Surrogate",
    "Term",
    "TorchBlackBox",
    "Trial",
    "compose",
    "evaluate",
    "explain",
    "explain_dataset",
    "explain_frames",
    "fit",
    "fit_surrogate",
    "hookimpl",
    "read_samples",
    "register",
    "run_trial",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module 'saliencykit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
