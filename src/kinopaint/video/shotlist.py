"""Which frames begin a shot: as found, as a file says, or none (`--shots auto|FILE|off`).

The file holds one cut per line: a whole number is a frame of the source, counted from 0, anything else a time after its
first frame (2.5, 00:01:02.250). Empty lines and what follows a # do not count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fractions import Fraction
from numbers import Integral
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinopaint.errors import SettingsError
from kinopaint.text import shown
from kinopaint.video.clip import ClipReader, Seen
from kinopaint.video.timecode import parse_time

Mark = int | Fraction  # a frame of the source, or seconds after its first frame
Listener = Callable[[dict[str, Any]], None]
Shots = Literal["auto", "off"] | tuple[Mark, ...]
LARGEST = 2**20  # bytes of a file with cuts


def parse_shots(value: str | PathLike[str] | Sequence[int | str | Fraction]) -> Shots:
    """`auto`, `off`, the name of a file, or the marks themselves.

    Raises SettingsError (KP-SHOTS-FILE, KP-SHOTS-MARK) that names the line.
    """
    if isinstance(value, str) and value in ("auto", "off"):
        return "auto" if value == "auto" else "off"
    if not isinstance(value, str | PathLike):
        if not isinstance(value, bytes):
            with suppress(TypeError):  # what cannot be gone through
                return tuple(_mark(each, f"entry {place}") for place, each in enumerate(value, 1))
        raise SettingsError(
            "KP-SHOTS-MARK",
            f"{value!r} says no cuts",
            where="shots",
            fix='give "auto", "off", a file, or a list of cuts',
        )
    path = Path(fspath(value))
    where = shown(path)
    try:
        if path.stat().st_size > LARGEST or not path.is_file():
            raise SettingsError("KP-SHOTS-FILE", "this is no list of cuts", where=where, fix="give a text file")
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise SettingsError(
            "KP-SHOTS-FILE",
            f"the file with the cuts cannot be read: {error.strerror}",
            where=where,
            fix="say --shots auto, --shots off, or the name of a text file",
        ) from None
    except ValueError:  # no UTF-8, or a null byte in the name
        raise SettingsError("KP-SHOTS-FILE", "this is no text", where=where, fix="give a text file") from None
    words = ((number, line.partition("#")[0].strip()) for number, line in enumerate(lines, 1))
    return tuple(_mark(word, f"{where}, line {number}") for number, word in words if word)


def _mark(value: int | str | Fraction, where: str) -> Mark:
    try:
        return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else _number(value)
    except SettingsError:
        raise SettingsError(
            "KP-SHOTS-MARK",
            f"{value!r} is neither a frame number nor a time",
            where=where,
            fix="write a whole number for a frame, or a time such as 2.5 or 00:01:02.250",
        ) from None


def _number(value: int | str | Fraction) -> Mark:
    whole = isinstance(value, Integral) and not isinstance(value, bool) and value >= 0  # NumPy's, too
    return int(value) if whole else parse_time(value)


def kept_cuts(clip: ClipReader, shots: Shots, listen: Listener = lambda event: None) -> tuple[int, ...]:
    """The numbers, among the frames that the clip keeps, of those that begin a shot; rising, never 0.

    Where a cut falls between kept frames, the next one begins the shot. `listen` gets a `shots` event a few times per
    second while they are looked for: frames_done, frames, eta_s. Raises SettingsError (KP-SHOTS-RANGE) for marks
    behind the clip's end, and what reading raises.
    """
    if shots == "off":
        return ()
    found = (
        clip.find_cuts(_teller(listen, len(clip.times))) if shots == "auto" else (_placed(clip, mark) for mark in shots)
    )
    return _kept(found, clip.selection.every, clip.expected_frames)


def _teller(listen: Listener, frames: int) -> Seen:
    begin = time.monotonic()

    def seen(count: int) -> None:
        left = (time.monotonic() - begin) / count * max(0, frames - count)
        listen({"event": "shots", "frames_done": count, "frames": frames, "eta_s": round(left, 1)})

    return seen


def _kept(cuts: Iterable[int], every: int, count: int) -> tuple[int, ...]:
    return tuple(sorted({kept for cut in cuts if 0 < (kept := -(-cut // every)) < count}))


def _placed(clip: ClipReader, mark: Mark) -> int:
    """Which frame of the range a mark means, below 0 for those before it."""
    info = clip.info
    if isinstance(mark, Fraction):
        if mark >= info.duration:
            raise _beyond(f"the cut at {float(mark):g} s is behind the clip's end at {float(info.duration):.3f} s")
        return int(np.searchsorted(clip.times, -(-(info.start + mark) // info.time_base)))
    if mark >= info.frame_count:
        raise _beyond(f"the cut at frame {mark} is behind the clip's last one, {info.frame_count - 1}")
    return mark - clip.skipped


def _beyond(found: str) -> SettingsError:
    return SettingsError("KP-SHOTS-RANGE", found, where="--shots", fix="are these the cuts of another clip?")
