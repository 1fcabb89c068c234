"""What a clip is, from one pass over its packets: streams, exact times, orientation, colour, and what is wrong.

Only the first picture is decoded. Counts and times come from the packets, because headers are often wrong or empty.
"""

from __future__ import annotations

import dataclasses
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from kinopaint.errors import InputError, SettingsError
from kinopaint.video import sequence as sequence_rules
from kinopaint.video.color import ColorTags, color_tags, has_alpha
from kinopaint.video.limits import Guard, Limits
from kinopaint.video.opening import (
    check_source,
    damaged,
    find_cut,
    is_animated_webp,
    not_video,
    open_container,
    short_of_memory,
    shown,
    truncated,
)
from kinopaint.video.sequence import ImageSequence, find_sequence


@dataclass(frozen=True)
class StreamInfo:
    """One stream of the file. `start` and `duration` are seconds from the header; `packets` is counted, `first` and
    `end` are where the first packet begins and the last one ends, in seconds."""

    index: int
    kind: str  # video, audio, subtitle, data, attachment
    codec: str | None
    packets: int
    first: Fraction | None
    end: Fraction | None
    start: Fraction | None
    duration: Fraction | None
    language: str | None
    title: str | None
    default: bool
    cover_art: bool = False
    sample_rate: int | None = None
    channels: int | None = None


