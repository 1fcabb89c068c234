"""The work folder of a run, OUTPUT.kinopaint: what is painted is kept there until the result is delivered.

    lock, holder.json          held while somebody works here; who that is
    journal.jsonl              first what is being made (the recipe), then a line for each finished window
    000000.mkv, …              the window's pictures, lossless, at the padded work size
    000000.safetensors, …      what the next window needs of it, for chained methods; the last two are kept
    .kinopaint-….partial.mp4   the result while it is encoded

A window counts when its line stands in the journal, and the line is written when segment and carry are on the disk. The
result is encoded from the segments in one pass after the last window, in an uninterrupted run as in a resumed one; so
both give the same frames. Before the result gets its name, its fingerprint goes to the journal: a run that is killed
after that recognises its own output. The journal is deleted after everything that it names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kinopaint.errors import InputError, OutputError
from kinopaint.journal import Entry, Journal
from kinopaint.recipe import differences, fingerprint
from kinopaint.video.frame import Image
from kinopaint.video.opening import shown
from kinopaint.video.place import sync_folder, write_errors
from kinopaint.video.segments import decode_segment, encode_segment

FORMAT = 1  # of the journal and the files that it names; a change makes older work folders unusable
LONGEST_NAME = 255  # bytes, on the usual file systems
_JOURNAL = "journal.jsonl"


def work_folder(output: Path) -> Path:
    """Where the work on `output` lies: beside it, under its name and `.kinopaint`; a name too long is cut short."""
    name, ending = os.fsencode(output.name), b".kinopaint"
    if len(name + ending) > LONGEST_NAME:
        digest = hashlib.sha256(name).hexdigest()[:16].encode()
        cut = name[: LONGEST_NAME - len(digest + ending) - 1].decode(errors="ignore").encode()
        name = cut + b"-" + digest
    return Path(os.path.abspath(output)).with_name(os.fsdecode(name + ending))


def frames_kept(output: Path) -> int:
    """How many finished frames the work folder of `output` holds, as far as its journal can be read."""
    try:
        entries = Journal(work_folder(output) / _JOURNAL).entries
    except OSError:
        return 0
    return sum(entry["frames"] for entry in entries if entry["kind"] == "window")


class WorkFolder:
    """The work on one output, held by one process at a time; a context manager.

    Entering takes the lock, and that of a dead process too; it raises OutputError (KP-OUTPUT-BUSY) that names who holds
    it. Leaving removes the folder if nothing in it is worth keeping. `notes` are sentences about what was found.
    """

    def __init__(self, output: Path) -> None:
        self.output, self.path = Path(os.path.abspath(output)), work_folder(output)
        self.notes: list[str] = []
        self._lock = FileLock(self.path / "lock", timeout=0)
        self._windows: list[Entry] = []
        self._size = (0, 0)

    def __enter__(self) -> WorkFolder:
        with self._errors():
            self._take()
            self.journal = Journal(self.path / _JOURNAL)
            for left in self.path.glob(".kinopaint-*.partial*"):
                _remove(left)
        self._windows = [entry for entry in self.journal.entries if entry["kind"] == "window"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._windows:
            self.discard()
        self._lock.release()

    # What is there --------------------------------------------------------------------------------------------------

    @property
    def windows(self) -> int:
        """How many windows are finished; the first `windows` of the clip."""
        return len(self._windows)

    @property
    def frames(self) -> int:
        """How many frames they have."""
        return sum(entry["frames"] for entry in self._windows)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """What the work here was begun with; None if there is none."""
        return next((entry["recipe"] for entry in self.journal.entries if entry["kind"] == "start"), None)

    @property
    def painted(self) -> bool:
        """Whether these are all windows of the clip."""
        return any(entry["kind"] == "painted" for entry in self.journal.entries)

    @property
    def fallbacks(self) -> list[dict[str, Any]]:
        """What had to be changed on the way, for the recipe: from which frame on, and to what."""
        found, first = [], 0
        for entry in self._windows:
            if entry["fallback"]:
                found.append({"frame": first, "step": entry["fallback"]})
            first += entry["frames"]
        return found

    def delivered(self) -> Entry | None:
        """The journal's entry for the result, if that stands under its name, unchanged."""
        for entry in reversed(self.journal.entries):
            if entry["kind"] == "delivery":
                try:
                    return entry if fingerprint(self.output) == entry["fingerprint"] else None
                except (OSError, InputError):  # nothing there, or something else
                    return None
        return None

    def carry(self) -> bytes | None:
        """What the last finished window left for the next one."""
        if not self._windows or not self._windows[-1]["carry"]:
            return None
        return (self.path / f"{self.windows - 1:06d}.safetensors").read_bytes()

    def pictures(self) -> Iterator[Image]:
        """All finished pictures in order, a segment at a time."""
        for index, entry in enumerate(self._windows):
            data = _checked(self.path / f"{index:06d}.mkv", entry["segment"])
            if data is None:
                raise OutputError(
                    "KP-WORK-DAMAGED",
                    "a finished segment has changed on the disk",
                    where=shown(self.path / f"{index:06d}.mkv"),
                    fix="run the same command again; what is damaged is painted again",
                )
            yield from decode_segment(data)

    # What is done ---------------------------------------------------------------------------------------------------

    def begin(self, recipe: Mapping[str, Any], *, restart: bool = False) -> None:
        """Go on with what is there if it is work on the same `recipe`, after checking every file; else begin anew.

        Raises OutputError (KP-WORK-OTHER) if it is work on something else, unless `restart` throws that away.
        """
        with self._errors():
            if restart or not self._windows:
                self._clear()
                self.journal.add({"kind": "start", "format": FORMAT, "recipe": dict(recipe)})
                return
            start = self.journal.entries[0]
            found = differences(start["recipe"], recipe)
            if start["format"] != FORMAT:
                found.insert(0, f"format of the work folder: {start['format']} there, {FORMAT} now")
            if found:
                raise OutputError(
                    "KP-WORK-OTHER",
                    f"unfinished work on this output was begun differently: {'; '.join(found)}",
                    where=shown(self.path),
                    fix="repeat the earlier command to finish it, add --restart to begin anew, or choose another name",
                )
            self._check_files()

    def keep(self, pictures: NDArray[np.uint8], carry: bytes | None, fallback: str = "") -> None:
        """Add the next window: its pictures (frame, height, width, 3), carry, and what had to be changed for it."""
        self._size = (pictures.shape[2], pictures.shape[1])
        index, segment = self.windows, encode_segment(pictures)
        entry = {
            "kind": "window",
            "frames": len(pictures),
            "segment": hashlib.sha256(segment).hexdigest(),
            "carry": hashlib.sha256(carry).hexdigest() if carry is not None else None,
            "fallback": fallback,
        }
        with self._errors():
            _write(self.path / f"{index:06d}.mkv", segment)
            if carry is not None:
                _write(self.path / f"{index:06d}.safetensors", carry)
            sync_folder(self.path)
            self.journal.add(entry)
            self._windows.append(entry)
            (self.path / f"{index - 2:06d}.safetensors").unlink(missing_ok=True)

    def finish_painting(self) -> None:
        """Note that no window is missing."""
        with self._errors():
            self.journal.add({"kind": "painted"})

    def announce(self, result: Path, **about: Any) -> None:
        """Note that the whole and checked file `result` will now get the output's name."""
        with self._errors():
            self.journal.add({"kind": "delivery", "fingerprint": fingerprint(result), **about})

    def discard(self) -> None:
        """Remove the folder, the journal last."""
        with contextlib.suppress(OSError):  # what cannot be removed does no harm, and the result is there
            for path in self.path.iterdir():
                if path.name not in ("lock", _JOURNAL):
                    _remove(path)
            (self.path / "lock").unlink(missing_ok=True)
            (self.path / _JOURNAL).unlink(missing_ok=True)
            self.path.rmdir()
        self._windows = []

    # ----------------------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        for attempt in range(3):
            self.path.mkdir(exist_ok=True)
            try:
                self._lock.acquire()
                break
            except Timeout:
                raise self._busy() from None
            except FileNotFoundError:  # who held it has just finished and removed the folder
                if attempt == 2:
                    raise
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        _write(self.path / "holder.json", json.dumps(about).encode())

    def _busy(self) -> OutputError:
        try:
            about = json.loads((self.path / "holder.json").read_bytes())
            who = f"process {about['pid']} on {about['host']}, since {about['since']}"
        except (OSError, ValueError, KeyError):
            who = "another process"
        return OutputError(
            "KP-OUTPUT-BUSY",
            f"{who}, is working on this output",
            where=shown(self.output),
            fix="wait for it or stop it, or choose another output",
        )

    def _check_files(self) -> None:
        """Cut the journal behind the last window up to which everything is there and unchanged."""
        good = 0
        while (
            good < self.windows and _checked(self.path / f"{good:06d}.mkv", self._windows[good]["segment"]) is not None
        ):
            good += 1
        if good < self.windows or not self.painted:  # there is more to paint, and it needs what came before
            while good and not self._carry_is_good(good - 1):
                good -= 1
        lost = self._windows[good:]
        if lost or self.journal.damaged:
            frames = sum(entry["frames"] for entry in lost)
            self.notes.append(f"the work folder is damaged: {frames} finished frames are painted again")
        if lost:
            self.journal.keep(1 + good)
            del self._windows[good:]

    def _carry_is_good(self, index: int) -> bool:
        expected = self._windows[index]["carry"]
        return expected is None or _checked(self.path / f"{index:06d}.safetensors", expected) is not None

    def _clear(self) -> None:
        self.journal.keep(0)
        self._windows = []
        for path in self.path.iterdir():
            if path.name not in ("lock", "holder.json"):
                _remove(path)

    def _errors(self) -> contextlib.AbstractContextManager[None]:
        return write_errors(self.path, "ffv1", self._size, lambda: self.frames)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _checked(path: Path, sha256: str) -> bytes | None:
    """The content of a file, if it is there and has this checksum."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == sha256 else None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
