"""Lay moods over pictures that are rendered already: `python -m training.mood_shards --data ../shared/data`.

Writes `runs/shards/<mood>--on--<medium or photo>/<picture>.jpg`. Every mood gets `--photos` photographs and every pair
of medium and mood that is trained gets `--pairs` renderings (`words.trained_pairs`); held-out pictures are left out.
Resumable: which pictures are graded depends on their names alone, and what is on disk is not made again. Grading
takes about 10 ms, so one process does it all in a few minutes; run it again when renderings have been added.
"""

import argparse
import zlib
from pathlib import Path

import cv2
import numpy as np

from training.data import pictures
from training.render_shards import save, slug
from training.renderings.moods import apply_mood
from training.words import MOODS, trained_pairs


def mood_folder(mood: str, medium: str | None) -> str:
    """Name of the shard of a mood on a medium, or on the photograph."""
    return f"{slug(mood)}--on--{slug(medium) if medium else 'photo'}"


def chosen(files: list[Path], folder: str, count: int) -> list[Path]:
    """`count` of `files`, drawn by a hash of their names: another run over the same files draws the same."""
    return sorted(files, key=lambda file: zlib.crc32(f"{folder}/{file.stem}".encode()))[:count]


def grade(file: Path, mood: str, medium: str | None, photo: Path, out: Path) -> bool:
    """Write `file` in `mood` to `out`; False if it is there already."""
    if out.exists():
        return False
    seed = zlib.crc32(f"{mood}/{file.stem}".encode())
    save(out, apply_mood(_read(file), mood, seed, source=_read(photo), medium=medium))
    return True


def _read(file: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shards", type=Path, default=Path("runs/shards"))
    parser.add_argument("--photos", type=int, default=100, help="photographs per mood")
    parser.add_argument("--pairs", type=int, default=10, help="renderings per trained pair of medium and mood")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    held_out = {p.name for p in pictures(args.data) if p.held_out}
    jobs = [(mood, None, args.photos) for mood in MOODS]
    jobs += [(mood, medium, args.pairs) for medium, mood in trained_pairs()]
    made = 0
    for mood, medium, count in jobs:
        files = (args.shards / (slug(medium) if medium else "photo")).glob("*.jpg")
        folder = args.shards / mood_folder(mood, medium)
        folder.mkdir(parents=True, exist_ok=True)
        for file in chosen([f for f in files if f.stem not in held_out], folder.name, count):
            made += grade(file, mood, medium, args.shards / "photo" / file.name, folder / file.name)
    print(f"{made} pictures graded, {len(jobs)} shards", flush=True)


if __name__ == "__main__":
    main()
