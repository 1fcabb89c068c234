"""Which part of a clip a page shows: all of a short one, of a long one what lies around its worst frames."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONGEST = 60.0  # seconds that are shown at most
AROUND = 5.0  # seconds before and after a worst frame


@dataclass(frozen=True)
class Part:
    """The frames `first` to `last`, both included, counted from 0."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1


def choose_parts(times: Sequence[float], worst: Iterable[int], longest: float = LONGEST) -> list[Part]:
    """Disjoint parts in order, together at most about `longest` seconds, of a clip whose frames are at `times` (s).

    A clip that is no longer is one part. Else each frame of `worst`, the most important first, takes what lies around
    it while there is room; what room is left goes to the beginning.
    """
    count = len(times)
    if count < 2 or times[-1] - times[0] <= longest:
        return [Part(0, count - 1)] if count else []
    step = (times[-1] - times[0]) / (count - 1)
    room, reach = int(longest / step), round(AROUND / step)
    wanted: set[int] = set()
    for frame in worst:
        with_it = wanted | set(range(max(0, frame - reach), min(count, frame + reach + 1)))
        if len(with_it) <= room:
            wanted = with_it
    wanted.update([frame for frame in range(count) if frame not in wanted][: room - len(wanted)])
    parts: list[Part] = []
    for frame in sorted(wanted):
        if parts and frame == parts[-1].last + 1:
            parts[-1] = Part(parts[-1].first, frame)
        else:
            parts.append(Part(frame, frame))
    return parts
