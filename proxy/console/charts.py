"""Where the marks of a picture go. Everything is in percent of the picture's width and height, so that templates make
SVG of it that fits any screen, without a script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Generic, TypeVar

from router.certificate import Certificate

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled line across a picture, `y` percent from its top."""

    y: float
    value: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One day's bar; all in percent."""

    day: date
    value: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Days:
    """A bar for each day.

    Attributes:
        zero: where 0 is, in percent from the top.
        marked: days with their date below: first, last and some between, as (x, day).
    """

    bars: list[Bar]
    ticks: list[Tick]
    zero: float
    marked: list[tuple[float, date]]


def days(values: Sequence[tuple[date, float]], gap: float = 0.25) -> Days:
    """Bars up and down from zero.

    Args:
        values: at least one day, in order.
        gap: between bars, as a part of a day's width.
    """
    low = min(0.0, *(value for _, value in values))
    high = max(0.0, *(value for _, value in values))
    steps = _steps(low, high)
    low, high = min(low, steps[0]), max(high, steps[-1])
    width = 100 / len(values)

    def place(value: float) -> float:
        return 100 * (high - value) / (high - low)

    bars = [
        Bar(
            day,
            value,
            number * width + width * gap / 2,
            place(max(value, 0.0)),
            width * (1 - gap),
            abs(place(value) - place(0.0)),
        )
        for number, (day, value) in enumerate(values)
    ]
    every = max(math.ceil(len(bars) / 6), 1)
    marked = [(bar.x + bar.width / 2, bar.day) for bar in bars[::-1][::every]][::-1]
    return Days(bars, [Tick(place(step), step) for step in steps], place(0.0), marked)


#: Less than this is no difference in dollars.
LEAST_SPREAD = 1e-12


def _steps(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values from `low` to `high`, about as many as wanted."""
    spread = high - low if high - low > LEAST_SPREAD else 1.0
    size = 10.0 ** math.floor(math.log10(spread / wanted))
    step = next(size * factor for factor in (1, 2, 5, 10) if spread / (size * factor) <= wanted)
    return [number * step for number in range(math.floor(low / step), max(math.ceil(high / step), 1) + 1)]


@dataclass(frozen=True, slots=True)
class Tile(Generic[Item]):
    """A rectangle of a map; all in percent.

    Attributes:
        roomy: a name fits in.
    """

    item: Item
    x: float
    y: float
    width: float
    height: float
    roomy: bool


def tiles(
    items: Sequence[tuple[Item, float]], ratio: float = 2.2, room: tuple[float, float] = (9.0, 8.0)
) -> list[Tile[Item]]:
    """A rectangle for each item, as large as its weight, none much longer than it is wide, the largest first.

    Bruls, Huizing and van Wijk, Squarified Treemaps (2000).

    Args:
        items: with their weights; those of no weight are left out.
        ratio: width of the whole picture by its height.
        room: width and height, in percent, that a name needs.
    """
    weighed = sorted(((item, weight) for item, weight in items if weight > 0), key=lambda pair: -pair[1])
    if not weighed:
        return []
    scale = ratio / sum(weight for _, weight in weighed)
    x, y, width, height = 0.0, 0.0, ratio, 1.0
    placed: list[Tile[Item]] = []
    rest = [(item, weight * scale) for item, weight in weighed]
    while rest:
        side = min(width, height)
        row = 1
        while row < len(rest) and _worst(rest[: row + 1], side) <= _worst(rest[:row], side):
            row += 1
        area = sum(weight for _, weight in rest[:row])
        depth, at = area / side, 0.0
        for item, weight in rest[:row]:
            length = weight / depth
            if width >= height:
                place = (100 * x / ratio, 100 * (y + at), 100 * depth / ratio, 100 * length)
            else:
                place = (100 * (x + at) / ratio, 100 * y, 100 * length / ratio, 100 * depth)
            placed.append(Tile(item, *place, roomy=place[2] >= room[0] and place[3] >= room[1]))
            at += length
        if width >= height:
            x, width = x + depth, max(width - depth, 1e-9)
        else:
            y, height = y + depth, max(height - depth, 1e-9)
        rest = rest[row:]
    return placed


def _worst(row: Sequence[tuple[Item, float]], side: float) -> float:
    """How much longer than wide the worst rectangle of a row would be."""
    total = sum(weight for _, weight in row)
    weights = [weight for _, weight in row]
    return max(side**2 * max(weights) / total**2, total**2 / (side**2 * min(weights)))


@dataclass(frozen=True, slots=True)
class Proved:
    """A certificate in the picture: what was seen, and the bound over it; in percent from the left and the top."""

    certificate: Certificate
    x: float
    bound: float
    seen: float


@dataclass(frozen=True, slots=True)
class Proofs:
    """The bound over time.

    Attributes:
        alpha: where the risk is, in percent from the top.
        since: the same of what was seen since the promotion.
    """

    proved: list[Proved]
    alpha: float
    ticks: list[Tick]
    since: float | None


def proofs(
    certificates: Sequence[Certificate], alpha: float, now: datetime, since: float | None = None
) -> Proofs | None:
    """How far certificates bound an SLM's disagreement, against the risk; None without any.

    Args:
        certificates: of one SLM, in any order.
        alpha: the risk of today.
        now: the picture's right end.
        since: disagreement seen since the promotion, in [0, 1].
    """
    if not certificates:
        return None
    inside = sorted(certificates, key=lambda certificate: certificate.issued_at)
    highest = max(alpha, since or 0.0, *(min(certificate.disagreement_bound, 1.0) for certificate in inside))
    steps = _steps(0.0, highest * 1.08)
    top = steps[-1]
    begin = inside[0].issued_at
    seconds = max((now - begin).total_seconds(), 1.0)

    def place(value: float) -> float:
        return 100 * (top - min(value, top)) / top

    proved = [
        Proved(
            each,
            4 + 90 * (each.issued_at - begin).total_seconds() / seconds,
            place(each.disagreement_bound),
            place(each.disagreement or 0.0),
        )
        for each in inside
    ]
    ticks = [Tick(place(step), step) for step in steps]
    return Proofs(proved, place(alpha), ticks, None if since is None else place(since))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a call's time; `x` and `width` in percent of the whole."""

    name: str
    kind: str
    x: float
    width: float
    duration_ms: float


def timing(
    duration_ms: float, attempts: Sequence[tuple[str, float]], upstream: str, first_token_ms: float | None
) -> list[Span]:
    """Where a call's time went: attempts that came to nothing, then who served it, cut where its first byte came.

    Args:
        duration_ms: from the request's first byte to the answer's last.
        attempts: (upstream, milliseconds) of those that came to nothing, in order.
        upstream: who served it; its time is what is left, the proxy's own fraction of a millisecond included.
        first_token_ms: since the request's first byte.
    """
    spans, at = [], 0.0
    for name, ms in attempts:
        spans.append(Span(f"{name}, not served", "lost", at, ms, ms))
        at += ms
    end = max(duration_ms, at, 0.001)
    first = end if first_token_ms is None else min(max(first_token_ms, at), end)
    spans.append(Span(f"{upstream} until its first byte", "wait", at, first - at, first - at))
    if end > first:
        spans.append(Span(f"{upstream} until its last byte", "read", first, end - first, end - first))
    return [Span(s.name, s.kind, 100 * s.x / end, 100 * s.width / end, s.duration_ms) for s in spans]
