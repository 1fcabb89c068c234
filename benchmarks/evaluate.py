"""Time and memory of `kinopaint evaluate` on a 720p pair, at several lengths, each in a process of its own.

    python benchmarks/evaluate.py [--seconds 2.5 10] [--size 1280x720] [--limit 90] [--growth 1.05]

The source is the demo's camera move, the result its blurred copy with flicker. Prints wall and processor seconds and
the peak resident size of the evaluation and of its largest child; ends with 1 if the longest clip takes more than
`--limit` seconds of wall time, or more than `--growth` times the memory of the shortest.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from kinopaint import demo
from kinopaint.video import parse_size

RATE = 30
_MEASURED = """
import json, resource, sys, time
from kinopaint.evaluation import evaluate
begin = time.monotonic()
report = evaluate(sys.argv[1], sys.argv[2], prompt="a watercolor painting")
wall = time.monotonic() - begin
own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
processor = sum(use.ru_utime + use.ru_stime for use in (own, children))
print(json.dumps([report.frames, wall, processor, own.ru_maxrss, children.ru_maxrss, report.sizes["flow"]]))
"""


def write_pair(folder: Path, seconds: float, size: tuple[int, int]) -> tuple[Path, Path]:
    source, result = folder / f"source-{seconds}.mp4", folder / f"result-{seconds}.mp4"
    count = round(seconds * RATE)
    with av.open(str(source), "w") as first, av.open(str(result), "w") as second:
        streams = [container.add_stream("libx264", rate=Fraction(RATE)) for container in (first, second)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index, picture in enumerate(demo.render("coffee", frames=count, size=size)):
            changed = cv2.convertScaleAbs(cv2.GaussianBlur(picture, (0, 0), 1.5), beta=6 * (index % 2))
            for container, stream, image in ((first, streams[0], picture), (second, streams[1], changed)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        for container, stream in ((first, streams[0]), (second, streams[1])):
            container.mux(stream.encode())
    return source, result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", nargs="+", type=float, default=[2.5, 10])
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--limit", type=float, default=90, help="wall seconds for the longest clip (default: 90)")
    parser.add_argument("--growth", type=float, default=1.05, help="of memory, longest over shortest (default: 1.05)")
    given = parser.parse_args()
    peaks, wall = [], 0.0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in sorted(given.seconds):
            pair = write_pair(Path(folder), seconds, parse_size(given.size, (0, 0)))
            words = [sys.executable, "-c", _MEASURED, *map(str, pair)]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            frames, wall, processor, own, decoder, size = json.loads(done.stdout.splitlines()[-1])
            peaks.append(own)
            print(
                f"{seconds:g} s: {frames} frames, flow at {size[0]}x{size[1]}: {wall:.1f} s wall, "
                f"{processor:.1f} s processor ({processor / frames:.3f} per frame), "
                f"peak {own / 1e3:.0f} MB + {decoder / 1e3:.0f} MB child",
                flush=True,
            )
    growth = peaks[-1] / peaks[0]
    print(f"memory of the longest is {growth:.3f} of the shortest")
    return int(wall > given.limit or growth > given.growth)


if __name__ == "__main__":
    sys.exit(main())
