"""Read docstrings' `Example:` as the section that mkdocstrings calls `Examples:`, so that `>>>` is
shown as code.
"""

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Google's guide has both words; griffe knows the plural alone and makes quotations of the
    `>>>` of the other.
    """

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )
