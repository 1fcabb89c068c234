"""Interlaced pictures to whole ones.

The rule: each frame marked as interlaced is replaced by its first field, completed by FFmpeg's bwdif (motion-adaptive,
w3fdif and cubic interpolation; the field order by the frame's own mark). The number of frames and their times stay;
frames that are not marked pass untouched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from fractions import Fraction
from typing import cast

import av
import av.filter

_SMALLEST = 16  # pixels a side; bwdif wants a few lines in each plane


def deinterlaced(pictures: Iterable[av.VideoFrame], time_base: Fraction) -> Generator[av.VideoFrame, None, None]:
    """The same pictures with the same times, without combs; those before the first interlaced one come as they are."""
    weaver: _Bwdif | None = None
    for picture in pictures:
        if weaver is None and not (picture.interlaced_frame and min(picture.width, picture.height) >= _SMALLEST):
            yield picture
            continue
        if weaver is None or not weaver.takes(picture):
            if weaver is not None:
                yield from weaver.rest()
            weaver = _Bwdif(picture, time_base)
        yield from weaver.push(picture)
    if weaver is not None:
        yield from weaver.rest()


class _Bwdif:
    """The filter for pictures of one size and format; it looks one picture ahead."""

    def __init__(self, like: av.VideoFrame, time_base: Fraction) -> None:
        self._kind = like.width, like.height, like.format.name
        graph = self._graph = av.filter.Graph()
        self._source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format.name, time_base=time_base
        )
        weave = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        self._sink = graph.add("buffersink")
        self._source.link_to(weave)
        weave.link_to(self._sink)
        graph.configure()
        self._pushed: deque[av.VideoFrame] = deque()

    def takes(self, picture: av.VideoFrame) -> bool:
        return self._kind == (picture.width, picture.height, picture.format.name)

    def push(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        self._pushed.append(picture)
        self._source.push(picture)
        return self._ready()

    def rest(self) -> Iterator[av.VideoFrame]:
        self._source.push(None)
        return self._ready()

    def _ready(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                done = cast("av.VideoFrame", self._sink.pull())
            except (av.BlockingIOError, av.EOFError):
                return
            given = self._pushed.popleft()
            done.pts, done.time_base = given.pts, given.time_base  # the filter counts in half ticks
            # Another format than those of bwdif is converted on the way, and its tags are lost there.
            done.colorspace, done.color_range = given.colorspace, given.color_range
            done.color_primaries, done.color_trc = given.color_primaries, given.color_trc
            yield done
