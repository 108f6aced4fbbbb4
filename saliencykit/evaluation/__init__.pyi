from .bootstrap import interval as interval
from .bootstrap import standard_error as standard_error
from .evaluate_maskers import evaluate as evaluate
from .evaluation_settings import BASELINES as BASELINES
from .score_rows import Row as Row
from .score_summary import PairedDifference as PairedDifference
from .score_summary import ScoreSummary as ScoreSummary
from .scores import Scores as Scores
