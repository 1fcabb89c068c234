"""The 256 colours of a GIF."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter

from kinopaint.video.sizing import Size


class Palette:
    """Reduces each frame to its own best 256 colours; with `alpha` one of them is transparent.

    GIF knows no half transparent pixels: from half on they are opaque.
    """

    def __init__(self, size: Size, *, alpha: bool) -> None:
        self.takes = "rgba" if alpha else "rgb24"
        graph = self._graph = av.filter.Graph()
        self._source = graph.add_buffer(width=size[0], height=size[1], format=self.takes, time_base=Fraction(1, 100))
        split = graph.add("split")
        choose = graph.add("palettegen", f"stats_mode=single:reserve_transparent={int(alpha)}")
        use = graph.add("paletteuse", "new=1:dither=sierra2_4a:alpha_threshold=128")
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
