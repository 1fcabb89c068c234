"""Contact sheets: pictures in rows and columns, each with a line of text, small enough to look at at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kinopaint.errors import OutputError, SettingsError
from kinopaint.video.sequence import numbered

Picture = NDArray[np.uint8]
MARGIN, LINE, FONT_SIZE = 6, 20, 14  # pixels
PAPER, INK = 250, 30  # grey values
JPEG_QUALITY = 90
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def contact_sheet(rows: Sequence[Sequence[tuple[Picture, str]]], *, cell: tuple[int, int] = (512, 384)) -> Picture:
    """RGB pictures with captions as one picture; none is enlarged, larger ones are reduced to fit `cell`."""
    drawn = [[_cell(picture, text, cell) for picture, text in row] for row in rows]
    width = MARGIN + max(sum(c.shape[1] + MARGIN for c in row) for row in drawn)
    height = MARGIN + sum(max(c.shape[0] for c in row) + MARGIN for row in drawn)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    top = MARGIN
    for row in drawn:
        left = MARGIN
        for picture in row:
            sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
            left += picture.shape[1] + MARGIN
        top += max(c.shape[0] for c in row) + MARGIN
    return sheet


def _cell(picture: Picture, text: str, limit: tuple[int, int]) -> Picture:
    height, width = picture.shape[:2]
    scale = min(1.0, limit[0] / width, limit[1] / height)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    if not text:
        return picture
    strip = np.full((LINE, picture.shape[1], 3), PAPER, np.uint8)
    place, ink = (1, LINE - 6), (INK, INK, INK)
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    if hasattr(cv2, "FontFace"):
        cv2.putText(strip, line, place, ink, cv2.FontFace("sans"), FONT_SIZE, 400, cv2.PUT_TEXT_ALIGN_LEFT)
    else:  # the font of OpenCV 4 knows ASCII only
        line = line.encode("ascii", "replace").decode()
        cv2.putText(strip, line, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, ink, 1, cv2.LINE_AA)
    return np.vstack([picture, strip])


def check_ending(path: Path) -> None:
    """Raises SettingsError (KP-SETTING-FORMAT) for a file that cannot hold a sheet, before there is one."""
    if path.suffix.lower() not in ENDINGS or numbered(path.name):
        raise SettingsError(
            "KP-SETTING-FORMAT",
            "a contact sheet is one picture",
            where=path.name,
            fix=f"give a name that ends in {' or '.join(ENDINGS)}",
        )


def write_picture(path: Path, picture: Picture) -> None:
    """Write an RGB picture as PNG, JPEG or WebP, by the ending of `path`; whole or not at all. Raises OutputError."""
    part = path.with_name(f".kinopaint-{path.name}.part")
    try:
        kind = path.suffix.lower()
        options = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY) if kind in (".jpg", ".jpeg") else ()
        done, data = cv2.imencode(kind, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
        if not done:
            raise ValueError(path.suffix)
        part.write_bytes(data.tobytes())
        os.replace(part, path)
    except (cv2.error, ValueError) as error:
        raise OutputError(
            "KP-OUTPUT-FORMAT", f"pictures cannot be written as {path.suffix!r}", where=str(path), fix="use .png"
        ) from error
    except OSError as error:
        raise OutputError(
            "KP-OUTPUT-WRITE", error.strerror or str(error), where=str(path), fix="check the folder and its free space"
        ) from error
    finally:
        part.unlink(missing_ok=True)
