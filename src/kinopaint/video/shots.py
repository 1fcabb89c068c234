"""Scene cuts: where a frame does not continue the one before.

Two frames are compared at 128x72 by `distance`: what optical flow cannot explain, plus how the colours differ. A frame
begins a shot if that is large, stands out from the frames around (so a fast pan, an explosion or noise is no cut), and
if none of the frames shortly before resembles one of those shortly after (so a flash is no cut). A fade or a dissolve
changes little from frame to frame and is no cut: what is carried from frame to frame passes through it. Shots of less
than SPAN are not told from flashes. Memory holds some twenty small pictures, whatever the clip's length.

This is our own because it is short and because the known library, PySceneDetect (BSD), needs opencv-python, which
cannot be installed beside the opencv-python-headless used here, compares frames without following their motion, and
takes flashes for cuts: on the clips of ../shared/data its detectors find 26 and 32 of 34 cuts and name 5 and 12 places
that are none; this finds 34 and names none (benchmarks/shots.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from kinopaint.video.frame import Image

REDUCED = WIDTH, HEIGHT = 128, 72  # pixels
SPAN = 0.2  # seconds before and after that a cut is judged by
LEAST = 0.45  # distance from which a frame may begin a shot, found on real clips
ABOVE = 2.5  # and how many times the mean of the frames around it must be
ALIKE = 0.38  # distance up to which frames show the same scene
FLAT = 36.0  # variance, in squared grey levels, up to which a picture is hardly more than noise
COMPARED = 5  # frames on each side, at most, that are looked at for a flash


class Small(NamedTuple):
    """What is kept of a picture."""

    grey: NDArray[np.uint8]  # (HEIGHT, WIDTH)
    colors: NDArray[np.float32]  # shares of 8 x 8 x 8 colours, sum 1


def find_cuts(pictures: Iterable[Image], rate: float) -> Iterator[int]:
    """Yield the numbers of the pictures that begin a new shot, rising, never 0; each up to SPAN seconds late.

    `pictures` are RGB of any size, at `rate` per second, and are drawn one by one.
    """
    around = max(2, min(12, round(rate * SPAN)))
    kept: deque[Small] = deque(maxlen=2 * around + 1)
    scores: deque[float] = deque(maxlen=2 * around + 1)  # of each kept picture against the one before
    number = -1
    for number, picture in enumerate(pictures):
        found = small(picture)
        scores.append(distance(kept[-1], found) if kept else 0.0)
        kept.append(found)
        if number >= around and _is_cut(kept, scores, len(kept) - 1 - around):
            yield number - around
    for left in range(min(around, number), 0, -1):  # the last ones, with less to look ahead
        if _is_cut(kept, scores, len(kept) - left):
            yield number + 1 - left


def _is_cut(kept: Sequence[Small], scores: Sequence[float], place: int) -> bool:
    others = [score for other, score in enumerate(scores) if other != place]
    if scores[place] < max(LEAST, ABOVE * float(np.mean(others))):
        return False
    pictures = list(kept)
    before, after = pictures[place - 1 :: -1], pictures[place:]
    return all(distance(a, b) > ALIKE for a, b in product(_some(before), _some(after)))


def _some(pictures: Sequence[Small]) -> Sequence[Small]:
    """At most COMPARED of them, the first included."""
    return pictures[:: -(-len(pictures) // COMPARED)]


def small(picture: Image) -> Small:
    reduced = cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    counts = cv2.calcHist([cv2.cvtColor(reduced, cv2.COLOR_RGB2YCrCb)], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3)
    return Small(cv2.cvtColor(reduced, cv2.COLOR_RGB2GRAY), counts.ravel() / counts.sum())


def distance(a: Small, b: Small) -> float:
    """0 for a picture and its continuation, about 1 for two that have nothing in common, at most 2.5.

    One minus the correlation of `b` with `a` moved along the flow between them, plus half the Hellinger distance
    (squared) of their colours. Brightness and contrast as a whole do not count in the first part.
    """
    flow = _flow().calc(b.grey, a.grey, None)  # type: ignore[call-overload]
    x, y = _grid()
    moved = cv2.remap(a.grey, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    one, other = moved - float(moved.mean()), b.grey - float(b.grey.mean())
    spread = np.sqrt((np.mean(one**2) + FLAT) * (np.mean(other**2) + FLAT))
    structure = 1 - float((np.mean(one * other) + FLAT) / spread)
    return structure + 0.5 * (1 - float(np.sqrt(a.colors * b.colors).sum()))


@cache
def _flow() -> cv2.DISOpticalFlow:
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(1)
    return flow


@cache
def _grid() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    return x, y
