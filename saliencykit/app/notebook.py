"""explain_interactive(): the budget as a slider in a notebook."""

from typing import Any

from saliencykit.app.exploration import Choice, Exploration, explore
from saliencykit.app.panels import view_panels
from saliencykit.app.workbench import AUTOMATIC, Workbench
from saliencykit.core.masker import Masker
from saliencykit.core.optional_packages import required
from saliencykit.registry.listing import list_alternatives

# a notebook has no style sheet of ours
_STYLE = (
    "<style>.sk-panels{display:flex;flex-wrap:wrap;gap:10px}.sk-panels figure{flex:1 1 180px;"
    "max-width:320px;margin:0;background:none}.sk-panels img{width:100%;height:auto;margin:0}"
    ".sk-panels figcaption span,.sk-panels figcaption b{display:block}</style>"
)


def explain_interactive(
    model: object,
    image: Any,
    label: int | None = None,
    *,
    against: int | None = None,
    masker: Masker | str | None = None,
) -> Any:
    """Explain one image, with its budget as a slider below it: moving it queries the model twice,
    in one batch, and explains nothing again.

    Args:
        model: As for `explain`.
        image: One image, as for `explain`; not a tensor.
        label: The class to explain, an index. None: the top one.
        against: A class that it is contrasted with, an index.
        masker: As for `explain`.

    Returns:
        A widget of ipywidgets (extra `notebook`), which a notebook shows. Its children are the
        slider, the alternative, and the panels as HTML.

    Raises:
        InputError: ipywidgets is not installed, or as `explain`.

    Example:
        >>> from saliencykit.demo import demo_image
        >>> box = explain_interactive("demo", demo_image())  # doctest: +SKIP
    """
    ipywidgets = required("ipywidgets", "explain_interactive", "notebook")
    named: list[Masker | str] = [] if masker is None else [masker]
    workbench = Workbench({"model": model}, named)
    chosen = AUTOMATIC if masker is None else workbench.masker_names[0]
    explored = explore(workbench, image, Choice("model", chosen, label, against))
    own = min(max(round(100 * explored.area), 1), 95)
    slider = ipywidgets.IntSlider(own, 1, 95, description="budget, %")
    fill = ipywidgets.Dropdown(options=list_alternatives(), value="blur", description="alternative")
    panels = ipywidgets.HTML(_drawn(explored, None, "blur"))

    def turn(change: object) -> None:
        budget = None if slider.value == own else slider.value / 100
        panels.value = _drawn(explored, budget, fill.value)

    for each in (slider, fill):
        each.observe(turn, names="value")
    return ipywidgets.VBox([ipywidgets.HBox([slider, fill]), panels])


def _drawn(explored: Exploration, budget: float | None, alternative: str) -> str:
    return _STYLE + view_panels(explored, explored.view(budget, alternative), opacity=0.65)
