"""The caption of an explained image."""


def caption(
    class_name: str,
    probability: float | None = None,
    kept: float | None = None,
    dropped: float | None = None,
    area: float | None = None,
) -> str:
    """One line of text: the class, then what is known, in percent.

    Args:
        class_name: Synonyms after a comma are left out.
        probability: Of the class on the whole image, in [0, 1].
        kept: Its probability with only the masked region visible.
        dropped: Its probability with the masked region removed.
        area: Fraction of the pixels in the mask.

    Example:
        >>> caption("tabby, tabby cat", 0.713, area=0.2)
        'tabby: 71.3%, area 20.0%'
    """
    whole = "" if probability is None else f": {probability:.1%}"
    parts = [f"{class_name.split(',')[0]}{whole}"]
    for name, value in (("kept", kept), ("dropped", dropped), ("area", area)):
        parts += [] if value is None else [f"{name} {value:.1%}"]
    return ", ".join(parts)
