"""Pictures of one window as a lossless clip of its own: FFV1 in Matroska, 8-bit RGB, read as it was written."""

from __future__ import annotations

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from kinopaint.video.frame import Image

_CLOCK = Fraction(1, 1000)  # of Matroska; the segment's times mean nothing, the source has them


def encode_segment(pictures: NDArray[np.uint8]) -> bytes:
    """The content of a segment file. `pictures` is (frame, height, width, 3), sides of at least 16 pixels."""
    height, width = pictures.shape[1:3]
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("ffv1", options={"level": "3", "slices": "4", "slicecrc": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"  # the same bytes in another order
        stream.codec_context.time_base = _CLOCK
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = index, _CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_segment(data: bytes) -> Iterator[Image]:
    """The pictures of a segment, in order."""
    with av.open(io.BytesIO(data), format="matroska") as container:
        for frame in container.decode(video=0):
            picture: Image = frame.to_ndarray(format="rgb24")
            yield picture
