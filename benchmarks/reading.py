"""What reading costs: in this process, and from the decoding process.

    python benchmarks/reading.py CLIP [CLIP …]

Seconds of processor time, of both processes together, so that other work on the machine does not count; the ways take
turns. `waits` is wall time: how long a run that works on each frame for a while is held up per frame.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from kinopaint.video import ClipReader, open_clip
from kinopaint.video.reader import open_here

ROUNDS = 5
FRAMES = 100
WORK = 0.05  # seconds per frame


def processor() -> float:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measured(path: Path, opening: Callable[[Path], ClipReader], frames: int, work: float = 0.0) -> tuple[float, float]:
    """Seconds of processor time, and of waiting, for opening a clip and reading so many frames."""
    begin, waited = processor(), 0.0
    with opening(path) as reader:
        pictures = iter(reader)
        for _ in range(frames):
            asked = time.perf_counter()
            next(pictures, None)
            waited += time.perf_counter() - asked
            time.sleep(work)
    return processor() - begin, waited


def main() -> None:
    for path in map(Path, sys.argv[1:]):
        rounds = [
            [measured(path, opening, frames)[0] for opening in (open_here, open_clip) for frames in (1, 1 + FRAMES)]
            for _ in range(ROUNDS)
        ]
        start_here, all_here, start_there, all_there = (median(times) for times in zip(*rounds, strict=True))
        here, there = (all_here - start_here) / FRAMES, (all_there - start_there) / FRAMES
        waits = measured(path, open_clip, FRAMES, WORK)[1] / FRAMES
        print(
            f"{path.name}: the process starts in {start_there - start_here:.2f} s; "
            f"{1000 * here:.2f} ms per frame here, {1000 * there:.2f} ms there; "
            f"a run waits {1000 * waits:.2f} ms beside {1000 * WORK:.0f} ms of work"
        )


if __name__ == "__main__":
    main()
