"""What a run would do, without doing it: `kinopaint stylize … --plan`.

Frames, windows and sizes are counted. Time is measured in a trial: the method denoises one window of grey
frames with one step and with more; what these add is the cost of a step, the rest that of encoding and decoding. The
peak of memory is that of the planner (kinopaint.memory).
Where a single frame already takes seconds, the trial is made with one frame and scaled by their number.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import torch

from kinopaint.api import Ready, made_ready
from kinopaint.engine.denoiser import reuses
from kinopaint.engine.run import stylize_windows
from kinopaint.job import Job
from kinopaint.types import Clip

TRIAL_SECONDS = 10.0  # a whole window is tried if one step on it will not take longer than about this


@dataclass(frozen=True)
class Plan:
    """`calls`: evaluations of the network, each on the branches of all frames of a window; `samples`: single pictures
    through the network. `seconds` and `memory` (bytes, the whole process) are estimates, `disk` (bytes) a rough one.
    """

    frames: int
    window: int
    windows: int
    steps: int
    calls: int
    samples: int
    source_size: tuple[int, int]
    work_size: tuple[int, int]
    output_size: tuple[int, int]
    device: str
    dtype: str
    seconds: float
    memory: int | None
    load: str
    disk: int
    whole_trial: bool

    def __str__(self) -> str:
        from kinopaint.cli.progress import clock

        def size(pair: tuple[int, int]) -> str:
            return f"{pair[0]}x{pair[1]}"

        trial = "one window" if self.whole_trial else "one frame, scaled to the window"
        memory = "unknown" if self.memory is None else f"about {self.memory / 1e6:.0f} MB"
        sizes = f"source {size(self.source_size)}, work {size(self.work_size)}, result {size(self.output_size)}"
        lines = {
            "frames": f"{self.frames} in {self.windows} windows of at most {self.window}",
            "sizes": sizes,
            "model calls": f"{self.calls} ({self.steps} steps), {self.samples} pictures through the network",
            "time": f"about {clock(self.seconds)} on {self.device} in {self.dtype} (from a timed trial: {trial})",
            "memory": f"{memory} at the peak, all included, with {self.load}",
            "disk": f"about {max(self.disk, 1e5) / 1e6:.1f} MB (the source's bytes per pixel)",
        }
        return "\n".join([*(f"{name:<12} {text}" for name, text in lines.items()), "nothing was written"])


class _Counting:
    """A backbone that counts its evaluations."""

    def __init__(self, backbone: Any) -> None:
        self.backbone = backbone
        self.latent_channels, self.image_channels = backbone.latent_channels, backbone.image_channels
        self.calls = self.samples = 0

    def predict(self, latents: Any, step: Any, conditions: Sequence[Any], **more: Any) -> Any:
        self.calls += 1
        self.samples += len(conditions) * latents.shape[-4]
        return self.backbone.predict(latents, step, conditions, **more)

    def reuses(self, step: Any) -> bool:
        return reuses(self.backbone, step)


def plan(input: str | PathLike[str], prompt: str, output: str | PathLike[str], **settings: Any) -> Plan:
    """What `stylize` with the same arguments would do; raises what it would raise before it begins to work."""
    job = Job.of(input, prompt, output, **settings)
    job.check_output()
    with made_ready(job) as ready:
        return make_plan(ready)


def make_plan(ready: Ready) -> Plan:
    """Count, and try one window."""
    cut, frames = ready.method.windows, ready.clip.expected_frames
    lengths = cut.lengths(frames, ready.cuts)
    windows, shown = len(lengths), sum(lengths)  # frames through the network, context counted again
    whole = min(cut.size, frames)

    # The fewest steps of which one is made, and a whole round of full and reused ones more: with strength 0.5 twice as
    # many. Where the strength leaves none at all, these are tried.
    share, steps = getattr(ready.method, "strength", 1.0), ready.method.num_inference_steps
    round_ = max(ready.job.profile.cache_every, _clip_interval(ready.method))
    few, more = (math.ceil(made / share) if int(steps * share) else steps for made in (1, 1 + round_))
    first = _trial(ready, 1, few).seconds  # warms up, too
    tried = whole if first * whole < TRIAL_SECONDS else 1
    once, twice = _trial(ready, tried, few), _trial(ready, tried, more)
    left = (int(steps * share) - int(few * share)) / max(1, int(more * share) - int(few * share))

    def grown(small: float, large: float) -> float:
        """One window with all its steps, from the trials."""
        return small + left * max(0.0, large - small)

    info, sizes = ready.clip.info, ready.sizes
    pixels = sizes.output[0] * sizes.output[1] / (info.width * info.height)
    return Plan(
        frames=frames,
        window=cut.size,
        windows=windows,
        steps=steps,
        calls=round(grown(once.calls, twice.calls)) * windows,
        samples=round(grown(once.samples, twice.samples) / tried * shown),
        source_size=sizes.source,
        work_size=sizes.padded,
        output_size=sizes.output,
        device=str(ready.parts.device),
        dtype=str(ready.parts.dtype).removeprefix("torch."),
        seconds=grown(once.seconds, twice.seconds) / tried * shown,
        memory=ready.expected_memory,
        load=str(ready.parts.load),
        disk=round(info.size_bytes * frames / info.frame_count * pixels),
        whole_trial=tried == whole,
    )


class _Trial(NamedTuple):
    seconds: float
    calls: int
    samples: int


def _clip_interval(method: Any) -> int:
    """Steps from one CLIP step to the next, of those that the strength leaves."""
    every, steps = getattr(method, "clip_every", 1), method.num_inference_steps
    return int(every) if every >= 1 else max(1, math.ceil(every * int(steps * getattr(method, "strength", 1.0))))


def _trial(ready: Ready, frames: int, steps: int) -> _Trial:
    """Denoise one window of grey frames."""
    width, height = ready.sizes.padded
    counting = _Counting(ready.parts.backbone)
    windows = ready.method.windows.every_frame()  # of neighbouring frames few might be keyframes
    few: dict[str, Any] = {"num_inference_steps": steps, "windows": windows}
    if hasattr(ready.method, "clip_every"):
        few["clip_every"] = _clip_interval(ready.method)  # as many steps apart as in the whole run
    method = dataclasses.replace(ready.method, **few)
    parts = dataclasses.replace(ready.parts, backbone=counting)
    begin = time.perf_counter()
    with torch.no_grad():
        grey = (torch.zeros(3, height, width) for _ in range(frames))
        for _ in stylize_windows(method, grey, Clip(height, width, frames), ready.prompt, parts):
            pass
    if parts.device.type == "cuda":
        torch.cuda.synchronize(parts.device)
    return _Trial(time.perf_counter() - begin, counting.calls, counting.samples)
