"""Clips of a few small frames, made by the tests."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_clip(path: Path, frames: int = 6, size: tuple[int, int] = (48, 32), *, sound: bool = True) -> Path:
    """A moving gradient, 12 frames per second, H.264, with a tone."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(12), options={"crf": "10"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
        for index in range(frames):
            picture = np.stack([np.roll(x, index * 3, 1), y, np.full_like(x, 40 * index % 256)], -1).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        if audio is not None:
            tone = np.sin(np.arange(48000 * frames // 12) * 0.05)[None].astype(np.float32) * 0.1
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path
