"""The decoding process: opens clips for the process that started it, and sends what it finds. Imports no torch.

Requests come on standard input and answers go to standard output, as `wire` writes them. The process may write no
file, ends when the one that started it ends, and leaves signals from the terminal to it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from queue import Queue
from typing import Any, BinaryIO

import cv2

from kinopaint.errors import InputError, KinopaintError
from kinopaint.video import wire
from kinopaint.video.limits import Guard, Limits
from kinopaint.video.opening import shown
from kinopaint.video.probe import scan
from kinopaint.video.reader import FileReader, open_here

BEATS = 8  # signs of progress within the time that the watchdog waits


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A library that prints must not print into the answers.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    limits: Limits = wire.receive(sys.stdin.buffer)
    _confine(limits)
    requests: Queue[dict[str, Any]] = Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    session = _Session(answers, limits)
    session.say("alive")
    while True:
        request = requests.get()
        try:
            getattr(session, request.pop("do"))(**request)
        except KinopaintError as error:
            session.say("error", name=type(error).__name__, **error.as_dict())
        except MemoryError:
            session.say("memory")
        except Exception as error:
            if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
                session.say("memory")
                continue
            session.say("fault", what=f"{type(error).__name__}: {error}", trace=traceback.format_exc())


def _listen(requests: Queue[dict[str, Any]]) -> None:
    try:
        while True:
            requests.put(wire.receive(sys.stdin.buffer))
    except EOFError:
        os._exit(0)  # even from within a decoder that hangs


def _confine(limits: Limits) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # elsewhere the number counts what is shared, too, or nothing
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))


class _Session:
    """What can be asked for; each answer ends with `result`, `end`, or a failure."""

    def __init__(self, answers: BinaryIO, limits: Limits) -> None:
        self._answers = answers
        self._guard = Guard(limits, self._beat)
        self._pause = limits.seconds / BEATS
        self._said = time.monotonic()
        self._reader: FileReader | None = None
        self._state: tuple[int, ...] = ()

    def say(self, kind: str, **content: Any) -> None:
        wire.send(self._answers, {"kind": kind, **content})
        self._said = time.monotonic()

    def _beat(self) -> None:
        if time.monotonic() - self._said > self._pause:
            self.say("alive")

    def probe(self, path: str) -> None:
        self.say("result", value=scan(path, self._guard)[0])

    def open(self, path: str, known: tuple[int, ...] | None, **options: Any) -> None:
        """Open a clip for what follows. `known` is its state when it was opened before."""
        self._state = _state(path)
        if known not in (None, self._state):
            raise _changed(path)
        self._reader = reader = open_here(path, guard=self._guard, **options)
        names = ("info", "selection", "expected_frames", "span", "times", "skipped", "warnings")
        self.say("result", value={"state": self._state, **{name: getattr(reader, name) for name in names}})

    def find_cuts(self) -> None:
        assert self._reader is not None
        self.say("result", value=self._reader.find_cuts())

    def read(self) -> None:
        """Send the frames of the clip that was opened."""
        assert self._reader is not None
        told = len(self._reader.warnings)
        self._check_state()
        try:
            for frame in self._reader:
                self.say("frame", frame=frame, warnings=self._reader.warnings[told:])
                told = len(self._reader.warnings)
        except InputError:
            self._check_state()  # then this is the reason
            raise
        self._check_state()
        self.say("end", warnings=self._reader.warnings[told:])

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
