"""The built-in plugin: registers what the package ships, through the same hooks as any other.

Parts are named as text, `module:attribute`, and imported when a hook is first called.
"""

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import Any

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Term
from saliencykit.registry.hookspecs import hookimpl

_BLACK_BOXES = {
    "demo": "demo:demo_black_box",
    "timm": "black_boxes.timm:timm_black_box",
    "torchvision": "black_boxes.torchvision:torchvision_black_box",
    "transformers": "black_boxes.transformers:transformers_black_box",
}
_ALTERNATIVES = {
    "blur": "alternatives.blur:Blur",
    "blur-pyramid": "alternatives.blur_pyramid:BlurPyramid",
    "noise": "alternatives.noise:Noise",
    "constant": "alternatives.constant:Constant",
    "choice": "alternatives.choice:Choice",
    "crop": "alternatives.crop:Crop",
}
_TERMS = {
    "smoothness": "terms.smoothness:Smoothness",
    "area": "terms.area:Area",
    "power-area": "terms.area:PowerArea",
    "log-area": "terms.area:LogArea",
    "preserved-log-probability": "terms.preserve:PreservedLogProbability",
    "preserved-margin": "terms.preserve:PreservedMargin",
    "destroyed-probability": "terms.destroy:DestroyedProbability",
    "destroyed-margin": "terms.destroy:DestroyedMargin",
}
_MASKERS = {
    "iterative": "optimization.iterative:Iterative",
    "meaningful-perturbation": "optimization.meaningful_perturbation:meaningful_perturbation",
    "extremal-perturbation": "optimization.extremal_perturbation:ExtremalPerturbation",
    "rise": "perturbation.rise:Rise",
    "occlusion": "perturbation.occlusion:Occlusion",
    "feature-ablation": "perturbation.feature_ablation:FeatureAblation",
    "gradient": "gradient.input_gradients:Gradient",
    "input-x-gradient": "gradient.input_gradients:InputXGradient",
    "integrated-gradients": "gradient.input_gradients:IntegratedGradients",
    "smoothgrad": "gradient.input_gradients:SmoothGrad",
    "guided-backprop": "gradient.guided_backprop:guided_backprop",
    "deconvolution": "gradient.guided_backprop:deconvolution",
    "guided-grad-cam": "gradient.guided_backprop:GuidedGradCam",
    "attribution": "gradient.captum_method:AttributionMasker",
    "excitation-backprop": "gradient.excitation_backprop:ExcitationBackprop",
    "contrastive-excitation-backprop": (
        "gradient.excitation_backprop:contrastive_excitation_backprop"
    ),
    "feedback": "gradient.feedback:Feedback",
    "grad-cam": "cam.grad_cam:GradCam",
    "grad-cam-plus-plus": "cam.grad_cam_plus_plus:GradCamPlusPlus",
    "layer-cam": "cam.layer_cam:LayerCam",
    "hires-cam": "cam.hires_cam:HiResCam",
    "xgrad-cam": "cam.xgrad_cam:XGradCam",
    "finer-cam": "cam.finer_cam:FinerCam",
    "eigen-cam": "cam.eigen_cam:EigenCam",
    "cam": "cam.cam:Cam",
    "ablation-cam": "cam.ablation_cam:AblationCam",
    "score-cam": "cam.score_cam:ScoreCam",
    "center-box": "baselines:CenterBox",
    "whole-image": "baselines:WholeImage",
    "random": "baselines:RandomMap",
    "ground-truth": "baselines:GroundTruthBox",
    "on-surrogate": "on_surrogate:OnSurrogate",
    "stored": "stored:StoredMasks",
    "universal": "universal.universal_masker:Universal",
}
_METRICS = {
    "saliency-score": "saliency_score:SaliencyScore",
    "saliency-score-in-place": "saliency_score:saliency_score_in_place",
    "insertion": "insertion_deletion:Insertion",
    "deletion": "insertion_deletion:Deletion",
    "area-curves": "area_curves:AreaCurves",
    "held-out-area-curves": "held_out_area_curves:HeldOutAreaCurves",
    "smallest-sufficient-region": "sufficient_region:SmallestSufficientRegion",
    "smallest-destroying-region": "sufficient_region:SmallestDestroyingRegion",
    "average-drop": "average_drop:AverageDrop",
    "road": "road:RemoveAndDebias",
    "complexity": "complexity:Complexity",
    "sparseness": "sparseness:Sparseness",
    "localization": "localization:Localization",
    "max-box-acc-v2": "max_box:MaxBoxAccV2",
    "pointing-game": "pointing:PointingGame",
    "energy-pointing-game": "pointing:EnergyPointingGame",
    "class-confusion": "class_confusion:ClassConfusion",
    "mosaic": "mosaic:Mosaic",
}


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """The embedded default, and models of timm and torchvision by name."""
    return _imported(_BLACK_BOXES)


@hookimpl
def provide_alternatives() -> Mapping[str, Callable[..., Alternative]]:
    """Blur, blur pyramid, noise, constant, the paper's choice, crop."""
    return _imported(_ALTERNATIVES)


@hookimpl
def provide_terms() -> Mapping[str, Callable[..., Term]]:
    """The terms of the paper's objective and of the authors' code."""
    return _imported(_TERMS)


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """Maskers that need no training, and the one trained for the embedded classifier."""
    trained_file = resolve_name("saliencykit.maskers.realtime.trained_file:TrainedFile")
    folder = resolve_name("saliencykit.demo.directory:DEMO_DIR")
    return {"demo": trained_file(folder / "masker.safetensors"), **_imported(_MASKERS, "maskers.")}


@hookimpl
def provide_metrics() -> Mapping[str, Callable[..., Metric]]:
    """The paper's saliency metric, and the field's metrics of masks and maps."""
    return _imported(_METRICS, "metrics.")


@hookimpl(trylast=True)
def wrap_model(model: object) -> BlackBox | None:
    """Torch modules (with the preprocessing of timm and torchvision) and functions on numpy
    arrays.
    """
    black_box: BlackBox | None = resolve_name("saliencykit.black_boxes.model_wrapping:wrap_model")(
        model
    )
    return black_box


def _imported(table: Mapping[str, str], package: str = "") -> dict[str, Callable[..., Any]]:
    return {name: resolve_name(f"saliencykit.{package}{place}") for name, place in table.items()}
