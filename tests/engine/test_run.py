"""The fold: order, constant memory, progress, chained methods, and what happens to values that are not finite."""

from dataclasses import dataclass, replace

import pytest
import torch

from kinopaint.engine.denoiser import Condition
from kinopaint.engine.run import stylize_windows
from kinopaint.errors import ModelError, ShapeError
from kinopaint.types import Clip, Prompt, WindowPlan

TWO, THREE = WindowPlan(2), WindowPlan(3, overlap=1)
CLIP, PROMPT = Clip(8, 8, 5), Prompt("oil")


@dataclass(frozen=True)
class Darker:
    windows: WindowPlan = TWO

    def prepare(self, clip, prompt, parts):
        return 0.5

    def stylize(self, window, shared, parts):
        return window.frames[window.fresh] * shared


@dataclass(frozen=True)
class RunningSum:
    windows: WindowPlan = THREE

    def prepare(self, clip, prompt, parts):
        return None

    def start(self, shared):
        return torch.zeros(3, 8, 8)

    def stylize(self, window, shared, carry, parts):
        results = []
        for frame in window.frames[window.fresh]:
            carry = carry + frame
            results.append(carry)
        return torch.stack(results), carry


def frames(count=5):
    return (torch.full((3, 8, 8), float(number)) for number in range(count))


def run(method, source, parts, **options):
    return torch.cat([done.frames for done in stylize_windows(method, source, CLIP, PROMPT, parts, **options)])


def test_windows_come_in_order(parts):
    assert run(Darker(), frames(), parts)[:, 0, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2]


@pytest.mark.parametrize("plan", [WindowPlan(1), WindowPlan(3, 1), WindowPlan(5)])
def test_a_chained_method_hands_its_carry_on(plan, parts):
    assert run(RunningSum(plan), frames(), parts)[:, 0, 0, 0].tolist() == [0, 1, 3, 6, 10]


def test_a_chained_method_starts_anew_at_a_cut(parts):
    windows = stylize_windows(RunningSum(), frames(), replace(CLIP, cuts=(2, 4)), PROMPT, parts)
    assert torch.cat([done.frames for done in windows])[:, 0, 0, 0].tolist() == [0, 1, 2, 5, 4]


def test_frames_are_read_only_as_far_as_results_are_taken(parts):
    drawn = []
    source = (drawn.append(number) or frame for number, frame in enumerate(frames(100)))
    results = stylize_windows(Darker(), source, CLIP, PROMPT, parts)
    assert drawn == []
    next(results)
    assert len(drawn) == 2


def test_no_frames_give_no_windows(parts):
    assert list(stylize_windows(Darker(), iter(()), CLIP, PROMPT, parts)) == []


def test_progress_tells_steps_and_windows(parts):
    @dataclass(frozen=True)
    class Asking(Darker):
        def stylize(self, window, shared, parts):
            text = parts.text_encoder.encode(["oil"])[0]
            for step in parts.schedule.steps(2):
                parts.backbone.predict(torch.zeros(1, 4, 2, 2), step, [Condition("style", text)])
            return window.frames[window.fresh]

    seen = []
    run(Asking(WindowPlan(3)), frames(), parts, on_progress=seen.append)
    told = [(each.window, each.frames_done, each.frames, each.step, each.steps, each.window_frames) for each in seen]
    assert told == [
        (0, 0, 5, 1, 2, 3),
        (0, 0, 5, 2, 2, 3),
        (1, 3, 5, 0, 1, 0),
        (1, 3, 5, 1, 2, 2),
        (1, 3, 5, 2, 2, 2),
        (2, 5, 5, 0, 1, 0),
    ]


def test_a_method_that_forgets_frames_is_named(parts):
    @dataclass(frozen=True)
    class Forgetful(Darker):
        def stylize(self, window, shared, parts):
            return window.frames[:1]

    with pytest.raises(ShapeError, match="Forgetful returned 1 frames for a window with 2 fresh ones"):
        run(Forgetful(), frames(), parts)


@dataclass(frozen=True)
class Overflowing(Darker):
    """Fails in half precision, from the second window on."""

    def stylize(self, window, shared, parts):
        broken = parts.dtype != torch.float32 and window.index
        return window.frames[window.fresh] * (float("nan") if broken else 1)


def half(parts):
    return replace(parts, dtype=torch.bfloat16)


def test_values_that_are_not_finite_are_tried_again_in_full_precision(parts):
    asked = []
    done = list(
        stylize_windows(Overflowing(), frames(), CLIP, PROMPT, half(parts), exact=lambda: asked.append(1) or parts)
    )
    assert torch.cat([each.frames for each in done])[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert [each.fallback for each in done] == ["", "float32", ""]
    assert asked == [1]


def test_a_chained_method_starts_anew_if_its_first_window_fails(parts):
    @dataclass(frozen=True)
    class Precise(RunningSum):
        def prepare(self, clip, prompt, parts):
            return parts.dtype

        def start(self, shared):
            return torch.full((3, 8, 8), 0.0 if shared == torch.float32 else float("nan"))

    assert run(Precise(), frames(), half(parts), exact=lambda: parts)[:, 0, 0, 0].tolist() == [0, 1, 3, 6, 10]


def test_values_that_stay_infinite_are_an_error(parts):
    source = (frame / 0 for frame in frames())
    with pytest.raises(ModelError, match="not finite") as caught:
        run(Darker(), source, half(parts), exact=lambda: parts)
    assert caught.value.code == "KP-RESULT-NONFINITE"
    assert caught.value.where == "frames 0 to 1"


def test_a_frame_of_one_colour_is_an_error_that_names_it(parts):
    @dataclass(frozen=True)
    class Blank(Darker):
        def stylize(self, window, shared, parts):
            return torch.stack(
                [frame * (number != 3) for number, frame in zip(window.numbers, window.frames, strict=True)]
            )

    lively = torch.rand(5, 3, 8, 8) * 2 - 1
    with pytest.raises(ModelError, match="single colour") as caught:
        run(Blank(), lively, half(parts), exact=lambda: parts)
    assert (caught.value.code, caught.value.where) == ("KP-RESULT-FLAT", "frame 3")


def test_going_on_after_any_window_equals_one_pass(parts):
    method = RunningSum(WindowPlan(3, overlap=1, anchors=(0,)))
    whole = list(stylize_windows(method, frames(9), CLIP, PROMPT, parts))
    for done in whole[:-1]:
        at = done.window.index + 1
        rest = list(stylize_windows(method, frames(9), CLIP, PROMPT, parts, resume_at=at, carry=done.carry))
        assert [each.window.numbers for each in rest] == [each.window.numbers for each in whole[at:]]
        assert all(torch.equal(a.frames, b.frames) for a, b in zip(rest, whole[at:], strict=True))
