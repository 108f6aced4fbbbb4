from .batch_explainer import BatchExplainer as BatchExplainer
from .dataset_explainer import explain_dataset as explain_dataset
from .dataset_run import ExplanationsDirectory as ExplanationsDirectory
from .explain_images import explain as explain
from .result import Explanation as Explanation
from .shard_merge import merge_shards as merge_shards
from .targeted import with_target as with_target
