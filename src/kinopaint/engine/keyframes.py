"""Keyframes: which frames of a video are painted, and the windows in which they are.

The frames between two keyframes are not painted but made from these (`kinopaint.temporal.between`). The rules are those
of FRESCO (Yang, Zhou, Liu, Loy; CVPR 2024; arXiv:2403.12962), supplementary material and published settings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.blur import blurred
from kinopaint.types import Frame, Window, WindowPlan

_BLUR = 4 / 3  # pixels: a Gaussian of 9 taps; noise and grain are no change
_STRETCH = 4  # longest distances: keyframes are chosen among so many frames at a time
_LEAST = 3  # new keyframes that the last window has at least, if it can


def differences(frames: Sequence[Frame]) -> Float[Tensor, "frame"]:
    """How much each frame differs from the one before it: mean squared difference under a blur; 0 for the first."""
    smooth = [blurred(frame[None].float(), _BLUR) for frame in frames]
    changes = [(later - earlier).square().mean() for earlier, later in pairwise(smooth)]
    return torch.stack([torch.zeros_like(smooth[0].mean()), *changes])


def adaptive_keyframes(changes: Float[Tensor, "frame"], nearest: int, farthest: int) -> list[int]:
    """The first and the last frame, and those in between where most changes; any two at least `nearest` apart, but for
    the last two of a short clip.

    While a gap is longer than `farthest`, the frame with the largest change in the whole clip (not in that gap) is
    added; it ends when no frame is left that is far enough from all others, so gaps may be up to 2 · nearest - 1 long.
    """
    last = len(changes) - 1
    keys = sorted({0, last})
    left = changes.clone()

    def suppress(key: int) -> None:
        left[max(0, key - nearest + 1) : key + nearest] = -math.inf

    for key in keys:
        suppress(key)
    while max((after - before for before, after in pairwise(keys)), default=0) > farthest:
        key = int(left.argmax())
        if left[key] == -math.inf:
            break
        keys = sorted([*keys, key])
        suppress(key)
    return keys


def uniform_keyframes(count: int, stride: int) -> list[int]:
    """Every `stride`-th frame, and the last one."""
    return sorted({*range(0, count, stride), count - 1})


def grouped(count: int, size: int, first: int | None = None) -> list[int]:
    """How many new keyframes each window has: `first` (`size`) at first, then `size` - 2, as two anchors come along.

    A last window with less than three of them takes some from the one before it; where `size` is below 5, fewer must
    do.
    """
    groups = [min(count, size if first is None else first)]
    while (rest := count - sum(groups)) > 0:
        groups.append(min(rest, size - 2))
    lack = min(_LEAST, size - 2) - groups[-1]
    if len(groups) > 1 and lack > 0:
        groups[-2:] = [groups[-2] - lack, groups[-1] + lack]
    return groups


@dataclass(frozen=True)
class KeyframePlan(WindowPlan):
    """Windows of at most `size` keyframes, `nearest` to `farthest` frames apart, with all frames between them.

    Every window after a shot's first begins with two anchors: the shot's first frame, and the last keyframe of the
    window before. With `nearest` = `farthest` the keyframes lie at equal distances; 1: all frames are keyframes. They
    are chosen in stretches of 4 · `farthest` frames, so that any clip streams; shorter shots are seen whole.
    """

    size: int = 8
    overlap: int = 1
    anchors: tuple[int, ...] = (0,)
    nearest: int = 10
    farthest: int = 30

    written: ClassVar[str] = "SIZE, SIZE:DISTANCE or SIZE:NEAREST:FARTHEST, such as 8, 8:5 or 8:10:30"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.overlap, self.anchors) != (1, (0,)) or not 1 <= self.nearest <= self.farthest:
            self._refuse(f"keyframes from {self.nearest} to {self.farthest} frames apart")

    @classmethod
    def parse(cls, text: str) -> "KeyframePlan":
        """Read `SIZE[:DISTANCE]` or `SIZE:NEAREST:FARTHEST`; a missing distance is 1."""
        try:
            size, *distances = (int(part) for part in text.split(":"))
            if len(distances) > 2:
                raise ValueError
        except ValueError:
            cls._refuse(f"{text!r} is not a plan for keyframes")
        nearest = distances[0] if distances else 1
        return cls(size, nearest=nearest, farthest=distances[-1] if distances else 1)

    def __str__(self) -> str:
        if self.nearest == self.farthest:
            return f"{self.size}" if self.nearest == 1 else f"{self.size}:{self.nearest}"
        return f"{self.size}:{self.nearest}:{self.farthest}"

    def every_frame(self) -> "KeyframePlan":
        return KeyframePlan(self.size, nearest=1, farthest=1)

    def lengths(self, count: int, cuts: Sequence[int] = ()) -> list[int]:
        """How many keyframes each window holds, anchors included: an estimate, with the mean of the distances."""
        stride = (self.nearest + self.farthest + 1) // 2
        shots = pairwise((0, *(cut for cut in cuts if cut < count), count))
        return [
            new + 2 * (place > 0)
            for first, end in shots
            if end > first
            for place, new in enumerate(grouped(len(uniform_keyframes(end - first, stride)), self.size))
        ]

    def _cut_shot(self, source: Iterator[tuple[int, Tensor]], first: int, end: int | None) -> Iterator[Window]:
        """The windows of the frames from number `first` up to, not including, `end`."""
        held: list[tuple[int, Tensor]] = []  # drawn, and not yet part of a window
        keys: list[int] = []  # their keyframes, by number
        context: list[tuple[int, Tensor]] = []  # the anchors
        following, ended = first, False
        while True:
            room = self.size - len(context)
            while len(keys) < room + _LEAST and not ended:  # so many, so that the last window may take some
                earlier = [held[-1] if held else context[-1]] if held or context else []
                wanted = _STRETCH * self.farthest + (not earlier)
                drawn = list(islice(source, wanted if end is None else min(wanted, end - following)))
                ended, following = len(drawn) < wanted, following + len(drawn)
                if drawn:
                    chosen = self._chosen([frame for _, frame in earlier + drawn])
                    keys += [(earlier + drawn)[place][0] for place in chosen if place >= len(earlier)]
                    held += drawn
            if not keys:
                return
            new = grouped(len(keys), self.size, room)[0]
            last = keys[new - 1]
            fresh = [pair for pair in held if pair[0] <= last]
            numbers = tuple(number for number, _ in context + fresh)
            anchors = {first, last}
            yield Window(
                0,
                torch.stack([frame for _, frame in context + fresh]),
                numbers,
                slice(len(context), len(numbers)),
                tuple(place for place, number in enumerate(numbers) if number in anchors),
                opens_shot=not context,
                keys=(*range(len(context)), *(numbers.index(key) for key in keys[:new])),
            )
            context = [(context or fresh)[0], fresh[-1]]
            held, keys = held[len(fresh) :], keys[new:]

    def _chosen(self, frames: Sequence[Frame]) -> list[int]:
        if self.nearest == self.farthest:
            return uniform_keyframes(len(frames), self.nearest)
        return adaptive_keyframes(differences(frames), self.nearest, self.farthest)
