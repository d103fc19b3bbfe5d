"""Pictures of shares as inline SVG, by code: no script, no request, colours by the page's own classes.

Only numbers go in, so nothing in a log can become markup. What a picture shows stands beside it as text.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from router.learning.proof.shares import Share

WIDTH = 1000.0
_BAR, _WHISKER = 28.0, 44.0


def stacked_bar(parts: Sequence[tuple[str, float]], reach: Share | None, name: str) -> Markup:
    """Parts of one whole, side by side; above them how far the first of them could reach.

    Args:
        parts: CSS class and share of each, adding up to at most 1.
        reach: of the parts that are claimed, with its interval; None for none.
        name: what the bar is of, one of the page's own words.
    """
    top = (_WHISKER - _BAR) / 2
    drawn, left = [], 0.0
    for css, part in parts:
        width = part * WIDTH
        if width >= 0.05:
            drawn.append(f'<rect class="{css}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{_BAR:.1f}"/>')
        left += width
    whisker = "" if reach is None else _whisker(reach.low * WIDTH, reach.high * WIDTH, _WHISKER)
    return _svg(f"{''.join(drawn)}{whisker}", _WHISKER, name, "stack")


def share_bar(part: Share, most: float, css: str, name: str) -> Markup:
    """One share and its interval, on a scale that ends at `most`."""
    scale = WIDTH / most if most > 0 else 0.0
    bar = f'<rect class="{css}" x="0" y="9" width="{part.value * scale:.1f}" height="14"/>'
    whisker = _whisker(part.low * scale, min(part.high * scale, WIDTH), 32.0)
    return _svg(f'<rect class="track" x="0" y="9" width="{WIDTH:.0f}" height="14"/>{bar}{whisker}', 32.0, name, "share")


def bound_bar(rate: float, bound: float, risk: float, name: str) -> Markup:
    """A certificate: the measured disagreement, the bound above it, and the risk that it must stay below."""
    most = max(2 * risk, bound * 1.1)
    place = {key: min(value / most, 1.0) * WIDTH for key, value in (("rate", rate), ("bound", bound), ("risk", risk))}
    css = "proved" if bound <= risk else "unsteady"
    inner = (
        f'<rect class="track" x="0" y="9" width="{WIDTH:.0f}" height="14"/>'
        f'<rect class="{css}" x="0" y="9" width="{place["bound"]:.1f}" height="14"/>'
        f'<rect class="ink" x="{place["rate"]:.1f}" y="9" width="6" height="14"/>'
        f'<line class="limit" x1="{place["risk"]:.1f}" x2="{place["risk"]:.1f}" y1="0" y2="32"/>'
    )
    return _svg(inner, 32.0, name, "share")


def _whisker(low: float, high: float, height: float) -> str:
    middle, tick = height / 2, height / 5
    ends = "".join(
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{middle - tick:.1f}" y2="{middle + tick:.1f}"/>' for x in (low, high)
    )
    return f'<g class="whisker"><line x1="{low:.1f}" x2="{high:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>{ends}</g>'


def _svg(inner: str, height: float, name: str, css: str) -> Markup:
    """Stretched to the width that it is given; strokes keep theirs."""
    return Markup(
        f'<svg class="{css}" viewBox="0 0 {WIDTH:.0f} {height:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{name}">{inner}</svg>'
    )
