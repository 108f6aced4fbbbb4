"""Reasons: why a picture has no row of its own, in one line; what data sets, evaluations and checks
count.
"""

from saliencykit.core.checks import name_of
from saliencykit.core.errors import SaliencyKitError


def reason_of(error: Exception) -> str:
    """What a row says of an error: a message of ours as it is, any other with the error's name
    before it; in one line.

    Args:
        error: What was raised for this picture.

    Example:
        >>> reason_of(ValueError("no such   layer"))
        'ValueError: no such layer'
    """
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, SaliencyKitError) else f"{name_of(error)}: {text}"