@dataclass(frozen=True)
class ClipInfo:
    """A clip and its main video stream; everything here describes what is there, not what a header promises.

    `width` and `height` are as shown, after `rotation` (degrees clockwise) and then `mirrored` (left to right);
    `sample_aspect_ratio` is that of the shown picture. `first` and `last` are frame times in units of `time_base`;
    `duration` is from the first frame's start to the last one's end, in seconds. `frame_step` is the distance of all
    neighbouring frames in `time_base` units, None if it is not the same everywhere; `variable_rate` ignores what is
    only rounding of the container (one tick or a millisecond). `truncated` says what is missing, empty if nothing is.
    """

    path: str
    format: str
    size_bytes: int
    is_image: bool
    streams: tuple[StreamInfo, ...]
    video_index: int
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    sample_aspect_ratio: Fraction
    rotation: int
    mirrored: bool
    pixel_format: str
    bit_depth: int
    alpha: bool
    interlaced: bool
    color: ColorTags
    time_base: Fraction
    frame_count: int
    first: int
    last: int
    duration: Fraction
    rate: Fraction
    average_rate: Fraction | None
    guessed_rate: Fraction | None
    frame_step: int | None
    variable_rate: bool
    chapters: int
    metadata: dict[str, str] = field(default_factory=dict)
    truncated: str = ""
    problems: tuple[str, ...] = ()

    @property
    def hdr(self) -> str | None:
        """Which HDR transfer it is: "pq", "hlg" or None."""
        return self.color.hdr

    @property
    def start(self) -> Fraction:
        """Time of the first frame in seconds."""
        return self.first * self.time_base

    @property
    def end(self) -> Fraction:
        """Time in seconds at which the last frame is over."""
        return self.start + self.duration

    def streams_of(self, kind: str) -> tuple[StreamInfo, ...]:
        return tuple(stream for stream in self.streams if stream.kind == kind)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: exact fractions as "30000/1001", the derived `start_s`, `end_s`, `duration_s`, `fps` as numbers."""
        plain = _jsonable(dataclasses.asdict(self))
        return plain | {
            "hdr": self.hdr,
            "start_s": float(self.start),
            "end_s": float(self.end),
            "duration_s": float(self.duration),
            "fps": float(self.rate),
        }


def scan(
    path: str | PathLike[str], guard: Guard | None = None, *, fps: Fraction | None = None
) -> tuple[ClipInfo, NDArray[np.int64]]:
    """What `isolated.probe` says, and the sorted times of all frames in units of the time base; in this process.

    `fps` is the rate of an image sequence. Raises SettingsError (KP-SETTING-FPS) if it is given for anything else.
    """
    guard = guard or Guard()
    if sequence := find_sequence(path):
        return _scan_sequence(sequence, fps or Fraction(sequence_rules.DEFAULT_RATE), guard)
    if fps is not None:
        raise SettingsError(
            "KP-SETTING-FPS",
            "a rate can be given for image sequences only, other files have their own times",
            where="--fps",
            fix="leave it out",
        )
    absolute = check_source(path)
    with open_container(absolute, guard.limits) as container:
        candidates = _video_streams(container, absolute, guard.limits)
        guard.start(shown(path))
        packets = _Packets(container, candidates, guard)
        stream = max(candidates, key=lambda s: (len(packets.times[s.index]) > 0, _is_default(s), -s.index))
        times = np.sort(np.frombuffer(packets.times[stream.index], np.int64))
        picture = packets.pictures.get(stream.index)
        cut = find_cut(absolute) if picture is None else None
        if cut:
            raise truncated(absolute, f"{cut.found}, and no frame is left", rest=False)
        if not len(times):
            raise InputError(
                "KP-INPUT-NO-FRAMES",
                "the video stream holds no frame",
                where=shown(path),
                fix="copy or download the file again",
            )
        if picture is None and is_animated_webp(absolute):
            raise InputError(
                "KP-INPUT-CODEC",
                "there is no decoder for animated WebP",
                where=shown(path),
                fix="convert it to GIF, APNG or a video first",
            )
        if picture is None:
            limit = (
                "" if stream.codec_context.width else f" (pictures of up to {guard.limits.pixels} pixels are decoded)"
            )
            found = f"its first packets cannot be decoded as {_codec(stream)}{limit}"
            raise damaged(absolute, found, rest=False)
        return _describe(absolute, container, stream, packets, times, picture), times


def _scan_sequence(sequence: ImageSequence, fps: Fraction, guard: Guard) -> tuple[ClipInfo, NDArray[np.int64]]:
    """A sequence as the clip that its first picture begins. Each picture has an orientation of its own."""
    first, _ = scan(sequence.files[0], guard)
    guard.start(shown(sequence.path))
    for _ in sequence.files:
        guard.frame()
    times = np.array(sequence.places, np.int64)
    length = Fraction(int(times[-1]) + 1) / fps
    even = len(times) == times[-1] + 1
    stream = replace(
        first.streams[first.video_index],
        packets=len(times),
        first=Fraction(0),
        end=length,
        start=Fraction(0),
        duration=length,
    )
    info = replace(
        first,
        path=sequence.path,
        format=sequence_rules.FORMAT,
        size_bytes=sum(file.stat().st_size for file in sequence.files),
        is_image=False,
        streams=(replace(stream, index=0),),
        video_index=0,
        coded_width=first.width,
        coded_height=first.height,
        rotation=0,
        mirrored=False,
        time_base=1 / fps,
        frame_count=len(times),
        first=0,
        last=int(times[-1]),
        duration=length,
        rate=fps,
        average_rate=None,
        guessed_rate=None,
        frame_step=1 if even and len(times) > 1 else None,
        variable_rate=not even,
        metadata={},
        problems=(*first.problems, *sequence.problems),
    )
    return info, times


_MAX_ATTEMPTS = 200
_PICTURE_BRANDS = ("avif", "heic", "heix", "mif1")


class _Packets:
    """One pass over all packets: frame times, ends of streams, oddities, and the first picture of each video stream."""

    def __init__(self, container: InputContainer, videos: list[VideoStream], guard: Guard) -> None:
        self.counts = {stream.index: 0 for stream in container.streams}
        self.times = {stream.index: array("q") for stream in videos}
        self.firsts: dict[int, Fraction] = {}
        self.ends: dict[int, Fraction] = {}
        self.pictures: dict[int, av.VideoFrame] = {}
        self.last_duration: dict[int, tuple[int, int]] = {}
        self.backward, self.untimed, self.corrupt = (dict.fromkeys(self.times, 0) for _ in range(3))
        self.error = ""
        last_dts: dict[int, int] = {}
        attempts = dict.fromkeys(self.times, 0)
        try:
            for packet in container.demux():
                guard.packet()
                index = packet.stream_index
                if index in self.times and index not in self.pictures and attempts[index] < _MAX_ATTEMPTS:
                    attempts[index] += 1
                    self._decode_first(packet)
                if not packet.size:
                    continue
                self.counts[index] = self.counts.get(index, 0) + 1
                time = packet.pts if packet.pts is not None else packet.dts
                if time is not None and packet.time_base:
                    end = (time + (packet.duration or 0)) * packet.time_base
                    self.firsts[index] = min(time * packet.time_base, self.firsts.get(index, time * packet.time_base))
                    self.ends[index] = max(end, self.ends.get(index, end))
                if index not in self.times or packet.is_discard or _hidden(packet):
                    continue
                self.corrupt[index] += packet.is_corrupt
                if packet.dts is not None:
                    self.backward[index] += packet.dts < last_dts.get(index, packet.dts)
                    last_dts[index] = packet.dts
                if time is None:
                    self.untimed[index] += 1
                    time = self.times[index][-1] + 1 if self.times[index] else 0
                guard.frame()
                self.times[index].append(time)
                self.last_duration[index] = max(self.last_duration.get(index, (time, 0)), (time, packet.duration or 0))
        except (av.FFmpegError, OSError) as error:
            self.error = error.strerror or str(error)

    def _decode_first(self, packet: av.Packet) -> None:
        if packet.stream.type != "video":  # a damaged file may number its streams anew on the way
            return
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if short_of_memory(error):
                raise MemoryError from None  # while a packet of an impossible size is damage
            return
        if frames:
            self.pictures[packet.stream_index] = frames[0]


def _video_streams(container: InputContainer, path: Path, limits: Limits) -> list[VideoStream]:
    """The streams that may be the clip: no cover art, a known codec, a sane size."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        cut = find_cut(path)
        if cut or not container.streams:
            raise truncated(path, f"no video stream is left; {cut.found if cut else 'it opens without any stream'}")
        audio = bool(container.streams.audio)
        raise InputError(
            "KP-INPUT-AUDIO-ONLY" if audio else "KP-INPUT-NO-VIDEO",
            "the file holds sound but no video" if audio else "the file holds no video stream",
            where=shown(path),
            fix="give a file with a video stream",
        )
    if len(videos) > 1 and container.metadata.get("major_brand") in _PICTURE_BRANDS:
        raise InputError(
            "KP-INPUT-CODEC",
            f"the picture is stored in {len(videos)} parts (tiles, transparency), which are not put together here",
            where=shown(path),
            fix="convert it to PNG or JPEG first",
        )
    known = [s for s in videos if s.codec_context is not None]
    if not known:
        raise InputError(
            "KP-INPUT-CODEC",
            "there is no decoder for the video stream",
            where=shown(path),
            fix="convert the clip to H.264 first",
        )
    if not any(s.codec_context.width for s in known) and container.format.name in ("mpeg", "mpegvideo"):
        raise not_video(path, "unknown data")  # these demuxers accept nearly anything
    for stream in known:
        context = stream.codec_context
        if context.width * context.height > limits.pixels:
            raise InputError(
                "KP-INPUT-TOO-LARGE",
                f"frames of {context.width}x{context.height}; at most {limits.pixels} pixels are decoded",
                where=shown(path),
                fix=f"scale the clip down first, or {limits.more('pixels')}",
            )
        context.thread_type = "SLICE"  # frame threads would hold back the first picture
    return known


