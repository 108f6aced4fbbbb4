"""Our maskers for people who speak Captum; the `captum` package is imported when
`MaskerAttribution` is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saliencykit.integrations.captum.masker_attribution import (
        MaskerAttribution as MaskerAttribution,
    )

__all__ = ["MaskerAttribution"]


def __getattr__(name: str) -> Any:
    if name == "MaskerAttribution":
        from saliencykit.integrations.captum.masker_attribution import MaskerAttribution

        return MaskerAttribution
    raise AttributeError(f"module 'saliencykit.integrations.captum' has no attribute {name!r}")
