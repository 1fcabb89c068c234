"""Decode in another process: what a broken or hostile file does to a decoder, it does not do to the run.

A crash, a hang or a lack of memory in there becomes an InputError that says at which frame. Frames come through a
pipe, whose other end decodes at most a frame or two ahead and then waits, so memory does not grow. `child` is the
other end; it starts in about 0.2 s.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from os import PathLike
from pathlib import Path
from queue import Empty, Queue
from typing import Any, BinaryIO

from kinopaint import errors
from kinopaint.errors import InputError, InternalError, KinopaintError, SettingsError
from kinopaint.video import wire
from kinopaint.video.clip import ClipReader
from kinopaint.video.frame import Frame
from kinopaint.video.limits import Limits
from kinopaint.video.opening import shown
from kinopaint.video.probe import ClipInfo
from kinopaint.video.timecode import Selection, Time, parse_rate

_START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kinopaint.video.child import main; main()"
_START_SECONDS = 60.0  # for the process to start, on a busy machine
_WAITS = 20  # parts of the watchdog's time: a run that was stopped (Ctrl-Z) and goes on loses one of them
_PIPE = 2**20  # bytes


def probe(path: str | PathLike[str], *, limits: Limits | None = None) -> ClipInfo:
    """Describe a clip or a single image.

    Damage and truncation are reported in `problems` and `truncated` as long as one frame can be decoded. Raises
    InputError for what cannot be a clip: the codes of `check_source` and `open_container`, and KP-INPUT-AUDIO-ONLY,
    -NO-VIDEO, -NO-FRAMES, -DAMAGED, -TOO-LARGE, -CODEC, -LIMIT, -CRASH, -HANG.
    """
    decoder = Decoder(path, limits or Limits())
    try:
        found: ClipInfo = decoder.ask("probe", path=os.fspath(path))
        return found
    finally:
        decoder.close()


def open_clip(
    path: str | PathLike[str],
    *,
    start: Time = None,
    end: Time = None,
    every: int = 1,
    fps: Time = None,
    allow_damaged: bool = False,
    limits: Limits | None = None,
) -> ClipReader:
    """Open a video, an image sequence or a single image for reading.

    `fps` is the rate of an image sequence, 25 if it is not given (see `kinopaint.video.sequence`).
    Keeps the frames with start <= time < end (seconds after the first frame, in any form of `parse_time`) and of
    these each `every`-th. A truncated or damaged file is refused, at once where its packets tell and otherwise at
    the place of the damage; with `allow_damaged` whatever can be decoded is read and the rest is in `warnings`.

    Raises SettingsError (KP-SETTING-TIME, -RANGE, -EVERY, -FPS) and InputError (the codes of `probe`,
    KP-INPUT-TRUNCATED).
    """
    Selection.of(start, end, every)
    rate = None if fps is None else parse_rate(fps)
    return IsolatedReader(
        path, limits or Limits(), start=start, end=end, every=every, fps=rate, allow_damaged=allow_damaged
    )


class IsolatedReader(ClipReader):
    """A reader whose pictures are decoded in another process. See ClipReader.

    Iterating raises InputError, besides what a FileReader raises: KP-INPUT-CRASH, -HANG, -LIMIT, -CHANGED.
    """

    def __init__(self, path: str | PathLike[str], limits: Limits, **options: Any) -> None:
        self._path, self._limits, self._options = os.fspath(path), limits, options
        self._folder = os.getcwd()  # a relative path means this one, whenever it is opened again
        self.allow_damaged = options["allow_damaged"]
        self._state: tuple[int, ...] | None = None
        self._running: list[Decoder] = []
        self._ready: Decoder | None = self._opened()

    def _opened(self) -> Decoder:
        decoder = Decoder(self._path, self._limits, self._folder)
        self._running.append(decoder)
        try:
            opened = decoder.ask("open", path=self._path, known=self._state, **self._options)
        except BaseException:
            decoder.close()
            raise
        state = opened.pop("state")
        if self._state is None:  # later it is the same clip again
            self._state = state
            for name, value in opened.items():
                setattr(self, name, value)
        return decoder

    def find_cuts(self) -> tuple[int, ...]:
        decoder, self._ready = self._ready or self._opened(), None
        try:
            found: tuple[int, ...] = decoder.ask("find_cuts")
        except BaseException:
            decoder.close()  # its answer must not be taken for another one's
            raise
        self._ready = decoder
        return found

    def __iter__(self) -> Iterator[Frame]:
        decoder, self._ready = self._ready or self._opened(), None
        try:
            for frame, warnings in decoder.frames():
                self.warnings += [text for text in warnings if text not in self.warnings]
                if frame is not None:
                    yield frame
        finally:
            decoder.close()
            self._running.remove(decoder)

    def close(self) -> None:
        for decoder in self._running:
            decoder.close()


class Decoder:
    """The decoding process of one file; ends with `close`, or when nobody holds it any more."""

    def __init__(self, path: str | PathLike[str], limits: Limits, folder: str | None = None) -> None:
        self._path, self._limits = os.fspath(path), limits
        self._started, self._count, self._last = False, 0, ""
        root = str(Path(errors.__file__).parents[1])
        self._process = process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps([root, *(each for each in sys.path if each)])],
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
        _widen(process.stdout)
        self._arrived: Queue[dict[str, Any]] = Queue(maxsize=1)
        receiver = threading.Thread(target=_receive, args=(process.stdout, self._arrived), daemon=True)
        receiver.start()
        self.close = weakref.finalize(self, _end, process, receiver, self._arrived)
        self._send(limits)

    def ask(self, what: str, **details: Any) -> Any:
        """The one answer to a request."""
        self._send({"do": what, **details})
        return self._next()["value"]

    def frames(self) -> Iterator[tuple[Frame | None, list[str]]]:
        """Frames of the clip that was opened, each with new warnings; at the end None with the last ones."""
        self._send({"do": "read"})
        while self.close.alive:
            message = self._next()
            if message["kind"] == "end":
                yield None, message["warnings"]
                return
            frame: Frame = message["frame"]
            self._count, self._last = self._count + 1, f"{float(frame.time):.3f} s"
            yield frame, message["warnings"]

    def _send(self, value: Any) -> None:
        assert self._process.stdin
        with suppress(BrokenPipeError):  # why it ended shows when the answer is read
            wire.send(self._process.stdin, value)

    def _next(self) -> dict[str, Any]:
        waits = 0
        while True:
            patience = self._limits.seconds if self._started else max(_START_SECONDS, self._limits.seconds)
            try:
                message = self._arrived.get(timeout=patience / _WAITS)
            except Empty:
                waits += 1
                if waits < _WAITS:
                    continue
                self.close()
                raise self._failed("KP-INPUT-HANG", f"decoding made no progress for {patience:g} s") from None
            waits, self._started = 0, True
            kind = message["kind"]
            if kind == "error":
                raise _error(**message)
            if kind == "memory":
                raise self._out_of_memory()
            if kind == "fault":
                raise InternalError(
                    "KP-INTERNAL",
                    f"the decoder failed: {message['what']}",
                    where=self._where(),
                    fix="this is a fault of Kinopaint; run again with --debug and report what it prints",
                ) from RuntimeError(message["trace"])
            if kind == "ended":
                raise self._died(message["what"])
            if kind != "alive":
                return message

    def _where(self) -> str:
        place = f", after frame {self._count - 1} ({self._last})" if self._count else ""
        return shown(self._path) + place

    def _failed(self, code: str, found: str) -> InputError:
        return InputError(code, found, where=self._where(), fix="the file is broken, or made to do this: make it anew")

    def _out_of_memory(self) -> InputError:
        return InputError(
            "KP-INPUT-LIMIT",
            f"decoding needs more than {self._limits.memory / 2**30:.1f} GiB of memory",
            where=self._where(),
            fix="make the pictures smaller first",
        )

    def _died(self, found: str) -> InputError:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed its end, or sent what is no message
            self.close()
            return self._failed("KP-INPUT-CRASH", f"the decoder sent rubbish ({found})")
        if code == -getattr(signal, "SIGKILL", 9):
            return self._failed("KP-INPUT-CRASH", "the decoder was killed, most likely for lack of memory")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return self._failed("KP-INPUT-CRASH", f"the decoder crashed ({name})")


def _receive(stream: BinaryIO, arrived: Queue[dict[str, Any]]) -> None:
    try:
        while True:
            arrived.put(wire.receive(stream))
    except Exception as error:  # the end, or anything that is no message
        arrived.put({"kind": "ended", "what": f"{type(error).__name__}: {error}"})


def _end(process: subprocess.Popen[bytes], receiver: threading.Thread, arrived: Queue[dict[str, Any]]) -> None:
    process.kill()
    while receiver.is_alive():  # it may wait for room
        with suppress(Empty):
            arrived.get(timeout=0.01)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe
        pipe.close()


def _error(name: str, code: str, what: str, where: str, fix: str, **_: Any) -> KinopaintError:
    kinds: dict[str, type[KinopaintError]] = {"InputError": InputError, "SettingsError": SettingsError}
    return kinds.get(name, InternalError)(code, what, where=where, fix=fix)


def _widen(pipe: Any) -> None:
    """A wider pipe needs fewer turns for a picture; where there is no such thing, it works all the same."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
