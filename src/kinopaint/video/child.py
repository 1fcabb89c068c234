"""The decoding process: opens clips for the process that started it, and sends what it finds. Imports no torch.

It may write no file.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from kinopaint.errors import InputError
from kinopaint.video.limits import Guard, Limits
from kinopaint.video.opening import shown
from kinopaint.video.probe import scan
from kinopaint.video.reader import FileReader, open_here
from kinopaint.video.serving import Answers, serve

BEATS = 8  # signs of progress within the time that the watchdog waits


def main() -> None:
    serve(_Session)


def _confine(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere the number counts what is shared, too, or nothing
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))


class _Session:
    """What can be asked for; each answer ends with `result`, `end`, or a failure."""

    def __init__(self, answers: Answers, limits: Limits) -> None:
        _confine(limits)
        self._answers = answers
        self._guard = Guard(limits, self._beat)
        self._pause = limits.seconds / BEATS
        self._reader: FileReader | None = None
        self._state: tuple[int, ...] = ()

    def _beat(self) -> None:
        if time.monotonic() - self._answers.said > self._pause:
            self._answers.say("alive")

    def scan(self, path: str) -> None:
        self._answers.say("result", value=scan(path, self._guard))

    def open(self, path: str, known: tuple[int, ...] | None, **options: Any) -> None:
        """Open a clip for what follows. `known` is its state when it was opened before."""
        self._state = _state(path)
        if known not in (None, self._state):
            raise _changed(path)
        self._reader = reader = open_here(path, guard=self._guard, **options)
        names = ("info", "selection", "expected_frames", "span", "times", "skipped", "warnings")
        self._answers.say("result", value={"state": self._state, **{name: getattr(reader, name) for name in names}})

    def find_cuts(self) -> None:
        assert self._reader is not None
        found = self._reader.find_cuts(lambda count: self._answers.say("seen", frames=count))
        self._answers.say("result", value=found)

    def read(self) -> None:
        """Send the frames of the clip that was opened."""
        assert self._reader is not None
        told = len(self._reader.warnings)
        self._check_state()
        try:
            for frame in self._reader:
                self._answers.say("frame", frame=frame, warnings=self._reader.warnings[told:])
                told = len(self._reader.warnings)
        except InputError:
            self._check_state()  # then this is the reason
            raise
        self._check_state()
        self._answers.say("end", warnings=self._reader.warnings[told:])

    def _check_state(self) -> None:
        """Raises InputError (KP-INPUT-CHANGED) if the file is no longer the one that was opened."""
        assert self._reader is not None
        if _state(self._reader.info.path) != self._state:
            raise _changed(self._reader.info.path)


def _changed(path: str) -> InputError:
    return InputError(
        "KP-INPUT-CHANGED",
        "the file changed while it was read",
        where=shown(path),
        fix="wait until it is complete, then run again",
    )


def _state(path: str) -> tuple[int, ...]:
    """What tells that a file is another one, or not finished; nothing for what is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


if __name__ == "__main__":
    main()
