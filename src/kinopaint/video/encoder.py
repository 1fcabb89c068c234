"""One encoded video stream with its copied neighbours in one container."""

from __future__ import annotations

import contextlib
import os
from fractions import Fraction
from math import lcm

import av
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from kinopaint.errors import OutputError, SettingsError
from kinopaint.video.codecs import CODECS, Codec
from kinopaint.video.color import BT709, FromRgb
from kinopaint.video.delivery import COLOR, OtherStreams
from kinopaint.video.frame import Frame, Image
from kinopaint.video.palette import Palette
from kinopaint.video.passthrough import Passthrough
from kinopaint.video.probe import ClipInfo
from kinopaint.video.sequence import FORMAT as SEQUENCE
from kinopaint.video.sizing import Size
from kinopaint.video.target import Target

_STRUCTURAL_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "kinopaint"}
_GRID = {"matroska": 1000, "webm": 1000, "gif": 100}  # ticks per second where the container does not take any clock
_FEW = 8  # frames
_MOVIE_CLOCK_LIMIT = 10_000_000  # ticks per second of the MP4 movie header; beyond that players get odd


class VideoSink:
    """The encoder, the muxer and the copied streams of one output."""

    def __init__(self, target: Target) -> None:
        source, codec, size = target.source, CODECS[target.codec], target.stored
        self._muxer, self._warnings, self._base = str(target.muxer), target.warnings, source.time_base
        if size[0] < codec.narrowest or (size[0] == codec.narrowest <= size[1] and codec.narrowest > 1):
            raise OutputError(
                "KP-OUTPUT-ENCODER",
                f"{target.codec} cannot write {size[0]}x{size[1]} pictures: they must be more than {codec.narrowest} "
                "pixels wide",
                fix="use --codec h264",
            )
        self._durations: dict[int, int] = {}
        self._through: Passthrough | None = None
        self._last_pts: int | None = None
        self._rounded, self._moved, self._origin = False, Fraction(0), target.origin
        self.pixel_format = target.pixel_format
        if self.pixel_format.startswith("yuv444p") and target.codec in ("h264", "h265"):
            self._warnings.append(
                f"the odd size {size[0]}x{size[1]} is kept by writing 4:4:4 colour, which some players cannot show"
            )
        options = target.options
        if not _may_reorder(source, target):
            options |= codec.no_b_frames
        if target.codec == "av1":
            os.environ.setdefault("SVT_LOG", "0")  # else the library prints its settings on standard error
        if target.codec == "ffv1":
            options["slices"] = "4" if min(size) >= 16 else "1"
        self._output = av.open(
            str(target.path), "w", format=self._muxer, container_options=_muxer_options(self._muxer, source)
        )
        try:
            self._palette = Palette(size, alpha=target.alpha) if self._muxer == "gif" else None
            _check_rate(self._muxer, source.rate / target.selection.every)
            if self._palette is not None:
                self._base = Fraction(1, 100)
                self._warnings.append("GIF holds 256 colours per frame, times in hundredths of a second, and no sound")
            is_rgb = av.VideoFormat(self.pixel_format).is_rgb or self._palette is not None
            self.color = None if is_rgb else COLOR
            self._convert = FromRgb(self._palette.takes if self._palette else self.pixel_format)
            self._stream = self._add_video(codec, size, options, source.rate)
            if self._palette is None:
                self._stream.codec_context.sample_aspect_ratio = target.sample_aspect_ratio
            painted = source.streams[source.video_index]
            named = {"language": painted.language, "title": painted.title}
            self._stream.metadata.update({key: value for key, value in named.items() if value})
            if target.alpha and target.codec == "vp9":
                self._stream.metadata["alpha_mode"] = "1"  # players look here before they decode
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
        return stream

    @property
    def tick(self) -> Fraction:
        """Twice the most by which a time was moved, because the container's clock is too coarse; 0 if none was."""
        return max(Fraction(1, _GRID[self._muxer]) if self._rounded else Fraction(0), 2 * self._moved)

    def write(self, image: Image, frame: Frame) -> None:
        picture = self._convert(image)
        if self._palette is not None:
            picture = self._palette(picture)
        if self._palette is not None and self._last_pts is None:
            self._origin = frame.time  # GIF starts at 0; rounding from there moves times least
        picture.pts = round((frame.time - self._origin) / self._base)
        if self._last_pts is not None:
            picture.pts = max(picture.pts, self._last_pts + 1)  # only GIF's clock is too coarse for some clips
        self._last_pts = picture.pts
        self._moved = max(self._moved, abs(picture.pts * self._base - (frame.time - self._origin)))
        picture.time_base = self._base
        if self._muxer in _GRID:
            self._rounded |= ((frame.time - self._origin) * _GRID[self._muxer]).denominator != 1
        if frame.duration is not None:
            self._durations[picture.pts] = max(1, round(frame.duration / self._base))
        self._mux(picture)
        if self._through is not None:
            self._through.advance(frame.time - self._origin)

    def finish(self) -> OtherStreams:
        self._mux(None)
        if self._through is not None:
            self._through.finish()
        self._output.close()
        if self._rounded and self._palette is None:
            self._warnings.append("Matroska and WebM keep times in milliseconds: frames move by up to half of one")
        return self._through.handed_over() if self._through is not None else OtherStreams()

    def close(self) -> None:
        if self._through is not None:
            self._through.close()
        # On a full disk closing fails again, and the file is thrown away anyway.
        with contextlib.suppress(OSError, av.FFmpegError):
            self._output.close()

    def _mux(self, picture: av.VideoFrame | None) -> None:
        # Lazily: at the end an encoder may have many pictures left, and the file then grows with each.
        for packet in self._stream.codec_context.encode_lazy(picture):
            packet.stream = self._stream
            # Encoders do not know how long the last frame is shown.
            if packet.pts in self._durations:
                packet.duration = self._durations.pop(packet.pts)
            self._output.mux_one(packet)

    def _add_other_streams(self, target: Target) -> None:
        source, selection = target.source, target.selection
        kept = {key: value for key, value in source.metadata.items() if key not in _STRUCTURAL_TAGS}
        self._output.metadata.update({**kept, **target.metadata})
        if source.is_image or source.format == SEQUENCE:
            return
        span = (
            None if selection.start is None else source.start + selection.start,
            None if selection.end is None else source.start + selection.end,
        )
        if self._origin:
            self._warnings.append(
                f"the source's times begin at {float(source.start):.3f} s; all times are {float(-self._origin):.3f} s "
                "later, because files hold none before 0"
            )
        self._through = Passthrough(
            source,
            self._output,
            self._muxer,
            audio=target.audio,
            span=span,
            origin=self._origin,
            warnings=self._warnings,
        )
        if chapters := self._through.chapters():
            self._output.set_chapters(chapters)


def _may_reorder(source: ClipInfo, target: Target) -> bool:
    """Whether the encoder may send frames in another order than they are shown.

    Of uneven length they get wrong times in MP4; in Matroska they may come so early that the sound beside them has
    times beyond what a cluster can tell. Of a handful, x265 makes up when to decode them.
    """
    selection = target.selection
    length = min(selection.end or source.duration, source.duration) - (selection.start or 0)
    if length * source.rate / selection.every < _FEW:
        return False
    if target.muxer in ("mp4", "mov"):
        return _is_even(source) and target.selection.every == 1
    return not source.variable_rate


def _check_rate(muxer: str, rate: Fraction) -> None:
    most = _GRID.get(muxer)
    if most is not None and rate > most:
        name = {"gif": "GIF", "matroska": "Matroska", "webm": "WebM"}[muxer]
        raise SettingsError(
            "KP-SETTING-FORMAT",
            f"{name} holds at most {most} frames a second, these are {float(rate):g}",
            fix=f"use --every {-(-rate // most)}, or another format such as .mp4",
        )


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
