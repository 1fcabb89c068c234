"""Decode in another process: what a broken or hostile file does to a decoder, it does not do to the run.

A crash, a hang or a lack of memory in there becomes an InputError that says at which frame. Frames come through a
pipe, whose other end decodes at most a frame or two ahead and then waits, so memory does not grow. `child` is the
other end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinopaint.errors import InputError
from kinopaint.video.clip import ClipReader, Seen
from kinopaint.video.frame import Frame
from kinopaint.video.helper import Helper
from kinopaint.video.limits import Limits
from kinopaint.video.opening import shown
from kinopaint.video.probe import ClipInfo
from kinopaint.video.timecode import Selection, Time, parse_rate

_START = "from kinopaint.video.child import main; main()"


def probe(path: str | PathLike[str], *, limits: Limits | None = None) -> ClipInfo:
    """Describe a clip or a single image.

    Damage and truncation are reported in `problems` and `truncated` as long as one frame can be decoded. Raises
    InputError for what cannot be a clip: the codes of `check_source` and `open_container`, and KP-INPUT-AUDIO-ONLY,
    -NO-VIDEO, -NO-FRAMES, -DAMAGED, -TOO-LARGE, -CODEC, -LIMIT, -CRASH, -HANG.
    """
    return scan(path, limits=limits)[0]


def scan(path: str | PathLike[str], *, limits: Limits | None = None) -> tuple[ClipInfo, NDArray[np.int64]]:
    """What `probe` says, and the sorted times of all frames in units of the time base."""
    decoder = Decoder(path, limits or Limits.chosen())
    try:
        found: tuple[ClipInfo, NDArray[np.int64]] = decoder.ask("scan", path=os.fspath(path))
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
        path, limits or Limits.chosen(), start=start, end=end, every=every, fps=rate, allow_damaged=allow_damaged
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

    def find_cuts(self, seen: Seen | None = None) -> tuple[int, ...]:
        decoder, self._ready = self._ready or self._opened(), None
        try:
            found = decoder.find_cuts(seen or (lambda count: None))
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


class Decoder(Helper):
    """The decoding process of one file; ends with `close`, or when nobody holds it any more."""

    def __init__(self, path: str | PathLike[str], limits: Limits, folder: str | None = None) -> None:
        self._path, self._limits = os.fspath(path), limits
        self._count, self._last = 0, ""
        super().__init__(_START, limits, limits.seconds, folder)

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

    def find_cuts(self, seen: Seen) -> tuple[int, ...]:
        self._send({"do": "find_cuts"})
        while (message := self._next())["kind"] == "seen":
            seen(message["frames"])
        found: tuple[int, ...] = message["value"]
        return found

    def _where(self) -> str:
        place = f", after frame {self._count - 1} ({self._last})" if self._count else ""
        return shown(self._path) + place

    def _hung(self, seconds: float) -> InputError:
        return InputError(
            "KP-INPUT-HANG",
            f"decoding made no progress for {seconds:g} s",
            where=self._where(),
            fix=f"the file is broken, or the machine very busy: make it anew, or {self._limits.more('seconds')}",
        )

    def _crashed(self, how: str) -> InputError:
        return InputError(
            "KP-INPUT-CRASH",
            f"the decoder {how}",
            where=self._where(),
            fix="the file is broken, or made to do this: make it anew",
        )

    def _out_of_memory(self) -> InputError:
        return InputError(
            "KP-INPUT-LIMIT",
            f"decoding needs more than {self._limits.memory / 2**30:.1f} GiB of memory",
            where=self._where(),
            fix=f"make the pictures smaller first, or {self._limits.more('memory')}",
        )