def _describe(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    packets: _Packets,
    times: NDArray[np.int64],
    picture: av.VideoFrame,
) -> ClipInfo:
    index, base = stream.index, stream.time_base or Fraction(1, 1000)
    is_image = container.format.name.endswith("_pipe")
    steps = np.diff(times)
    frame_step = int(steps[0]) if len(steps) and steps[0] > 0 and (steps == steps[0]).all() else None
    rate = _rate(stream, times, frame_step, base)
    # FFmpeg's VP9 parser puts the mean in place of the durations that an MP4 has.
    last = 0 if _codec(stream) == "vp9" and "mp4" in container.format.name else packets.last_duration[index][1]
    tail = (last or _stated_tail(container, stream, times) or frame_step or 0) * base
    rotation, mirrored = orientation(picture)
    turned = rotation in (90, 270)
    ratio = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    color = color_tags(picture)
    tags = {key.lower(): value for key, value in container.metadata.items()}
    truncated = _truncation(path, container, stream, packets, len(times), 1 / rate)
    problems = [f"truncated: {truncated}"] if truncated else []
    problems += _timing_problems(packets, index, steps)
    if packets.error:
        problems.append(f"reading stopped: {packets.error}")
    if picture.interlaced_frame:
        problems.append("interlaced: the two fields of a frame show different moments")
    return ClipInfo(
        path=str(path),
        format=container.format.name,
        size_bytes=path.stat().st_size,
        is_image=is_image,
        streams=tuple(_stream_info(s, packets) for s in container.streams),
        video_index=index,
        codec=_codec(stream) or "unknown",
        width=picture.height if turned else picture.width,
        height=picture.width if turned else picture.height,
        coded_width=picture.width,
        coded_height=picture.height,
        sample_aspect_ratio=1 / ratio if turned else ratio,
        rotation=rotation,
        mirrored=mirrored,
        pixel_format=picture.format.name,
        bit_depth=max((c.bits for c in picture.format.components), default=8),
        alpha=codes_alpha(stream) or _may_be_transparent(picture, _codec(stream)),
        interlaced=picture.interlaced_frame,
        color=color,
        time_base=base,
        frame_count=1 if is_image else len(times),
        first=int(times[0]),
        last=int(times[-1]),
        duration=int(times[-1] - times[0]) * base + (tail or 1 / rate),
        rate=rate,
        average_rate=stream.average_rate,
        guessed_rate=stream.guessed_rate,
        frame_step=frame_step,
        variable_rate=_is_variable(times, base),
        chapters=len(container.chapters()),
        metadata=tags,
        truncated=truncated,
        problems=tuple(problems),
    )


