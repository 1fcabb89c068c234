"""How much a file may make us do, whatever it claims to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kinopaint.errors import InputError


@dataclass(frozen=True)
class Limits:
    """`pixels` of one picture, `frames` of a stream, `packets` of all streams in one pass over the file, `memory` in
    bytes of the decoding process (enforced where the system can: Linux), and `seconds` without any progress.
    """

    pixels: int = 2**26  # 8192 x 8192
    frames: int = 2**22  # 19 hours at 60 per second
    packets: int = 2**25
    memory: int = 8 * 2**30
    seconds: float = 60.0


class Guard:
    """Counts one pass over a file. `beat` is called for each packet: a sign of progress for a watchdog."""

    def __init__(self, limits: Limits | None = None, beat: Callable[[], None] = lambda: None) -> None:
        self.limits = limits or Limits()
        self._beat = beat

    def start(self, where: str) -> None:
        """A new pass begins, over the file `where`."""
        self._where = where
        self._packets = self._frames = 0

    def packet(self) -> None:
        """Raises InputError (KP-INPUT-LIMIT)."""
        self._beat()
        self._packets += 1
        if self._packets > self.limits.packets:
            raise self._too_much(f"it has more than {self.limits.packets} packets")

    def frame(self) -> None:
        """Raises InputError (KP-INPUT-LIMIT)."""
        self._frames += 1
        if self._frames > self.limits.frames:
            raise self._too_much(f"it has more than {self.limits.frames} frames")

    def _too_much(self, found: str) -> InputError:
        what = f"the file is beyond what is read: {found}"
        return InputError("KP-INPUT-LIMIT", what, where=self._where, fix="cut it into shorter parts")
