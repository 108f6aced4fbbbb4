from .baselines import CenterBox as CenterBox
from .baselines import GroundTruthBox as GroundTruthBox
from .baselines import RandomMap as RandomMap
from .baselines import WholeImage as WholeImage
from .cam.ablation_cam import AblationCam as AblationCam
from .cam.cam import Cam as Cam
from .cam.class_activation_map import ClassActivationMap as ClassActivationMap
from .cam.class_activation_map import LayerInput as LayerInput
from .cam.eigen_cam import EigenCam as EigenCam
from .cam.finer_cam import FinerCam as FinerCam
from .cam.grad_cam import GradCam as GradCam
from .cam.grad_cam_plus_plus import GradCamPlusPlus as GradCamPlusPlus
from .cam.gradient_weighting import GradientWeighting as GradientWeighting
from .cam.hires_cam import HiResCam as HiResCam
from .cam.layer_cam import LayerCam as LayerCam
from .cam.score_cam import ScoreCam as ScoreCam
from .cam.xgrad_cam import XGradCam as XGradCam
from .certificate import Certificate as Certificate
from .certified import Certified as Certified
from .gradient.captum_method import AttributionMasker as AttributionMasker
from .gradient.excitation_backprop import ExcitationBackprop as ExcitationBackprop
from .gradient.excitation_backprop import (
    contrastive_excitation_backprop as contrastive_excitation_backprop,
)
from .gradient.feedback import Feedback as Feedback
from .gradient.guided_backprop import GuidedGradCam as GuidedGradCam
from .gradient.guided_backprop import RectifiedGradient as RectifiedGradient
from .gradient.guided_backprop import deconvolution as deconvolution
from .gradient.guided_backprop import guided_backprop as guided_backprop
from .gradient.input_gradients import Gradient as Gradient
from .gradient.input_gradients import InputXGradient as InputXGradient
from .gradient.input_gradients import IntegratedGradients as IntegratedGradients
from .gradient.input_gradients import SmoothGrad as SmoothGrad
from .gradient.pixel_attribution import PixelAttribution as PixelAttribution
from .gradient.winning_probability import (
    marginal_winning_probability as marginal_winning_probability,
)
from .normalize import mask_from_attributions as mask_from_attributions
from .on_surrogate import OnSurrogate as OnSurrogate
from .optimization.extremal_perturbation import ExtremalPerturbation as ExtremalPerturbation
from .optimization.iterative import Iterative as Iterative
from .optimization.meaningful_perturbation import (
    meaningful_perturbation as meaningful_perturbation,
)
from .optimization.smooth_mask import SmoothMask as SmoothMask
from .perturbation.feature_ablation import FeatureAblation as FeatureAblation
from .perturbation.occlusion import Occlusion as Occlusion
from .perturbation.rise import Rise as Rise
from .query_engine import MaskedQueries as MaskedQueries
from .query_engine import masked_queries as masked_queries
from .realtime.encoder import StandaloneEncoder as StandaloneEncoder
from .realtime.joint_module import JointModule as JointModule
from .realtime.masking_network import MaskingNetwork as MaskingNetwork
from .realtime.masking_network import masking_network as masking_network
from .realtime.pretrained_encoder import PretrainedEncoder as PretrainedEncoder
from .realtime.realtime_masker import RealTimeMasker as RealTimeMasker
from .realtime.trained_file import TrainedFile as TrainedFile
from .stored import StoredMasks as StoredMasks
from .universal.universal_masker import Universal as Universal
