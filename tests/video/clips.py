"""Small clips made in code: each test says only what is special about its own."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
TICK = Fraction(1, 15360)
UNEVEN = [0, 512, 700, 1900, 2000, 5000]


def picture(index: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A smooth picture that tells its index by its brightness and its orientation by its corners."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 80, width), np.linspace(0, 40, height))
    grey = 40 + x + y + 12 * (index % 8)
    return np.stack([grey, 0.8 * grey + 20, 0.6 * grey + 40], -1).astype(np.uint8)


def make_clip(
    path: Path,
    *,
    times: Sequence[int] = (0, 512, 1024, 1536, 2048, 2560),
    time_base: Fraction = TICK,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    tags: Sequence[int] | None = (1, 1, 1, 1),
    planes: Sequence[float] | None = None,
    pictures: Sequence[np.ndarray] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    sample_aspect_ratio: Fraction | None = None,
    audio: Sequence[str] = (),
    audio_start: float = 0,
    metadata: dict[str, str] | None = None,
    chapters: list | None = None,
    last_duration: int = 512,
) -> Path:
    """Write a clip. `tags`: matrix, range, primaries, transfer (H.273); `planes`: constant Y, Cb, Cr of all frames;
    `pictures`: RGB to show instead of `picture(index)`."""
    with av.open(
        str(path), "w", container_options={"movie_timescale": "15360"} if path.suffix == ".mp4" else {}
    ) as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, options={"bf": "0", **(options or {})} if codec == "libx264" else options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        context = stream.codec_context
        if tags:
            context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        if sample_aspect_ratio:
            context.sample_aspect_ratio = sample_aspect_ratio
        if rotation or mirrored:
            stream.set_display_rotation(-rotation, hflip=mirrored)
        sounds = [out.add_stream(name, rate=48000) for name in audio]
        if chapters:
            out.set_chapters(chapters)
        out.start_encoding()
        for index, pts in enumerate(times):
            frame = (
                _constant(planes, pixel_format, size)
                if planes
                else _frame(pictures[index] if pictures else picture(index, size), pixel_format)
            )
            frame.pts, frame.time_base = pts, time_base
            if tags:
                frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
            out.mux(_timed(stream.encode(frame), times, last_duration))
        out.mux(_timed(stream.encode(None), times, last_duration))
        for number, sound in enumerate(sounds):
            _write_tone(out, sound, audio_start, 440 * (number + 1))
    return path


def read_packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    """Time in seconds and content of every packet of all streams of a kind."""
    with av.open(str(path)) as file:
        return [
            (packet.pts * packet.time_base, bytes(packet))
            for packet in file.demux()
            if packet.size and packet.stream.type == kind
        ]


def shared_file(name: str) -> Path:
    """A real clip from beside the checkout; skips the test where there is none."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"{name} is not beside this checkout (../shared/data)")
    return path


def _frame(image: np.ndarray, pixel_format: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format=pixel_format, dst_colorspace=1, src_color_range=2, dst_color_range=1
    )


def _constant(planes: Sequence[float], pixel_format: str, size: tuple[int, int]) -> av.VideoFrame:
    frame = av.VideoFrame(*size, pixel_format)
    kind = np.uint16 if frame.format.components[0].bits > 8 else np.uint8
    for plane, value in zip(frame.planes, planes, strict=True):
        plane.update(np.full(plane.buffer_size // kind().itemsize, round(value), kind).tobytes())
    return frame


def _timed(packets: list, times: Sequence[int], last_duration: int) -> list:
    lengths = {
        start: end - start for start, end in zip(times, [*times[1:], (times or [0])[-1] + last_duration], strict=False)
    }
    for packet in packets:
        packet.duration = lengths[packet.pts]
    return packets


def _write_tone(out: av.container.OutputContainer, stream: av.AudioStream, start: float, pitch: int) -> None:
    layout = stream.codec_context.layout.name
    channels = stream.codec_context.layout.nb_channels
    for block in range(20):
        moments = np.arange(1024) + 1024 * block
        wave = np.tile(np.sin(2 * np.pi * pitch * moments / 48000).astype(np.float32), (channels, 1))
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
        frame.pts = int(start * 48000) + 1024 * block
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))
