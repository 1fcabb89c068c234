"""The memory planner: before a run, measure what a picture costs, and choose how much is computed at once.

One picture, then two, go through the network, and one frame through the autoencoder; what torch held at most, and what
the process holds already, predict the peak. The choice is then fixed for the run (recipe, journal).
"""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from kinopaint.engine.components import Components
from kinopaint.engine.denoiser import Condition
from kinopaint.engine.load import TILE, Load, PeakMemory, under
from kinopaint.engine.tied import encode_prompt, tied_to
from kinopaint.errors import SettingsError
from kinopaint.types import Prompt

_SHARE = 0.8  # of what is free: other programs want some, and kernels have scratch space that nobody reports
_FIRST = {"cpu": Load(), "cuda": Load(samples=64, frames=8)}


@dataclass(frozen=True)
class Footprint:
    """What a model costs at one size, in bytes: `held` now, by weights and all else; on top of that, while the network
    runs, `fixed` and then `sample` for each picture; while the autoencoder runs, `frame` for each frame.
    """

    held: int
    fixed: int
    sample: int
    frame: int
    tile: int  # the same for a frame in tiles

    def peak(self, load: Load, together: int = 1) -> int:
        """The predicted peak under a load, where `together` pictures at least go through the network in one call."""
        autoencoder = self.tile if load.tile else load.frames * self.frame
        return self.held + max(self.fixed + max(load.samples, together) * self.sample, autoencoder)


def footprint(parts: Components, height: int, width: int) -> Footprint:
    """Measure a model at a size (pixels, multiples of the model's): two calls of the network on one picture and two,
    and four of the autoencoder.
    """
    cells = height // parts.autoencoder.factor, width // parts.autoencoder.factor

    def network(count: int) -> int:
        frames = torch.zeros(count, 3, height, width, device=parts.device)
        tied = tied_to(frames, parts)
        with PeakMemory() as memory:
            tied.backbone.predict(torch.zeros(count, channels, *cells, device=parts.device), step, [condition])
        return int(memory.peak)

    def autoencoder(tile: int) -> int:
        with PeakMemory() as memory:
            coder = under(Load(frames=1, tile=tile), parts).autoencoder
            coder.decode(coder.scaled(coder.encode(torch.zeros(1, 3, height, width, device=parts.device))))
        return int(memory.peak)

    with torch.no_grad():
        nothing, _ = encode_prompt(Prompt("a painting"), parts)
        condition, step = Condition("nothing", nothing), parts.schedule.steps(2)[0]
        channels = parts.backbone.latent_channels
        network(1)  # what is made once and kept, such as keys and values of texts
        one, two = network(1), network(2)
        slope = max(two - one, 1)
        frame, tile = autoencoder(0), autoencoder(TILE)
    return Footprint(held_memory(parts.device), max(one - slope, 0), slope, frame, min(tile, frame))


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
            fix="allow more, use a smaller --work-size" + (", or --windows of fewer frames" if together > 1 else ""),
        )
    return smallest


def held_memory(device: torch.device) -> int:
    """Bytes held now: of the device if it has its own memory, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * 4096
    except OSError:  # not Linux
        return peak_memory(device) or 0


def peak_memory(device: torch.device) -> int | None:
    """Peak so far in bytes: of the device if it has its own memory, else of this process; None if it cannot be told."""
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
