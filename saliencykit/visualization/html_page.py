"""The frame of a page: head, style for light and dark and narrow screens, and the parts that both
pages have.
"""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from saliencykit.storage.atomic_files import write_text

_STYLE = """
:root{color-scheme:light
dark;--ink:#1b1f24;--dim:#59636e;--paper:#fff;--card:#f5f6f8;--line:#d5dae0;--mark:#b34700} @media
(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--dim:#9aa5b1;--paper:#14171b;--card:#1d2228;--line:#39424c;--mark:#ff8a3d}}
*{box-sizing:border-box} body{margin:0
auto;max-width:1200px;padding:16px;background:var(--paper);color:var(--ink);font:15px/1.5
system-ui,sans-serif} h1{font-size:1.6em;margin:.2em 0}h2{font-size:1.2em;margin:1.8em 0
.5em;border-bottom:1px solid var(--line)} h3{font-size:1em;margin:1.2em 0 .4em}p{margin:.4em
0;max-width:75ch}.dim,figcaption,summary small{color:var(--dim)}
a{color:var(--mark)}code{font-size:.9em;overflow-wrap:anywhere}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px;text-align:right;border-bottom:1px solid
var(--line);vertical-align:top;white-space:nowrap}
th:first-child,td:first-child{text-align:left;padding-left:0}th{font-weight:600}td
small{color:var(--dim);display:block} .best{color:var(--mark);font-weight:600}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:12px}
figure{margin:0;background:var(--card);border:1px solid
var(--line);border-radius:6px;padding:8px;min-width:0} figure
img{display:block;width:100%;height:auto;border-radius:3px}figcaption{font-size:.85em;overflow-wrap:anywhere}
figcaption b{color:var(--ink)}.pair{display:grid;grid-template-columns:1fr
1fr;gap:6px;margin-top:6px;font-size:.75em} .pair span{color:var(--dim)} details{margin:.6em
0}summary{cursor:pointer;font-weight:600} svg{max-width:100%;height:auto;display:block}svg
text{fill:var(--dim);font:11px system-ui,sans-serif} svg .axis{stroke:var(--line)}
.legend{display:flex;flex-wrap:wrap;gap:2px
14px;font-size:.85em;list-style:none;padding:0;margin:.3em 0} .legend
i{display:inline-block;width:18px;border-top:3px solid;margin-right:5px;vertical-align:middle}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:16px}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:2px 14px}dt{color:var(--dim)}
dd{margin:0;overflow-wrap:anywhere} @media
(max-width:520px){body{padding:10px}.cards{grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:8px}
dl{grid-template-columns:1fr}dd{margin-bottom:6px}th,td{padding:4px 6px}} @media
print{details{display:block}figure{break-inside:avoid}}
"""


def document(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: Plain text.
        parts: HTML, in order.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def write_page(path: Path, page: str) -> Path:
    """Write a page, its folder too, moved into place when it is whole.

    Args:
        path: Its file.
        page: HTML, of `document`.

    Returns:
        The path.

    Raises:
        SaliencyKitError: The file cannot be written.
    """
    path = path.expanduser()
    write_text(path, page, advice="Choose another file.")
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways where it is too wide; cells are HTML."""
    top = "".join(f"<th>{cell}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<div class="wide"><table>\n<thead><tr>{top}</tr></thead>\n<tbody>{body}</tbody>\n</table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Terms and what they are, both plain text."""
    return (
        "<dl>"
        + "".join(
            f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>\n"
            for name, value in pairs
        )
        + "</dl>"
    )


def number(value: float) -> str:
    """Three digits; a dash for NaN."""
    if value != value:
        return "–"  # noqa: RUF001
    return (
        f"{value:.0f}"
        if abs(value) >= 1000
        else f"{value:.3g}"
        if abs(value) >= 0.001 or value == 0
        else f"{value:.1e}"
    )
