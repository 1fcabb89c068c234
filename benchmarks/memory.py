"""Peak memory of restyling a long clip against a short one, each in a process of its own.

    python benchmarks/memory.py [--frames 60 600] [--limit 1.05]
    python benchmarks/memory.py --fake --frames 60 6000

Prints the peak resident size of the process that paints (decoding and encoding have their own) and the ratio of longest
to shortest; ends with 1 if the ratio is over the limit. Small frames and one step: what could grow with the length is
the same.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ROOT = Path(__file__).resolve().parents[1]  # tests.fakes lies there


def make_clip(path: Path, frames: int, size: tuple[int, int]) -> None:
    """A clip of so many different frames: a soft pattern that drifts."""
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24), options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            waves = [127 + 100 * np.sin(x / 11 + index / 9 + c) * np.cos(y / (7 + c) - index / 17) for c in range(3)]
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.stack(waves, -1).astype(np.uint8), format="rgb24"))
            )
        container.mux(stream.encode())


def peak(clip: Path, output: Path, steps: int, model: str, *, fake: bool) -> float:
    """MB of peak resident memory of one `kinopaint stylize`."""
    report = "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    register = "from tests.fakes import register; register(); " if fake else ""
    run = "from kinopaint.cli import main; code = main(sys.argv[1:])"
    script = f"import sys, resource; {register}{run}; {report}; sys.exit(code)"
    words = [
        "stylize",
        str(clip),
        "an oil painting",
        "-o",
        str(output),
        "--model",
        model,
        *(["--method", "trail", "--windows", "8"] if fake else ["--steps", str(steps)]),
        "--overwrite",
        "--progress",
        "none",
    ]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    size = float(done.stdout.split()[-1])
    return size / 1e6 if sys.platform == "darwin" else size * 1024 / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description="Peak memory of long against short clips.")
    parser.add_argument("--frames", type=int, nargs="+", default=[60, 600], help="lengths (default: 60 600)")
    parser.add_argument("--size", default="128x64", help="pixels (default: 128x64)")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps (default: 1)")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument(
        "--fake", action="store_true", help="paint by a method without a network, for thousands of frames"
    )
    parser.add_argument("--limit", type=float, default=1.05, help="largest allowed ratio (default: 1.05)")
    given = parser.parse_args()
    width, height = map(int, given.size.split("x"))
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for frames in given.frames:
            clip = Path(folder) / f"{frames}.mp4"
            make_clip(clip, frames, (width, height))
            found[frames] = peak(
                clip, Path(folder) / f"{frames}-painted.mp4", given.steps, given.model, fake=given.fake
            )
            print(f"{frames:>6} frames: peak {found[frames]:.0f} MB", flush=True)
    ratio = found[max(found)] / found[min(found)]
    print(f"ratio of {max(found)} to {min(found)} frames: {ratio:.3f} (limit {given.limit})")
    return int(ratio > given.limit)


if __name__ == "__main__":
    sys.exit(main())
