"""What is to be written, worked out once from the source and the settings, and the two things that can write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from kinopaint.video.codecs import CODECS
from kinopaint.video.frame import Frame, Image
from kinopaint.video.probe import ClipInfo
from kinopaint.video.sizing import Size
from kinopaint.video.timecode import Selection


@dataclass(frozen=True)
class Target:
    """Everything that a sink needs to know. `muxer` is None for pictures."""

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
        codec = CODECS[self.codec]
        if codec.quality is None:
            return dict(codec.options)
        name, default, _ = codec.quality
        return {**codec.options, name: str(default if self.quality is None else self.quality)}


class Sink(Protocol):
    """Takes pictures in order. `color` as in DeliveryPlan; `tick` is 0 where all times were kept exactly."""

    pixel_format: str
    sample_aspect_ratio: Fraction
    color: str | None

    @property
    def tick(self) -> Fraction: ...

    def write(self, image: Image, frame: Frame) -> None: ...

    def finish(self) -> tuple[int | None, ...]:
        """Write what is left; returns the packet counts of the audio streams, None where re-encoded."""
        ...

    def close(self) -> None: ...
