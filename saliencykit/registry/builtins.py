"""Our own plugin: registers what the package ships, through the same hooks as anybody else."""

from collections.abc import Callable, Mapping

from saliencykit.core.alternative import Alternative
from saliencykit.core.black_box import BlackBox
from saliencykit.core.masker import Masker
from saliencykit.core.metric import Metric
from saliencykit.core.objective import Term
from saliencykit.registry.hookspecs import hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """The embedded default, and models of timm and torchvision by name."""
    from saliencykit.black_boxes.timm import timm_black_box
    from saliencykit.black_boxes.torchvision import torchvision_black_box
    from saliencykit.demo import demo_black_box

    return {"demo": demo_black_box, "timm": timm_black_box, "torchvision": torchvision_black_box}


@hookimpl
def provide_alternatives() -> Mapping[str, Callable[..., Alternative]]:
    """Blur, blur pyramid, noise, constant, the paper's choice, crop."""
    from saliencykit.alternatives.blur import Blur
    from saliencykit.alternatives.blur_pyramid import BlurPyramid
    from saliencykit.alternatives.choice import Choice
    from saliencykit.alternatives.constant import Constant
    from saliencykit.alternatives.crop import Crop
    from saliencykit.alternatives.noise import Noise

    return {
        "blur": Blur,
        "blur-pyramid": BlurPyramid,
        "noise": Noise,
        "constant": Constant,
        "choice": Choice,
        "crop": Crop,
    }


@hookimpl
def provide_terms() -> Mapping[str, Callable[..., Term]]:
    """The terms of the paper's objective and of the authors' code."""
    from saliencykit.terms.area import Area, LogArea, PowerArea
    from saliencykit.terms.destroy import DestroyedMargin, DestroyedProbability
    from saliencykit.terms.preserve import PreservedLogProbability, PreservedMargin
    from saliencykit.terms.smoothness import Smoothness

    return {
        "smoothness": Smoothness,
        "area": Area,
        "power-area": PowerArea,
        "log-area": LogArea,
        "preserved-log-probability": PreservedLogProbability,
        "preserved-margin": PreservedMargin,
        "destroyed-probability": DestroyedProbability,
        "destroyed-margin": DestroyedMargin,
    }


@hookimpl
def provide_maskers() -> Mapping[str, Callable[..., Masker]]:
    """Maskers that need no training, and the one trained for the embedded classifier."""
    from saliencykit.demo import HERE
    from saliencykit.maskers.baselines import CenterBox, GroundTruthBox, RandomMap, WholeImage
    from saliencykit.maskers.cam.ablation_cam import AblationCam
    from saliencykit.maskers.cam.cam import Cam
    from saliencykit.maskers.cam.grad_cam import GradCam
    from saliencykit.maskers.cam.score_cam import ScoreCam
    from saliencykit.maskers.gradient.captum_method import AttributionMasker
    from saliencykit.maskers.gradient.excitation_backprop import (
        ExcitationBackprop,
        contrastive_excitation_backprop,
    )
    from saliencykit.maskers.gradient.feedback import Feedback
    from saliencykit.maskers.gradient.guided_backprop import (
        GuidedGradCam,
        deconvolution,
        guided_backprop,
    )
    from saliencykit.maskers.gradient.input_gradients import (
        Gradient,
        InputXGradient,
        IntegratedGradients,
        SmoothGrad,
    )
    from saliencykit.maskers.on_surrogate import OnSurrogate
    from saliencykit.maskers.optimization.extremal_perturbation import ExtremalPerturbation
    from saliencykit.maskers.optimization.iterative import Iterative, meaningful_perturbation
    from saliencykit.maskers.perturbation.feature_ablation import FeatureAblation
    from saliencykit.maskers.perturbation.occlusion import Occlusion
    from saliencykit.maskers.perturbation.rise import Rise
    from saliencykit.maskers.realtime.masker_file import TrainedFile
    from saliencykit.maskers.stored import StoredMasks

    return {
        "demo": TrainedFile(HERE / "masker.safetensors"),
        "iterative": Iterative,
        "meaningful-perturbation": meaningful_perturbation,
        "extremal-perturbation": ExtremalPerturbation,
        "rise": Rise,
        "occlusion": Occlusion,
        "feature-ablation": FeatureAblation,
        "gradient": Gradient,
        "input-x-gradient": InputXGradient,
        "integrated-gradients": IntegratedGradients,
        "smoothgrad": SmoothGrad,
        "guided-backprop": guided_backprop,
        "deconvolution": deconvolution,
        "guided-grad-cam": GuidedGradCam,
        "grad-cam": GradCam,
        "attribution": AttributionMasker,
        "cam": Cam,
        "ablation-cam": AblationCam,
        "excitation-backprop": ExcitationBackprop,
        "contrastive-excitation-backprop": contrastive_excitation_backprop,
        "score-cam": ScoreCam,
        "feedback": Feedback,
        "center-box": CenterBox,
        "whole-image": WholeImage,
        "random": RandomMap,
        "ground-truth": GroundTruthBox,
        "on-surrogate": OnSurrogate,
        "stored": StoredMasks,
    }


@hookimpl
def provide_metrics() -> Mapping[str, Callable[..., Metric]]:
    """The paper's saliency metric, and what else judges a mask or a map."""
    from saliencykit.metrics.area_curves import AreaCurves
    from saliencykit.metrics.average_drop import AverageDrop
    from saliencykit.metrics.class_confusion import ClassConfusion
    from saliencykit.metrics.complexity import Complexity
    from saliencykit.metrics.held_out_area_curves import HeldOutAreaCurves
    from saliencykit.metrics.insertion_deletion import Deletion, Insertion
    from saliencykit.metrics.localization import Localization
    from saliencykit.metrics.max_box import MaxBoxAccV2
    from saliencykit.metrics.mosaic import Mosaic
    from saliencykit.metrics.pointing import EnergyPointingGame, PointingGame
    from saliencykit.metrics.road import RemoveAndDebias
    from saliencykit.metrics.saliency_score import SaliencyScore, saliency_score_in_place
    from saliencykit.metrics.sparseness import Sparseness
    from saliencykit.metrics.sufficient_region import (
        SmallestDestroyingRegion,
        SmallestSufficientRegion,
    )

    return {
        "saliency-score": SaliencyScore,
        "saliency-score-in-place": saliency_score_in_place,
        "insertion": Insertion,
        "deletion": Deletion,
        "area-curves": AreaCurves,
        "held-out-area-curves": HeldOutAreaCurves,
        "smallest-sufficient-region": SmallestSufficientRegion,
        "smallest-destroying-region": SmallestDestroyingRegion,
        "average-drop": AverageDrop,
        "road": RemoveAndDebias,
        "complexity": Complexity,
        "sparseness": Sparseness,
        "localization": Localization,
        "max-box-acc-v2": MaxBoxAccV2,
        "pointing-game": PointingGame,
        "energy-pointing-game": EnergyPointingGame,
        "class-confusion": ClassConfusion,
        "mosaic": Mosaic,
    }


@hookimpl(trylast=True)
def wrap_model(model: object) -> BlackBox | None:
    """Torch modules (timm's and torchvision's with their own statistics) and functions on numpy
    arrays.
    """
    from saliencykit.black_boxes.wrap import wrap

    return wrap(model)
