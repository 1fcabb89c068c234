"""Write a clip: exact times, tagged colour, the sound beside it, and a final name only for a whole, checked file."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from array import array
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from kinopaint.errors import InternalError, OutputError, SettingsError, ShapeError
from kinopaint.text import to_json
from kinopaint.video.codecs import CONTAINERS, choose_codec
from kinopaint.video.delivery import DeliveryCheck, DeliveryPlan, check_delivery
from kinopaint.video.frame import Frame, Image
from kinopaint.video.isolated_sink import IsolatedSink
from kinopaint.video.opening import shown
from kinopaint.video.pictures import PictureSink, SequenceSink
from kinopaint.video.place import check_place, publish, sync, write_errors
from kinopaint.video.probe import ClipInfo
from kinopaint.video.sequence import DEFAULT_RATE, FORMAT, holds_recipe, output_sequence, result_place
from kinopaint.video.sizing import Size
from kinopaint.video.target import Sink, Target
from kinopaint.video.timecode import Selection


@dataclass(frozen=True)
class WrittenClip:
    """What was written. `audio` says per stream "copied" or "re-encoded"; `metadata` whether the file holds tags."""

    output: Path
    frames: int
    codec: str
    container: str
    pixel_format: str
    audio: tuple[str, ...]
    metadata: bool
    delivery: DeliveryCheck
    warnings: tuple[str, ...]


def open_writer(
    path: str | PathLike[str],
    *,
    source: ClipInfo,
    size: Size | None = None,
    codec: str = "auto",
    quality: int | None = None,
    audio: bool = True,
    overwrite: bool = False,
    metadata: Mapping[str, Any] | None = None,
    selection: Selection | None = None,
    partial_folder: Path | None = None,
) -> ClipWriter:
    """Start writing `path`; nothing appears under that name before `finish`.

    A picture's name with a place for a number (`frames/%04d.png`), or with a picture codec a name without ending, is
    one file per frame in a folder of their own (`kinopaint.video.sequence`), which gets its name as a whole.

    `size` is the result's (width, height), by default the source's as shown. The format follows the file ending,
    `codec` and `quality` are as in `kinopaint.video.codecs`. `metadata` is added to the source's tags, values other
    than text as JSON. `selection` is what the reader keeps: the sound is cut to it. `partial_folder` is where the file
    grows, on the same file system as `path`; by default it is hidden beside it.

    Raises SettingsError (the codes of `choose_codec`, KP-SETTING-SIZE, KP-OUTPUT-IS-INPUT, KP-SETTING-FORMAT for
    several frames into an image) and OutputError (KP-OUTPUT-EXISTS, -FOLDER, -PERMISSION, -DIRECTORY, -DISK-FULL,
    -ENCODER, -WRITE, -CRASH, -HANG).
    """
    return ClipWriter(
        path, source, size, codec, quality, audio, overwrite, metadata or {}, selection or Selection(), partial_folder
    )


class ClipWriter:
    """Takes the painted frames in order; then `finish`, or `abort`. As a context manager it aborts if not finished."""

    def __init__(
        self,
        path: str | PathLike[str],
        source: ClipInfo,
        size: Size | None,
        codec: str,
        quality: int | None,
        audio: bool,
        overwrite: bool,
        metadata: Mapping[str, Any],
        selection: Selection,
        partial_folder: Path | None,
    ) -> None:
        self.codec = choose_codec(path, codec, quality)
        self.path, self._source, self._overwrite = result_place(path, self.codec).absolute(), source, overwrite
        sequence = output_sequence(path, self.codec)
        self._pattern = sequence[1] if sequence else None
        self._holds_recipe = holds_recipe(path, self.codec)
        self.size = size or (source.width, source.height)
        self.warnings: list[str] = []
        self.frames = 0
        self._muxer = None if sequence else CONTAINERS[self.path.suffix.lower()][0]
        if self._muxer is None and not sequence and not source.is_image and source.frame_count > 1:
            raise SettingsError(
                "KP-SETTING-FORMAT",
                f"a {self.path.suffix} file holds one picture, but the source has {source.frame_count} frames",
                where=shown(path),
                fix=f"use .mp4, .mkv, .webm or .gif, or for one picture per frame name/%04d{self.path.suffix}",
            )
        check_place(self.path, source.path, overwrite=overwrite, pattern=self._pattern)
        # Hidden, short whatever the final name, and on the same file system so that the last step is one rename.
        name = f".kinopaint-{secrets.token_hex(6)}.partial{self.path.suffix.lower()}"
        self._partial = (partial_folder or self.path.parent) / name
        self._sink: Sink | None = None
        self._lost_alpha = False
        self._first = self._last = Fraction(0)
        self._times = array("q")
        self._end: Fraction | None = None
        try:
            with self._mapped():
                tags = {
                    key: value if isinstance(value, str) else to_json(value)  # which names of any bytes survive
                    for key, value in metadata.items()
                }
                target = self._target = Target(
                    self._partial, source, self.size, self.codec, self._muxer, quality, audio, selection, tags,
                    self.warnings,
                )  # fmt: skip
                if self._pattern is not None:
                    self._sink = SequenceSink(target, self._pattern)
                else:
                    self._sink = PictureSink(target) if self._muxer is None else IsolatedSink(target, self.path)
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def write(self, image: Image, frame: Frame) -> None:
        """Add the painted `image` (height, width, 3; 8-bit RGB) with the time of `frame`, the frame it comes from.

        Frames must come in order of time. Raises ShapeError if the size is not the planned one, OutputError
        (KP-OUTPUT-DISK-FULL, -ENCODER, -WRITE).
        """
        if image.shape != (self.size[1], self.size[0], 3) or image.dtype != np.uint8:
            raise ShapeError(
                f"the picture is {image.dtype} {image.shape} but uint8 {(self.size[1], self.size[0], 3)} was planned"
            )
        time = frame.time - self._target.origin
        if self.frames and time <= self._last:
            raise InternalError("KP-INTERNAL", f"frame {frame.index} is not later than the one before")
        with self._mapped():
            self._open_sink.write(self._target.picture(image, frame.alpha), frame)
        self._lost_alpha |= frame.alpha is not None and not self._target.alpha
        if not self.frames:
            self._first = time
        self._times.append(round(time / self._source.time_base))
        self.frames, self._last = self.frames + 1, time
        self._end = time + (frame.duration or 1 / self._source.rate)

    def finish(self, before_naming: Callable[[Path, WrittenClip], None] | None = None) -> WrittenClip:
        """Complete the file, reopen and check it, and only then give it its name.

        `before_naming` is called with the whole and checked file, still under its passing name, and what is returned.

        Raises OutputError: KP-OUTPUT-DELIVERY if the check fails, KP-OUTPUT-NO-FRAMES, KP-OUTPUT-EXISTS if another
        program has taken the name meanwhile, and as `write`. Nothing stands under the final name then.
        """
        sink, target = self._open_sink, self._target
        if self._lost_alpha:
            self.warnings.append(
                f"{self.codec} in this format holds no transparency, what was transparent is white; "
                ".webm, .png, .mov with --codec prores or .mkv with --codec ffv1 keep it"
            )
        if target.stored != self.size:
            self.warnings.append(
                f"pixels that are not square cannot be stored as {self.codec} in this format: the pictures were "
                f"scaled from {self.size[0]}x{self.size[1]} to {target.stored[0]}x{target.stored[1]}; .mp4 keeps them"
            )
        try:
            if self._end is None:
                raise OutputError("KP-OUTPUT-NO-FRAMES", "no frame was written", where=shown(self.path))
            with self._mapped():
                others = sink.finish()
                sync(self._partial)
            tail = self._end - self._last
            first, last, end = self._first, self._last, self._end
            if self._muxer is None:  # pictures have no times; their number tells
                first, last, end = (Fraction(count, DEFAULT_RATE) for count in (0, self.frames - 1, self.frames))
            plan = DeliveryPlan(
                frames=self.frames,
                first=first,
                last=last,
                duration=end - first,
                width=target.stored[0],
                height=target.stored[1],
                sample_aspect_ratio=target.sample_aspect_ratio,
                alpha=target.alpha and self.codec != "gif",  # which knows no half transparent pixels
                others=others,
                color=sink.color,
                tick=sink.tick,
                duration_tolerance=Fraction(1, 1000) if self._muxer in ("mp4", "mov") else tail + 1 / self._source.rate,
                relative=self._muxer == "gif",
                times=self._times if self._muxer else None,
                time_base=self._source.time_base,
            )
            delivery = check_delivery(self._partial, plan)
            if not delivery.ok:
                raise OutputError(
                    "KP-OUTPUT-DELIVERY",
                    "the written file is not what was planned: " + "; ".join(delivery.mismatches),
                    where=shown(self.path),
                    fix="try another --codec or file ending, and report this",
                )
            written = WrittenClip(
                output=self.path,
                frames=self.frames,
                codec=self.codec,
                container=FORMAT if self._pattern else self._muxer or self.codec,
                pixel_format=target.pixel_format,
                audio=tuple("re-encoded" if sound.packets is None else "copied" for sound in others.audio),
                metadata=self._holds_recipe,
                delivery=delivery,
                warnings=tuple(self.warnings),
            )
            if before_naming is not None:
                before_naming(self._partial, written)
            with self._mapped():
                publish(self._partial, self.path, overwrite=self._overwrite)
        except BaseException:
            self.abort()
            raise
        self._sink = None
        return written

    def abort(self) -> None:
        """Drop what was written so far; harmless after `finish`."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        with contextlib.suppress(OSError):
            if self._pattern is not None:
                shutil.rmtree(self._partial, ignore_errors=True)
            else:
                self._partial.unlink(missing_ok=True)

    @property
    def _open_sink(self) -> Sink:
        if self._sink is None:
            raise InternalError("KP-INTERNAL", "the writer is finished or aborted")
        return self._sink

    def _mapped(self) -> AbstractContextManager[None]:
        return write_errors(self.path, self.codec, self.size, lambda: self.frames)
