"""Files of runs: explanations of data sets, rows as JSON lines, map shards, weights.

    from saliencykit.storage import SavedExplanations
    saved = SavedExplanations.load("run")

The public names are listed in `__init__.pyi` and imported when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
