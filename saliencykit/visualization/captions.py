"""The caption of an explained image."""

from saliencykit.core.output import Output


def caption(
    class_name: str,
    probability: float | None = None,
    kept: float | None = None,
    dropped: float | None = None,
    area: float | None = None,
    verdict: str | None = None,
    output: Output = "softmax",
) -> str:
    """One line of text: the class, then what is known.

    Args:
        class_name: Synonyms after a comma are left out.
        probability: Of the class on the whole image, in [0, 1].
        kept: Its probability with only the masked region visible.
        dropped: Its probability with the masked region removed.
        area: Fraction of the pixels in the mask.
        verdict: What kept and dropped show, in words.
        output: What the numbers are: probabilities, or scores, which are shown as they are.

    Example:
        >>> caption("tabby, tabby cat", 0.713, area=0.2)
        'tabby: 71.3%, area 20.0%'
        >>> caption("tabby", 0.713, 0.7, 0.01, verdict="this region alone decides")
        'tabby: 71.3%, kept 70.0%, dropped 1.0%: this region alone decides'
    """
    whole = "" if probability is None else f": {as_text(probability, output)}"
    parts = [f"{class_name.split(',')[0]}{whole}"]
    for name, value in (("kept", kept), ("dropped", dropped)):
        parts += [] if value is None else [f"{name} {as_text(value, output)}"]
    parts += [] if area is None else [f"area {area:.1%}"]
    return ", ".join(parts) + ("" if verdict is None else f": {verdict}")


def as_text(value: float, output: Output) -> str:
    """A probability in percent, or a score.

    Args:
        value: As `core.output.reported` returns it.
        output: What it is.

    Example:
        >>> as_text(0.713, "sigmoid"), as_text(41.5, "score")
        ('71.3%', '41.5')
    """
    return f"{value:.4g}" if output == "score" else f"{value:.1%}"
