"""saliencykit-http: image classifiers behind an HTTP address as black boxes of saliencykit.

Importing it does not import the HTTP client; querying a black box does.
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from saliencykit import BlackBox, hookimpl


@hookimpl
def provide_black_boxes() -> Mapping[str, Callable[..., BlackBox]]:
    """`http:ADDRESS` with the options of `HttpBlackBox`, and addresses as they are:
    `http://host:8000/v2/models/resnet`.

    In a text, `http` or `https` is the name of the black box, and what comes after the colon is its
    first argument.
    """
    from saliencykit_http.http_black_box import HttpBlackBox

    @wraps(HttpBlackBox)
    def https(url: str, **options: Any) -> HttpBlackBox:
        return HttpBlackBox(f"https:{url}" if url.startswith("//") else url, **options)

    return {"http": HttpBlackBox, "https": https}
