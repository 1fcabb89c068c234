"""What is not painted: sound and subtitles, copied packet by packet with their own times, and chapters."""

from __future__ import annotations

import io
from collections.abc import Generator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer
from av.stream import Discard, Stream

from kinopaint.video.codecs import AUDIO_COPIED, AUDIO_ENCODER, SUBTITLE_ENCODER, SUBTITLES_COPIED
from kinopaint.video.delivery import OtherStreams, SoundPlan
from kinopaint.video.opening import check_source, open_container
from kinopaint.video.probe import ClipInfo, StreamInfo
from kinopaint.video.subtitles import TEXT, SubtitleConverter

_OVERLAP = Fraction(1, 20)  # seconds by which decoded sound may begin before the end of what came before it
Span = tuple[Fraction | None, Fraction | None]  # seconds in the source's times; None is open


@dataclass
class _Route:
    """Where one stream goes. Sound has an `encoder`, subtitles a `converter`, if their packets are not just copied.

    `first` and `end` are where the packets that were handed over begin and end, in seconds.
    """

    info: StreamInfo
    output: Stream
    encoder: Stream | None = None
    converter: SubtitleConverter | None = None
    packets: int = 0
    first: Fraction | None = None
    end: Fraction = Fraction(0)
    last_dts: int | None = None
    lost: list[Fraction] = field(default_factory=list)  # times of packets that could not be decoded or written

    def cover(self, start: Fraction, length: Fraction) -> None:
        self.first = start if self.first is None else min(self.first, start)
        self.end = max(self.end, start + length)


