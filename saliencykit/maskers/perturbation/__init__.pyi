from .random_masks import FactoredMasks as FactoredMasks
from .random_masks import Sampling as Sampling
from .random_masks import draw_masks as draw_masks
from .score_estimators import MeanEstimator as MeanEstimator
from .score_estimators import RegressionEstimator as RegressionEstimator
from .score_estimators import ScoreEstimator as ScoreEstimator
