"""Image sequences: a folder of pictures that is one clip, in and out.

In: a folder, a numbered name (`shot_%04d.png`) or a pattern (`shot_*.png`); out: a folder, or a numbered name in a
folder of its own. Only the last part of a path is a pattern, and an existing file of that very name wins.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from os import PathLike
from pathlib import Path

from kinopaint.errors import InputError
from kinopaint.video.codecs import PICTURES
from kinopaint.video.opening import shown

FORMAT = "image_sequence"  # what ClipInfo.format says
DEFAULT_RATE = 25  # pictures per second where nobody says, as in ffmpeg
ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_NUMBER = re.compile(r"%(?:0(\d+))?d")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class ImageSequence:
    """The pictures in order. `places` counts them in time, from 0: a missing number leaves a place out."""

    path: str
    files: tuple[Path, ...]
    places: tuple[int, ...]
    problems: tuple[str, ...] = ()


def find_sequence(path: str | PathLike[str]) -> ImageSequence | None:
    """The image sequence that `path` names; None if it names something else.

    Pictures come in the order of the last number in their names, however many digits it has. Raises InputError
    (KP-INPUT-MISSING) if a pattern matches no picture.
    """
    text = os.fspath(path)
    if os.path.isdir(text):
        names = [name for name in os.listdir(text) if name.lower().endswith(ENDINGS) and not name.startswith(".")]
        return _ordered(text, Path(text), names) if names else None
    folder, pattern = Path(text).parent, Path(text).name
    matches = _matcher(pattern)
    if matches is None or os.path.lexists(text) or not folder.is_dir():
        return None
    names = [name for name in os.listdir(folder) if matches.fullmatch(name)]
    if not names:
        raise InputError(
            "KP-INPUT-MISSING",
            "no picture has such a name",
            where=shown(path),
            fix="check the pattern and the folder; put it in quotes",
        )
    return _ordered(text, folder, names)


def numbered(name: str) -> bool:
    """Whether a file name has a place for a number, such as `%04d`."""
    return _NUMBER.search(name) is not None


def name_of(pattern: str, number: int) -> str:
    """The file name of one picture."""
    return _NUMBER.sub(lambda match: str(number).zfill(int(match[1] or 0)), pattern, count=1)


def belongs(pattern: str, name: str) -> bool:
    """Whether a file name is one that the numbered pattern makes."""
    matches = _matcher(pattern)
    return matches is not None and matches.fullmatch(name) is not None


def output_sequence(path: str | PathLike[str], codec: str) -> tuple[Path, str] | None:
    """The folder and the numbered name, if the output is to be one picture per frame; None if it is a file.

    `codec` is what `choose_codec` said for it.
    """
    absolute = Path(os.path.abspath(path))
    if codec not in PICTURES:
        return None
    if not absolute.suffix:
        return absolute, f"%06d.{'jpg' if codec == 'jpeg' else codec}"
    return (absolute.parent, absolute.name) if numbered(absolute.name) else None


def result_place(path: str | PathLike[str], codec: str) -> Path:
    """What appears when the result is whole: the file as named, or the folder of an image sequence."""
    sequence = output_sequence(path, codec)
    return sequence[0] if sequence else Path(path)


def holds_recipe(path: str | PathLike[str], codec: str) -> bool:
    """Whether the result has room for tags: the recipe is in it. Else it goes into a file beside it."""
    return codec not in ("gif", "jpeg", "webp") and output_sequence(path, codec) is None


def _matcher(pattern: str) -> re.Pattern[str] | None:
    if place := _NUMBER.search(pattern):
        return re.compile(rf"{re.escape(pattern[: place.start()])}\d+{re.escape(pattern[place.end() :])}", re.ASCII)
    if pattern.lower().endswith(ENDINGS) and re.search(r"[*?\[]", pattern):
        return re.compile(fnmatch.translate(pattern))
    return None


def _ordered(path: str, folder: Path, names: list[str]) -> ImageSequence:
    names.sort(key=lambda name: [int(part) if part.isdecimal() else part for part in _DIGITS.split(name)])
    places, problems = _places(names)
    files = tuple(Path(os.path.abspath(folder / name)) for name in names)
    return ImageSequence(os.path.abspath(path), files, places, problems)


def _places(names: list[str]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Where each picture lies in time, and what is odd about the numbers."""
    even = tuple(range(len(names)))
    parts = [_DIGITS.split(name) for name in names]
    last = [len(part) - 2 for part in parts]
    if last[0] < 1:
        return even, ("the pictures are not numbered and come in the order of their names",) if len(names) > 1 else ()
    numbers = [int(part[place]) for part, place in zip(parts, last, strict=True) if place > 0]
    rest = {(*part[:place], *part[place + 1 :]) for part, place in zip(parts, last, strict=True)}
    steps = [b - a for a, b in pairwise(numbers)]
    if len(rest) > 1 or any(step <= 0 for step in steps):
        return even, ("the pictures are not one numbered series and come in the order of their names",)
    unit = gcd(*steps) or 1
    places = tuple((number - numbers[0]) // unit for number in numbers)
    missing = places[-1] + 1 - len(names)
    if not missing:
        return places, ()
    if missing >= len(names):  # then the numbers count something else
        return even, ("the numbers of the pictures do not follow each other; they are shown one after another",)
    before = numbers[next(index for index, step in enumerate(steps) if step != unit)]
    return places, (f"{missing} numbers are missing, first after {before}: the picture before a gap stays longer",)
