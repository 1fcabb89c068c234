"""Encode in another process: whatever becomes of an encoder there, the run says so and keeps what is painted.

Sound and subtitles are copied there too, so that nothing of the source's is opened by libav in the run itself.
`sink_child` is the other end. It is at most a picture or two behind.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from kinopaint.errors import OutputError
from kinopaint.video.delivery import OtherStreams
from kinopaint.video.frame import Frame, Image
from kinopaint.video.helper import Helper
from kinopaint.video.limits import Limits
from kinopaint.video.opening import shown
from kinopaint.video.target import Target

_START = "from kinopaint.video.sink_child import main; main()"
_AHEAD = 1  # pictures that are sent before the last one is taken


class IsolatedSink(Helper):
    """A `VideoSink` in a process of its own. `final` is the result's name, for errors.

    Everything raises, besides what VideoSink does as `write_errors` has it, OutputError: KP-OUTPUT-CRASH, -HANG.
    """

    def __init__(self, target: Target, final: Path) -> None:
        self._final, self._partial, self._warnings = final, target.path, target.warnings
        self._sent = self._taken = 0
        self._grown: tuple[int, int] | None = None
        limits = Limits.chosen()
        super().__init__(_START, limits, limits.writing)
        try:
            opened = self.ask("open", target=target, final=final)
        except BaseException:
            self.close()
            raise
        self.color: str | None = opened["color"]
        self.tick = Fraction(0)
        self._warnings += opened["warnings"]

    def write(self, image: Image, frame: Frame) -> None:
        self._send({"do": "write", "frame": replace(frame, image=image.copy(), alpha=None)})
        self._sent += 1
        while self._sent - self._taken > _AHEAD:
            self._next()
            self._taken += 1

    def finish(self) -> OtherStreams:
        self._send({"do": "finish"})
        while (message := self._next())["kind"] == "taken":
            pass
        finished = message["value"]
        self.tick = finished["tick"]
        self._warnings += finished["warnings"]
        self.close()
        others: OtherStreams = finished["others"]
        return others

    def _progressed(self) -> bool:
        """Whether the file grew, or its index is being moved to its beginning."""
        try:
            found = self._partial.stat()
        except OSError:
            return False
        before, self._grown = self._grown, (found.st_size, found.st_mtime_ns)
        return before not in (None, self._grown)

    def _where(self) -> str:
        return shown(self._final) + (f", after frame {self._taken - 1}" if self._taken else "")

    def _hung(self, seconds: float) -> OutputError:
        more = f"; if it is only slow: {Limits.chosen().more('writing')}"
        return self._failed("KP-OUTPUT-HANG", f"encoding made no progress for {seconds:g} s", more)

    def _crashed(self, how: str) -> OutputError:
        return self._failed("KP-OUTPUT-CRASH", f"the encoder {how}")

    def _failed(self, code: str, found: str, more: str = "") -> OutputError:
        return OutputError(
            code,
            found,
            where=self._where(),
            fix="run the same command again, it goes on with what is painted; if that happens again, with another "
            f"--codec, or with --no-audio if the sound is at fault{more}",
        )

    def _out_of_memory(self) -> OutputError:
        return self._failed("KP-OUTPUT-CRASH", "the encoder ran out of memory")
