"""The fold over windows: a method turns a video into another one, window by window, in constant memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from kinopaint.engine.components import Components
from kinopaint.engine.denoiser import Backbone, Condition, reuses
from kinopaint.engine.device import device_errors
from kinopaint.engine.faults import Fault, WatchedAutoencoder, find_fault
from kinopaint.engine.interventions import FeatureHook, Intervention
from kinopaint.engine.load import is_out_of_memory, under
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
    """How far a run is. Within a window, `step` of `steps` denoising steps are done; for methods that go through them
    more than once, and say so by an attribute `predictions`, so many of their calls of the network.
    """

    window: int
    frames_done: int
    frames: int | None  # None: not known
    step: int
    steps: int
    window_frames: int  # fresh frames of this window


OnProgress = Callable[[Progress], None]


class Painted(NamedTuple):
    """A window with its fresh `frames` restyled, and the `carry` after it (None for methods without one).

    `fallback` says what had to be changed for this window and all later ones: "float32", a smaller load, both with
    "; " between, or "" for nothing.
    """

    window: Window
    frames: Frames
    carry: Any
    fallback: str = ""


def stylize_windows(
    method: Method[Any] | ChainedMethod[Any, Any],
    frames: Iterable[Frame],
    clip: Clip,
    prompt: Prompt,
    parts: Components,
    *,
    on_progress: OnProgress | None = None,
    exact: Callable[[], Components] | None = None,
    resume_at: int = 0,
    carry: Any = None,
    frugal: bool = False,
) -> Iterator[Painted]:
    """Yield each window with its fresh frames restyled, as soon as they are done.

    No window spans one of the clip's cuts, and a chained method starts anew after each. `frames` are drawn lazily and
    all have the size that `clip` names. `on_progress` is called after each prediction and after each window.

    `frugal`: once the method is prepared, a text encoder that can be read again makes room.

    To go on with an earlier run, `resume_at` is the first window to paint and `carry` what the one before it left;
    `frames` are all of them nevertheless, because windows see frames of earlier ones.

    `exact` gives the parts in full precision: a window with a fault (`kinopaint.engine.faults`) is done again with
    them, and so are all later ones. Raises ModelError (KP-RESULT-NONFINITE, KP-RESULT-FLAT) that names the frames if
    that does not help. If memory runs out, the window is done again with a smaller load (`kinopaint.engine.load`), and
    so are all later ones; ModelError (KP-MEMORY) if the smallest is too much, and ModelError (KP-DEVICE-LOST) if the
    device fails. ShapeError if the method returns another number of frames than the window has fresh ones.
    """
    shared = _prepared(method, clip, prompt, parts, frugal=frugal)
    chained = cast("ChainedMethod[Any, Any]", method) if hasattr(method, "start") else None

    def run(window: Window) -> tuple[Frames, Any, Fault | None]:
        autoencoder = WatchedAutoencoder(parts.autoencoder)
        watched = replace(_watched(parts, method, window, clip, on_progress), autoencoder=autoencoder)
        if chained:
            before = chained.start(shared) if window.opens_shot else carry
            result, following = chained.stylize(window, shared, before, watched)
        else:
            result, following = cast("Method[Any]", method).stylize(window, shared, watched), None
        if len(result) != len(window.fresh_numbers):
            raise ShapeError(
                f"{type(method).__name__} returned {len(result)} frames for a window with "
                f"{len(window.fresh_numbers)} fresh ones",
                where=f"window {window.index}",
                fix="return only window.fresh",
            )
        return result, following, find_fault(result, window.frames[window.fresh], latents_finite=autoencoder.finite)

    def painted(window: Window, changes: list[str]) -> tuple[Frames, Any, Fault | None]:
        """Run with less and less at once until memory suffices, and stay there."""
        nonlocal parts
        while True:
            try:
                with device_errors(_named(window.fresh_numbers)):
                    return run(window)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                smaller = parts.load.smaller()
                if smaller is None:
                    raise ModelError(
                        "KP-MEMORY",
                        f"out of memory with {parts.load}",
                        where=_named(window.fresh_numbers),
                        fix="use a smaller --work-size, or --windows of fewer frames",
                    ) from error
            parts = under(smaller, parts)  # after the handler: the traceback held what had been computed
            changes.append(str(smaller))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    for window in method.windows.cut(frames, clip.cuts):
        if window.index < resume_at:
            continue
        changes: list[str] = []
        result, following, fault = painted(window, changes)
        if fault and exact and parts.dtype != torch.float32:
            changes.append("float32")
            parts, exact = under(parts.load, exact()), None
            shared = _prepared(method, clip, prompt, parts, frugal=frugal)
            result, following, fault = painted(window, changes)
        if fault:
            raise ModelError(
                fault.code,
                fault.what,
                where=_named([window.fresh_numbers[place] for place in fault.places]),
                fix="use smaller guidance scales or another seed; if they are small, the model is broken",
            )
        carry = following
        if on_progress:
            on_progress(Progress(window.index + 1, window.fresh_numbers[-1] + 1, clip.count, 0, 1, 0))
        yield Painted(window, result, carry, "; ".join(changes))


def _prepared(method: Any, clip: Clip, prompt: Prompt, parts: Components, *, frugal: bool) -> Any:
    shared = method.prepare(clip, prompt, parts)
    rest = getattr(parts.text_encoder, "rest", None)
    if frugal and rest is not None:
        rest()
    return shared


def _named(numbers: Sequence[int]) -> str:
    first, last = numbers[0], numbers[-1]
    if last - first + 1 == len(numbers) > 1:
        return f"frames {first} to {last}"
    return f"frame{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _watched(parts: Components, method: Any, window: Window, clip: Clip, on_progress: OnProgress | None) -> Components:
    if on_progress is None:
        return parts
    done, fresh = window.fresh_numbers[0], len(window.fresh_numbers)
    calls, expected = 0, getattr(method, "predictions", None)

    def report(step: Step) -> None:
        nonlocal calls
        calls += 1
        at, of = (calls, expected) if expected else (step.index + 1, step.count)
        on_progress(Progress(window.index, done, clip.count, at, of, fresh))

    return replace(parts, backbone=_Watched(parts.backbone, report))


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

    def reuses(self, step: Step) -> bool:
        return reuses(self.backbone, step)
