"""The five contracts (black box, alternative, objective, masker, metric) and their values: torch,
numpy and the standard library only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
