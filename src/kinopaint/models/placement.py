"""Where a model works, and in which precision."""

import ctypes
from contextlib import suppress

import torch

from kinopaint.errors import SettingsError, did_you_mean

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt, from <malloc.h>
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one. Raises SettingsError (KP-SETTING-DEVICE)."""
    name = str(name)  # a torch.device, too
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SettingsError(
            "KP-SETTING-DEVICE",
            f"the device {name!r} cannot be used: {str(error).splitlines()[0]}",
            where="--device",
            fix='use "auto" or "cpu"',
        ) from error
    return device


def choose_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype of that name; "auto" is bfloat16 where `device` multiplies in it, else float32 (CUDA: float16).

    Raises SettingsError (KP-SETTING-DTYPE).
    """
    name = str(name).removeprefix("torch.")
    if name == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        fast = any(
            getattr(torch.cpu, ask, lambda: False)() for ask in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        )
        return torch.bfloat16 if device.type == "cpu" and fast else torch.float32
    known = _SHORT.get(name, name)
    if known not in _DTYPES:
        raise SettingsError(
            "KP-SETTING-DTYPE",
            f"the dtype {name!r} is unknown",
            where="--dtype",
            fix=did_you_mean(name, {"auto", *_DTYPES, *_SHORT}),
        )
    return _DTYPES[known]


def keep_freed_memory() -> None:
    """Have the C library (glibc) keep freed memory up to half a gigabyte for what is asked for next.

    Else each tensor of more than 32 MB comes from the system anew, and its first touch, page by page, takes longer than
    most of what is then done with it. `give_back_memory` still gives back what is free.
    """
    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 128 * 2**20)
        library.mallopt(_TRIM_THRESHOLD, 512 * 2**20)
