"""Text subtitles from one format to another, by FFmpeg's own decoders and encoders: words, line breaks and emphasis.

Colours, fonts and places on the screen are kept only as far as the new format knows them.
"""

from __future__ import annotations

import av
from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle, SubtitleSet

TEXT = frozenset({"subrip", "ass", "ssa", "webvtt", "mov_text", "text"})


class SubtitleConverter:
    """Makes an output stream of `codec` for a text stream, and its packets from those of the source."""

    def __init__(self, source: SubtitleStream, output: OutputContainer, codec: str) -> None:
        self._decoder = source.codec_context
        self._decoder.open(strict=False)  # only then there is a header
        self.output: SubtitleStream = output.add_stream(codec)
        self.output.time_base = self.output.codec_context.time_base = source.time_base
        self.output.codec_context.subtitle_header = self._decoder.subtitle_header

    def convert(self, packet: av.Packet) -> av.Packet | None:
        """The packet in the new format with its own time; None for what holds no text."""
        try:
            decoded = self._decoder.decode2(packet)
        except av.FFmpegError:
            return None
        lines = [line.ass for line in decoded or () if isinstance(line, AssSubtitle)]
        if not lines:
            return None
        # The encoder takes the lines of one moment as one: fields end at the eighth comma, the rest is text.
        text = b"\\N".join([lines[0], *(line.split(b",", 8)[-1] for line in lines[1:])])
        duration = packet.duration or 0
        made = self.output.codec_context.encode_subtitle(SubtitleSet.create(text, 0, duration, pts=packet.pts))
        made.pts = made.dts = packet.pts
        made.duration, made.time_base, made.stream = duration, packet.time_base, self.output
        return made
