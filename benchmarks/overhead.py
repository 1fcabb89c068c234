"""What a run costs besides painting: reading, sizes, segments, journal, encoding, delivery, as a share of the whole.

    python benchmarks/overhead.py [--frames 16] [--size 512x256] [--steps N] [--limit 0.1]

Restyles a made-up clip with the embedded model and takes the time of the run from the first frame to the delivered
file, without loading; of that, painting is the time inside the method. Ends with 1 if the rest is over the limit.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory import make_clip  # beside this file

import kinopaint
from kinopaint import api
from kinopaint.methods import StyleAVideo
from kinopaint.work import WorkFolder


class Clock:
    """Seconds spent in wrapped functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, owner: Any, name: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*given: Any, **named: Any) -> Any:
            begin = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self.seconds += time.perf_counter() - begin

        setattr(owner, name, timed)


def main() -> int:
    parser = argparse.ArgumentParser(description="What a run costs besides painting.")
    parser.add_argument("--frames", type=int, default=16, help="of the clip (default: 16)")
    parser.add_argument("--size", default="512x256", help="pixels (default: 512x256)")
    parser.add_argument("--steps", type=int, help="denoising steps (default: what the model recommends)")
    parser.add_argument("--limit", type=float, default=0.1, help="largest allowed share (default: 0.1)")
    given = parser.parse_args()
    painting, keeping, delivering, moments = Clock(), Clock(), Clock(), {}
    for name in ("prepare", "stylize"):
        painting.wrap(StyleAVideo, name)
    keeping.wrap(WorkFolder, "keep")
    delivering.wrap(api, "_deliver")

    def listen(event: dict[str, Any]) -> None:
        moments.setdefault(event["event"], time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        clip, output = Path(folder) / "clip.mp4", Path(folder) / "out.mp4"
        width, height = map(int, given.size.split("x"))
        make_clip(clip, given.frames, (width, height))
        kinopaint.stylize(clip, "a watercolor painting", output, steps=given.steps, progress=listen)
    whole = moments["done"] - moments["start"]
    share = 1 - painting.seconds / whole
    print(f"{given.frames} frames of {given.size} in {whole:.2f} s, of which painting {painting.seconds:.2f} s")
    print(
        f"segments and journal {keeping.seconds:.2f} s, reading again, encoding and delivery {delivering.seconds:.2f} s"
    )
    print(f"share of everything but painting: {share:.1%} (limit {given.limit:.0%})")
    return int(share > given.limit)


if __name__ == "__main__":
    sys.exit(main())