def _rate(stream: VideoStream, times: NDArray[np.int64], frame_step: int | None, base: Fraction) -> Fraction:
    """Frames per second: exact where the steps are equal, else as the container states, else the mean."""
    if frame_step:
        return 1 / (frame_step * base)
    mean = Fraction(len(times) - 1, int(times[-1] - times[0])) / base if times[-1] > times[0] else Fraction(25)
    # Containers with coarse times (milliseconds) state 24000/1001 better than their own times do.
    for stated in (stream.average_rate, stream.guessed_rate):
        if stated and abs(stated - mean) * 100 <= mean:
            return stated
    return mean


def _stated_tail(container: InputContainer, stream: VideoStream, times: NDArray[np.int64]) -> int:
    """How long the last frame is shown by the header, in units of the time base; 0 where the header does not tell."""
    if stream.duration is not None:
        end = (stream.start_time or 0) + stream.duration
    elif container.duration is not None and len(container.streams) == 1:
        end = round(Fraction(container.duration, 1_000_000) / stream.time_base)
    else:
        return 0
    return max(0, int(end - times[-1]))


def _is_variable(times: NDArray[np.int64], base: Fraction) -> bool:
    if len(times) < 3 or times[0] == times[-1]:
        return False
    even = np.linspace(times[0], times[-1], len(times))
    return bool(np.abs(times - even).max() > max(1.0, float(Fraction(1, 1000) / base)))


def orientation(picture: av.VideoFrame) -> tuple[int, bool]:
    """Clockwise rotation in degrees and then mirroring, nearest to the picture's display matrix."""
    try:
        matrix = np.frombuffer(bytes(picture.side_data["DISPLAYMATRIX"]), np.int32).reshape(3, 3)[:2, :2]
    except KeyError:
        return 0, False
    except ValueError:  # PyAV does not know every type of side data; its rotation is counter-clockwise
        return round(-picture.rotation / 90) % 4 * 90, False
    (a, b), (c, d) = matrix.astype(float)  # x' = a x + c y, y' = b x + d y
    mirrored = a * d - b * c < 0
    if mirrored:
        a, c = -a, -c
    return round(float(np.degrees(np.arctan2(b - c, a + d))) / 90) % 4 * 90, bool(mirrored)


