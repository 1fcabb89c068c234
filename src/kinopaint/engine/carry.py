"""A method's carry as bytes, so that a run can be taken up after any window.

What a carry may be made of: tensors, None, bool, int, float, str, lists, tuples, dictionaries with text keys, and
dataclasses of these that the method's own module can name. Tensors lie in a safetensors file, everything around them in
its header as JSON; nothing in the file is code, and a file can name no class but those.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from kinopaint.errors import InternalError

_PLAIN = (bool, int, float, str, type(None))


def pack_carry(carry: Any, method: Any) -> bytes:
    """The content of a safetensors file that `unpack_carry` turns into an equal carry.

    Raises InternalError (KP-METHOD-CARRY) if the carry holds anything but what this module lists.
    """
    tensors: dict[str, Tensor] = {}
    kinds = _dataclasses(method)

    def told(value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, Tensor):
            name = str(len(tensors))
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {"tensor": name, "device": str(value.device)}
        if type(value) in _PLAIN:
            return {"value": value}
        if type(value) in (list, tuple):
            return {type(value).__name__: [told(item, f"{where}[{n}]") for n, item in enumerate(value)]}
        if type(value) is dict and all(type(key) is str for key in value):
            return {"dict": {key: told(item, f"{where}[{key!r}]") for key, item in value.items()}}
        if kinds.get(type(value).__name__) is type(value):
            names = [field.name for field in dataclasses.fields(kinds[type(value).__name__]) if field.init]
            parts = {name: told(getattr(value, name), f"{where}.{name}") for name in names}
            return {"dataclass": type(value).__name__, "fields": parts}
        raise InternalError(
            "KP-METHOD-CARRY",
            f"{where} is a {type(value).__qualname__}, which cannot be stored between windows",
            where=type(method).__name__,
            fix="use tensors, numbers, texts, None, lists, tuples, dictionaries with text keys, and dataclasses of "
            "these at the top level of the method's module",
        )

    structure = told(carry, "carry")
    return save(tensors, {"carry": json.dumps(structure)})


def unpack_carry(data: bytes, method: Any) -> Any:
    """The carry that `pack_carry` stored, its tensors on the devices where they were.

    Raises ValueError if `data` is no such file, or names a dataclass that the method's module does not have.
    """
    kinds = _dataclasses(method)
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        structure = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["carry"])
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"no carry: {error}") from error

    def built(part: Mapping[str, Any]) -> Any:
        if "tensor" in part:
            return tensors[part["tensor"]].to(part["device"])
        if "value" in part:
            return part["value"]
        if "dict" in part:
            return {key: built(item) for key, item in part["dict"].items()}
        if "dataclass" in part:
            if part["dataclass"] not in kinds:
                raise ValueError(f"the carry names {part['dataclass']!r}, which {type(method).__module__} has not")
            return kinds[part["dataclass"]](**{name: built(item) for name, item in part["fields"].items()})
        (kind, items), *_ = part.items()
        return {"list": list, "tuple": tuple}[kind](built(item) for item in items)

    return built(structure)


def _dataclasses(method: Any) -> dict[str, Any]:
    """The dataclasses that the method's module defines or imports, by name."""
    module = sys.modules[type(method).__module__]
    return {
        name: kind for name, kind in vars(module).items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)
    }
