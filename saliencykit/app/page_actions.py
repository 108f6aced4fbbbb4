"""What the page does on each event: from what a person chose to what is shown, without a web
framework.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

from saliencykit.app.disagreement import disagreement
from saliencykit.app.exploration import Choice, Exploration, OnQuery, explore
from saliencykit.app.panels import view_panels
from saliencykit.app.python_code import python_code
from saliencykit.app.workbench import Workbench
from saliencykit.core.checks import reason_of
from saliencykit.reports.report_files import write_report
from saliencykit.visualization.captions import as_text
from saliencykit.visualization.html_page import plain

NO_CLASS = -1
"""The value of a class field that is left empty."""


@final
@dataclass(frozen=True)
class Dial:
    """The fields that query the model again, and explain nothing again.

    Attributes:
        percent: The area of the mask; that of the masker's own mask keeps this one.
        alternative: Replaces pixels, a text.
        opacity: Of the heat map, in [0, 1].
    """

    percent: float
    alternative: str = "blur"
    opacity: float = 0.65

    def budget(self, exploration: Exploration) -> float | None:
        """The area in (0, 1); None for the masker's own mask."""
        own = own_percent(exploration)
        return None if self.percent == own else min(max(self.percent, 0.5), 99) / 100


@final
@dataclass(frozen=True)
class Shown:
    """What the page shows of an image.

    Attributes:
        panels: HTML.
        disagreement: HTML; empty where there is one masker.
        code: Python.
    """

    panels: str
    disagreement: str
    code: str


def own_percent(exploration: Exploration) -> float:
    """The area of the masker's own mask, as the slider has it.

    Args:
        exploration: The explained image.
    """
    return min(max(round(100 * exploration.area, 0), 1.0), 95.0)


def show(first: Exploration, second: Exploration | None, dial: Dial) -> Shown:
    """Query the model with what the dial keeps and drops, and draw it.

    Args:
        first: The explained image.
        second: The same image by another masker, or None.
        dial: Budget, alternative and opacity.

    Raises:
        InputError: The model raised.
    """
    budget = dial.budget(first)
    view = first.view(budget, dial.alternative)
    regions = ""
    if second is not None:
        area = min(max(float(view.explanation.area[0]), 0.005), 0.995)
        regions = disagreement((first, view), (second, second.view(area, dial.alternative)))
    return Shown(
        view_panels(first, view, opacity=dial.opacity),
        regions,
        python_code(first, budget, dial.alternative),
    )


def report_file(exploration: Exploration, dial: Dial) -> str:
    """Write the report of what is shown, and return its path.

    Args:
        exploration: The explained image.
        dial: Budget, alternative and opacity.
    """
    view = exploration.view(dial.budget(exploration), dial.alternative)
    directory = Path(tempfile.mkdtemp(prefix="saliencykit-"))
    return str(write_report(view.explanation, directory / "report.html"))


def compared(
    workbench: Workbench,
    file: str | None,
    first: Exploration,
    masker: str,
    on_query: OnQuery | None = None,
) -> Exploration | None:
    """The same image and class by another masker; None where it is the same one.

    Args:
        workbench: Has the masker.
        file: The image.
        first: The explained image.
        masker: The name of the other masker; empty: none.
        on_query: Progress.
    """
    if not masker or masker == first.choice.masker:
        return None
    choice = replace(first.choice, masker=masker)
    return explore(workbench, file, choice, name=first.name, on_query=on_query)


def class_choices(exploration: Exploration) -> list[tuple[str, int]]:
    """The classes in the order of a field that is searched: the top ones with what the model says,
    then all others by name.

    Args:
        exploration: The explained image.
    """
    output, names = exploration.black_box.output, exploration.explanation.class_names
    count = exploration.whole.shape[1]
    every = names or tuple(f"class {index}" for index in range(count))
    top = {
        index: f"{exploration.class_name(index)}, {as_text(value, output)}"
        for index, value in exploration.top()
    }
    rest = sorted((each, index) for index, each in enumerate(every) if index not in top)
    return [(text, index) for index, text in top.items()] + rest


def chosen(model: str, masker: str, label: int | None, against: int | None) -> Choice:
    """The fields of the page as a Choice."""
    own, rival = (None if each in (None, NO_CLASS) else each for each in (label, against))
    return Choice(model, masker, own, rival)


def problem(error: Exception, file: str | None = None, name: str | None = None) -> str:
    """HTML: an error as one sentence.

    Args:
        error: Whatever was raised.
        file: The image that was uploaded, as a path of the server.
        name: Its name, for people, in place of the path.
    """
    text = reason_of(error)
    text = text.replace(file, name) if file and name else text
    return f'<p class="sk-problem" role="alert">{plain(text[:1].upper() + text[1:])}</p>'
