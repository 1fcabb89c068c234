"""Frames of a shot refined one after another, each with the help of the one before it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.temporal.colour_anchor import anchored
from kinopaint.types import Frame, Frames

State: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Past:
    """What the next frame needs of the one before it: all that a chain carries, whatever the clip's length."""

    source: Frame
    painted: Frame  # before refinement
    refined: Frame
    state: State | None = None  # of a recurrent backend
    colours: Float[Tensor, "2 3"] | None = None  # running mean and deviation, for the colour anchor


@dataclass(frozen=True)
class Present:
    """The frame at hand, not yet refined."""

    source: Frame
    painted: Frame


Refine = Callable[[Present, Past], tuple[Tensor, State | None]]  # the refined frame, and the backend's state


def refine_in_order(
    painted: Frames, source: Frames, past: Past | None, refine: Refine | None, *, anchor: bool = False
) -> tuple[Frames, Past | None]:
    """Refine the frames of a window; `past` is what the window before left, None at the beginning of a shot.

    The first frame of a shot is returned as it is. `refine` None leaves all frames as they are; with `anchor` the
    colours of each frame are first matched to those of the shot so far.
    """
    if refine is None and not anchor:
        return painted, None
    refined = []
    for place in range(len(painted)):
        frame, colours = painted[place], past.colours if past else None
        if anchor:
            frame, colours = anchored(frame, colours)
        # One memory layout, that of a stored carry: the CPU's convolutions round by layout, and a resumed run is to
        # give what the uninterrupted one gives.
        present, state = Present(source[place].contiguous(), frame.contiguous()), None
        if past is not None and refine is not None:
            frame, state = refine(present, past)
        past = Past(present.source, present.painted, frame.contiguous(), state, colours)
        refined.append(frame)
    return torch.stack(refined), past
