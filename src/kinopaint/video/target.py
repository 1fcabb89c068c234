"""What is to be written, worked out once from the source and the settings, and the two things that can write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np

from kinopaint.video.codecs import CODECS, Codec
from kinopaint.video.color import off_white
from kinopaint.video.delivery import OtherStreams
from kinopaint.video.frame import Alpha, Frame, Image
from kinopaint.video.probe import ClipInfo
from kinopaint.video.sizing import Size, resize
from kinopaint.video.timecode import Selection


@dataclass(frozen=True)
class Target:
    """Everything that a sink needs to know. `muxer` is None for pictures, `size` that of the painted pictures."""

    path: Path
    source: ClipInfo
    size: Size
    codec: str
    muxer: str | None
    quality: int | None
    audio: bool
    selection: Selection
    metadata: Mapping[str, str]
    warnings: list[str]

    @property
    def options(self) -> dict[str, str]:
        """The encoder's options, with the quality among them."""
        codec = self._codec
        options = {**codec.options, **(codec.alpha_options if self.alpha else {})}
        if codec.quality is None:
            return options
        name, default, _ = codec.quality
        return {**options, name: str(default if self.quality is None else self.quality)}

    @property
    def alpha(self) -> bool:
        """Whether transparency is kept."""
        return self.source.alpha and self.muxer in self._codec.alpha_muxers

    @property
    def origin(self) -> Fraction:
        """The source's time, in seconds, that is 0 in the result: 0, or where a clip begins before that.

        Recordings in MPEG-TS may begin shortly before their clock turns over; no container that is written holds that.
        """
        source, kept = self.source, self.selection.start
        begin = source.start + (kept or 0)
        if begin >= 0:
            return Fraction(0)
        if kept is None:  # what is heard before the first picture is kept as well
            begin = min([begin, *(s.first for s in source.streams if s.kind != "video" and s.first is not None)])
        return begin // source.time_base * source.time_base

    @property
    def pixel_format(self) -> str:
        return self._codec.pixel_format_for(self.stored, bit_depth=self.source.bit_depth, alpha=self.alpha)

    @property
    def sample_aspect_ratio(self) -> Fraction:
        """Shape of the stored pixels: the planned one, or 1 where the format cannot hold another."""
        return self._planned_shape if self._keeps_shape else Fraction(1)

    @property
    def stored(self) -> Size:
        """Width and height as stored: `size`, or larger on one side where pixels have to be made square."""
        shape, (width, height) = self._planned_shape, self.size
        if self._keeps_shape or shape == 1:
            return self.size
        return (round(width * shape), height) if shape > 1 else (width, round(height / shape))

    def picture(self, image: Image, alpha: Alpha | None) -> Image:
        """The painted picture at the stored size; with its transparency as fourth channel where that is kept."""
        image = resize(image, self.stored)
        if not self.alpha:
            return image
        if alpha is None:
            alpha = np.full(image.shape[:2], 255, np.uint8)
        alpha = resize(alpha, self.stored)
        # A GIF's pixels are seen wholly or not at all, so there the colour on white is the better one.
        return np.dstack([image if self.codec == "gif" else off_white(image, alpha), alpha])

    @property
    def _codec(self) -> Codec:
        return CODECS[self.codec]

    @property
    def _planned_shape(self) -> Fraction:
        """The source's pixel shape; if the frame's shape changes, what keeps the display shape."""
        source, size = self.source, self.size
        change = Fraction(source.width * size[1], source.height * size[0])
        if abs(change - 1) <= Fraction(1, 100):  # rounding of a side
            return source.sample_aspect_ratio
        return (source.sample_aspect_ratio * change).limit_denominator(255)

    @property
    def _keeps_shape(self) -> bool:
        """PyAV sets the pixel shape in the encoder only, and Matroska's muxer does not look there: H.264 and H.265
        have it in their own headers."""
        return self.muxer in ("mp4", "mov") or (self.muxer == "matroska" and self.codec in ("h264", "h265"))


class Sink(Protocol):
    """Takes pictures in order. `color` as in DeliveryPlan; `tick` is 0 where all times were kept exactly."""

    color: str | None

    @property
    def tick(self) -> Fraction: ...

    def write(self, image: Image, frame: Frame) -> None: ...

    def finish(self) -> OtherStreams:
        """Write what is left; returns what there is besides the pictures."""
        ...

    def close(self) -> None: ...
