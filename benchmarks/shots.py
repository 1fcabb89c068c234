"""Scene cuts of real clips: precision and recall, alone and joined, and time per frame.

    python benchmarks/shots.py ../shared/data/videos

The thresholds of kinopaint.video.shots were chosen on these very clips. Where PySceneDetect is installed (pip install
--no-deps scenedetect click platformdirs tqdm), its detectors see the same pictures.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinopaint.video.probe import scan
from kinopaint.video.reader import FileReader, open_here
from kinopaint.video.shots import find_cuts

# All cuts of the clips that have any, each looked at.
KNOWN = {
    "big_buck_bunny_0_30.webm": (283, 376, 551),
    "nasa_13013_two_streams.mp4": (202,),
    "street_bikes.mp4": (30, 76, 137, 187, 242),
    "tears_of_steel_battle.webm": (
        *(52, 122, 158, 221, 309, 715, 788, 872, 901, 987, 1127, 1157, 1203, 1234, 1246, 1284, 1345, 1378, 1430, 1472),
        *(1525, 1571, 1618, 1650, 1689),
    ),
}  # fmt: skip
JOINS, PARTS = 12, 25  # sequences, and clips in each

Pictures = NDArray[np.uint8]
Detector = Callable[[Pictures, float], Iterable[int]]


def reduced(path: Path) -> Pictures:
    with open_here(path, allow_damaged=True) as reader:
        assert isinstance(reader, FileReader)
        return np.stack(list(reader._reduced()))


def joined(clips: list[Pictures], rng: np.random.Generator) -> tuple[Pictures, list[int]]:
    """Pieces of 8 to 60 frames, no two neighbours from one clip, and where they meet."""
    pieces: list[Pictures] = []
    before = -1
    for _ in range(PARTS):
        which = int(rng.choice([place for place in range(len(clips)) if place != before]))
        length = min(int(rng.integers(8, 60)), len(clips[which]))
        start = int(rng.integers(len(clips[which]) - length + 1))
        pieces.append(clips[which][start : start + length])
        before = which
    return np.concatenate(pieces), np.cumsum([len(piece) for piece in pieces])[:-1].tolist()


def others() -> dict[str, Detector]:
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector, ContentDetector
    except ImportError:
        return {}

    def using(kind: type) -> Detector:
        def detect(pictures: Pictures, rate: float) -> Iterable[int]:
            detector, found = kind(min_scene_len=5), []
            for index, picture in enumerate(pictures):
                found += detector.process_frame(FrameTimecode(index, rate), picture[..., ::-1].copy())
            return [each.frame_num for each in found + detector.post_process(FrameTimecode(len(pictures), rate))]

        return detect

    return {"PySceneDetect content": using(ContentDetector), "PySceneDetect adaptive": using(AdaptiveDetector)}


def main() -> None:
    paths = sorted(path for path in Path(sys.argv[1]).iterdir() if path.is_file())
    clips = {path.name: (reduced(path), float(scan(path)[0].rate)) for path in paths}
    rng = np.random.default_rng(0)
    plain = [pictures for name, (pictures, _) in clips.items() if name not in KNOWN]
    joins = [joined(plain, rng) for _ in range(JOINS)]
    for label, detect in {"kinopaint": find_cuts, **others()}.items():
        begin = time.perf_counter()
        alone = [(set(KNOWN.get(name, ())), set(detect(*clip))) for name, clip in clips.items()]
        spent = (time.perf_counter() - begin) / sum(len(pictures) for pictures, _ in clips.values())
        together = [(set(edges), set(detect(pictures, 25.0))) for pictures, edges in joins]
        for what, pairs in (("clips", alone), ("joins", together)):
            right, wrong, missed = (
                sum(len(each) for each in sets)
                for sets in zip(*((known & found, found - known, known - found) for known, found in pairs), strict=True)
            )
            precision, recall = right / max(1, right + wrong), right / (right + missed)
            print(
                f"{label:24} {what}: {right} found, {wrong} that are none, {missed} missed; "
                f"precision {precision:.3f}, recall {recall:.3f}; {1000 * spent:.2f} ms per frame"
            )


if __name__ == "__main__":
    main()
