"""Values between the decoding process and ours: JSON and raw arrays, so that nothing that arrives can run code."""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
import struct
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_HEAD = struct.Struct(">II")  # bytes of JSON, number of arrays
_ARRAYS = {"uint8", "uint16", "int64"}
_MAX_TEXT = 2**26
_MAX_ARRAY = 2**32


def send(stream: BinaryIO, value: Any) -> None:
    """Write one value: plain JSON, tuples, Fractions, paths, arrays and our dataclasses, nested as they like."""
    arrays: list[NDArray[Any]] = []
    text = json.dumps(_plain(value, arrays)).encode()
    _write(stream, _HEAD.pack(len(text), len(arrays)))
    _write(stream, text)
    for array in arrays:
        _write(stream, memoryview(np.ascontiguousarray(array)).cast("B"))
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one value. Raises EOFError at the end, ValueError for what `send` would not have written."""
    length, count = _HEAD.unpack(_exactly(stream, bytearray(_HEAD.size)))
    if length > _MAX_TEXT:
        raise ValueError(f"a message of {length} bytes")
    plain = json.loads(bytes(_exactly(stream, bytearray(length))))
    arrays: list[NDArray[Any]] = []
    value = _valued(plain, arrays)
    if len(arrays) != count:
        raise ValueError(f"{count} arrays announced, {len(arrays)} named")
    for array in arrays:
        _exactly(stream, memoryview(array).cast("B"))
    return value


def _write(stream: BinaryIO, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:  # a signal may end a write to a pipe half-way
        view = view[stream.write(view) :]


def _exactly(stream: BinaryIO, buffer: Any) -> Any:
    view, filled = memoryview(buffer), 0
    while filled < len(view):
        got = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not got:
            raise EOFError
        filled += got
    return buffer


def _plain(value: Any, arrays: list[NDArray[Any]]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [_plain(each, arrays) for each in value]
    if isinstance(value, tuple):
        return {"tuple": [_plain(each, arrays) for each in value]}
    if isinstance(value, dict):
        return {"dict": [[key, _plain(each, arrays)] for key, each in value.items()]}
    if isinstance(value, Fraction):
        return {"fraction": [value.numerator, value.denominator]}
    if isinstance(value, PurePath):
        return {"path": str(value)}
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": [value.dtype.name, *value.shape]}
    if dataclasses.is_dataclass(value):
        fields = {field.name: _plain(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
        kind = type(value)
        return {"record": [kind.__module__, kind.__qualname__, fields]}
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _valued(plain: Any, arrays: list[NDArray[Any]]) -> Any:
    if isinstance(plain, list):
        return [_valued(each, arrays) for each in plain]
    if not isinstance(plain, dict):
        return plain
    ((tag, content),) = plain.items()
    if tag == "tuple":
        return tuple(_valued(each, arrays) for each in content)
    if tag == "dict":
        return {key: _valued(each, arrays) for key, each in content}
    if tag == "fraction":
        return Fraction(*content)
    if tag == "path":
        return Path(content)
    if tag == "array":
        name, *shape = content
        if name not in _ARRAYS or math.prod(shape) * np.dtype(name).itemsize > _MAX_ARRAY:
            raise ValueError(f"an array of {name} {shape}")
        arrays.append(np.empty(shape, name))
        return arrays[-1]
    if tag == "record":
        module, name, fields = content
        if not module.startswith("kinopaint.video."):
            raise ValueError(f"a record of {module}")
        kind = getattr(importlib.import_module(module), name)
        if not dataclasses.is_dataclass(kind):
            raise ValueError(f"{module}.{name} is no record")
        return kind(**{key: _valued(each, arrays) for key, each in fields.items()})
    raise ValueError(f"a value tagged {tag!r}")
