"""What the tests of pages share: is the HTML well formed?"""

from collections.abc import Callable
from html.parser import HTMLParser

import pytest

_VOID = {"meta", "img", "br", "wbr", "circle", "polyline"}


class _Tags(HTMLParser):
    """Every tag that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag


@pytest.fixture
def addresses() -> Callable[[str], list[str | None]]:
    """What a page refers to, after a look at whether it is well formed."""

    def read(page: str) -> list[str | None]:
        tags = _Tags()
        tags.feed(page)
        assert tags.open == []
        return tags.addresses

    return read
