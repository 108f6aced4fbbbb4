"""Our maskers for people who speak Captum; the `captum` package is imported when `MaskerAttribution` is first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saliencykit.captum.attribution import MaskerAttribution as MaskerAttribution

__all__ = ["MaskerAttribution"]


def __getattr__(name: str) -> Any:
    if name == "MaskerAttribution":
        from saliencykit.captum.attribution import MaskerAttribution

        return MaskerAttribution
    raise AttributeError(f"module 'saliencykit.captum' has no attribute {name!r}")
