"""A folder as a gallery, sorted by verdict: first what the mask does not explain."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from saliencykit.app.workbench import Workbench
from saliencykit.core.verdict import Verdict
from saliencykit.explanation.dataset_explainer import explain_dataset
from saliencykit.explanation.dataset_run import overlay_path
from saliencykit.reports.dataset_page import row_caption
from saliencykit.storage.explanation_rows import ExplainedRow

# what needs a look comes first
ORDER = (
    Verdict.NEITHER, Verdict.NECESSARY, Verdict.SATURATED, Verdict.UNDECIDED, Verdict.SUFFICIENT,
    Verdict.BOTH,
)  # fmt: skip
NOT_KEPT = "the mask does not keep the class"
FILTERS = ("all images", NOT_KEPT, *(verdict.words for verdict in ORDER))
"""What the gallery can show."""


@final
@dataclass(frozen=True)
class ExplainedImage:
    """An image of the folder.

    Attributes:
        file: The image.
        overlay: The image with its mask.
        caption: Class, numbers and verdict, or why there is no mask.
        verdict: None where there is no mask.
    """

    file: Path
    overlay: Path
    caption: str
    verdict: Verdict | None

    def fits(self, chosen: str) -> bool:
        """Is it one of those that a filter shows?"""
        if chosen == NOT_KEPT:
            return self.verdict in (Verdict.NEITHER, Verdict.NECESSARY)
        return chosen == FILTERS[0] or (self.verdict is not None and self.verdict.words == chosen)


def explain_folder(
    workbench: Workbench,
    model: str,
    masker: str,
    folder: Path,
    output_dir: Path,
    *,
    max_images: int,
    on_row: Callable[[ExplainedRow, int, int | None], None] | None = None,
) -> list[ExplainedImage]:
    """Explain the top class of each image of a folder, in the order of `ORDER`.

    Args:
        workbench: Has the model and the masker.
        model: A name of the workbench.
        masker: A name of the workbench.
        folder: The images.
        output_dir: Where the rows and overlays are written, outside of the folder; a second call
            resumes there.
        max_images: The first so many images.
        on_row: As of `explain_dataset`.

    Raises:
        InputError: There are no images.
    """
    saved = explain_dataset(
        workbench.black_box(model),
        folder,
        masker=workbench.masker(masker, model),
        label="top",
        output_dir=output_dir,
        overlays=max_images,
        max_images=max_images,
        on_row=on_row,
    )
    images = [
        ExplainedImage(
            folder / row.name,
            overlay_path(saved.folder, row.index),
            f"{row.name}: {row.failure or row_caption(row, saved)}",
            row.verdict,
        )
        for row in saved.rows()
    ]
    return sorted(images, key=_place)


def _place(image: ExplainedImage) -> int:
    return -1 if image.verdict is None else ORDER.index(image.verdict)
