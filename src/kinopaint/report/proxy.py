"""The film of a page: small pictures of source, results and flicker maps as tiles of one H.264 stream.

Browsers do not keep several video elements on the same frame. One stream holds them all, so what is drawn side by
side belongs together by construction, and is decoded once.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

Picture = NDArray[np.uint8]  # RGB, (height, width, 3)
Size = tuple[int, int]  # width, height in pixels

SHORT_SIDE = 360  # pixels of a tile
PIXELS = 2_200_000  # of all tiles together
CRF = 21
_CLOCK = 90_000  # ticks per second
_BLOCK = 16  # pixels: tiles begin at the codec's blocks, so that neighbours do not bleed into each other
_LEAST_RATE = 60_000  # bits per second that H.264 cannot well go below


@dataclass(frozen=True)
class Tiles:
    """`count` tiles of `width` x `height` pixels; each lies in the upper left corner of a cell, cells in rows."""

    count: int
    width: int
    height: int

    @classmethod
    def of(cls, size: Size, count: int) -> Tiles:
        """Tiles for pictures of `size`: reduced to 360 pixels on the short side, more if there are many."""
        width, height = size
        scale = min(1.0, SHORT_SIDE / min(size), math.sqrt(PIXELS / (count * width * height)))
        return cls(count, max(2, round(width * scale)), max(2, round(height * scale)))

    @property
    def cell(self) -> Size:
        return -(-self.width // _BLOCK) * _BLOCK, -(-self.height // _BLOCK) * _BLOCK

    @property
    def columns(self) -> int:
        """As many as make the whole about square."""
        width, height = self.cell
        return min(self.count, max(1, round(math.sqrt(self.count * height / width))))

    @property
    def whole(self) -> Size:
        width, height = self.cell
        return width * self.columns, height * -(-self.count // self.columns)

    def laid(self, pictures: Sequence[Picture]) -> Picture:
        """All tiles as one picture; the rest of a cell repeats the tile's edge."""
        (width, height), cell = self.whole, self.cell
        sheet = np.zeros((height, width, 3), np.uint8)
        for place, picture in enumerate(pictures):
            row, column = divmod(place, self.columns)
            filled = cv2.copyMakeBorder(
                picture, 0, cell[1] - self.height, 0, cell[0] - self.width, cv2.BORDER_REPLICATE
            )
            sheet[row * cell[1] : (row + 1) * cell[1], column * cell[0] : (column + 1) * cell[0]] = filled
        return sheet


class Proxy:
    """Encodes sheets of tiles into an MP4 of at most about `limit` bytes for `seconds` of film."""

    def __init__(self, tiles: Tiles, rate: float, seconds: float, limit: int) -> None:
        self.tiles = tiles
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        per_second = max(_LEAST_RATE, int(0.92 * 8 * limit / (seconds + 1)))
        video = self._container.add_stream(
            "libx264",
            rate=Fraction(rate).limit_denominator(1001) if rate > 0 else Fraction(25),
            options={
                "crf": str(CRF),
                "preset": "veryfast",
                "maxrate": str(per_second),
                "bufsize": str(per_second),  # may be spent beyond the mean: the second more above
                "g": "12",  # a jump decodes at most as many frames
                "bf": "0",
            },
        )
        video.width, video.height = tiles.whole
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.time_base = Fraction(1, _CLOCK)
        context.color_primaries, context.color_trc, context.colorspace, context.color_range = 1, 1, 1, 1  # BT.709
        self._video = video

    def add(self, pictures: Sequence[Picture], at: float, duration: float) -> None:
        """The pictures of one moment, to be shown `at` seconds for `duration` seconds."""
        frame = av.VideoFrame.from_ndarray(self.tiles.laid(pictures), format="rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709
        )
        frame.pts, frame.time_base = round(at * _CLOCK), Fraction(1, _CLOCK)
        frame.duration = max(1, round(duration * _CLOCK))
        self._container.mux(self._video.encode(frame))

    def finish(self) -> bytes:
        self._container.mux(self._video.encode())
        self._container.close()
        return self._file.getvalue()
