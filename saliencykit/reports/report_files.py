"""Reports: one self-contained HTML file for any result."""

from pathlib import Path

from saliencykit.core.checks import name_of
from saliencykit.core.errors import InputError
from saliencykit.evaluation.scores import Scores
from saliencykit.explanation.result import Explanation
from saliencykit.reports.dataset_page import dataset_page
from saliencykit.reports.explanation_page import explanation_page
from saliencykit.reports.scores_page import scores_page
from saliencykit.storage.locations import location
from saliencykit.storage.saved_explanations import SavedExplanations
from saliencykit.visualization.html_page import write_page


def write_report(result: Explanation | SavedExplanations | Scores, path: str | Path) -> Path:
    """Write a result as one HTML file that needs no network: images with masks, tables, settings.

    Args:
        result: As returned by `explain`, `explain_dataset` or `evaluate`, or loaded from disk.
        path: The file, such as `report.html`.

    Returns:
        The path.

    Raises:
        InputError: The result is none of these.
        SaliencyKitError: The file cannot be written.

    Example:
        >>> import tempfile
        >>> from saliencykit import explain
        >>> from saliencykit.demo import demo_image
        >>> answer = explain("demo", demo_image(), masker="center-box")
        >>> write_report(answer, tempfile.mkdtemp() + "/cat.html").name
        'cat.html'
    """
    if isinstance(result, Explanation):
        page = explanation_page(result)
    elif isinstance(result, SavedExplanations):
        page = dataset_page(result)
    elif isinstance(result, Scores):
        page = scores_page(result)
    else:
        raise InputError(
            "write_report takes an Explanation, SavedExplanations or Scores; got "
            f"{name_of(result)}."
        )
    return write_page(location(path), page)
