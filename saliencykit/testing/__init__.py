"""For tests, ours and those of plugin authors: contract suites, black boxes whose right answer is
known, hypothesis strategies.

    from saliencykit.testing import check_masker

`strategies` needs hypothesis (`pip install 'saliencykit[testing]'`), the rest nothing more than the
package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
