"""Pictures as image files: one, or one per frame."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import cv2

from kinopaint.errors import OutputError
from kinopaint.video.delivery import OtherStreams
from kinopaint.video.frame import Frame, Image
from kinopaint.video.sequence import name_of
from kinopaint.video.target import Target

_LONGEST_TEXT = 2**24  # bytes


class PictureSink:
    """A single image file."""

    color, tick = None, Fraction(0)

    def __init__(self, target: Target) -> None:
        self._path, self._codec, self._metadata = target.path, target.codec, target.metadata
        self._quality = int(target.options.get("quality", 0))
        self._path.touch(exist_ok=False)

    def write(self, image: Image, frame: Frame) -> None:
        blob = encoded(image, self._codec, self._quality)
        self._path.write_bytes(_png_with_text(blob, self._metadata) if self._codec == "png" else blob)

    def finish(self) -> OtherStreams:
        return OtherStreams()

    def close(self) -> None:
        pass


class SequenceSink:
    """A folder with one image file per frame, numbered from 1."""

    color, tick = None, Fraction(0)

    def __init__(self, target: Target, pattern: str) -> None:
        self._folder, self._codec, self._pattern = target.path, target.codec, pattern
        self._quality = int(target.options.get("quality", 0))
        self._count = 0
        self._folder.mkdir()
        if any(stream.kind in ("audio", "subtitle") for stream in target.source.streams):
            target.warnings.append("pictures hold no sound and no subtitles; those of the source are left behind")

    def write(self, image: Image, frame: Frame) -> None:
        self._count += 1
        (self._folder / name_of(self._pattern, self._count)).write_bytes(encoded(image, self._codec, self._quality))

    def finish(self) -> OtherStreams:
        return OtherStreams()

    def close(self) -> None:
        pass


def encoded(image: Image, codec: str, quality: int) -> bytes:
    """The picture (RGB or RGBA) as png, jpeg or webp. Raises OutputError (KP-OUTPUT-ENCODER)."""
    options = {
        "png": [],
        "jpeg": [
            cv2.IMWRITE_JPEG_QUALITY,
            quality,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
            cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
        ],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
    }
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    ending = "jpg" if codec == "jpeg" else codec
    done, data = cv2.imencode(f".{ending}", cv2.cvtColor(image, order), options[codec])
    if not done:
        raise OutputError("KP-OUTPUT-ENCODER", f"{codec} cannot hold a picture of this size")
    return data.tobytes()


def png_texts(path: Path) -> dict[str, str]:
    """The texts of a PNG file's uncompressed iTXt chunks, by keyword, as far as they can be read."""
    found = {}
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
            length, kind = struct.unpack(">I4s", head)
            if kind == b"iTXt" and length <= _LONGEST_TEXT:
                key, _, rest = file.read(length).partition(b"\0")
                if rest[:1] == b"\0":
                    found[key.decode("latin-1")] = rest[2:].split(b"\0", 2)[-1].decode(errors="replace")
            else:
                file.seek(length, os.SEEK_CUR)
            file.seek(4, os.SEEK_CUR)
    return found


def _png_with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The PNG with one iTXt chunk (uncompressed UTF-8) per text, right after its header chunk."""
    chunks = b""
    for key, text in texts.items():
        body = b"iTXt" + key.encode("latin-1", "replace")[:79] + b"\0\0\0\0\0" + text.encode()
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header = 8 + 25
    return png[:header] + chunks + png[header:]
