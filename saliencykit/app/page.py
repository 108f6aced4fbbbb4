"""The page: fields, what they call, and where the results go. The work is in the other modules."""

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from saliencykit.app import page_actions as actions
from saliencykit.app.exploration import Exploration, explore
from saliencykit.app.gallery_tab import GalleryTab
from saliencykit.app.page_fields import KEPT, PRIVATE, choice, gradio, query_progress, slider
from saliencykit.app.python_code import START_IMAGE
from saliencykit.app.workbench import Workbench
from saliencykit.core.errors import InputError
from saliencykit.demo import demo_image
from saliencykit.registry.listing import list_alternatives

_DOWNLOAD = "() => document.querySelector('#sk-report').click()"


@final
@dataclass
class Page:
    """The page of a workbench.

    Args:
        workbench: Models and maskers.
        folder: For the gallery; None: there is none.
    """

    workbench: Workbench
    folder: Path | None = None

    def build(self) -> Any:
        """The page as `gradio.Blocks`."""
        gr = gradio()
        with gr.Blocks(
            title="saliencykit", analytics_enabled=False, delete_cache=(KEPT, KEPT)
        ) as blocks:
            gr.Markdown("# Which pixels does this decision rest on?")
            if self.folder is None:
                self._explorer(blocks)
            else:
                with gr.Tabs() as tabs:
                    with gr.Tab("One image", id="image"):
                        image, start = self._explorer(blocks)
                    with gr.Tab("Folder", id="folder"):
                        GalleryTab(self.workbench, self.folder).build(tabs, image, start)
        return blocks

    def _explorer(self, blocks: Any) -> tuple[Any, dict[str, Any]]:
        """Fields and panels for one image; returns the field of the image, and how an event
        explains a new one.
        """
        gr, bench = gradio(), self.workbench
        first, second = (gr.State(time_to_live=KEPT) for _ in range(2))
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                image = _image_field()
                with gr.Row():
                    model = choice(bench.model_names, "Model", "sk-model")
                    masker = choice(bench.masker_names, "Masker", "sk-masker")
                label = choice([], "Class", "sk-class")
                against = choice([], "Rather than", "sk-against")
            with gr.Column(scale=3, min_width=320):
                with gr.Row():
                    percent = slider(20, (1, 95, 1), "Budget, % of the pixels", "sk-budget")
                    opacity = slider(0.65, (0, 1, 0.05), "Opacity", "sk-opacity")
                    alternative = choice(list_alternatives(), "Alternative", "sk-alternative")
                panels = gr.HTML(elem_id="sk-view", padding=False)
                report = gr.Button("Download report", size="sm", elem_id="sk-write")
                file = gr.DownloadButton("", elem_id="sk-report", elem_classes="sk-hidden")
                status = gr.HTML(elem_id="sk-status", padding=False)
                with gr.Accordion("What two maskers disagree on", open=False):
                    names = ["", *bench.masker_names]
                    other = choice(names, "Compare with", "sk-other")
                    regions = gr.HTML(elem_id="sk-regions", padding=False)
                with gr.Accordion("The same as Python", open=False):
                    code = gr.Code(
                        language="python",
                        interactive=False,
                        show_line_numbers=False,
                        wrap_lines=True,
                        elem_id="sk-code",
                    )
        dial, drawn = [percent, alternative, opacity], [panels, regions, code]
        fields = [image, model, masker, label, against, other, *dial]
        results = [first, second, label, against, percent, *drawn]
        start = {"inputs": fields, "outputs": results, "show_progress_on": panels} | PRIVATE
        new = start | {"fn": partial(self._start, keep_class=False)}
        for trigger in (image.input, model.input, blocks.load):
            trigger(**new)
        for each in (label, against, masker):
            each.input(self._start, **start)
        fields = [image, first, other, *dial]
        other.input(self._compare, fields, [second, *drawn], show_progress_on=regions, **PRIVATE)
        for each in dial:
            each.input(
                self._turn,
                [first, second, *dial],
                drawn,
                trigger_mode="always_last",
                queue=False,
                show_progress="hidden",
                **PRIVATE,
            )
        report.click(self._report, [first, *dial], [status, file], **PRIVATE).then(
            None, [status], js=_DOWNLOAD, **PRIVATE
        )
        return image, new

    def _start(
        self,
        image: tuple[str, str] | None,
        model: str,
        masker: str,
        label: int | None,
        against: int | None,
        other: str,
        *dial: Any,
        keep_class: bool = True,
    ) -> list[Any]:
        """Explain again; the slider then shows the area of the masker's own mask."""
        gr = gradio()
        chosen = actions.chosen(model, masker, *((label, against) if keep_class else (None, None)))
        file, name = image or (None, None)
        on_query = query_progress()
        try:
            first = explore(self.workbench, file, chosen, name=name, on_query=on_query)
            second = actions.compared(self.workbench, file, first, other, on_query)
            percent = actions.own_percent(first)
            shown = actions.show(first, second, actions.Dial(percent, *dial[1:]))
        except Exception as error:
            return [
                None,
                None,
                gr.skip(),
                gr.skip(),
                gr.skip(),
                actions.problem(error, file, name),
                "",
                "",
            ]
        classes = actions.class_choices(first)
        rivals = [("no other class", actions.NO_CLASS), *classes]
        rival = actions.NO_CLASS if chosen.against is None else chosen.against
        return [
            first,
            second,
            gr.Dropdown(choices=classes, value=first.choice.label),
            gr.Dropdown(choices=rivals, value=rival),
            percent,
            shown.panels,
            shown.disagreement,
            shown.code,
        ]

    def _compare(
        self, image: tuple[str, str] | None, first: Exploration | None, other: str, *dial: Any
    ) -> list[Any]:
        """Explain by another masker too, at the same budget."""
        if first is None:
            return [gradio().skip()] * 4
        try:
            file = image[0] if image else None
            second = actions.compared(self.workbench, file, first, other, query_progress())
        except Exception as error:
            return [None, gradio().skip(), actions.problem(error), gradio().skip()]
        return [second, *self._turn(first, second, *dial)]

    def _turn(self, first: Exploration | None, second: Exploration | None, *dial: Any) -> list[str]:
        """Query again with what the dial keeps and drops."""
        if first is None:
            return [gradio().skip()] * 3
        try:
            shown = actions.show(first, second, actions.Dial(*dial))
        except Exception as error:
            return [actions.problem(error), "", ""]
        return [shown.panels, shown.disagreement, shown.code]

    def _report(self, first: Exploration | None, *dial: Any) -> list[Any]:
        try:
            if first is None:
                raise InputError("there is no explained image; drop one first.")
            return ["", actions.report_file(first, actions.Dial(*dial))]
        except Exception as error:
            return [actions.problem(error), gradio().skip()]


def _image_field() -> Any:
    """Begins with the demo's photo."""
    field = gradio().Image(
        _demo_file(),
        label="Image",
        sources=["upload", "webcam", "clipboard"],
        height=240,
        buttons=[],
        elem_id="sk-image",
    )
    field.preprocess = _as_it_came
    return field


def _as_it_came(payload: Any) -> tuple[str, str] | None:
    """An upload's file and name: the library decodes it, with its own limits, and not Gradio."""
    if payload is None or not payload.path:
        return None
    return payload.path, payload.orig_name or Path(payload.path).name


def _demo_file() -> str:
    path = Path(tempfile.mkdtemp(prefix="saliencykit-")) / START_IMAGE
    demo_image().save(path)
    return str(path)
