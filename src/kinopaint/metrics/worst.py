"""The frames to look at first: those that stand out from their shot.

A frame's score is its robust z-score, (x - median) / (1.4826 · median absolute deviation), within its shot. What counts
is how much the picture changes along the motion beyond the source's own change (flicker), how much sharpness it lost
(blur), and how much structure (unlike the source).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from kinopaint.metrics.series import Series

COUNT = 5
APART = 0.5  # seconds: of neighbours nearer than this only the worst is listed


@dataclass(frozen=True)
class WorstFrame:
    """`frame` counts from 0, `time` is in seconds, `value` is the metric's there, `why` says what to look for."""

    frame: int
    time: float
    score: float
    why: str
    metric: str
    value: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def worst_frames(
    result: Mapping[str, Series], source: Mapping[str, Series], times: Sequence[float], cuts: Collection[int] = ()
) -> tuple[WorstFrame, ...]:
    """At most five frames, the worst first. `cuts` are the first frames of later shots; they are not judged."""
    found = sorted(_scored(result, source, times, cuts), key=lambda worst: -worst.score)
    kept: list[WorstFrame] = []
    for worst in found:
        if len(kept) < COUNT and all(abs(worst.time - other.time) >= APART for other in kept):
            kept.append(worst)
    return tuple(kept)


def _scored(
    result: Mapping[str, Series], source: Mapping[str, Series], times: Sequence[float], cuts: Collection[int]
) -> Iterator[WorstFrame]:
    flicker = [
        None if ours is None or theirs is None else ours - theirs
        for ours, theirs in zip(result["e_warp_previous"], source["e_warp_previous"], strict=True)
    ]
    kinds = (
        ("e_warp_previous", "flicker", flicker),
        ("sharpness_ratio", "blur", _negative(result["sharpness_ratio"])),
        ("ssim", "unlike the source", _negative(result["ssim"])),
    )
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(times)}), len(times)]
    for begin, end in pairwise(edges):
        for metric, why, badness in kinds:
            for frame, score in _standing_out(badness, begin, end):
                value = result[metric][frame]
                if value is not None and frame not in cuts:
                    yield WorstFrame(frame, times[frame], score, why, metric, value)


def _standing_out(badness: Series, begin: int, end: int) -> Iterator[tuple[int, float]]:
    """Frames of a shot with a positive robust z-score."""
    values = [(frame, value) for frame in range(begin, end) if (value := badness[frame]) is not None]
    if len(values) < 3:
        return
    middle = _median([value for _, value in values])
    spread = 1.4826 * _median([abs(value - middle) for _, value in values])
    for frame, value in values:
        # Rounding of 8-bit pictures is no spread to measure by.
        if value > middle and (score := (value - middle) / max(spread, 1e-4)) > 1:
            yield frame, score


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else math.fsum(ordered[half - 1 : half + 1]) / 2


def _negative(values: Series) -> list[float | None]:
    return [None if value is None else -value for value in values]
