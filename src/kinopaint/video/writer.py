"""Write a clip: exact times, tagged colour, the sound beside it, and a final name only for a whole, checked file."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.filter
import cv2
import numpy as np
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from kinopaint.errors import InternalError, OutputError, SettingsError, ShapeError
from kinopaint.video.codecs import CODECS, CONTAINERS, Codec, choose_codec
from kinopaint.video.color import BT709, FromRgb
from kinopaint.video.delivery import COLOR, DeliveryCheck, DeliveryPlan, check_delivery
from kinopaint.video.frame import Frame, Image
from kinopaint.video.opening import shown
from kinopaint.video.passthrough import Passthrough
from kinopaint.video.probe import ClipInfo
from kinopaint.video.sizing import Size
from kinopaint.video.timecode import Selection

_STRUCTURAL_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "kinopaint"}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_GRID = {"matroska": 1000, "webm": 1000, "gif": 100}  # ticks per second where the container does not take any clock
_MOVIE_CLOCK_LIMIT = 10_000_000  # ticks per second of the MP4 movie header; beyond that players get odd


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
) -> ClipWriter:
    """Start writing `path`; nothing appears under that name before `finish`.

    `size` is the result's (width, height), by default the source's as shown. The format follows the file ending,
    `codec` and `quality` are as in `kinopaint.video.codecs`. `metadata` is added to the source's tags, values other
    than text as JSON. `selection` is what the reader keeps: the sound is cut to it.

    Raises SettingsError (the codes of `choose_codec`, KP-SETTING-SIZE, KP-OUTPUT-IS-INPUT, KP-SETTING-FORMAT for
    several frames into an image) and OutputError (KP-OUTPUT-EXISTS, -FOLDER, -PERMISSION, -DIRECTORY, -DISK-FULL,
    -ENCODER, -WRITE).
    """
    return ClipWriter(path, source, size, codec, quality, audio, overwrite, metadata or {}, selection or Selection())


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
    ) -> None:
        self.codec = choose_codec(path, codec, quality)
        self.path, self._source, self._overwrite = Path(os.path.abspath(path)), source, overwrite
        self.size = size or (source.width, source.height)
        self.warnings: list[str] = []
        self.frames = 0
        self._muxer = CONTAINERS[self.path.suffix.lower()][0]
        if self._muxer is None and not source.is_image and source.frame_count > 1:
            raise SettingsError(
                "KP-SETTING-FORMAT",
                f"a {self.path.suffix} file holds one picture, but the source has {source.frame_count} frames",
                where=shown(path),
                fix="use .mp4, .mkv, .webm or .gif",
            )
        self._check_place()
        # Hidden, short whatever the final name, and in the same folder so that the last step is one rename.
        self._partial = self.path.with_name(f".kinopaint-{secrets.token_hex(6)}.partial{self.path.suffix.lower()}")
        self._sink: _Video | _Picture | None = None
        self._first = self._last = Fraction(0)
        self._end: Fraction | None = None
        try:
            with self._mapped():
                tags = {
                    key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
                    for key, value in metadata.items()
                }
                target = _Target(
                    self._partial, source, self.size, self.codec, self._muxer, quality, audio, selection, tags,
                    self.warnings,
                )  # fmt: skip
                self._sink = _Picture(target) if self._muxer is None else _Video(target)
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
        if self.frames and frame.time <= self._last:
            raise InternalError("KP-INTERNAL", f"frame {frame.index} is not later than the one before")
        with self._mapped():
            self._open_sink.write(image, frame)
        if not self.frames:
            self._first = frame.time
        self.frames, self._last = self.frames + 1, frame.time
        self._end = frame.time + (frame.duration or 1 / self._source.rate)

    def finish(self) -> WrittenClip:
        """Complete the file, reopen and check it, and only then give it its name.

        Raises OutputError: KP-OUTPUT-DELIVERY if the check fails, KP-OUTPUT-NO-FRAMES, KP-OUTPUT-EXISTS if another
        program has taken the name meanwhile, and as `write`. Nothing stands under the final name then.
        """
        sink = self._open_sink
        try:
            if self._end is None:
                raise OutputError("KP-OUTPUT-NO-FRAMES", "no frame was written", where=shown(self.path))
            with self._mapped():
                audio = sink.finish()
                with open(self._partial, "rb+") as file:
                    os.fsync(file.fileno())
            tail = self._end - self._last
            plan = DeliveryPlan(
                frames=self.frames,
                first=self._first if self._muxer else Fraction(0),
                last=self._last if self._muxer else Fraction(0),
                duration=self._end - self._first,
                width=self.size[0],
                height=self.size[1],
                sample_aspect_ratio=sink.sample_aspect_ratio,
                audio_packets=audio,
                color=sink.color,
                tick=sink.tick,
                duration_tolerance=Fraction(1, 1000) if self._muxer in ("mp4", "mov") else tail + 1 / self._source.rate,
                relative=self._muxer == "gif",
            )
            delivery = check_delivery(self._partial, plan)
            if not delivery.ok:
                raise OutputError(
                    "KP-OUTPUT-DELIVERY",
                    "the written file is not what was planned: " + "; ".join(delivery.mismatches),
                    where=shown(self.path),
                    fix="try another --codec or file ending, and report this",
                )
            with self._mapped():
                self._publish()
        except BaseException:
            self.abort()
            raise
        self._sink = None
        return WrittenClip(
            output=self.path,
            frames=self.frames,
            codec=self.codec,
            container=self._muxer or self.codec,
            pixel_format=sink.pixel_format,
            audio=tuple("re-encoded" if count is None else "copied" for count in audio),
            metadata=self._muxer in ("mp4", "mov", "matroska", "webm") or self.codec == "png",
            delivery=delivery,
            warnings=tuple(self.warnings),
        )

    def abort(self) -> None:
        """Drop what was written so far; harmless after `finish`."""
        if self._sink is not None:
            self._sink.close()
            self._sink = None
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    @property
    def _open_sink(self) -> _Video | _Picture:
        if self._sink is None:
            raise InternalError("KP-INTERNAL", "the writer is finished or aborted")
        return self._sink

    def _check_place(self) -> None:
        folder, where = self.path.parent, shown(self.path)
        if not folder.is_dir():
            raise OutputError("KP-OUTPUT-FOLDER", "there is no such folder", where=shown(folder), fix="make it first")
        if self.path.is_dir():
            raise OutputError("KP-OUTPUT-DIRECTORY", "this is a folder", where=where, fix="add a file name")
        if self.path.exists() and os.path.exists(self._source.path) and self.path.samefile(self._source.path):
            raise SettingsError(
                "KP-OUTPUT-IS-INPUT", "the result would replace its source", where=where, fix="choose another name"
            )
        if os.path.lexists(self.path) and not self._overwrite:
            raise _exists(self.path)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(
                "KP-OUTPUT-PERMISSION",
                "nothing may be written there",
                where=shown(folder),
                fix="choose another folder",
            )

    def _publish(self) -> None:
        if self._overwrite:
            os.replace(self._partial, self.path)
        else:
            try:
                os.link(self._partial, self.path)  # unlike a rename, this fails if the name is taken meanwhile
            except FileExistsError:
                raise _exists(self.path) from None
            except OSError:  # no hard links on this file system
                if os.path.lexists(self.path):
                    raise _exists(self.path) from None
                os.replace(self._partial, self.path)
            self._partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # so that the name survives a power loss; not every system can
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Errors of the system and of FFmpeg become OutputError."""
        try:
            yield
        except OutputError:
            raise
        except (OSError, av.FFmpegError) as error:
            where = shown(self.path)
            if error.errno in _FULL:
                raise OutputError(
                    "KP-OUTPUT-DISK-FULL",
                    f"there is no room left ({error.strerror}) after {self.frames} frames",
                    where=where,
                    fix="free some space or choose another disk, then run the same command again",
                ) from error
            if isinstance(error, PermissionError) or error.errno == errno.EROFS:
                raise OutputError(
                    "KP-OUTPUT-PERMISSION", f"cannot write: {error.strerror}", where=where, fix="choose another folder"
                ) from error
            if isinstance(error, av.FFmpegError) and not isinstance(error, OSError):
                raise OutputError(
                    "KP-OUTPUT-ENCODER",
                    f"{self.codec} cannot write {self.size[0]}x{self.size[1]} pictures here ({error.strerror})",
                    where=where,
                    fix="try another --codec, for example h264",
                ) from error
            raise OutputError("KP-OUTPUT-WRITE", f"writing failed: {error.strerror}", where=where) from error


