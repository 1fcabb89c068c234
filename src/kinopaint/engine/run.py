"""The fold over windows: a method turns a video into another one, window by window, in constant memory."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.components import Components
from kinopaint.engine.denoiser import Backbone, Condition
from kinopaint.engine.interventions import FeatureHook, Intervention
from kinopaint.engine.schedule import Step
from kinopaint.errors import ModelError, ShapeError
from kinopaint.types import Clip, Frame, Frames, Latents, Prompt, Window, WindowPlan

Shared = TypeVar("Shared")
Carry = TypeVar("Carry")


@runtime_checkable
class Method(Protocol[Shared]):
    """A method whose windows do not depend on each other."""

    windows: WindowPlan

    def prepare(self, clip: Clip, prompt: Prompt, parts: Components) -> Shared:
        """What all windows need, computed once per video."""
        ...

    def stylize(self, window: Window, shared: Shared, parts: Components) -> Frames:
        """The fresh frames of `window`, restyled."""
        ...


@runtime_checkable
class ChainedMethod(Protocol[Shared, Carry]):
    """A method in which a window needs something from the one before it."""

    windows: WindowPlan

    def prepare(self, clip: Clip, prompt: Prompt, parts: Components) -> Shared: ...

    def start(self, shared: Shared) -> Carry:
        """What the first window of a shot gets in place of a predecessor's carry."""
        ...

    def stylize(self, window: Window, shared: Shared, carry: Carry, parts: Components) -> tuple[Frames, Carry]: ...


@dataclass(frozen=True)
class Progress:
    """How far a run is. Within a window, `step` of `steps` denoising steps are done."""

    window: int
    frames_done: int
    frames: int | None  # None: not known
    step: int
    steps: int
    window_frames: int  # fresh frames of this window


OnProgress = Callable[[Progress], None]


def stylize_windows(
    method: Method[Any] | ChainedMethod[Any, Any],
    frames: Iterable[Frame],
    clip: Clip,
    prompt: Prompt,
    parts: Components,
    *,
    on_progress: OnProgress | None = None,
    exact: Callable[[], Components] | None = None,
) -> Iterator[tuple[Window, Frames]]:
    """Yield each window with its fresh frames restyled, as soon as they are done.

    No window spans one of the clip's cuts, and a chained method starts anew after each. `frames` are drawn lazily and
    all have the size that `clip` names. `on_progress` is called after each prediction and after each window. `exact`
    gives the parts in full precision: a window whose result is not finite is done again with them, and so are all later
    ones. Raises ModelError (KP-RESULT-NONFINITE) if that does not help, ShapeError if the method returns another number
    of frames than the window has fresh ones.
    """
    shared = method.prepare(clip, prompt, parts)
    chained = cast("ChainedMethod[Any, Any]", method) if hasattr(method, "start") else None
    carry: Any = None

    def run(window: Window, watched: Components) -> tuple[Frames, Any]:
        if chained:
            return chained.stylize(window, shared, carry, watched)
        return cast("Method[Any]", method).stylize(window, shared, watched), None

    done = 0
    for window in method.windows.cut(frames, clip.cuts):
        if chained and window.opens_shot:
            carry = chained.start(shared)
        result, following = run(window, _watched(parts, window, done, clip, on_progress))
        if not torch.isfinite(result).all() and exact and parts.dtype != torch.float32:
            warnings.warn(f"{parts.dtype} gave values that are not finite; going on in float32", stacklevel=2)
            parts, exact = exact(), None
            shared = method.prepare(clip, prompt, parts)
            result, following = run(window, _watched(parts, window, done, clip, on_progress))
        if not torch.isfinite(result).all():
            raise ModelError(
                "KP-RESULT-NONFINITE",
                "the model gives values that are not finite numbers",
                where=f"frames {window.fresh_numbers[0]} to {window.fresh_numbers[-1]}",
                fix="use smaller guidance scales; if they are small, the model is broken",
            )
        if len(result) != len(window.fresh_numbers):
            raise ShapeError(
                f"{type(method).__name__} returned {len(result)} frames for a window with "
                f"{len(window.fresh_numbers)} fresh ones",
                where=f"window {window.index}",
                fix="return only window.fresh",
            )
        carry = following
        done += len(result)
        if on_progress:
            on_progress(Progress(window.index + 1, done, clip.count, 0, 1, 0))
        yield window, result


def _watched(parts: Components, window: Window, done: int, clip: Clip, on_progress: OnProgress | None) -> Components:
    if on_progress is None:
        return parts
    fresh = len(window.fresh_numbers)
    return replace(
        parts,
        backbone=_Watched(
            parts.backbone,
            lambda step: on_progress(Progress(window.index, done, clip.count, step.index + 1, step.count, fresh)),
        ),
    )


class _Watched:
    """A backbone that tells somebody about each prediction."""

    def __init__(self, backbone: Backbone, report: Callable[[Step], None]) -> None:
        self.backbone, self.report = backbone, report
        self.latent_channels, self.image_channels = backbone.latent_channels, backbone.image_channels

    def predict(
        self,
        latents: Latents,
        step: Step,
        conditions: Sequence[Condition],
        *,
        interventions: Sequence[Intervention] = (),
        features: Sequence[FeatureHook] = (),
    ) -> Float[Tensor, "term frame channel height width"]:
        result = self.backbone.predict(latents, step, conditions, interventions=interventions, features=features)
        self.report(step)
        return result
