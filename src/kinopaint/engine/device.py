"""A device that fails on the way: a GPU that falls off the bus, a driver that was replaced, a fault in a kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kinopaint.engine.load import is_out_of_memory
from kinopaint.errors import ModelError

# What failures of a device are called: torch has a type of its own for them from 2.8 on, and before only words.
_WORDS = ("CUDA error", "HIP error", "XPU error", "cuDNN error")
_KIND: type[BaseException] | tuple[()] = getattr(torch, "AcceleratorError", ())


def is_device_failure(error: BaseException) -> bool:
    """Whether the device failed, rather than what was asked of it. This process can compute nothing more there."""
    return isinstance(error, _KIND) or (isinstance(error, RuntimeError) and any(each in str(error) for each in _WORDS))


@contextmanager
def device_errors(where: str = "") -> Iterator[None]:
    """Failures of the device become ModelError (KP-DEVICE-LOST) with what to do; everything else passes."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error) or not is_device_failure(error):
            raise
        raise ModelError(
            "KP-DEVICE-LOST",
            f"the device failed: {str(error).strip().splitlines()[0]}",
            where=where,
            fix="run the same command again, it goes on with what is painted; if that happens again, look at the "
            "device and its driver (kinopaint doctor), or begin anew with --device cpu --restart",
        ) from error