@dataclass(frozen=True)
class _Target:
    """Everything that a sink needs to know."""

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


class _Video:
    """The encoder, the muxer and the copied streams of one output."""

    def __init__(self, target: _Target) -> None:
        source, codec, size = target.source, CODECS[target.codec], target.size
        self._muxer, self._warnings, self._base = str(target.muxer), target.warnings, source.time_base
        self._durations: dict[int, int] = {}
        self._through: Passthrough | None = None
        self._last_pts: int | None = None
        self._rounded = False
        self.sample_aspect_ratio = _pixel_shape(source, size)
        if self.sample_aspect_ratio != 1 and not _keeps_pixel_shape(target):
            self._warnings.append(
                f"the pixel shape {self.sample_aspect_ratio} cannot be stored as {target.codec} in this format, and "
                "the picture will look too narrow or too wide; .mp4 keeps it"
            )
            self.sample_aspect_ratio = Fraction(1)
        odd = size[0] % 2 or size[1] % 2
        self.pixel_format = codec.odd_format if odd else codec.pixel_format
        if odd and codec.odd_format == "yuv444p":
            self._warnings.append(
                f"the odd size {size[0]}x{size[1]} is kept by writing 4:4:4 colour, which some players cannot show"
            )
        options = target.options
        if self._muxer in ("mp4", "mov") and not (_is_even(source) and target.selection.every == 1):
            options |= codec.no_b_frames  # reordered frames of uneven length get wrong times in MP4
        if target.codec == "av1":
            os.environ.setdefault("SVT_LOG", "0")  # else the library prints its settings on standard error
        if target.codec == "ffv1":
            options["slices"] = "4" if min(size) >= 16 else "1"
        self._output = av.open(
            str(target.path), "w", format=self._muxer, container_options=_muxer_options(self._muxer, source)
        )
        try:
            self._palette = _Palette(size) if self._muxer == "gif" else None
            if self._palette is not None:
                self._base = Fraction(1, 100)
                self._warnings.append("GIF holds 256 colours per frame, times in hundredths of a second, and no sound")
            is_rgb = av.VideoFormat(self.pixel_format).is_rgb or self._palette is not None
            self.color = None if is_rgb else COLOR
            self._convert = FromRgb("rgb24" if self._palette else self.pixel_format)
            self._stream = self._add_video(codec, size, options, source.rate)
            if self._palette is None:
                self._add_other_streams(target)
            self._output.start_encoding()
        except BaseException:
            self.close()
            raise

    def _add_video(self, codec: Codec, size: Size, options: dict[str, str], rate: Fraction) -> VideoStream:
        stream = self._output.add_stream(codec.encoder, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = self.pixel_format
        context = stream.codec_context
        context.time_base = stream.time_base = self._base
        context.framerate = rate.limit_denominator(1_000_000)
        if codec.tag and self._muxer in ("mp4", "mov"):
            context.codec_tag = codec.tag
        if self.color is not None:
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = ColorRange.MPEG
        if self._palette is None:
            context.sample_aspect_ratio = self.sample_aspect_ratio
        return stream

    @property
    def tick(self) -> Fraction:
        """The finest step of time that was too coarse for a frame; 0 if all times are kept exactly."""
        return Fraction(1, _GRID[self._muxer]) if self._rounded else Fraction(0)

    def write(self, image: Image, frame: Frame) -> None:
        picture = self._convert(image)
        if self._palette is not None:
            picture = self._palette(picture)
        picture.pts = round(frame.time / self._base)
        if self._last_pts is not None:
            picture.pts = max(picture.pts, self._last_pts + 1)  # only GIF's clock is too coarse for some clips
        self._last_pts = picture.pts
        picture.time_base = self._base
        if self._muxer in _GRID:
            self._rounded |= (frame.time * _GRID[self._muxer]).denominator != 1
        if frame.duration is not None:
            self._durations[picture.pts] = max(1, round(frame.duration / self._base))
        self._mux(picture)
        if self._through is not None:
            self._through.advance(frame.time)

    def finish(self) -> tuple[int | None, ...]:
        """Write what is left; returns the packet counts of the audio streams."""
        self._mux(None)
        if self._through is not None:
            self._through.finish()
        self._output.close()
        if self._rounded and self._palette is None:
            self._warnings.append("Matroska and WebM keep times in milliseconds: frames move by up to half of one")
        return self._through.audio_packets if self._through is not None else ()

    def close(self) -> None:
        if self._through is not None:
            self._through.close()
        # On a full disk closing fails again, and the file is thrown away anyway.
        with contextlib.suppress(OSError, av.FFmpegError):
            self._output.close()

    def _mux(self, picture: av.VideoFrame | None) -> None:
        for packet in self._stream.encode(picture):
            # Encoders do not know how long the last frame is shown.
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            self._output.mux_one(packet)

    def _add_other_streams(self, target: _Target) -> None:
        source, selection = target.source, target.selection
        kept = {key: value for key, value in source.metadata.items() if key not in _STRUCTURAL_TAGS}
        self._output.metadata.update({**kept, **target.metadata})
        if source.is_image:
            return
        span = (
            None if selection.start is None else source.start + selection.start,
            None if selection.end is None else source.start + selection.end,
        )
        self._through = Passthrough(
            source, self._output, self._muxer, audio=target.audio, span=span, warnings=self._warnings
        )
        if source.chapters:
            self._output.set_chapters(self._through.chapters())


class _Palette:
    """Reduces each frame to its own best 256 colours."""

    def __init__(self, size: Size) -> None:
        graph = self._graph = av.filter.Graph()
        self._source = graph.add_buffer(width=size[0], height=size[1], format="rgb24", time_base=Fraction(1, 100))
        split = graph.add("split")
        choose = graph.add("palettegen", "stats_mode=single:reserve_transparent=0")
        use = graph.add("paletteuse", "new=1:dither=sierra2_4a")
        self._sink = graph.add("buffersink")
        self._source.link_to(split)
        split.link_to(use, 0, 0)
        split.link_to(choose, 1, 0)
        choose.link_to(use, 0, 1)
        use.link_to(self._sink)
        graph.configure()
        self._count = 0

    def __call__(self, picture: av.VideoFrame) -> av.VideoFrame:
        picture.pts, self._count = self._count, self._count + 1
        self._source.push(picture)
        return self._sink.pull()


class _Picture:
    """A single image file."""

    sample_aspect_ratio, color, tick = Fraction(1), None, Fraction(0)

    def __init__(self, target: _Target) -> None:
        self.pixel_format = CODECS[target.codec].pixel_format
        self._path, self._codec, self._metadata = target.path, target.codec, target.metadata
        self._quality = int(target.options.get("quality", 0))
        self._path.touch(exist_ok=False)

    def write(self, image: Image, frame: Frame) -> None:
        options = {
            "png": [],
            "jpeg": [
                cv2.IMWRITE_JPEG_QUALITY,
                self._quality,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
            ],
            "webp": [cv2.IMWRITE_WEBP_QUALITY, self._quality],
        }
        ending = "jpg" if self._codec == "jpeg" else self._codec
        done, data = cv2.imencode(f".{ending}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options[self._codec])
        if not done:
            raise OutputError("KP-OUTPUT-ENCODER", f"{self._codec} cannot hold a picture of this size")
        blob = data.tobytes()
        self._path.write_bytes(_png_with_text(blob, self._metadata) if self._codec == "png" else blob)

    def finish(self) -> tuple[int | None, ...]:
        return ()

    def close(self) -> None:
        pass


def _png_with_text(png: bytes, texts: Mapping[str, str]) -> bytes:
    """The PNG with one iTXt chunk (uncompressed UTF-8) per text, right after its header chunk."""
    chunks = b""
    for key, text in texts.items():
        body = b"iTXt" + key.encode("latin-1", "replace")[:79] + b"\0\0\0\0\0" + text.encode()
        chunks += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    header = 8 + 25
    return png[:header] + chunks + png[header:]


def _pixel_shape(source: ClipInfo, size: Size) -> Fraction:
    """Sample aspect ratio of the output: the source's; if the frame's shape changes, what keeps the display shape."""
    change = Fraction(source.width * size[1], source.height * size[0])
    if abs(change - 1) <= Fraction(1, 100):  # rounding of a side
        return source.sample_aspect_ratio
    return (source.sample_aspect_ratio * change).limit_denominator(255)


def _keeps_pixel_shape(target: _Target) -> bool:
    """PyAV sets the pixel shape in the encoder only, and Matroska's muxer does not look there: H.264 and H.265 have it
    in their own headers."""
    return target.muxer in ("mp4", "mov") or (target.muxer != "gif" and target.codec in ("h264", "h265"))


def _is_even(source: ClipInfo) -> bool:
    """Whether all frames last equally long, the last one included."""
    step = source.frame_step
    return step is not None and source.frame_count * step * source.time_base == source.duration


def _muxer_options(muxer: str, source: ClipInfo) -> dict[str, str]:
    if muxer in ("mp4", "mov"):
        # A late start is stored in ticks of the movie clock, 1/1000 s by default: too coarse.
        clocks = [1000, source.time_base.denominator]
        clocks += [stream.sample_rate for stream in source.streams_of("audio") if stream.sample_rate]
        common = lcm(*clocks)
        clock = common if common <= _MOVIE_CLOCK_LIMIT else source.time_base.denominator
        return {"movflags": "use_metadata_tags+faststart", "movie_timescale": str(clock)}
    # Sound that starts before 0 (encoder delay) must not push the pictures.
    return {"avoid_negative_ts": "disabled"} if muxer in ("matroska", "webm") else {}


def _exists(path: Path) -> OutputError:
    return OutputError(
        "KP-OUTPUT-EXISTS",
        "the file exists already",
        where=shown(path),
        fix="choose another name, or add --overwrite",
    )
