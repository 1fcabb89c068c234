"""A process of our own for what libav does: whatever becomes of it there, here it is one clear error.

What is asked and answered goes through pipes, as `wire` writes it. The process starts in about 0.2 s, ends with the one
that started it, and is ended when nobody holds it any more, or when it shows no progress for too long.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, BinaryIO

from kinopaint import errors
from kinopaint.errors import InputError, InternalError, KinopaintError, OutputError, SettingsError
from kinopaint.video import wire

_START_SECONDS = 60.0  # for the process to start, on a busy machine
_WAITS = 20  # parts of the watchdog's time: a run that was stopped (Ctrl-Z) and goes on loses one of them
_PIPE = 2**20  # bytes
_KINDS: dict[str, type[KinopaintError]] = {
    kind.__name__: kind for kind in (InputError, SettingsError, OutputError, InternalError)
}


class Helper(ABC):
    """The process, as it is seen from here. `close` ends it.

    `start` is Python code that runs there; `settings` is the first thing that it is sent. It may go without any sign of
    progress for `seconds`.
    """

    def __init__(self, start: str, settings: Any, seconds: float, folder: str | None = None) -> None:
        self._seconds, self._started = seconds, False
        root = str(Path(errors.__file__).parents[1])
        paths = json.dumps([root, *(each for each in sys.path if each)])
        self._process = process = subprocess.Popen(
            [sys.executable, "-I", "-c", f"import json, sys; sys.path[:] = json.loads(sys.argv[1]); {start}", paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # Fewer reserved addresses, which count against the limit of memory.
            env={**os.environ, "MALLOC_ARENA_MAX": "2", "OPENBLAS_NUM_THREADS": "1"},
            cwd=folder,
            start_new_session=True,
            bufsize=0,
        )
        assert process.stdin
        assert process.stdout
        _widen(process.stdin)
        _widen(process.stdout)
        self._arrived: Queue[dict[str, Any]] = Queue(maxsize=1)
        self._leaving: Queue[Any] = Queue(maxsize=1)
        receiver = threading.Thread(target=_receive, args=(process.stdout, self._arrived), daemon=True)
        sender = threading.Thread(target=_send, args=(process.stdin, self._leaving), daemon=True)
        receiver.start()
        sender.start()
        self.close = weakref.finalize(self, _end, process, receiver, self._arrived, sender, self._leaving)
        self._send(settings)

    def ask(self, what: str, **details: Any) -> Any:
        """The one answer to a request."""
        self._send({"do": what, **details})
        return self._next()["value"]

    def _send(self, value: Any) -> None:
        """Hand over what is to be sent; waits for what was handed over before."""

        def handed_over(seconds: float) -> bool:
            with suppress(Full):
                self._leaving.put(value, timeout=seconds)
                return True
            return False

        self._watch(handed_over)

    def _next(self) -> dict[str, Any]:
        """The next message, signs of life left out. Raises what the process failed with, or by."""
        found: list[dict[str, Any]] = []

        def arrived(seconds: float) -> bool:
            with suppress(Empty):
                found.append(self._arrived.get(timeout=seconds))
            return bool(found)

        while True:
            self._watch(arrived)
            message = found.pop()
            self._started = True
            kind = message["kind"]
            if kind == "error":
                name = message["name"]
                raise _KINDS.get(name, InternalError)(
                    message["code"], message["what"], where=message["where"], fix=message["fix"]
                )
            if kind == "memory":
                raise self._out_of_memory()
            if kind == "fault":
                raise InternalError(
                    "KP-INTERNAL",
                    f"the process for it failed: {message['what']}",
                    where=self._where(),
                    fix="this is a fault of Kinopaint; run again with --debug and report what it prints",
                ) from RuntimeError(message["trace"])
            if kind == "ended":
                raise self._died(message["what"])
            if kind != "alive":
                return message

    def _watch(self, done: Any) -> None:
        """Wait until `done`, which waits for the given number of seconds, says so; at most as long as is allowed."""
        patience = self._seconds if self._started else max(_START_SECONDS, self._seconds)
        waits = 0
        while not done(patience / _WAITS):
            waits = 0 if self._progressed() else waits + 1
            if waits == _WAITS:
                self.close()
                raise self._hung(patience)

    def _died(self, found: str) -> KinopaintError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its end, or sent what is no message
            self.close()
            return self._crashed(f"sent rubbish ({found})")
        if code == -getattr(signal, "SIGKILL", 9):
            return self._crashed("was killed, most likely for lack of memory")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self._crashed(f"crashed ({name})")

    def _progressed(self) -> bool:
        """Whether there are other signs of progress than messages since this was last asked."""
        return False

    @abstractmethod
    def _where(self) -> str: ...

    @abstractmethod
    def _hung(self, seconds: float) -> KinopaintError: ...

    @abstractmethod
    def _crashed(self, how: str) -> KinopaintError:
        """`how` is the rest of a sentence that begins with what the process is."""

    @abstractmethod
    def _out_of_memory(self) -> KinopaintError: ...


def _receive(stream: BinaryIO, arrived: Queue[dict[str, Any]]) -> None:
    try:
        while True:
            arrived.put(wire.receive(stream))
    except Exception as error:  # the end, or anything that is no message
        arrived.put({"kind": "ended", "what": f"{type(error).__name__}: {error}"})


def _send(stream: BinaryIO, leaving: Queue[Any]) -> None:
    while (value := leaving.get()) is not None:
        with suppress(OSError):  # why it ended shows when the answer is read
            wire.send(stream, value)


def _end(
    process: subprocess.Popen[bytes],
    receiver: threading.Thread,
    arrived: Queue[dict[str, Any]],
    sender: threading.Thread,
    leaving: Queue[Any],
) -> None:
    process.kill()
    while receiver.is_alive():  # it may wait for room
        with suppress(Empty):
            arrived.get(timeout=0.01)
    leaving.put(None)
    sender.join()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()


def _widen(pipe: Any) -> None:
    """A wider pipe needs fewer turns for a picture; where there is no such thing, it works all the same."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