class Passthrough:
    """Reads the source a second time, beside the painted frames, and hands over packets up to a given time.

    Times in the result count from `origin`, a time of the source; `span` is in the source's times.
    What is re-encoded or left behind, and why, is added to `warnings`.
    """

    def __init__(
        self,
        source: ClipInfo,
        output: OutputContainer,
        muxer: str,
        *,
        audio: bool,
        span: Span,
        origin: Fraction,
        warnings: list[str],
    ) -> None:
        self.warnings = warnings
        self._output, self._span, self._origin, self._start = output, span, origin, source.start - origin
        self._path = Path(source.path)
        self._input = open_container(check_source(self._path))
        self._chapters = self._input.chapters()
        self._routes: dict[int, _Route] = {}
        for info in source.streams:
            if info.index == source.video_index or info.kind == "attachment":
                continue
            stream = self._input.streams[info.index]
            route = self._route(info, stream, output, muxer) if info.kind != "audio" or audio else None
            if route is not None:
                self._routes[info.index] = route
        for stream in self._input.streams:  # the demuxer then does not even read what nobody wants
            if stream.index not in self._routes:
                stream.discard = Discard.all
        # MP4 keeps the names of chapters in a data stream of their own, which comes without packets.
        lost = sum(s.kind == "attachment" or (s.kind == "data" and s.packets > 0) for s in source.streams)
        lost -= self._attach(output) if muxer == "matroska" else 0
        if lost:
            self.warnings.append(f"{lost} data or attachment streams are left behind")
        self._packets = self._demux()
        self._next: av.Packet | None = next(self._packets, None)
        self._moved = 0

    def handed_over(self) -> OtherStreams:
        """What the output must hold; complete after `finish`. Streams with nothing in the span do not count."""
        sound = tuple(
            SoundPlan(None if route.encoder else route.packets, route.first, route.end)
            for route in self._routes.values()
            if route.info.kind == "audio" and route.first is not None
        )
        texts = sum(route.info.kind == "subtitle" and route.packets > 0 for route in self._routes.values())
        return OtherStreams(sound, texts, len(self.chapters()))

    def advance(self, until: Fraction | None) -> None:
        """Write all packets before the time `until` (seconds from the origin), or all that are left."""
        while self._next is not None and (until is None or _time(self._next) <= until):
            self._write(self._next)
            self._next = next(self._packets, None)

    def finish(self) -> None:
        """Write the rest, and empty the encoders."""
        self.advance(None)
        for route in self._routes.values():
            if route.encoder is not None and route.first is not None:
                self._mux(route, route.encoder.encode(None), route.end)
        for index, route in self._routes.items():
            if route.lost:
                first, last = (float(time - self._start) for time in (min(route.lost), max(route.lost)))
                self.warnings.append(
                    f"{route.info.kind} stream {index}: {len(route.lost)} packets are damaged and left out, "
                    f"between {first:.2f} and {last:.2f} s"
                )
        if self._moved:
            self.warnings.append(f"{self._moved} packets of sound or subtitles had backward times and were moved")
        self.close()

    def chapters(self) -> list[Any]:
        """The source's chapters, as far as they lie in the span."""
        start, end = self._span
        kept = []
        for chapter in self._chapters:
            base = chapter["time_base"]
            first = chapter["start"] if start is None else max(chapter["start"], round(start / base))
            last = chapter["end"] if end is None else min(chapter["end"], round(end / base))
            if last > first:
                moved = round(self._origin / base)
                kept.append({**chapter, "start": first - moved, "end": last - moved})
        return kept

    def close(self) -> None:
        self._packets.close()
        self._input.close()

    def _route(self, info: StreamInfo, stream: Stream, output: OutputContainer, muxer: str) -> _Route | None:
        """Choose copy, re-encoding or nothing for one stream, and make the output stream."""
        what = f"{info.kind} stream {info.index} ({info.codec or 'unknown codec'})"
        allowed = {"audio": AUDIO_COPIED, "subtitle": SUBTITLES_COPIED}.get(info.kind)
        if allowed is None:
            if info.kind == "video":
                self.warnings.append(
                    f"{what} is left behind: {'cover art' if info.cover_art else 'only one is painted'}"
                )
            return None
        if info.codec is None or muxer not in allowed:
            reason = "its codec is unknown" if info.codec is None else f"{muxer} files hold none"
            self.warnings.append(f"{what} is left behind: {reason}")
            return None
        codecs = allowed[muxer]
        target = encoder = converter = None
        if (codecs is None or info.codec in codecs) and self._can_hold(muxer, stream):
            target = output.add_stream_from_template(stream)
            target.time_base = stream.time_base
        if target is None and info.kind == "audio":
            name, kind = AUDIO_ENCODER[muxer], _encodable(AUDIO_ENCODER[muxer], stream)
            if kind is None:
                self.warnings.append(f"{what} is left behind, because neither {muxer} nor {name} takes it; .mkv may")
                return None
            target = encoder = output.add_stream(name, rate=kind[0], layout=kind[1])
            self.warnings.append(f"{what} is re-encoded as {name}, because {muxer} cannot hold it")
        if target is None and info.codec in TEXT:
            converter = SubtitleConverter(stream, output, SUBTITLE_ENCODER[muxer])
            target = converter.output
            self.warnings.append(
                f"{what} is converted to {SUBTITLE_ENCODER[muxer]}, because {muxer} cannot hold it; "
                "colours, fonts and places may be lost"
            )
        if target is None:
            self.warnings.append(f"{what} is left behind, because {muxer} cannot hold it; .mkv may")
            return None
        target.metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title", "handler_name")})
        target.disposition = stream.disposition
        return _Route(info, target, encoder, converter)

    def _can_hold(self, muxer: str, stream: Stream) -> bool:
        """Whether the container takes this stream, by a trial with its header and first packet."""
        try:
            with (
                open_container(check_source(self._path)) as source,
                av.open(io.BytesIO(), "w", format=muxer) as trial,
            ):
                target = trial.add_stream_from_template(stream)  # ValueError: FFmpeg knows no tag for the codec there
                trial.start_encoding()
                for packet in source.demux(source.streams[stream.index]):
                    if packet.size and packet.pts is not None and packet.dts is not None:
                        packet.stream = target
                        trial.mux_one(packet)
                        break
        except (av.FFmpegError, ValueError):
            return False
        return True

    def _attach(self, output: OutputContainer) -> int:
        """Hand over attached files, which are the fonts of subtitles; returns their number."""
        attached = [stream for stream in self._input.streams.attachments if stream.data]
        for stream in attached:
            output.add_attachment(stream.name or "font", stream.mimetype or "application/octet-stream", stream.data)
        return len(attached)

    def _demux(self) -> Generator[av.Packet, None, None]:
        """Packets of the kept streams that overlap the span, in the file's order."""
        start, end = self._span
        if not self._routes:
            return
        time: Fraction | None = None
        try:
            for packet in self._input.demux([self._input.streams[index] for index in self._routes]):
                if not packet.size or (packet.pts is None and packet.dts is None):
                    continue
                time = _time(packet)
                if end is not None and time >= end:
                    continue
                if start is not None and time + (packet.duration or 0) * packet.time_base <= start:
                    continue
                if self._origin:
                    moved = round(self._origin / packet.time_base)
                    packet.pts = None if packet.pts is None else packet.pts - moved
                    packet.dts = None if packet.dts is None else packet.dts - moved
                yield packet
        except (av.FFmpegError, OSError) as error:  # of the source, and the reader of the pictures judges that
            place = "" if time is None else f" after {float(time - self._origin - self._start):.2f} s"
            self.warnings.append(f"sound and subtitles end{place}: reading fails ({error.strerror})")

    def _write(self, packet: av.Packet) -> None:
        route = self._routes[packet.stream_index]
        if route.converter is not None:
            if (converted := route.converter.convert(packet)) and self._mux(route, [converted], _time(packet)):
                route.packets += 1
            return
        if route.encoder is not None:
            self._encode(route, route.encoder, packet)
            return
        packet.dts = packet.pts if packet.dts is None else packet.dts
        if route.last_dts is not None and packet.dts <= route.last_dts:
            packet.dts, self._moved = route.last_dts + 1, self._moved + 1
        packet.pts = packet.dts if packet.pts is None else max(packet.pts, packet.dts)
        if not packet.duration and route.last_dts is not None and route.info.kind == "audio":
            packet.duration = packet.dts - route.last_dts  # Matroska may not say, and MP4 would drop the last packet
        route.last_dts, time, length = packet.dts, _time(packet), (packet.duration or 0) * packet.time_base
        packet.stream = route.output
        if self._mux(route, [packet], time):
            route.packets += 1
            route.cover(time, length)

    def _encode(self, route: _Route, encoder: Stream, packet: av.Packet) -> None:
        time = _time(packet)
        try:
            coded = []
            for frame in packet.decode():
                start = time if frame.pts is None else frame.pts * frame.time_base
                if route.first is not None and start < route.end - _OVERLAP:
                    start, self._moved = route.end, self._moved + 1
                    frame.pts = round(start / frame.time_base)
                coded += encoder.encode(frame)
                route.cover(start, Fraction(frame.samples, frame.sample_rate))
        except (av.FFmpegError, ValueError):  # ValueError: the sound changes its kind on the way
            route.lost.append(time)
            return
        self._mux(route, coded, time)

    def _mux(self, route: _Route, packets: list[av.Packet], time: Fraction) -> bool:
        """Whether all of them could be written; what the container does not take is damaged."""
        try:
            self._output.mux(packets)
        except av.FFmpegError as error:
            if isinstance(error, OSError):
                raise
            route.lost.append(time)
            return False
        return True


def _encodable(encoder: str, stream: Stream) -> tuple[int, str] | None:
    """The rate and layout with which this sound can be encoded: its own if possible; None if there are none."""
    own, layout = stream.codec_context.sample_rate, _layout(stream)
    for rate in (own, 48000):
        trial = av.CodecContext.create(encoder, "w")
        try:
            trial.sample_rate, trial.layout, trial.time_base = rate, layout, Fraction(1, rate or 1)
            trial.format = (trial.codec.audio_formats or [av.AudioFormat("s16")])[0]
            trial.open()
            return rate, layout
        except (av.FFmpegError, ValueError, OverflowError):
            continue
    return None


def _layout(stream: Stream) -> str:
    """The channel layout; where the source gives only a number of channels, the usual one for it."""
    layout = stream.codec_context.layout
    usual = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
    return usual.get(layout.nb_channels, layout.name) if layout.name.endswith("channels") else layout.name


def _time(packet: av.Packet) -> Fraction:
    return (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
