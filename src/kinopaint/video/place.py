"""Where a result goes: checked before anything is written, given its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import av

from kinopaint.errors import OutputError, SettingsError
from kinopaint.video.opening import shown
from kinopaint.video.sequence import belongs

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def check_place(path: Path, source: str | PathLike[str], *, overwrite: bool, pattern: str | None = None) -> None:
    """Refuse a place where the result cannot go. `path` is absolute, `source` the input's path.

    With `pattern` (`%04d.png`) the result is a folder of such pictures: a new or empty one, or to be overwritten one
    that holds nothing else.

    Raises SettingsError (KP-OUTPUT-IS-INPUT) and OutputError (KP-OUTPUT-NAME, -FOLDER, -DIRECTORY, -EXISTS,
    -PERMISSION).
    """
    folder, where = path.parent, shown(path)
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # the first is as it should be, the others show below
    except (OSError, ValueError) as error:  # too long, a null byte
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            "KP-OUTPUT-NAME", f"no file can have this name: {reason}", where=where, fix="choose another name"
        ) from None
    if not folder.is_dir():
        raise OutputError("KP-OUTPUT-FOLDER", "there is no such folder", where=shown(folder), fix="make it first")
    if path.is_dir() and pattern is None:
        raise OutputError("KP-OUTPUT-DIRECTORY", "this is a folder", where=where, fix="add a file name")
    if path.exists() and any(os.path.exists(each) and path.samefile(each) for each in _places(source, pattern)):
        raise SettingsError(
            "KP-OUTPUT-IS-INPUT", "the result would replace its source", where=where, fix="choose another name"
        )
    if pattern is not None and path.is_dir():
        if others := [name for name in sorted(os.listdir(path)) if not belongs(pattern, name)]:
            raise OutputError(
                "KP-OUTPUT-DIRECTORY",
                f"the folder holds other files, such as {shown(others[0])}",
                where=where,
                fix=f"give the pictures a folder of their own: frames/{pattern}",
            )
        if os.listdir(path) and not overwrite:
            raise _exists(path)
    elif os.path.lexists(path) and not (overwrite and pattern is None):
        raise _exists(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            "KP-OUTPUT-PERMISSION",
            "nothing may be written there",
            where=shown(folder),
            fix="choose another folder",
        )


def publish(partial: Path, path: Path, *, overwrite: bool) -> None:
    """Give the whole file, or the folder of pictures, its name in one step, so that it survives a power loss.

    Raises OutputError (KP-OUTPUT-EXISTS) if the name is taken meanwhile and may not be overwritten.
    """
    if partial.is_dir():
        _publish_folder(partial, path, overwrite=overwrite)
    elif overwrite:
        os.replace(partial, path)
    else:
        try:
            os.link(partial, path)  # unlike a rename, this fails if the name is taken meanwhile
        except FileExistsError:
            raise _exists(path) from None
        except OSError:  # no hard links on this file system
            if os.path.lexists(path):
                raise _exists(path) from None
            os.replace(partial, path)
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a small file: all of it or nothing. Raises OutputError."""
    part = path.with_name(f".kinopaint-{path.name}.part")
    try:
        with write_errors(path, "data", (0, 0), lambda: 0):
            part.write_bytes(data)
            publish(part, path, overwrite=overwrite)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path, codec: str, size: tuple[int, int], frames: Callable[[], int]) -> Iterator[None]:
    """Errors of the system and of FFmpeg become OutputError (KP-OUTPUT-DISK-FULL, -PERMISSION, -ENCODER, -WRITE).

    `frames` tells how many pictures were written when it happened.
    """
    try:
        yield
    except OutputError:
        raise
    except (OSError, av.FFmpegError) as error:
        where = shown(path)
        if error.errno in _FULL:
            raise OutputError(
                "KP-OUTPUT-DISK-FULL",
                f"there is no room left ({error.strerror}) after {frames()} frames",
                where=where,
                fix="free some space or choose another disk, then run the same command again",
            ) from error
        if isinstance(error, PermissionError) or error.errno == errno.EROFS:
            raise OutputError(
                "KP-OUTPUT-PERMISSION", f"cannot write: {error.strerror}", where=where, fix="choose another folder"
            ) from error
        if isinstance(error, av.FFmpegError) and not isinstance(error, OSError):
            raise OutputError(
                "KP-OUTPUT-ENCODER",
                f"{codec} cannot write {size[0]}x{size[1]} pictures here ({error.strerror})",
                where=where,
                fix="try another --codec, for example h264",
            ) from error
        raise OutputError("KP-OUTPUT-WRITE", f"writing failed: {error.strerror}", where=where) from error


def sync(path: Path) -> None:
    """Bring a file, or the files of a folder, to the disk."""
    for file in path.iterdir() if path.is_dir() else (path,):
        with open(file, "rb+") as handle:
            os.fsync(handle.fileno())


def _publish_folder(partial: Path, path: Path, *, overwrite: bool) -> None:
    old = partial.with_name(f"{partial.name}.old")
    if path.is_dir():  # no system exchanges two folders portably: the old one steps aside first
        try:
            path.rename(old) if overwrite else path.rmdir()  # which only an empty one lets be done to itself
        except OSError:
            raise _exists(path) from None
    if os.path.lexists(path):
        raise _exists(path)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _places(source: str | PathLike[str], pattern: str | None) -> tuple[str, ...]:
    """The input; and for a folder as result also the folder of the picture, or of the pictures, that it names."""
    text = os.fspath(source)
    if pattern is None or os.path.isdir(text):
        return (text,)
    folder, name = os.path.split(os.path.abspath(text))
    return (text, folder) if belongs(pattern, name) or not os.path.exists(text) else (text,)


def sync_folder(folder: Path) -> None:
    """Bring new and changed names in a folder to the disk."""
    with contextlib.suppress(OSError):  # not every system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exists(path: Path) -> OutputError:
    return OutputError(
        "KP-OUTPUT-EXISTS",
        "the file exists already",
        where=shown(path),
        fix="choose another name, or add --overwrite",
    )
