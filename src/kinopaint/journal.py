"""A file to which entries are only added, each of them whole and on the disk before the next thing happens.

JSON lines: adding an entry costs the same however many there are, where a single JSON replaced as a whole would be
written anew for each window. Each line carries a checksum of itself, so a line that was cut off by a crash, or that
rots later, is known; it and what follows it are not trusted and are cut off before the next entry.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

from kinopaint.video.place import sync_folder

Entry = dict[str, Any]


class Journal:
    """The entries of one file, read when it is made; the file appears with the first entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: list[Entry] = []
        self._ends: list[int] = []  # where in the file each entry's line ends
        whole = path.read_bytes() if path.exists() else b""
        for line in whole.splitlines(keepends=True):
            entry = _read(line)
            if entry is None:
                break
            self._entries.append(entry)
            self._ends.append(self._end + len(line))
        self.damaged = len(whole) > self._end  # whether some of the file is not trusted

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries)

    @property
    def _end(self) -> int:
        return self._ends[-1] if self._ends else 0

    def add(self, entry: Entry) -> None:
        """Write an entry of plain values, and return when it is on the disk."""
        if self.damaged:
            self.keep(len(self._entries))
        line = _line(entry)
        new = not self.path.exists()
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if new:
            sync_folder(self.path.parent)
        self._entries.append(json.loads(line)["entry"])  # as it will be read
        self._ends.append(self._end + len(line))

    def keep(self, count: int) -> None:
        """Forget all entries but the first `count`."""
        del self._entries[count:], self._ends[count:]
        if self.path.exists():
            with self.path.open("rb+") as file:
                file.truncate(self._end)
                os.fsync(file.fileno())
        self.damaged = False


def _line(entry: Entry) -> bytes:
    text = json.dumps(entry)
    return f'{{"crc32": "{zlib.crc32(text.encode()):08x}", "entry": {text}}}\n'.encode()


def _read(line: bytes) -> Entry | None:
    """The entry of a line; None if the line is not exactly as it was written."""
    try:
        entry: Entry = json.loads(line)["entry"]
        return entry if _line(entry) == line else None
    except (ValueError, KeyError, TypeError):
        return None
