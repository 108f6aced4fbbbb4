"""Rename the section `Example:` of docstrings to `Examples:`, so that mkdocstrings shows `>>>` as
code.
"""

import re
from typing import Any

from griffe import Extension, Object


class Examples(Extension):
    """Google's style guide allows both words; griffe supports only the plural, and renders the
    other as quotations.
    """

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(
                r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.MULTILINE
            )
