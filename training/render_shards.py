"""Render (photograph, medium) pairs ahead of training: `python -m training.render_shards --data ../shared/data`.

Resumable: a pair that is on disk is not rendered again. The order is fixed by the seed and goes through all
pictures once per round, so a run that is cut short still covers every medium and every photograph evenly.
"""

import argparse
import multiprocessing
import os
import time
import zlib
from pathlib import Path

import cv2
import numpy as np

from training.data import Picture, paintings, pictures
from training.renderings import render
from training.words import TRAINED

_paintings: dict[str, list[np.ndarray]] = {}


def slug(medium: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in medium).strip("-")


def start(data: Path) -> None:
    cv2.setNumThreads(1)
    _paintings.update(paintings(data))


def work(job: tuple[Picture, list[str], Path, int]) -> int:
    picture, media, out, seed = job
    missing = [m for m in media if not (out / slug(m) / f"{picture.name}.jpg").exists()]
    photo = out / "photo" / f"{picture.name}.jpg"
    if not missing and photo.exists():
        return 0
    image = picture.load()
    if not photo.exists():
        save(photo, image)
    for medium in missing:
        own = zlib.crc32(f"{seed}/{picture.name}/{medium}".encode())
        save(out / slug(medium) / f"{picture.name}.jpg", render(image, medium, own, _paintings))
    return len(missing)


def save(path: Path, image: np.ndarray) -> None:
    bgr = cv2.cvtColor((image * 255 + 0.5).astype(np.uint8), cv2.COLOR_RGB2BGR)
    ok, code = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])
    assert ok
    partial = path.with_suffix(".part")
    partial.write_bytes(code.tobytes())
    os.replace(partial, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/shards"))
    parser.add_argument("--rounds", type=int, default=4, help="media per picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--media", nargs="*", default=TRAINED, metavar="MEDIUM", help="only these")
    args = parser.parse_args()
    todo = pictures(args.data)
    rng = np.random.default_rng(args.seed)
    for medium in ["photo", *map(slug, args.media)]:
        (args.out / medium).mkdir(parents=True, exist_ok=True)
    started, done = time.time(), 0
    # OpenCV's threads do not survive a fork
    with multiprocessing.get_context("spawn").Pool(args.processes, start, (args.data,)) as pool:
        for round_ in range(args.rounds):
            order = rng.permutation(len(todo))
            shift = rng.permutation(len(todo))
            chosen = [args.media[int(shift[i] + 7 * round_) % len(args.media)] for i in range(len(todo))]
            jobs = [(todo[i], [chosen[i]], args.out, args.seed) for i in order]
            for count in pool.imap_unordered(work, jobs, chunksize=4):
                done += count
                if done % 100 == 0 and count:
                    print(f"round {round_} rendered {done} {time.time() - started:.0f} s", flush=True)
                if time.time() - started > 60 * args.minutes:
                    pool.terminate()
                    return


if __name__ == "__main__":
    main()
