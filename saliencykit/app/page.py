"""The page: fields, what they call, and where the results go. The work is in the other modules."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, final

from saliencykit.app import page_actions as actions
from saliencykit.app.exploration import Exploration, explore
from saliencykit.app.folder_gallery import FILTERS, ExplainedImage, explain_folder
from saliencykit.app.workbench import Workbench
from saliencykit.core.errors import InputError
from saliencykit.demo import demo_image
from saliencykit.registry.listing import list_alternatives
from saliencykit.visualization.html_page import plain

MAX_IMAGES = 200
"""Images of a folder that the gallery explains."""
_KEPT = 3600  # seconds that uploads and what a browser explained are kept
_PRIVATE = {"api_visibility": "private"}  # no address for other programs
_SYSTEM = ["system-ui", "sans-serif"]
_DOWNLOAD = "() => document.querySelector('#sk-report').click()"


def gradio() -> Any:
    """The optional package.

    Raises:
        InputError: It is not installed.
    """
    try:
        import gradio as package
    except ImportError:
        raise InputError("the page needs Gradio; pip install 'saliencykit[app]'.") from None
    return package


def theme() -> Any:
    """System fonts: nothing is fetched."""
    gr = gradio()
    mono = ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="orange", font=_SYSTEM, font_mono=mono)


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
    gr: Any = field(default_factory=gradio)

    def build(self) -> Any:
        """The page as `gradio.Blocks`."""
        gr = self.gr
        with gr.Blocks(
            title="saliencykit", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)
        ) as blocks:
            gr.Markdown("# Which pixels does this decision rest on?")
            if self.folder is None:
                self._explorer(blocks)
            else:
                with gr.Tabs() as tabs:
                    with gr.Tab("One image", id="image"):
                        image, start = self._explorer(blocks)
                    with gr.Tab("Folder", id="folder"):
                        self._gallery(tabs, image, start)
        return blocks

    def _explorer(self, blocks: Any) -> tuple[Any, dict[str, Any]]:
        """Fields and panels for one image; returns the field of the image, and how an event
        explains a new one.
        """
        gr, bench = self.gr, self.workbench
        first, second = (gr.State(time_to_live=_KEPT) for _ in range(2))
        with gr.Row():
            with gr.Column(scale=1, min_width=260):
                image = gr.Image(
                    _demo_file(),
                    label="Image",
                    sources=["upload", "webcam", "clipboard"],
                    height=240,
                    buttons=[],
                    elem_id="sk-image",
                )
                image.preprocess = _as_it_came
                with gr.Row():
                    model = self._choice(bench.model_names, "Model", "sk-model")
                    masker = self._choice(bench.masker_names, "Masker", "sk-masker")
                label = self._choice([], "Class", "sk-class")
                against = self._choice([], "Rather than", "sk-against")
            with gr.Column(scale=3, min_width=320):
                with gr.Row():
                    percent = self._slider(20, (1, 95, 1), "Budget, % of the pixels", "sk-budget")
                    opacity = self._slider(0.65, (0, 1, 0.05), "Opacity", "sk-opacity")
                    alternative = self._choice(list_alternatives(), "Alternative", "sk-alternative")
                panels = gr.HTML(elem_id="sk-view", padding=False)
                report = gr.Button("Download report", size="sm", elem_id="sk-write")
                file = gr.DownloadButton("", elem_id="sk-report", elem_classes="sk-hidden")
                status = gr.HTML(elem_id="sk-status", padding=False)
                with gr.Accordion("What two maskers disagree on", open=False):
                    names = ["", *bench.masker_names]
                    other = self._choice(names, "Compare with", "sk-other")
                    regions = gr.HTML(elem_id="sk-regions", padding=False)
                with gr.Accordion("The same as Python", open=False):
                    code = gr.Code(language="python", interactive=False, elem_id="sk-code")
        dial, drawn = [percent, alternative, opacity], [panels, regions, code]
        fields = [image, model, masker, label, against, other, *dial]
        results = [first, second, label, against, percent, *drawn]
        start = {"inputs": fields, "outputs": results, "show_progress_on": panels} | _PRIVATE
        new = start | {"fn": partial(self._start, keep_class=False)}
        for trigger in (image.input, model.input, blocks.load):
            trigger(**new)
        for each in (label, against, masker):
            each.input(self._start, **start)
        fields = [image, first, other, *dial]
        other.input(self._compare, fields, [second, *drawn], show_progress_on=regions, **_PRIVATE)
        for each in dial:
            each.input(
                self._turn,
                [first, second, *dial],
                drawn,
                trigger_mode="always_last",
                show_progress="hidden",
                **_PRIVATE,
            )
        report.click(self._report, [first, *dial], [status, file], **_PRIVATE).then(
            None, [status], js=_DOWNLOAD, **_PRIVATE
        )
        return image, new

    def _choice(self, names: list[str], label: str, elem_id: str) -> Any:
        return self.gr.Dropdown(names, label=label, elem_id=elem_id, min_width=130)

    def _slider(
        self, value: float, scale: tuple[float, float, float], label: str, elem_id: str
    ) -> Any:
        least, most, step = scale
        look = {"label": label, "elem_id": elem_id, "buttons": [], "min_width": 200}
        return self.gr.Slider(least, most, value, step=step, **look)

    def _start(
        self,
        image: tuple[str, str] | None,
        model: str,
        masker: str,
        label: int | None,
        against: int | None,
        other: str,
        percent: float,
        alternative: str,
        opacity: float,
        *,
        keep_class: bool = True,
    ) -> list[Any]:
        """Explain again; the slider then shows the area of the masker's own mask."""
        gr = self.gr
        choice = actions.chosen(model, masker, *((label, against) if keep_class else (None, None)))
        file, name = image or (None, None)
        on_query = _reporting(gr)
        try:
            first = explore(self.workbench, file, choice, name=name, on_query=on_query)
            second = actions.compared(self.workbench, file, first, other, on_query)
            dial = actions.Dial(actions.own_percent(first), alternative, opacity)
            shown = actions.show(first, second, dial)
        except Exception as error:
            return [None, None, gr.skip(), gr.skip(), gr.skip(), actions.problem(error), "", ""]
        classes = actions.class_choices(first)
        rivals = [("no other class", actions.NO_CLASS), *classes]
        rival = actions.NO_CLASS if choice.against is None else choice.against
        return [
            first,
            second,
            gr.Dropdown(choices=classes, value=first.choice.label),
            gr.Dropdown(choices=rivals, value=rival),
            dial.percent,
            shown.panels,
            shown.disagreement,
            shown.code,
        ]

    def _compare(
        self, image: tuple[str, str] | None, first: Exploration | None, other: str, *dial: Any
    ) -> list[Any]:
        """Explain by another masker too, at the same budget."""
        if first is None:
            return [self.gr.skip()] * 4
        try:
            file = image[0] if image else None
            second = actions.compared(self.workbench, file, first, other, _reporting(self.gr))
        except Exception as error:
            return [None, self.gr.skip(), actions.problem(error), self.gr.skip()]
        return [second, *self._turn(first, second, *dial)]

    def _turn(
        self,
        first: Exploration | None,
        second: Exploration | None,
        percent: float,
        alternative: str,
        opacity: float,
    ) -> list[str]:
        """Query again with what the dial keeps and drops."""
        if first is None:
            return [self.gr.skip()] * 3
        try:
            dial = actions.Dial(percent, alternative, opacity)
            shown = actions.show(first, second, dial)
        except Exception as error:
            return [actions.problem(error), "", ""]
        return [shown.panels, shown.disagreement, shown.code]

    def _report(
        self, first: Exploration | None, percent: float, alternative: str, opacity: float
    ) -> list[Any]:
        try:
            if first is None:
                raise InputError("there is no explained image; drop one first.")
            return ["", actions.report_file(first, actions.Dial(percent, alternative, opacity))]
        except Exception as error:
            return [actions.problem(error), self.gr.skip()]

    def _gallery(self, tabs: Any, image: Any, start: dict[str, Any]) -> None:
        """The images of the folder, sorted by verdict; a click opens one."""
        gr, bench = self.gr, self.workbench
        found = gr.State([], time_to_live=_KEPT)
        shown = gr.State([], time_to_live=_KEPT)
        with gr.Row():
            model = self._choice(bench.model_names, "Model", "sk-folder-model")
            masker = self._choice(bench.masker_names, "Masker", "sk-folder-masker")
            chosen = self._choice(list(FILTERS), "Show", "sk-filter")
        button = gr.Button(f"Explain {self.folder}", variant="primary", elem_id="sk-folder")
        status = gr.HTML(elem_id="sk-folder-status", padding=False)
        gallery = gr.Gallery(
            columns=[2, 3, 4, 5],
            height="auto",
            allow_preview=False,
            buttons=[],
            show_label=False,
            elem_id="sk-gallery",
        )

        def opened(images: list[ExplainedImage], event: gr.SelectData) -> list[Any]:  # type: ignore[name-defined]
            return [str(images[event.index].file), gr.Tabs(selected="image")]

        listed = {"fn": _filtered, "inputs": [found, chosen], "outputs": [shown, gallery]}
        explained = button.click(self._explain_folder, [model, masker], [found, status], **_PRIVATE)
        explained.then(**listed, **_PRIVATE)
        chosen.input(**listed, **_PRIVATE)
        gallery.select(opened, [shown], [image, tabs], **_PRIVATE).then(**start)

    def _explain_folder(self, model: str, masker: str) -> list[Any]:
        assert self.folder is not None
        progress = self.gr.Progress()

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
            return [[], actions.problem(error)]
        return [images, _summary(images)]


def _filtered(images: list[ExplainedImage], chosen: str) -> list[Any]:
    fitting = [each for each in images if each.overlay.exists() and each.fits(chosen)]
    return [fitting, [(str(each.overlay), each.caption) for each in fitting]]


def _summary(images: list[ExplainedImage]) -> str:
    failed = [each.caption for each in images if each.verdict is None]
    lost = f" No mask for {len(failed)}: {'; '.join(failed[:3])}" if failed else ""
    return f"<p>{plain(f'{len(images)} images, first those whose mask does not decide.{lost}')}</p>"


def _reporting(gr: Any) -> Callable[[int, int | None], None]:
    progress = gr.Progress()

    def on_query(done: int, total: int | None) -> None:
        progress((done, total), desc="querying the model", unit="evaluations")

    return on_query


def _as_it_came(payload: Any) -> tuple[str, str] | None:
    """An upload's file and name: the library decodes it, with its own limits, and not Gradio."""
    if payload is None or not payload.path:
        return None
    return payload.path, payload.orig_name or Path(payload.path).name


def _demo_file() -> str:
    path = Path(tempfile.mkdtemp(prefix="saliencykit-")) / "espresso.png"
    demo_image().save(path)
    return str(path)
