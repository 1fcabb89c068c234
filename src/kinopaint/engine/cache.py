"""Costly results kept on disk under a name that says what they were made from."""

import hashlib
import os
import tempfile
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

Named = dict[str, Tensor]
_ENDING = ".safetensors"


def content_key(*parts: str | Tensor) -> str:
    """A name for what is computed from `parts`: texts, and tensors by type, shape and every value."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            head, body = "text", part.encode()
        else:
            head, body = f"{part.dtype} {tuple(part.shape)}", _bytes(part)
        digest.update(f"{head} {len(body)}:".encode())
        digest.update(body)
    return digest.hexdigest()


class DiskCache:
    """Named tensors in one folder, at most about `max_bytes` of them; those not used for longest go first.

    Several processes may use a folder: entries appear whole or not at all. An entry that cannot be read, or whose
    checksum is wrong, is computed again. A folder that cannot be written to costs a warning and the time saved.
    """

    def __init__(self, folder: str | os.PathLike[str], *, max_bytes: int = 2_000_000_000) -> None:
        self.folder, self.max_bytes = Path(folder), max_bytes
        self._size = sum(size for _, size, _ in self._entries())
        self._writable = True

    def get_or_compute(self, key: str, compute: Callable[[], Named]) -> Named:
        """The tensors kept under `key`, or those that `compute` returns, which are kept from now on."""
        path = self.folder / f"{key}{_ENDING}"
        if (kept := _read(path)) is not None:
            return kept
        made = compute()
        if self._writable:
            try:
                self._write(path, made)
            except (OSError, SafetensorError) as error:
                self._writable = False
                warnings.warn(f"nothing more is cached: {self.folder} cannot be written to ({error})", stacklevel=2)
        return made

    def _write(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=".part-")
        os.close(handle)
        part = Path(name)
        try:
            save_file(flat, part, metadata={"checksum": _checksum(flat)})
            self._size += part.stat().st_size
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        if self._size > self.max_bytes:
            self._prune()

    def _prune(self) -> None:
        """Delete the entries not used for longest, down to nine tenths of the limit."""
        entries = sorted(self._entries())
        self._size = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if self._size <= 0.9 * self.max_bytes:
                return
            path.unlink(missing_ok=True)
            self._size -= size

    def _entries(self) -> list[tuple[float, int, Path]]:
        """Time of last use, size and path of each entry."""
        found = []
        for path in self.folder.glob(f"*{_ENDING}"):
            try:
                about = path.stat()
            except FileNotFoundError:  # another process has just removed it
                continue
            found.append((about.st_mtime, about.st_size, path))
        return found


def _read(path: Path) -> Named | None:
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
            checksum = (stream.metadata() or {}).get("checksum")
        if checksum != _checksum(tensors):
            return None
        os.utime(path)
    except (OSError, SafetensorError):
        return None
    return tensors


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        value = zlib.crc32(_bytes(tensors[name]), value)
    return f"{value:08x}"


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
