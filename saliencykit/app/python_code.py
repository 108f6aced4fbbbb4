"""What the page shows as Python."""

from saliencykit.app.exploration import Exploration
from saliencykit.app.workbench import AUTOMATIC
from saliencykit.registry.listing import list_models

START_IMAGE = "demo-espresso.png"
"""The name of the photo that the page opens with."""


def python_code(exploration: Exploration, budget: float | None, alternative: str) -> str:
    """The lines that compute the same explanation, to be run beside the image.

    Args:
        exploration: The explained image.
        budget: The area of the mask, or None.
        alternative: Replaces pixels in the verification.
    """
    choice, against = exploration.choice, exploration.choice.against
    imports = ["explain"] if against is None else ["Contrast", "explain"]
    # a text that loads it elsewhere too, or what the page calls an object
    named = bool(list_models(choice.model.partition(":")[0]))
    model = repr(choice.model) if named else "model"
    options = [] if choice.masker == AUTOMATIC else [f"masker={choice.masker!r}"]
    options += [] if budget is None else [f"budget={budget:g}"]
    options += [] if alternative == "blur" else [f"alternative={alternative!r}"]
    options += [] if against is None else [f"target=Contrast(against={against})"]
    start = exploration.name == START_IMAGE
    image = "demo_image()" if start else repr(exploration.name)
    label = "" if choice.label is None else exploration.class_name(choice.label)
    rival = "" if against is None else f", rather than {exploration.class_name(against)}"
    return "\n".join(
        [
            f"from saliencykit import {', '.join(imports)}",
            *(["from saliencykit.demo import demo_image"] if start else []),
            "",
            *([] if named else ["# model: the one that you gave to launch_app"]),
            f"explanation = explain(  # {' '.join(f'{label}{rival}'.split())}",
            f"    {', '.join([model, image, str(choice.label), *options])}",
            ")",
            "print(explanation)",
            'explanation.overlay().save("overlay.png")',
            "",
        ]
    )
