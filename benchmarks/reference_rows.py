"""What games each metric: the reference rows and the generator's own renderings, on real clips.

    python -m benchmarks.reference_rows CLIP… [--frames 24] [--short-side 180] [--media "watercolor painting" …]

Every clip's first frames are measured with `kinopaint.metrics.measure`: the source, the four videos of
`kinopaint.metrics.references`, and each frame rendered by itself with the procedural media that the embedded model is
trained on. Writes reference_rows.csv (one line per clip and row) beside this script and prints the table of
docs/metrics.md: the mean over the clips. Without an image encoder in the embedded model its scores stay empty.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from training.renderings import render

from kinopaint.metrics.catalogue import CATALOGUE
from kinopaint.metrics.measure import Moment, measure
from kinopaint.metrics.series import mean_of_defined
from kinopaint.models import mini_path
from kinopaint.models.clip import has_pair, load_clip
from kinopaint.video import open_clip, parse_size
from kinopaint.video.sizing import resize

MEDIA = ("watercolor painting", "oil painting", "pencil sketch", "mosaic of tiles")
PROMPT = "a watercolor painting"


def moments(path: Path, frames: int, short_side: int, media: list[str]) -> Iterator[Moment]:
    with open_clip(path) as clip:
        size = parse_size(f"short:{short_side}", (clip.info.width, clip.info.height))
        for frame in islice(clip, frames):
            picture = resize(frame.image, size)
            scaled = picture.astype(np.float32) / 255
            drawn = {medium: np.rint(render(scaled, medium, 0, {}) * 255).astype(np.uint8) for medium in media}
            yield Moment(float(frame.time), picture, drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--short-side", type=int, default=180)
    parser.add_argument("--media", nargs="*", default=list(MEDIA))
    given = parser.parse_args()
    encoder = load_clip("mini") if has_pair(mini_path()) else None
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for clip in given.clips:
        stream = moments(clip, given.frames, given.short_side, given.media)
        rows = measure(stream, references=True, encoder=encoder, prompt=PROMPT).rows
        found[clip.name] = {name: row.metrics for name, row in rows.items()}
        print(f"{clip.name} measured", flush=True)
    names = list(next(iter(found.values())))
    metrics = [name for name in CATALOGUE if any(rows[names[0]][name] is not None for rows in found.values())]
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", "row", *metrics])
        for clip_name, rows in found.items():
            for name, values in rows.items():
                table.writerow([clip_name, name, *(_number(values[metric]) for metric in metrics)])
    print("\n| metric | " + " | ".join(names) + " |\n|---|" + "---|" * len(names))
    for metric in metrics:
        means = [_number(mean_of_defined([rows[name][metric] for rows in found.values()])) for name in names]
        print(f"| `{metric}` | " + " | ".join(means) + " |")


def _number(value: float | None) -> str:
    return "" if value is None else "0" if abs(value) < 1e-6 else f"{value:.3g}"


if __name__ == "__main__":
    main()
