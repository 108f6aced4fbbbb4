"""The tab of a folder: its images sorted by verdict."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from saliencykit.app.folder_gallery import FILTERS, ExplainedImage, explain_folder
from saliencykit.app.page_actions import problem
from saliencykit.app.page_fields import KEPT, PRIVATE, choice, gradio
from saliencykit.app.workbench import Workbench
from saliencykit.visualization.html_page import plain

MAX_IMAGES = 200
"""Images of a folder that the gallery explains."""


@final
@dataclass
class GalleryTab:
    """The fields of a folder, and what they call.

    Args:
        workbench: Models and maskers.
        folder: The images.
    """

    workbench: Workbench
    folder: Path

    def build(self, tabs: Any, image: Any, start: dict[str, Any]) -> None:
        """The images of the folder, sorted by verdict; a click opens one.

        Args:
            tabs: Of the page; the first one has the id `image`.
            image: The field of the image that is explored.
            start: How an event explains a new image.
        """
        gr, bench = gradio(), self.workbench
        found = gr.State([], time_to_live=KEPT)
        shown = gr.State([], time_to_live=KEPT)
        with gr.Row():
            model = choice(bench.model_names, "Model", "sk-folder-model")
            masker = choice(bench.masker_names, "Masker", "sk-folder-masker")
            chosen = choice(list(FILTERS), "Show", "sk-filter")
        button = gr.Button(f"Explain {self.folder}", variant="primary", elem_id="sk-folder")
        status = gr.HTML(elem_id="sk-folder-status", padding=False)
        gallery = gr.Gallery(
            height="auto",
            allow_preview=False,
            buttons=[],
            show_label=False,
            elem_id="sk-gallery",
        )

        def opened(images: list[ExplainedImage], event: gr.SelectData) -> list[Any]:  # type: ignore[name-defined]
            return [str(images[event.index].file), gr.Tabs(selected="image")]

        listed = {"fn": _filtered, "inputs": [found, chosen], "outputs": [shown, gallery]}
        explained = button.click(self._explain_folder, [model, masker], [found, status], **PRIVATE)
        explained.then(**listed, **PRIVATE)
        chosen.input(**listed, **PRIVATE)
        gallery.select(opened, [shown], [image, tabs], **PRIVATE).then(**start)

    def _explain_folder(self, model: str, masker: str) -> list[Any]:
        progress = gradio().Progress()

        def on_row(row: object, done: int, total: int | None) -> None:
            progress((done, total), desc="explaining", unit="images")

        try:
            output_dir = Path(tempfile.mkdtemp(prefix="saliencykit-"))
            images = explain_folder(
                self.workbench,
                model,
                masker,
                self.folder,
                output_dir,
                max_images=MAX_IMAGES,
                on_row=on_row,
            )
        except Exception as error:
            return [[], problem(error)]
        return [images, _summary(images)]


def _filtered(images: list[ExplainedImage], chosen: str) -> list[Any]:
    fitting = [each for each in images if each.overlay.exists() and each.fits(chosen)]
    return [fitting, [(str(each.overlay), each.caption) for each in fitting]]


def _summary(images: list[ExplainedImage]) -> str:
    failed = [each.caption for each in images if each.verdict is None]
    lost = f" No mask for {len(failed)}: {'; '.join(failed[:3])}" if failed else ""
    return f"<p>{plain(f'{len(images)} images, first those whose mask does not decide.{lost}')}</p>"