def _truncation(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    packets: _Packets,
    count: int,
    frame_time: Fraction,
) -> str:
    """What is missing compared with the header, as a phrase; empty if nothing is."""
    cut = find_cut(path)
    if cut and cut.lossy:
        return cut.found
    if "mp4" in container.format.name:
        packed = packets.counts[stream.index]
        return f"{packed} of {stream.frames} frames are there" if packed < stream.frames else ""
    end = max(packets.ends.values(), default=Fraction(0))
    if container.duration is None or "matroska" not in container.format.name:
        return cut.found if cut else ""
    promised = Fraction(container.duration, 1_000_000)
    # A file whose bytes are all there may still round its duration; one that is cut may have lost the index only.
    slack = frame_time / 2 if cut else max(3 * frame_time, Fraction(1, 2), promised / 50)
    if promised - end <= slack:
        return ""
    found = f"{float(end):.2f} of {float(promised):.2f} s ({count} frames) are there"
    return f"{found}; {cut.found}" if cut else found


def _timing_problems(packets: _Packets, index: int, steps: NDArray[np.int64]) -> Iterable[str]:
    counted = {
        "repeated timestamps": int((steps == 0).sum()),
        "backward timestamps": packets.backward[index],
        "packets without timestamp": packets.untimed[index],
        "damaged packets": packets.corrupt[index],
    }
    return (f"{count} {name}" for name, count in counted.items() if count)


def _hidden(packet: av.Packet) -> bool:
    """Whether a VP8 or VP9 packet only updates a reference and shows no frame, by the bits of its frame header."""
    codec = _codec(packet.stream)
    if codec == "vp8":
        return not memoryview(packet)[0] >> 4 & 1
    if codec == "vp9":
        data = memoryview(packet)
        if data[-1] & 0xE0 == 0xC0:  # a superframe, which ends with a shown frame
            return False
        bits = data[0] << (data[0] & 0x30 == 0x30)  # profile 3 has one more bit in front
        return not bits & 0x08 and not bits & 0x02  # neither show_existing_frame nor show_frame
    return False


def _codec(stream: Stream) -> str | None:
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else None


def codes_alpha(stream: VideoStream) -> bool:
    """Whether a VP8 or VP9 stream says that it carries transparency, which FFmpeg's own decoders drop."""
    return "1" in (stream.metadata.get("alpha_mode"), stream.metadata.get("ALPHA_MODE"))


def _may_be_transparent(picture: av.VideoFrame, codec: str | None) -> bool:
    """Whether the format has an alpha channel; palettes and GIF always have one, so there the first picture decides."""
    if codec == "gif" or picture.format.has_palette:
        return bool(picture.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)
    return has_alpha(picture.format)


def _is_default(stream: Stream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _stream_info(stream: Stream, packets: _Packets) -> StreamInfo:
    base = stream.time_base
    audio = stream.codec_context if stream.type == "audio" else None
    return StreamInfo(
        index=stream.index,
        kind=stream.type,
        codec=_codec(stream),
        packets=packets.counts.get(stream.index, 0),
        first=packets.firsts.get(stream.index),
        end=packets.ends.get(stream.index),
        start=stream.start_time * base if base and stream.start_time is not None else None,
        duration=stream.duration * base if base and stream.duration is not None else None,
        language=stream.language,
        title=stream.metadata.get("title"),
        default=_is_default(stream),
        cover_art=bool(stream.disposition & Disposition.attached_pic),
        sample_rate=audio.sample_rate if audio else None,
        channels=audio.channels if audio else None,
    )


def _jsonable(value: Any) -> Any:
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, dict):
        return {key: _jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_jsonable(entry) for entry in value]
    return value
