"""Small charts as SVG, which say in words what they show."""

from __future__ import annotations

from collections.abc import Sequence

from wsgi_persist.status.page.markup import Html, joined, tag

WIDTH, HEIGHT = 360, 64
BASE = HEIGHT - 1  # a line to stand on


def chart(title: str, words: str, bars: Sequence[float | None], ends: tuple[str, str], kind: str) -> Html:
    """Bars from left to right; None is drawn as a gap in the line below.

    :param words: what it shows, for those who do not see it, too.
    :param ends: below its left and its right end.
    :param kind: a class of the style sheet.
    """
    drawn = tag(
        "svg",
        *_drawn(bars),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{title}: {words}",
        class_=f"chart {kind}",
    )
    told = tag("figcaption", tag("b", title), " ", tag("span", words, class_="words"))
    axis = tag("div", *(tag("span", end) for end in ends), class_="axis", aria_hidden="true")
    return tag("figure", told, drawn, axis)


def _drawn(bars: Sequence[float | None]) -> list[Html]:
    """The tallest bar is as high as there is room; one that is not nothing is seen."""
    highest = max((bar for bar in bars if bar is not None), default=0) or 1
    width = WIDTH / max(len(bars), 1)
    found = []
    for at, bar in enumerate(bars):
        if bar is None:
            continue
        height = max(bar / highest * (BASE - 2), 2) if bar else 0
        found.append(_rect("base", at * width, BASE, width, 1))
        if height:
            gap = min(width / 5, 2)
            found.append(_rect("bar", at * width + gap / 2, BASE - height, width - gap, height))
    return found


def _rect(kind: str, x: float, y: float, width: float, height: float) -> Html:
    numbers = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return Html(f'<rect class="{kind}" {numbers}/>')


def figures(charts: Sequence[Html]) -> Html:
    return tag("div", joined(*charts), class_="charts")
