"""Maskers for users of Captum; Captum is imported when `MaskerAttribution` is first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
