"""The panels of a view as HTML: heat map, outline, kept and dropped, each with the model's
answer.
"""

from itertools import starmap

import torch
from PIL import Image

from saliencykit.app.exploration import Exploration, View
from saliencykit.core.geometry import Geometry
from saliencykit.core.output import reported
from saliencykit.core.types import Images, Logits
from saliencykit.visualization.captions import as_text
from saliencykit.visualization.display import to_pil
from saliencykit.visualization.heatmap import COLORS, Array, blended
from saliencykit.visualization.html_images import jpeg_data_url
from saliencykit.visualization.html_page import plain
from saliencykit.visualization.mask_overlay import draw_overlay

_QUALITY = 85  # of the JPEG
_STOPS = ",".join(f"rgb{color}" for color in COLORS)
_BAR = f'<span>0<i class="sk-bar" style="background:linear-gradient(90deg,{_STOPS})"></i>1</span>'


def view_panels(exploration: Exploration, view: View, *, opacity: float) -> str:
    """The verdict in words, and four panels side by side; the page styles their classes.

    Args:
        exploration: The explained image.
        view: It at one budget.
        opacity: Of the heat map, in [0, 1].
    """
    pixels, geometry = exploration.display()
    heat = geometry.to_source(exploration.explanation.mask)[0, 0].numpy()
    mask = geometry.to_source(view.explanation.mask)[0, 0].numpy()
    kept, dropped = edited_images(view, pixels, geometry)
    area = float(view.explanation.area[0])
    whole_answer, kept_answer, dropped_answer = (
        _answer(exploration, logits) for logits in view.answers[:, None]
    )
    panels = [
        ("Heat map", blended(pixels, heat, opacity), "the masker's own mask", _BAR),
        (f"Region, {area:.0%} of the pixels", draw_overlay(pixels, mask), whole_answer, ""),
        ("Kept", kept, kept_answer, ""),
        ("Dropped", dropped, dropped_answer, ""),
    ]
    figures = "".join(starmap(_figure, panels))
    return f'{_verdict(exploration, view)}<div class="sk-panels">{figures}</div>'


def edited_images(view: View, pixels: Array, geometry: Geometry) -> list[Image.Image]:
    """The kept and the dropped image, as sharp as the source image where pixels are kept.

    Args:
        view: Has what the model got.
        pixels: (H, W, 3), the source image.
        geometry: Where the model's input lies in it.
    """
    explanation = view.explanation
    source = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    keep = geometry.to_source(explanation.mask)
    # with a mask that keeps all, the detail that the model's size has lost comes back
    lost = source - geometry.to_source(_rgb(explanation.images))
    shown = geometry.to_source(_rgb(view.edited))
    if view.is_composed:
        shown = shown + torch.cat([keep, 1 - keep]) * lost
    return [to_pil(each) for each in shown.clamp(0, 1)[:, None]]


def _rgb(images: Images) -> Images:
    color = images if images.shape[1] == 3 else images.mean(1, keepdim=True)
    return color.float().expand(-1, 3, -1, -1)


def _verdict(exploration: Exploration, view: View) -> str:
    explanation = view.explanation
    name = exploration.class_name(int(explanation.labels[0]))
    against = exploration.choice.against
    if against is not None:
        name = f"{name} rather than {exploration.class_name(against)}"
    verdict = explanation.verdicts[0] if explanation.verdicts else None
    words = "" if verdict is None else f": {verdict.words}"
    return (
        f'<p class="sk-verdict sk-{verdict}" role="status"><b>{plain(name)}</b>{plain(words)}</p>'
    )


def _answer(exploration: Exploration, logits: Logits) -> str:
    """The explained class, its rival, and the top class where it is another one."""
    label, against = int(exploration.explanation.labels[0]), exploration.choice.against
    best = int(logits.argmax())
    output = exploration.black_box.output
    others = [against] if output == "score" else [against, best]
    shown = dict.fromkeys([label, *(each for each in others if each is not None)])
    values = reported(
        logits.expand(len(shown), -1), torch.tensor(list(shown), device="cpu"), output
    )
    return "; ".join(
        f"{exploration.class_name(each)} {as_text(value, output)}"
        for each, value in zip(shown, values.tolist(), strict=True)
    )


def _figure(title: str, image: Image.Image, text: str, more: str) -> str:
    url = jpeg_data_url(image, side=max(image.size), quality=_QUALITY)
    return (
        f'<figure><img src="{url}" alt="{plain(f"{title}: {text}")}">'
        f"<figcaption><b>{plain(title)}</b><span>{plain(text)}</span>{more}</figcaption></figure>"
    )
