"""Numbers and moments as people read them: signed rewards, counts, durations, ages. Missing is never zero."""

from __future__ import annotations

import math
from datetime import UTC, datetime

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def signed(value: float | None, digits: int = 3) -> str:
    """A reward with its sign and `digits` significant digits: `+0.42`, `−1.3e−05`, `0`."""
    if value is None or value != value:
        return MISSING
    if value == 0:
        return "0"
    return f"+{_significant(value, digits)}" if value > 0 else MINUS + _significant(-value, digits)


def plain_number(value: float | None, digits: int = 3) -> str:
    """A number without a plus: `0.42`, `−3.2`."""
    return signed(value, digits).removeprefix("+")


def _significant(value: float, digits: int) -> str:
    if 0.01 <= value < 9.9 and digits > 1:
        return f"{value:#.{digits}g}"  # What most numbers are, and pages have hundreds of them.
    if math.isinf(value):
        return "∞"
    exponent = math.floor(math.log10(value))
    if -4 <= exponent < 5:
        decimals = max(0, min(digits - 1 - exponent, digits + 2))
        return f"{value:.{decimals}f}"
    return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("-", MINUS)


def percent(value: float | None) -> str:
    """A share as whole percent, exact about its ends: only 0 is `0%`, only 1 is `100%`."""
    if value is None or math.isnan(value):
        return MISSING
    if 0 < value < 0.01:
        return "<1%"
    if 0.99 < value < 1:
        return ">99%"
    return f"{value:.0%}"


def count(value: int | None) -> str:
    """A whole number in groups of three: `12 345`, with thin spaces."""
    return MISSING if value is None else f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def counted(value: int, one: str, many: str | None = None) -> str:
    """A number with its noun: `1 pair`, `3 pairs`."""
    return f"{count(value)} {one if value == 1 else many or one + 's'}"


def size(parameters: int | None) -> str:
    """Parameters of a model: `260 K`, `1.5 B`."""
    if parameters is None:
        return MISSING
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.3g}\N{NARROW NO-BREAK SPACE}{name}"
    return str(parameters)


def data_size(count: float | None) -> str:
    """Bytes in binary units: `512 B`, `3.25 MiB`, `120 GiB`."""
    if count is None:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1000:
            return f"{count:.3g}\N{NARROW NO-BREAK SPACE}{unit}"
        count /= 1024
    return f"{count:,.3g}\N{NARROW NO-BREAK SPACE}TiB"


def duration(seconds: float | None) -> str:
    """`45 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None or math.isnan(seconds) or math.isinf(seconds):
        return MISSING
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago: `just now`, `5 min ago`, `3 days ago`."""
    if moment is None:
        return MISSING
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 10:
        return "just now"
    for limit, unit in ((60, 1), (3600, 60), (48 * 3600, 3600)):
        if seconds < limit:
            return f"{duration(seconds // unit * unit)} ago"
    return f"{int(seconds // 86400)} days ago"


def moment(when: datetime | None) -> str:
    """A point in time, to the second, in UTC."""
    return MISSING if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def shortened(text: str | None, characters: int) -> str:
    """The beginning of a text on one line, with an ellipsis where something was left out."""
    line = " ".join((text or "")[: characters * 2 + 40].split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"
