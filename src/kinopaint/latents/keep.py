"""Hold part of the latents on a trajectory that is known: anchors of earlier windows, what lies outside a mask."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kinopaint.engine.inversion import Trajectory
from kinopaint.engine.samplers import LatentHook
from kinopaint.engine.schedule import Step
from kinopaint.errors import ShapeError
from kinopaint.types import Mask


def keep(known: Trajectory, places: Sequence[int] | None = None, *, outside: Mask | None = None) -> LatentHook:
    """A hook for after each step: the frames at `places` become those of `known` at the same noise level.

    `known` is of a run with the same steps, and holds as many frames as are kept; None: they are the first ones.
    With `outside`, 0 to 1 at the latents' size, only what the mask leaves out (0) is kept. The run must start where
    `known` does. Raises ShapeError if `known` has another number of levels or frames.
    """

    def hold(latents: Tensor, step: Step) -> Tensor:
        if len(known.levels) != step.count + 1:
            raise ShapeError(f"the known trajectory has {len(known.levels) - 1} steps, the run {step.count}")
        level = known.after(step)
        held = list(range(level.shape[-4]) if places is None else places)
        if len(held) != level.shape[-4]:
            raise ShapeError(f"the known trajectory holds {level.shape[-4]} frames for {len(held)} places")
        if outside is not None:
            level = torch.lerp(level, latents[..., held, :, :, :], outside.to(level))
        result = latents.clone()
        result[..., held, :, :, :] = level
        return result

    return hold
