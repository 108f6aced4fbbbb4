"""saliencykit: which pixels does this decision rest on?

    from saliencykit import explain
    explain(model, image, label).overlay().show()

The names are imported when they are first used; only `core` (torch, numpy) is imported with the package.
"""

from typing import TYPE_CHECKING, Any

from saliencykit.core.alternative import Alternative, compose
from saliencykit.core.black_box import BlackBox
from saliencykit.core.errors import ContractError, GradientError, InputError, RegistryError, SaliencyKitError
from saliencykit.core.explanation import Explanation
from saliencykit.core.geometry import Geometry
from saliencykit.core.masker import Found, Masker
from saliencykit.core.metric import Metric, Sample
from saliencykit.core.objective import Loss, Objective, Term, Trial, run_trial
from saliencykit.hookspecs import hookimpl

if TYPE_CHECKING:
    from saliencykit.black_boxes.function import FunctionBlackBox
    from saliencykit.black_boxes.surrogate import Surrogate
    from saliencykit.black_boxes.torch_module import TorchBlackBox
    from saliencykit.data.reading import read_samples
    from saliencykit.evaluating import evaluate
    from saliencykit.evaluation.scores import Scores
    from saliencykit.explaining import explain
    from saliencykit.explaining_dataset import explain_dataset
    from saliencykit.fitting import fit
    from saliencykit.framing import explain_frames
    from saliencykit.maskers.on_surrogate import OnSurrogate
    from saliencykit.maskers.realtime.masker import RealTimeMasker
    from saliencykit.registry import register
    from saliencykit.stored.reading import SavedExplanations
    from saliencykit.surrogate.fitting import fit_surrogate

__version__ = "0.1.0"

_LATER = {
    "RealTimeMasker": "saliencykit.maskers.realtime.masker",
    "FunctionBlackBox": "saliencykit.black_boxes.function",
    "OnSurrogate": "saliencykit.maskers.on_surrogate",
    "Surrogate": "saliencykit.black_boxes.surrogate",
    "TorchBlackBox": "saliencykit.black_boxes.torch_module",
    "SavedExplanations": "saliencykit.stored.reading",
    "Scores": "saliencykit.evaluation.scores",
    "evaluate": "saliencykit.evaluating",
    "explain": "saliencykit.explaining",
    "explain_dataset": "saliencykit.explaining_dataset",
    "explain_frames": "saliencykit.framing",
    "fit": "saliencykit.fitting",
    "fit_surrogate": "saliencykit.surrogate.fitting",
    "read_samples": "saliencykit.data.reading",
    "register": "saliencykit.registry",
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
