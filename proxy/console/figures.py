"""Numbers, money and moments as people read them. A minus is a minus sign, digits are grouped, nothing is rounded to 0
that isn't."""

from __future__ import annotations

from datetime import UTC, date, datetime

NOTHING = "–"
_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"


def usd(value: float | None) -> str:
    """`$1,234.56`; `$0.0042` below a cent; `−$3.10`."""
    if value is None:
        return NOTHING
    sign, size = (_MINUS if value < 0 else ""), abs(value)
    if size == 0:
        return "$0.00"
    if size < 0.0001:
        return f"{sign}<$0.0001"
    return f"{sign}${size:,.0f}" if size >= 10_000 else f"{sign}${size:,.2f}" if size >= 0.01 else f"{sign}${size:.4f}"


def count(value: float | None) -> str:
    """`12,345`."""
    return NOTHING if value is None else f"{value:,.0f}".replace("-", _MINUS)


def short(value: float | None) -> str:
    """`12.3k`, `4.5M`."""
    if value is None:
        return NOTHING
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):,.1f}{unit}".replace("-", _MINUS)
    return count(value)


def share(value: float | None, digits: int = 1) -> str:
    """A part of 1 as `12.3 %`."""
    if value is None:
        return NOTHING
    if 0 < value < 0.5 * 10 ** -(digits + 2):
        return f"<{10**-digits:.{digits}f}{_SPACE}%"
    return f"{100 * value:.{digits}f}{_SPACE}%".replace("-", _MINUS)


def milliseconds(value: float | None) -> str:
    """`0.4 ms`, `230 ms`, `1.25 s`."""
    if value is None:
        return NOTHING
    if value >= 1000:
        return f"{value / 1000:,.2f}{_SPACE}s"
    return f"{value:.0f}{_SPACE}ms" if value >= 10 else f"{value:.1f}{_SPACE}ms"


def size(value: int | None) -> str:
    """Bytes as `512 bytes`, `1.5 kB`, `3.2 MB`."""
    if value is None:
        return NOTHING
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if value >= unit:
            return f"{value / unit:,.1f}{_SPACE}{name}"
    return f"{value}{_SPACE}bytes"


def moment(value: datetime | None) -> str:
    """`21 Nov 2026, 11:40:07`, in UTC."""
    return NOTHING if value is None else f"{day(value.astimezone(UTC))} {value.astimezone(UTC):%Y, %H:%M:%S}"


def clock(value: datetime) -> str:
    """`21 Nov 11:40:07`, in UTC."""
    return f"{day(value.astimezone(UTC))} {value.astimezone(UTC):%H:%M:%S}"


def day(value: date) -> str:
    """`21 Nov`."""
    return f"{value.day} {value:%b}"


def age(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h`, `5 days`."""
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f}{_SPACE}{name}"
    return f"{max(seconds, 0):.0f}{_SPACE}s"
