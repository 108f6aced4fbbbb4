"""The built site holds: nothing empty, no link that leads nowhere, docstrings shown as they are
meant. Needs `.[docs]`.
"""

import inspect
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from saliencykit.core import errors
from saliencykit.registry import hookspecs
from tests.test_docs import DIRECTIVE, OURS, ROOT, page_of, public_in, thing_at

pytest.importorskip("mkdocstrings", reason="pip install '.[docs]'")
pytestmark = pytest.mark.slow
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.rglob("*.md"))
EMPTY = {
    "area",
    "base",
    "br",
    "col",
    "embed",
    "hr",
    "img",
    "input",
    "link",
    "meta",
    "source",
    "track",
    "wbr",
}


@dataclass
class Page(HTMLParser):
    """One built page: its ids, links, pictures and headings, and the words of its article inside
    and outside of code.
    """

    html: str
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    pictures: list[dict[str, str | None]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    prose: str = ""
    words: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.ids |= {of["id"]} if of.get("id") else set()
        self.links += [of[key] for key in ("href", "src") if of.get(key)]
        if tag == "img":
            self.pictures.append(of)
        if tag not in EMPTY:
            self.inside.append(tag)
        if "article" in self.inside and re.fullmatch("h[1-6]", tag):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        while tag in self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "article" not in self.inside or {"script", "style"} & set(self.inside):
            return
        self.words += data
        if self.headings and re.fullmatch(
            "h[1-6]", next((tag for tag in self.inside if re.fullmatch("h[1-6]", tag)), "")
        ):
            self.headings[-1] += data
        if not {"pre", "code"} & set(self.inside):
            self.prose += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `mkdocs build --strict` put the pages."""
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


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    """The built pages by the name of their source, without `.md`."""
    built = {
        name: site / ("index.html" if name == "index" else f"{name}/index.html") for name in PAGES
    }
    return {name: Page(path.read_text()) for name, path in built.items()}


def squeezed(text: str) -> str:
    return re.sub(r"[\s`*]+", "", text)


def test_no_page_is_empty_or_broken(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert len(page.words) > 300, name
        assert page.headings, name
        assert "Traceback" not in page.prose, name
        for mark in (r"\]\(", r"\*\*[A-Za-z]", "```", ":::", "--8<--", r"\{ ?width"):
            assert not re.search(mark, page.prose), f"{name}: {mark} was not understood"
        assert not re.search(r"<strong>(call|init|post_init|main)</strong>", page.html), (
            f"{name}: a double underscore became bold"
        )
        stray = re.search(r".{0,40}`.{0,40}", page.prose)
        assert not stray, f"{name}: a backtick without its partner: {stray and stray[0]}"


def test_every_directive_shows_its_docstring(pages: dict[str, Page]) -> None:
    for name in [name for name in PAGES if name.startswith("reference/")]:
        shown, html = squeezed(pages[name].words), pages[name].html
        for path, _ in DIRECTIVE.findall((DOCS / f"{name}.md").read_text()):
            assert re.search(rf'id="{re.escape(path)}[".]', html), f"{name}: {path} shows nothing"
            thing = thing_at(path)
            for member in (
                [f"{path}.{each}" for each, _ in public_in(thing)]
                if inspect.ismodule(thing)
                else [path]
            ):
                one = thing_at(member)
                if (inspect.isclass(one) or inspect.isfunction(one)) and (
                    doc := inspect.getdoc(one)
                ):
                    assert f'id="{member}"' in html, f"{name}: {member} has no heading"
                    assert squeezed(doc.split("\n\n")[0]) in shown, (
                        f"{name}: the docstring of {member} is not shown"
                    )


def test_examples_are_code_and_sections_are_sections(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert "<blockquote>" not in page.html, f"{name}: a `>>>` that became a quotation"
        found = re.search(r"\n(Args:|(Returns|Raises|Examples?|References):\n\S).*", page.prose)
        assert not found, f"{name}: {found and found[0]!r} was not understood"
    assert pages["reference/maskers"].html.count('class="language-pycon') > 20


def test_registered_names_have_a_heading(pages: dict[str, Page]) -> None:
    for kind, name in OURS:
        found = pages[f"reference/{page_of(kind).stem}"].headings
        assert any(name in heading.replace("\u00b6", " ").split() for heading in found), (
            f"{kind} {name}"
        )


def test_hooks_and_errors_have_a_heading(pages: dict[str, Page]) -> None:
    for name in [name for name in vars(hookspecs) if name.startswith(("provide_", "wrap_"))]:
        assert f"saliencykit.registry.hookspecs.{name}" in pages["reference/hooks"].ids
    for name in [name for name in vars(errors) if name.endswith("Error")]:
        assert f"saliencykit.core.errors.{name}" in pages["reference/errors"].ids


def test_links_anchors_and_pictures_lead_somewhere(site: Path, pages: dict[str, Page]) -> None:
    known: dict[Path, set[str]] = {}
    for name, page in pages.items():
        for picture in page.pictures:
            assert picture.get("alt"), f"{name}: {picture.get('src')} does not say what it shows"
        base = "/" if name == "index" else f"/{name}/"
        for link in page.links:
            parts = urlsplit(urljoin(f"file://{base}", link))
            if parts.scheme != "file":
                assert parts.scheme in ("https", "http", "mailto", "data", "javascript"), (
                    f"{name}: {link}"
                )
                continue
            target = site / unquote(parts.path).lstrip("/")
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{name}: {link}"
            if parts.fragment and target.suffix == ".html":
                ids = (
                    known.setdefault(target, Page(target.read_text()).ids)
                    if target not in known
                    else known[target]
                )
                assert unquote(parts.fragment) in ids, f"{name}: {link}"


def test_search_knows_every_page(site: Path) -> None:
    entries = json.loads((site / "search" / "search_index.json").read_text())["docs"]
    assert len(entries) > 300
    for name in PAGES:
        place = "" if name == "index" else f"{name}/"
        assert any(
            entry["location"].split("#")[0] == place and entry["text"] for entry in entries
        ), name


def test_llms_txt_leads_to_pages(site: Path) -> None:
    text = (site / "llms.txt").read_text()
    links = re.findall(r"\[[^\]]+\]\(([^)]+)\)", text)
    assert text.startswith("# saliencykit\n\n> ")
    assert len(links) > 20
    assert [link for link in links if not (site / link / "index.html").is_file()] == []
    assert {"tutorials/", "how-to/", "reference/", "explanation/"} <= {
        f"{link.split('/')[0]}/" for link in links
    }
