"""Curves as inline SVG: one line per method, with the interval of the mean at each point."""

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite, log10

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
"""Told apart on light and on dark, the first four also by people who see two primary colours."""
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 360, 240, 48, 34, 10, 18

Points = Sequence[tuple[float, float, float, float]]
"""x, mean, low, high; what is not finite is left out."""


def chart(lines: Mapping[str, Points], across: str, up: str) -> str:
    """One diagram.

    Args:
        lines: Points by method.
        across: What x is, plain text.
        up: What y is, plain text.
    """
    points = [
        (x, *(v for v in (mean, low, high) if isfinite(v)))
        for line in lines.values()
        for x, mean, low, high in line
    ]
    xs, ys = [p[0] for p in points], [v for p in points for v in p[1:]]
    if not ys:
        return ""
    x0, x1 = min(xs), max(xs)
    y0, y1 = min(0.0, *ys), max(ys)
    x1, y1 = x1 if x1 > x0 else x0 + 1, y1 if y1 > y0 else y0 + 1

    def at(x: float, y: float) -> str:
        left = _LEFT + (x - x0) / (x1 - x0) * (_WIDTH - _LEFT - _RIGHT)
        return f"{left:.1f},{_HEIGHT - _BOTTOM - (y - y0) / (y1 - y0) * (_HEIGHT - _BOTTOM - _TOP):.1f}"

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(up)} by '
        f'{escape(across)}">'
    ]
    parts += [
        f'<polyline class="axis" fill="none" points="{at(x0, y)} {at(x1, y)}"/>'
        for y in _ticks(y0, y1)
    ]
    for y in _ticks(y0, y1):
        parts.append(
            f'<text x="{_LEFT - 5}" y="{float(at(x0, y).split(",")[1]) + 4:.1f}" '
            f'text-anchor="end">{y:g}</text>'
        )
    for x in sorted(set(xs)):
        parts.append(
            f'<text x="{at(x, y0).split(",")[0]}" y="{_HEIGHT - _BOTTOM + 14}" '
            f'text-anchor="middle">{x:g}</text>'
        )
    parts.append(
        f'<text x="{_WIDTH / 2:.0f}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(across)}</text>'
    )
    for number, line in enumerate(lines.values()):
        drawn = [(x, mean, low, high) for x, mean, low, high in line if isfinite(mean)]
        stroke = f'stroke="{COLORS[number % len(COLORS)]}" stroke-dasharray="{_DASHES[number // len(COLORS) % len(_DASHES)]}"'
        parts.append(
            f'<polyline fill="none" stroke-width="2" {stroke} '
            f'points="{" ".join(at(x, mean) for x, mean, _, _ in drawn)}"/>'
        )
        # so that intervals at one x do not lie on each other
        aside = 3 * (number - (len(lines) - 1) / 2)
        for x, mean, low, high in drawn:
            place = at(x, mean).split(",")
            parts.append(
                f'<circle cx="{place[0]}" cy="{place[1]}" r="2.5" '
                f'fill="{COLORS[number % len(COLORS)]}"/>'
            )
            if isfinite(low) and isfinite(high):
                parts.append(
                    '<polyline fill="none" stroke-width="1" opacity=".5" '
                    f'transform="translate({aside:g} 0)" {stroke} points="{at(x, low)} '
                    f'{at(x, high)}"/>'
                )
    return "".join([*parts, "</svg>"])


def legend(names: Sequence[str]) -> str:
    """The methods' colours."""
    items = (
        f'<li><i style="color:{COLORS[i % len(COLORS)]}"></i>{escape(name)}</li>'
        for i, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, three to seven of them."""
    power = 10.0 ** floor(log10((high - low) / 3))
    step = next(power * factor for factor in (5, 2, 1) if (high - low) / (power * factor) >= 3)
    first = ceil(low / step - 1e-9)
    return [
        round((first + i) * step, 9) for i in range(int((high - first * step) / step + 1e-9) + 1)
    ]
