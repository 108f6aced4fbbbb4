"""A self-contained HTML page: nothing is fetched, only our script runs, all text is escaped."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from saliencykit.core.visible_text import visible
from saliencykit.storage.atomic_files import write_text

# light and dark, wide and narrow screens, and print
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")

_SORT = """
for (const button of document.querySelectorAll("th button")) button.onclick = () => {
  const head = button.parentElement, body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => row.cells[head.cellIndex].firstChild?.textContent ?? "";
  const less = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    const [m, n] = [isFinite(x), isFinite(y)];
    return m && n ? x - y : n - m || a.localeCompare(b);
  };
  body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * less(key(a), key(b))));
};
"""
_KEYS = """
document.onkeydown = event => {
  const step = {j: 1, k: -1}[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  const stops = [...document.querySelectorAll("[data-stop]")];
  const place = stop => stop.getBoundingClientRect();
  const here = stops.findIndex(stop => stop === document.activeElement
    && place(stop).bottom > 0 && place(stop).top < innerHeight);
  const above = stops.filter(stop => place(stop).top < 2).length;
  const next = stops[here < 0 ? above - (step < 0) : here + step];
  next?.focus({preventScroll: true});
  next?.scrollIntoView();
};
"""
_SCRIPT = _SORT + _KEYS
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
)


def plain(text: str) -> str:
    """Plain text as HTML: no markup, and no character that acts, see `visible`."""
    return escape(visible(text))


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: Plain text.
        parts: HTML, in order.
    """
    body = "\n".join(parts)
    script = f"<script>{_SCRIPT}</script>\n" if "<th><button" in body or "data-stop" in body else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{plain(title)}</title>
<style>
{_STYLE}</style>
</head>
<body>
<h1>{plain(title)}</h1>
{body}
{script}</body>
</html>
"""


def write_page(path: Path, page: str) -> Path:
    """Write a page; parent directories are created, and a partial file never remains.

    Args:
        path: Its file.
        page: HTML, as returned by `document`.

    Returns:
        The path.

    Raises:
        SaliencyKitError: The file cannot be written.
    """
    path = path.expanduser()
    write_text(path, page, advice="Choose another file.")
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, sortable: bool = False) -> str:
    """A table that scrolls sideways where it is too wide.

    Args:
        head: Column titles, as HTML.
        rows: Cells, as HTML.
        sortable: Are the titles buttons that sort the rows, by their first number or text?
    """
    titles = (f'<button type="button">{cell}</button>' if sortable else cell for cell in head)
    top = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody>\n</table></div>"
    )


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and values, both plain text."""
    items = "".join(
        f"<dt>{plain(name)}</dt><dd><code>{plain(value)}</code></dd>\n" for name, value in pairs
    )
    return f"<dl>{items}</dl>"


def number(value: float) -> str:
    """Three significant digits; a dash for NaN.

    Example:
        >>> number(0.12345), number(0.00001), number(-1234.5)
        ('0.123', '1.0e-05', '-1234')
    """
    if value != value:
        return "–"  # noqa: RUF001
    if abs(value) >= 1000:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 or value == 0 else f"{value:.1e}"
