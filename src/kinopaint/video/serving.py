"""The other end of `helper`: a process that answers one request after the other.

Requests come on standard input and answers go to standard output, as `wire` writes them. The process ends when the one
that started it ends, leaves signals from the terminal to it, and leaves no core dump.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from queue import Queue
from typing import Any

import cv2

from kinopaint.errors import KinopaintError
from kinopaint.video import wire


class Answers:
    """What goes back; `said` is when something last did, on the clock of `time.monotonic`."""

    def __init__(self) -> None:
        # A library that prints must not print into the answers.
        self._stream = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        self.said = time.monotonic()

    def say(self, kind: str, **content: Any) -> None:
        wire.send(self._stream, {"kind": kind, **content})
        self.said = time.monotonic()


def serve(made: Callable[[Answers, Any], Any]) -> None:
    """Answer until there is nobody to answer to. `made(answers, settings)` has a method for each request, which ends
    with one answer: `result`, `end`, or a failure.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = Answers()
    session = made(answers, wire.receive(sys.stdin.buffer))
    _leave_no_core()
    requests: Queue[dict[str, Any]] = Queue()  # without a bound: only so the listener notices the end at once
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    answers.say("alive")
    while True:
        request = requests.get()
        try:
            getattr(session, request.pop("do"))(**request)
        except KinopaintError as error:
            answers.say("error", name=type(error).__name__, **error.as_dict())
        except MemoryError:
            answers.say("memory")
        except Exception as error:
            if isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem:
                answers.say("memory")
                continue
            answers.say("fault", what=f"{type(error).__name__}: {error}", trace=traceback.format_exc())


def _listen(requests: Queue[dict[str, Any]]) -> None:
    try:
        while True:
            requests.put(wire.receive(sys.stdin.buffer))
    except EOFError:
        os._exit(0)  # even from within a decoder that hangs


def _leave_no_core() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
