"""What every reader of a clip has, wherever it decodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from kinopaint.video.frame import Frame
from kinopaint.video.probe import ClipInfo
from kinopaint.video.timecode import Selection

Seen = Callable[[int], None]


class ClipReader(ABC):
    """Iterates over the kept frames; each new iteration starts again at the first one.

    `expected_frames` is what the packets promise, exact for an undamaged file; `span` the kept time range in the
    source's own times, in seconds. `warnings` grows while reading and is complete after the last frame. `times` are
    those of all frames in the range, whatever `every` keeps, in units of the clip's time base, and `skipped` how many
    frames of the file lie before it.
    """

    info: ClipInfo
    selection: Selection
    allow_damaged: bool
    warnings: list[str]
    expected_frames: int
    span: tuple[Fraction, Fraction]
    times: NDArray[np.int64]
    skipped: int

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """Yield the kept frames in order of time. Raises InputError (KP-INPUT-DAMAGED, -NO-FRAMES, -COLOR)."""

    @abstractmethod
    def find_cuts(self, seen: Seen | None = None) -> tuple[int, ...]:
        """Which of the frames in the range, whatever `every` keeps, begin a new shot: see `kinopaint.video.shots`.

        Counted from 0 and never 0. Decodes the whole range, and tells `seen` a few times per second how many frames are
        done; raises what iterating raises.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the file; iterations in progress end."""

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
