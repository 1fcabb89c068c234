"""A real clip from end to end: `fast` over 20 seconds, every other preset over 3 of them, and sheets to look at.

    python -m benchmarks.long_clip [--data ../shared/data] [--clip NAME --start S] [--work-size 384x160] [--out FOLDER]

About half an hour of one core; `--every 2` halves that. Prints the time of each run, and leaves OUT/PRESET.mp4,
OUT/PRESET.png and OUT/times.csv; what is there already is kept. A sheet has a column for each second: source, result,
and below them how each changes to its next frame, four times enlarged in contrast. A source that stands still and a
result that does not is flicker.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import kinopaint
from kinopaint.sheet import contact_sheet, write_picture
from kinopaint.video import open_clip

LONG, SHORT = 20.0, 3.0  # seconds
SHORT_PRESETS = ("exact", "balanced", "live", "paper", "paper-literal", "ip2p")
CONTRAST = 4  # of the differences
Picture = NDArray[np.uint8]


def change(one: Picture, other: Picture) -> Picture:
    """How far two frames are apart, CONTRAST times as bright."""
    return np.clip(CONTRAST * np.abs(one.astype(np.int16) - other), 0, 255).astype(np.uint8)


def columns(source: Iterator[tuple[float, Picture]], result: Iterator[Picture]) -> Iterator[list[tuple[Picture, str]]]:
    """At each full second since the first frame: source, result, and the change of both to the next frame."""
    pairs = (
        (at, cv2.resize(one, other.shape[1::-1], interpolation=cv2.INTER_AREA), other)
        for (at, one), other in zip(source, result, strict=True)
    )
    first, shown = None, 0
    for (at, one, other), (_, next_one, next_other) in itertools.pairwise(pairs):
        first = at if first is None else first
        if at - first >= shown - 1e-6:
            yield [
                (one, f"source, {at:.2f} s"),
                (other, "result"),
                (change(one, next_one), "source: to the next frame"),
                (change(other, next_other), "result: to the next frame"),
            ]
            shown += 1


def sheet(source: Path, result: Path, start: float, seconds: float, every: int) -> Picture:
    with open_clip(source, start=start, end=start + seconds, every=every) as before, open_clip(result) as after:
        found = columns(((float(f.time), f.image) for f in before), (f.image for f in after))
        return contact_sheet(list(zip(*found, strict=True)), cell=(200, 150))


def restyled(args: argparse.Namespace, source: Path, preset: str, seconds: float) -> dict[str, Any] | None:
    """Restyle a piece unless that is done, write its sheet; its times if it was restyled now."""
    output = args.out / f"{preset}.mp4"
    row = None
    if not output.exists():
        wall, used = time.monotonic(), os.times()
        result = kinopaint.stylize(
            source,
            args.prompt,
            output,
            preset=preset,
            start=args.start,
            end=args.start + seconds,
            every=args.every,
            size=args.work_size,
            work_size=args.work_size,
            model=args.model,
            progress=lambda event: None,
        )
        spent = sum(now - then for now, then in zip(os.times()[:4], used[:4], strict=True))
        row = {
            "preset": preset,
            "frames": result.frames,
            "size": args.work_size,
            "seconds": round(time.monotonic() - wall, 1),
            "processor_seconds": round(spent, 1),
            "processor_seconds_per_frame": round(spent / result.frames, 3),
        }
    write_picture(args.out / f"{preset}.png", sheet(source, output, args.start, seconds, args.every))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Restyle a real clip with every preset, and make sheets of it.")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with videos/")
    parser.add_argument("--clip", default="tears_of_steel_battle.webm", help="a file there (default: %(default)s)")
    parser.add_argument("--start", type=float, default=10.0, help="seconds (default: 10)")
    parser.add_argument("--long", type=float, default=LONG, help="seconds with `fast` (default: 20)")
    parser.add_argument("--short", type=float, default=SHORT, help="seconds with the others (default: 3)")
    parser.add_argument("--every", type=int, default=1, help="every how many frames (default: 1)")
    parser.add_argument("--work-size", default="384x160", help="pixels, of the results too (default: 384x160)")
    parser.add_argument("--presets", nargs="*", default=["fast", *SHORT_PRESETS], help="(default: all)")
    parser.add_argument("--prompt", default="a watercolor painting", help="(default: a watercolor painting)")
    parser.add_argument("--model", default="mini", help="mini or a folder (default: mini)")
    parser.add_argument("--out", type=Path, default=Path("out/long_clip"), help="folder of results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    table = args.out / "times.csv"
    for preset in args.presets:
        source = args.data / "videos" / args.clip
        row = restyled(args, source, preset, args.long if preset == "fast" else args.short)
        if row is None:
            continue
        print(*(f"{name} {value}" for name, value in row.items()), flush=True)
        new = not table.exists()
        with table.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if new:
                writer.writeheader()
            writer.writerow(row)


if __name__ == "__main__":
    main()
