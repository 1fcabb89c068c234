"""Times as people write them, and the part of a clip that they choose."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational

from kinopaint.errors import SettingsError

Time = str | float | Rational | None

_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)", re.ASCII)


def parse_time(value: str | float | Rational, *, where: str = "") -> Fraction:
    """Seconds as an exact fraction, from `2.5`, `"2.5"`, `"7:30"`, `"00:00:07.250"`, `"1001/30"` or a fraction.

    Decimals are taken as written: 0.1 is one tenth. Raises SettingsError (KP-SETTING-TIME) for anything
    else, also for negative and non-finite numbers and for minutes or seconds of 60 and more after a colon.
    """
    if isinstance(value, Rational) and not isinstance(value, bool) and value >= 0:
        return Fraction(value)
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return Fraction(repr(value))
    if isinstance(value, str) and (match := _CLOCK.fullmatch(value.strip())):
        hours, minutes, seconds = (Fraction(part) if part else Fraction(0) for part in match.groups())
        if (match[2] is None or seconds < 60) and (match[1] is None or minutes < 60):
            return hours * 3600 + minutes * 60 + seconds
    if isinstance(value, str) and re.fullmatch(r"\d+/0*[1-9]\d*", value, re.ASCII):
        return Fraction(value)
    raise SettingsError(
        "KP-SETTING-TIME",
        f"{value!r} is not a time",
        where=where,
        fix="write seconds (2.5) or hours:minutes:seconds (00:00:07.250), not negative",
    )


def parse_rate(value: str | float | Rational) -> Fraction:
    """Pictures per second as an exact fraction, from `25`, `23.976` or `"24000/1001"`; more than 0, at most 1000.

    Raises SettingsError (KP-SETTING-FPS).
    """
    try:
        rate = Fraction(str(value).strip())
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise SettingsError(
            "KP-SETTING-FPS", f"{value!r} is not a rate", where="--fps", fix="write 25, 23.976 or 24000/1001"
        )
    return rate


@dataclass(frozen=True)
class Selection:
    """The frames to keep: those with start <= time < end, and of these each `every`-th, the first included.

    `start` and `end` are seconds after the first video frame; None is the clip's own start or end.
    Raises SettingsError (KP-SETTING-RANGE, KP-SETTING-EVERY).
    """

    start: Fraction | None = None
    end: Fraction | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= (self.start or 0):
            raise SettingsError(
                "KP-SETTING-RANGE",
                f"the range ends at {float(self.end):g} s, not after its start at {float(self.start or 0):g} s",
                where="--start, --end",
                fix="give an end that is later than the start",
            )
        if not isinstance(self.every, int) or self.every < 1:
            raise SettingsError(
                "KP-SETTING-EVERY",
                f"every = {self.every!r}, but it must be a whole number of at least 1",
                where="--every",
                fix="1 keeps all frames, 2 each second one",
            )

    @classmethod
    def of(cls, start: Time = None, end: Time = None, every: int = 1) -> Selection:
        """From times in any form that `parse_time` takes."""
        return cls(
            None if start is None else parse_time(start, where="--start"),
            None if end is None else parse_time(end, where="--end"),
            every,
        )
