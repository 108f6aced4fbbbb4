"""The site builds without warnings, and shows docstrings as they are meant. Needs `.[docs]`.

Links and anchors inside the site are checked by `mkdocs build --strict` (see `validation` in
mkdocs.yml).
"""

import inspect
import os
import re
import subprocess
import sys
from functools import partial
from html import unescape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.test_docs import DIRECTIVE, ROOT, public_in, thing_at

pytest.importorskip("mkdocstrings", reason="pip install '.[docs]'")
pytestmark = pytest.mark.slow
DOCS = ROOT / "docs"
REFERENCE = sorted(path.stem for path in (DOCS / "reference").glob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the pages that `mkdocs build --strict` made; of a build that was made
    before, if $SALIENCYKIT_SITE names it.
    """
    if built := os.environ.get("SALIENCYKIT_SITE"):
        return Path(built)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "WARNING" not in done.stderr
    return folder


def words_of(html: str) -> str:
    """The text of a page without markup and white space."""
    return squeezed(unescape(re.sub(r"<[^>]+>", "", html)))


def squeezed(text: str) -> str:
    return re.sub(r"[\s`*]+", "", text)


@pytest.mark.parametrize("name", REFERENCE)
def test_a_reference_page_shows_the_docstring_of_each_object(site: Path, name: str) -> None:
    html = (site / "reference" / name / "index.html").read_text()
    words = words_of(html)
    for path, _ in DIRECTIVE.findall((DOCS / "reference" / f"{name}.md").read_text()):
        assert re.search(rf'id="{re.escape(path)}[".]', html), f"{path} is not shown"
        thing = thing_at(path)
        inside = public_in(thing) if inspect.ismodule(thing) else []
        for member in [f"{path}.{each}" for each, _ in inside] or [path]:
            one = thing_at(member)
            doc = inspect.getdoc(one)
            if (inspect.isclass(one) or inspect.isfunction(one)) and doc:
                assert f'id="{member}"' in html, f"{member} has no heading"
                assert squeezed(doc.split("\n\n")[0]) in words, f"{member} has no docstring"


def test_examples_in_docstrings_are_shown_as_code(site: Path) -> None:
    for name in REFERENCE:
        html = (site / "reference" / name / "index.html").read_text()
        assert "<blockquote>" not in html, f"{name}: an example is shown as a quotation"
    maskers = (site / "reference" / "maskers" / "index.html").read_text()
    assert maskers.count('class="language-pycon') > 20


def test_the_links_of_llms_txt_lead_to_pages(site: Path) -> None:
    links = re.findall(r"\[[^\]]+\]\(([^)]+)\)", (site / "llms.txt").read_text())
    assert len(links) > 20
    assert [link for link in links if not (site / link / "index.html").is_file()] == []


PLACES = {
    "Hugging Face": "how-to/hugging-face",
    "heat map": "tutorials/first-explanation",
    "segmentation": "how-to/kinds-of-models",
    "detection": "how-to/kinds-of-models",
    "embedding": "how-to/kinds-of-models",
    "multi-label": "how-to/kinds-of-models",
    "Jupyter": "how-to/kinds-of-models",
    "medical": "how-to/kinds-of-models",
}


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files and does not log each of them."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_the_search_finds_what_people_bring(site: Path, chromium: Any) -> None:
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address, first = f"http://127.0.0.1:{server.server_port}", {}
        page = chromium.new_page()
        requests = list[str]()
        page.on("request", lambda request: requests.append(request.url))
        for words in PLACES:
            page.goto(f"{address}/?q={quote_plus(words)}")
            result = page.locator(".md-search-result__item a").first
            result.wait_for(state="attached", timeout=60_000)
            first[words] = (
                result.get_attribute("href").partition("/?")[0].removeprefix(f"{address}/")
            )
        page.close()
        server.shutdown()
    assert first == PLACES
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
