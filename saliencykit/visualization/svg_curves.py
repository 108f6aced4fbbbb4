"""Curves as inline SVG: one line per masker, with a confidence interval at each point."""

from collections.abc import Mapping, Sequence
from math import ceil, floor, isfinite, log10
from typing import NamedTuple

from saliencykit.visualization.html_page import plain

COLORS = (
    "#d95f02",
    "#1b9e77",
    "#7570b3",
    "#e7298a",
    "#2c8fd6",
    "#a6761d",
    "#66a61e",
    "#8a8f98",
    "#d4a106",
    "#c0392b",
)
"""Legible on light and dark; the first four are told apart with color blindness too."""
_DASHES = ("", "7 4", "2 4", "9 4 2 4")
"""By curve, with a thinner line each: of curves that coincide, the lower ones show in the gaps."""
_OFFSET = 5  # of dashes that come again: their gaps are elsewhere
_THICKEST, _THINNEST = 3.5, 1.5
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 360, 240, 48, 34, 10, 18

Points = Sequence[tuple[float, float, float, float]]
"""x, mean, low, high; values that are not finite are left out."""


class _Axes(NamedTuple):
    """The ranges of a chart's axes."""

    x0: float
    x1: float
    y0: float
    y1: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point in pixels of the chart."""
        left = (x - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)
        up = (y - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _BOTTOM - _TOP)
        return _LEFT + left, _HEIGHT - _BOTTOM - up


def chart(curves: Mapping[str, Points], x_label: str, y_label: str) -> str:
    """One chart; empty where there is nothing to draw.

    Args:
        curves: Points by masker.
        x_label: Plain text.
        y_label: Plain text.
    """
    points = [point for curve in curves.values() for point in curve]
    xs = sorted({point[0] for point in points})
    ys = [y for point in points for y in point[1:] if isfinite(y)]
    if not ys:
        return ""
    low, high = min(0.0, *ys), max(ys)
    x1, y1 = (b if b > a else a + 1 for a, b in ((xs[0], xs[-1]), (low, high)))
    axes = _Axes(xs[0], x1, low, y1)
    label = f"{plain(y_label)} by {plain(x_label)}"
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">']
    for y in _ticks(low, y1):
        left, height = axes.at(axes.x0, y)
        parts.append(_line([(left, height), axes.at(x1, y)], 'class="axis"'))
        parts.append(_text(left - 5, height + 4, f"{y:g}", "end"))
    parts += [_text(axes.at(x, low)[0], _HEIGHT - _BOTTOM + 14, f"{x:g}") for x in xs]
    parts.append(_text(_WIDTH / 2, _HEIGHT - 4, plain(x_label)))
    for i, curve in enumerate(curves.values()):
        # shifted, so that intervals at one x do not hide each other
        thinner = (_THICKEST - _THINNEST) * i / max(1, len(curves) - 1)
        shift = 3 * (i - (len(curves) - 1) / 2)
        parts += _curve(axes, curve, i, shift=shift, width=_THICKEST - thinner)
    return "".join([*parts, "</svg>"])


def legend(names: Sequence[str]) -> str:
    """The maskers' colors."""
    items = (
        '<li><svg viewBox="0 0 28 8" width="28" height="8" aria-hidden="true">'
        + _line([(0, 4), (28, 4)], f'stroke-width="2.5" {_stroke(i)}')
        + f"</svg>{plain(name)}</li>"
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _curve(axes: _Axes, points: Points, index: int, shift: float, width: float) -> list[str]:
    color, stroke = COLORS[index % len(COLORS)], _stroke(index)
    drawn = [point for point in points if isfinite(point[1])]
    parts = [
        _line([axes.at(x, mean) for x, mean, _, _ in drawn], f'stroke-width="{width:.1f}" {stroke}')
    ]
    for x, mean, low, high in drawn:
        left, height = axes.at(x, mean)
        place = f'cx="{left:.1f}" cy="{height:.1f}" r="{1.5 + width / 2:.1f}"'
        parts.append(f'<circle {place} fill="{color}"/>')
        if isfinite(low) and isfinite(high):
            style = f'stroke-width="1" opacity=".5" transform="translate({shift:g} 0)"'
            style += f' stroke="{color}"'
            parts.append(_line([axes.at(x, low), axes.at(x, high)], style))
    return parts


def _stroke(index: int) -> str:
    color, dashes = COLORS[index % len(COLORS)], _DASHES[index % len(_DASHES)]
    begin = f' stroke-dashoffset="{_OFFSET * (index // len(_DASHES))}"' if dashes else ""
    return f'stroke="{color}" stroke-dasharray="{dashes}"{begin}'


def _line(points: Sequence[tuple[float, float]], style: str) -> str:
    shown = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline fill="none" {style} points="{shown}"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two others."""
    power = 10.0 ** floor(log10((high - low) / 3))
    step = next(power * factor for factor in (5, 2, 1) if (high - low) / (power * factor) >= 3)
    first = ceil(low / step - 1e-9)
    return [
        round((first + i) * step, 9) for i in range(int((high - first * step) / step + 1e-9) + 1)
    ]
