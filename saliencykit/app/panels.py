"""The panels of a view as HTML: heat map, outline, kept and dropped, each with the model's
answer.
"""

from itertools import starmap

import torch
from PIL import Image

from saliencykit.app.exploration import Exploration, View
from saliencykit.core.output import reported
from saliencykit.core.types import Images, Logits, Mask
from saliencykit.visualization.captions import as_text
from saliencykit.visualization.display import to_pil
from saliencykit.visualization.heatmap import COLOR_BAR, blended
from saliencykit.visualization.html_images import jpeg_data_url
from saliencykit.visualization.html_page import plain
from saliencykit.visualization.mask_overlay import draw_overlay

_QUALITY = 85  # of the JPEG


def view_panels(exploration: Exploration, view: View, *, opacity: float) -> str:
    """The verdict in words, and four panels side by side; the page styles their classes.

    Args:
        exploration: The explained image.
        view: It at one budget.
        opacity: Of the heat map, in [0, 1].
    """
    pixels, geometry = exploration.display()
    keep = geometry.to_source(view.explanation.mask)
    kept, dropped = edited_images(exploration, view, keep)
    area = float(view.explanation.area[0])
    whole_answer, kept_answer, dropped_answer = (
        _answer(exploration, logits) for logits in view.answers[:, None]
    )
    region = draw_overlay(pixels, keep[0, 0].numpy())
    panels = [
        (f"Region, {area:.0%} of the pixels", region, f"whole image: {whole_answer}"),
        ("Kept", kept, kept_answer),
        ("Dropped", dropped, dropped_answer),
    ]
    heat = exploration.remember(("heat", opacity), lambda: _heat_figure(exploration, opacity))
    figures = heat + "".join(starmap(_figure, panels))
    return f'{_verdict(exploration, view)}<div class="sk-panels">{figures}</div>'


def edited_images(exploration: Exploration, view: View, keep: Mask) -> list[Image.Image]:
    """The kept and the dropped image, as sharp as the source image where pixels are kept.

    Args:
        exploration: The explained image.
        view: Has what the model got.
        keep: The view's mask at the size of the page, (1, 1, H, W).
    """
    geometry = exploration.display()[1]
    shown = geometry.to_source(_rgb(view.edited))
    if view.is_composed:
        # with a mask that keeps all, the detail that the model's size has lost comes back
        lost = exploration.remember("lost", lambda: _lost_detail(exploration))
        shown = shown + torch.cat([keep, 1 - keep]) * lost
    return [to_pil(each) for each in shown.clamp(0, 1)[:, None]]


def _lost_detail(exploration: Exploration) -> Images:
    pixels, geometry = exploration.display()
    source = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return source - geometry.to_source(_rgb(exploration.explanation.images))


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


def _heat_figure(exploration: Exploration, opacity: float) -> str:
    pixels, geometry = exploration.display()
    heat = geometry.to_source(exploration.explanation.mask)[0, 0].numpy()
    return _figure("Heat map", blended(pixels, heat, opacity), "the masker's own mask", COLOR_BAR)


def _figure(title: str, image: Image.Image, text: str, more: str = "") -> str:
    url = jpeg_data_url(image, side=max(image.size), quality=_QUALITY)
    return (
        f'<figure><img src="{url}" alt="{plain(f"{title}: {text}")}">'
        f"<figcaption><b>{plain(title)}</b><span>{plain(text)}</span>{more}</figcaption></figure>"
    )
