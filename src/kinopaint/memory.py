"""The memory planner: before a run, measure what a picture costs, and choose how much is computed at once.

One picture, then two, go through the network, and one frame through the autoencoder; what torch held at most, what its
kernels took besides, and what the process holds already, predict the peak. The choice is then fixed for the run
(recipe, journal). On the CPU this is about the process that paints; those that decode and encode come on top, with what
FFmpeg needs for a few frames.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from kinopaint.engine.components import Components
from kinopaint.engine.denoiser import Condition
from kinopaint.engine.load import TILE, Load, PeakMemory, under
from kinopaint.engine.tied import encode_prompt, tied_to
from kinopaint.errors import SettingsError
from kinopaint.types import Prompt

_SHARE = 0.8  # of what is free: other programs want some, and kernels have scratch space that nobody reports
_SCRATCH = 2.0  # by which kernels exceed their results, where that cannot be measured
_MOST_SCRATCH = 3.0
_LARGEST = 512  # pixels of a side: what an autoencoder takes for larger frames is not tried, it grows with their pixels
_TILED_COPIES = 8  # of a frame in float32 beside the tile that is worked on, at most: tiles, rows, and the whole
_COPIES = 8  # of a window's frames in float32, at most: source, painted, steadied, flows both ways and what they move
_FIRST = {"cpu": Load(), "cuda": Load(samples=64, frames=8)}


@dataclass(frozen=True)
class Footprint:
    """What a model costs at one size, in bytes: `held` now, by weights and all else; on top of that `besides`, for the
    frames of a window and what libraries set up once; while the network runs, `fixed` and then `sample` for each
    picture; while the autoencoder runs, `frame` for each frame.
    """

    held: int
    fixed: int
    sample: int
    frame: int
    tile: int  # the same for a frame in tiles
    besides: int = 0

    def peak(self, load: Load, together: int = 1) -> int:
        """The predicted peak under a load, where `together` pictures at least go through the network in one call."""
        autoencoder = self.tile if load.tile else load.frames * self.frame
        return self.held + self.besides + max(self.fixed + max(load.samples, together) * self.sample, autoencoder)


def footprint(
    parts: Components, height: int, width: int, window: int = 1, *, through_decoder: bool = False
) -> Footprint:
    """Measure a model at a size (pixels, multiples of the model's): calls of the network on one picture and two, and of
    the autoencoder on one frame, of which a corner stands for the whole if it is large. `window` is how many frames a
    window has; `through_decoder` tells that gradients go back through the decoder, which keeps all its features.
    """
    cells = height // parts.autoencoder.factor, width // parts.autoencoder.factor

    def network(count: int) -> _Cost:
        frames = torch.zeros(count, 3, height, width, device=parts.device)
        tied = tied_to(frames, parts)
        latents = torch.zeros(count, channels, *cells, device=parts.device)
        return _cost(lambda: tied.backbone.predict(latents, step, [condition]), parts.device)

    def autoencoder(tile: int) -> _Cost:
        coder = under(Load(frames=1, tile=tile), parts).autoencoder
        frame = torch.zeros(1, 3, *shown, device=parts.device)

        def there_and_back() -> None:
            latents = coder.scaled(coder.encode(frame))
            with torch.set_grad_enabled(through_decoder):
                picture = coder.decode(latents.requires_grad_(through_decoder))
                if through_decoder:
                    torch.autograd.grad(picture.sum(), latents)

        return _cost(there_and_back, parts.device)

    shown = min(height, _LARGEST), min(width, _LARGEST)  # multiples of the model's, as both are
    larger = height * width / (shown[0] * shown[1])

    with torch.no_grad():
        nothing, _ = encode_prompt(Prompt("a painting"), parts)
        condition, step = Condition("nothing", nothing), parts.schedule.steps(2)[0]
        channels = parts.backbone.latent_channels
        first = network(1)  # with what is made once and kept, such as keys and values of texts
        one, two = network(1), network(2)
        slope = max(two.counted - one.counted, 1)
        frame, tile = autoencoder(0), autoencoder(TILE)
    scratch = min(max(frame.grown / frame.counted, 1.0), _MOST_SCRATCH)
    once = max(first.grown - int(scratch * first.counted), 0)
    pixels = 3 * height * width * 4  # bytes of one frame
    whole = int(scratch * larger * frame.counted)
    in_tiles = int(scratch * tile.counted + (1 - 1 / larger) * _TILED_COPIES * pixels)
    return Footprint(
        held=held_memory(parts.device),
        fixed=int(scratch * max(one.counted - slope, 0)),
        sample=int(scratch * slope),
        frame=whole,
        tile=min(in_tiles, whole),
        besides=once + window * _COPIES * pixels,
    )


class _Cost(NamedTuple):
    """Bytes: what torch held at most, and by how much process or device grew, scratch space of kernels included."""

    counted: int
    grown: int


def _cost(run: Callable[[], object], device: torch.device) -> _Cost:
    before = held_memory(device)
    known = _restart_peak(device)
    with PeakMemory() as memory:
        run()
    counted = max(int(memory.peak), 1)
    return _Cost(counted, max((_peak(device) or 0) - before, counted) if known else int(_SCRATCH * counted))


_highest: dict[torch.device, int] = {}  # before the peak was last restarted


def _restart_peak(device: torch.device) -> bool:
    """Let the system count the peak anew from here; whether it can."""
    _highest[device] = peak_memory(device) or 0
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    with suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return True
    return False


def give_back_memory() -> None:
    """Hand what was freed back to the system, where the C library (glibc) would keep it for later."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def choose_load(
    found: Footprint,
    device: torch.device,
    ceiling: int | None,
    preferred: Load | None = None,
    *,
    together: int = 1,
) -> Load:
    """The largest load whose predicted peak fits. `preferred` is what an earlier run of the same job has chosen: it
    stays, unless a ceiling forbids. `together` pictures at least go through the network in one call.

    Without a `ceiling` (bytes) four fifths of the free memory may be used, and where even the smallest load seems too
    much it is tried. Raises SettingsError (KP-SETTING-MEMORY) if it does not fit under a ceiling.
    """
    if preferred is not None and ceiling is None:
        return preferred
    load: Load | None = preferred or _FIRST.get(device.type, Load())
    limit = ceiling if ceiling is not None else found.held + int(_SHARE * free_memory(device))
    smallest = load
    while load is not None and found.peak(load, together) > limit:
        smallest, load = load, load.smaller()
    if load is not None:
        return load
    assert smallest is not None
    if ceiling is not None:
        least = found.peak(smallest, together)
        raise SettingsError(
            "KP-SETTING-MEMORY",
            f"{ceiling / 1e6:.0f} MB are allowed, the smallest load needs about {least / 1e6:.0f} MB",
            where="--memory",
            fix=f"allow that much, or {smaller_size(found, ceiling, together)}"
            + (", or --windows of fewer frames" if together > 1 else ""),
        )
    return smallest


def smaller_size(found: Footprint, limit: int, together: int) -> str:
    """What to do where even the smallest load does not fit under `limit`, as the end of a sentence."""
    smallest = Load(1, 1, TILE)
    share = (limit - found.held) / max(found.peak(smallest, together) - found.held, 1)
    if share <= 0:
        return "use a smaller model: its weights alone take more"
    return f"use a --work-size with {min(share, 0.9):.0%} of the pixels or fewer"


def held_memory(device: torch.device) -> int:
    """Bytes held now: of the device if it has its own memory, else by this process, when freed memory is given back."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    give_back_memory()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096
    except OSError:  # not Linux
        return peak_memory(device) or 0


def peak_memory(device: torch.device) -> int | None:
    """Peak so far in bytes: of the device if it has its own memory, else of this process; None if it cannot be told."""
    found = _peak(device)
    return None if found is None else max(found, _highest.get(device, 0))


def _peak(device: torch.device) -> int | None:
    """The same since it was last restarted."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, StopIteration):  # Linux, where getrusage counts what the parent held before this began, too
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_memory(device: torch.device) -> int:
    """Bytes that could be had now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux: what computers have at least
        return 4 * 10**9
