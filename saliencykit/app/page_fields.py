"""The fields of the page, and how Gradio is set up."""

from collections.abc import Sequence
from typing import Any

from saliencykit.core.optional_packages import required

KEPT = 3600
"""Seconds that uploads and what a browser explained are kept."""
PRIVATE = {"api_visibility": "private"}
"""An event without an address for other programs."""
_SYSTEM = ["system-ui", "sans-serif"]


def gradio() -> Any:
    """The optional package.

    Raises:
        InputError: It is not installed.
    """
    return required("gradio", "the page", "app")


def theme() -> Any:
    """System fonts: nothing is fetched."""
    gr = gradio()
    mono = ["ui-monospace", "monospace"]
    return gr.themes.Default(primary_hue="orange", font=_SYSTEM, font_mono=mono)


def choice(names: Sequence[str], label: str, elem_id: str) -> Any:
    """A list of names that is searched by typing.

    Args:
        names: The first one is chosen.
        label: For people.
        elem_id: For style sheets and tests.
    """
    return gradio().Dropdown(names, label=label, elem_id=elem_id, min_width=130)


def slider(value: float, scale: tuple[float, float, float], label: str, elem_id: str) -> Any:
    """A slider with a field for its number.

    Args:
        value: At the start.
        scale: Least, most and step.
        label: For people.
        elem_id: For style sheets and tests.
    """
    least, most, step = scale
    look = {"label": label, "elem_id": elem_id, "buttons": [], "min_width": 200}
    return gradio().Slider(least, most, value, step=step, **look)


def query_progress() -> Any:
    """Called with the evaluations of the model so far, and of all; shows them over the results."""
    progress = gradio().Progress()

    def on_query(done: int, total: int | None) -> None:
        progress((done, total), desc="querying the model", unit="evaluations")

    return on_query
