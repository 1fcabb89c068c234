"""Where the time of a run goes: network, gradient, decoder, flow, video, the rest.

    python benchmarks/shares.py [--frames 8] [--size 512x256] [--preset balanced] [--set clip_strength=0.02 …]

Restyles a clip made in code, with `kinopaint.stylize` as it is, and measures the processor's time inside each part;
time inside a part that another one calls counts for the inner one only. Decoding runs in a process of its own, whose
time is added to the video's share. One thread, so that processor time adds up.
"""

from __future__ import annotations

import argparse
import functools
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import torch

import kinopaint
from kinopaint import api, demo, work
from kinopaint.flow import DisFlow
from kinopaint.methods import style_a_video
from kinopaint.models.autoencoder import DiffusersAutoencoder
from kinopaint.models.diffusers_unet import DiffusersBackbone
from kinopaint.video.writer import ClipWriter


class Shares:
    """Processor seconds by part; the innermost part that runs is charged."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack = ["Python and the rest"]
        self._since = time.process_time()

    def _charge(self) -> None:
        now = time.process_time()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Charge calls of an attribute to `part`."""
        setattr(owner, name, self.timed(getattr(owner, name), part))

    def timed(self, inner: Callable[..., Any], part: str) -> Callable[..., Any]:

        @functools.wraps(inner)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._charge()
            self._stack.append(part)
            try:
                return inner(*args, **kwargs)
            finally:
                self._charge()
                self._stack.pop()

        return call

    def begin(self) -> None:
        self._charge()
        self.seconds.clear()

    def end(self) -> dict[str, float]:
        self._charge()
        return dict(self.seconds)


def make_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for picture in demo.render(frames=frames, size=size):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a run goes.")
    parser.add_argument("--frames", type=int, default=8, help="frames of the clip (default: 8)")
    parser.add_argument("--size", default="512x256", help="pixels (default: 512x256)")
    parser.add_argument("--preset", default="balanced", help="a profile (default: balanced)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the method")
    given = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, given.size.split("x"))
    fields = dict(pair.split("=", 1) for pair in given.set)

    shares = Shares()
    shares.watch(DiffusersBackbone, "predict", "network")
    shares.watch(DiffusersAutoencoder, "encode", "autoencoder, encoding")
    shares.watch(DiffusersAutoencoder, "decode", "autoencoder, decoding")
    made = style_a_video.gradient_of
    style_a_video.gradient_of = lambda *args, **kwargs: shares.timed(made(*args, **kwargs), "gradient")  # type: ignore
    shares.watch(DisFlow, "estimate", "flow")
    shares.watch(work, "encode_segment", "video: journal")
    shares.watch(work, "decode_segment", "video: journal")
    shares.watch(ClipWriter, "write", "video: writing")
    shares.watch(ClipWriter, "finish", "video: writing")
    shares.watch(api, "load_model", "loading the model, planning memory")
    shares.watch(api, "footprint", "loading the model, planning memory")

    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        make_clip(clip, given.frames, (width, height))
        children = os.times().children_user + os.times().children_system
        shares.begin()
        kinopaint.stylize(
            clip,
            "a watercolor painting",
            Path(folder) / "out.mp4",
            preset=given.preset,
            progress=print_nothing,
            **fields,
        )
        found = shares.end()
        found["video: reading"] = os.times().children_user + os.times().children_system - children
    total = sum(found.values())
    print(f"{given.size}, {given.frames} frames, {given.preset} {fields or ''}: {total:.1f} s of one processor")
    print("| part | seconds | share |\n| --- | --- | --- |")
    for part, seconds in sorted(found.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds:.2f} | {seconds / total:.1%} |")


def print_nothing(event: dict[str, Any]) -> None:
    del event


if __name__ == "__main__":
    main()
