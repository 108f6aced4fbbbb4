"""Doubts: why an explanation should not be believed as it is, and what to write instead."""

from saliencykit.black_boxes.repeated import unsteadiness
from saliencykit.core.black_box import BlackBox
from saliencykit.core.types import Images
from saliencykit.core.verdict import Verdict
from saliencykit.explanation.result import Explanation
from saliencykit.explanation.smallest_regions import KINDS
from saliencykit.visualization.captions import as_text

_FEW = 3  # names of images in a message
_FLAT = 1e-3  # a mask with a smaller range shows no region


def doubts(explanation: Explanation) -> list[str]:
    """One message for each kind of doubt, with the images that it is about and the first one's
    numbers.

    A mask is doubtful if it has the same value everywhere, or if its verdict is `neither` or
    `saturated`.

    Args:
        explanation: The result of `explain`.

    Example:
        >>> import torch
        >>> image, logits = torch.rand(1, 3, 4, 4), torch.tensor([[3.0, 0.0]])
        >>> doubts(Explanation(image, torch.tensor([0]), torch.zeros(1, 1, 4, 4), logits))
        ["image 0: the mask is 0.00 everywhere and shows no region; write masker='rise'."]
    """
    texts: dict[str, str] = {}
    rows: dict[str, list[int]] = {}
    for row in range(len(explanation)):
        for kind, text in _doubts(explanation, row).items():
            texts.setdefault(kind, text)
            rows.setdefault(kind, []).append(row)
    return [f"{_names(explanation, rows[kind])}: {text}." for kind, text in texts.items()]


def unsteady_answers(black_box: BlackBox, image: Images) -> list[str]:
    """A message if two queries with one image give different answers: of a model that draws random
    numbers, or looks at the other images of a batch.

    Args:
        black_box: The classifier.
        image: (1, C, H, W) on its device.
    """
    why = unsteadiness(black_box, image)
    if why is None:
        return []
    if why == "batch":
        return [
            "the model's answer for an image depends on the other images of its batch, as with a "
            "batch norm without running statistics, so masks and verdicts are about none of them; "
            "write TorchBlackBox(model, max_batch_size=1)."
        ]
    return [
        "the model answers the same query differently, so masks and verdicts are "
        "noisy; write repeats=10 (--repeats 10) to average over ten queries."
    ]


def _doubts(explanation: Explanation, row: int) -> dict[str, str]:
    """The messages about one image, by kind."""
    masker, fill = (str(explanation.provenance.get(key)) for key in ("masker", "alternative"))
    other = f"write masker={'iterative' if masker.startswith('Rise(') else 'rise'!r}"
    larger = "give it a larger budget" if ".with_budget(" in masker else f"{other}, or another seed"
    low, high = (float(value) for value in explanation.mask[row].aminmax())
    found, name = {}, explanation.label_names[row].split(",")[0]
    if explanation.output == "score":
        name = "the score" if explanation.logits.shape[1] == 1 else f"score {name}"
    elif name.isdecimal():
        name = f"class {name}"
    searched = {kind: getattr(explanation, kind) for kind in KINDS}
    if explanation.verdicts is None and any(
        each is not None and not float(each.area[row]) > 0 for each in searched.values()
    ):
        found["stays"] = (
            f"{name} stays with all pixels replaced, so the size of a region says nothing; write "
            "alternative='noise'"
        )
    if high - low < _FLAT:
        found["flat"] = f"the mask is {high:.2f} everywhere and shows no region; {other}"
        if " certified(" in masker and low >= 1:
            found["flat"] = (
                "the certified region is the whole image, because no smaller one is known to keep "
                "enough; calibrate another masker, or with a lower keep or level"
            )
    if explanation.verdicts is None or explanation.kept is None or explanation.dropped is None:
        return found
    whole, kept, dropped = (
        as_text(float(each[row]), explanation.output)
        for each in (explanation.probability, explanation.kept, explanation.dropped)
    )
    verdict = explanation.verdicts[row]
    if verdict == Verdict.SATURATED:
        found["saturated"] = (
            f"{name} stays at {kept} with all pixels replaced by {fill}, so nothing was tested; "
            f"write alternative={'blur' if fill.startswith('Noise(') else 'noise'!r}"
        )
        if explanation.output == "score" and kept != whole:
            difference = f"target=lambda answer: ... - {whole}".replace("- -", "+ ")
            found["saturated"] = (
                f"{name} is {whole}, and about the same with all pixels replaced by {fill}, so "
                "nothing was tested; write output='sigmoid' or 'softmax' if it is a logit, or "
                f"{difference} if so small a difference matters"
            )
    if verdict == Verdict.NEITHER and not found:
        found["neither"] = (
            f"the mask keeps {kept} and leaves {dropped} of {name}'s {whole}, so it does not show "
            f"what decides; {larger}"
        )
    return found


def _names(explanation: Explanation, rows: list[int]) -> str:
    sources = explanation.provenance.get("sources")
    names = [sources[row] if sources else f"image {row}" for row in rows[:_FEW]]
    more = f" and {len(rows) - _FEW} more" if len(rows) > _FEW else ""
    return ", ".join(names) + more
