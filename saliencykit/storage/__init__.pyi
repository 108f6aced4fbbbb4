from .explanation_rows import ExplainedRow as ExplainedRow
from .run_export import export_run as export_run
from .run_summary import Summary as Summary
from .run_summary import summarize as summarize
from .saved_explanations import SavedExplanations as SavedExplanations
from .weights_file import WeightsFile as WeightsFile
