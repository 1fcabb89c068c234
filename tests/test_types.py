"""Windows: every frame is written once, and no more frames are held than the plan says."""

from itertools import pairwise

import pytest
import torch

from kinopaint.errors import SettingsError
from kinopaint.types import Prompt, WindowPlan


def frames(count):
    return (torch.full((3, 1, 1), float(number)) for number in range(count))


PLANS = [
    WindowPlan(1),
    WindowPlan(4),
    WindowPlan(8, 1),
    WindowPlan(8, 3),
    WindowPlan(8, 1, (0,)),
    WindowPlan(6, 2, (0, 3)),
]


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("count", range(31))
def test_every_frame_is_fresh_once(plan, count):
    windows = list(plan.cut(frames(count)))
    assert [number for window in windows for number in window.fresh_numbers] == list(range(count))
    for index, window in enumerate(windows):
        assert window.index == index
        assert len(window.numbers) == len(window.frames) <= plan.size
        assert len(set(window.numbers)) == len(window.numbers)
        assert window.frames[:, 0, 0, 0].tolist() == list(window.numbers)
        if index:
            context = window.numbers[: window.fresh.start]
            first = window.fresh_numbers[0]
            assert set(context) == {*range(first - plan.overlap, first), *plan.anchors}
            before = windows[index - 1]
            assert {before.numbers[place] for place in before.carried} == set(context)


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("cuts", [(1,), (7,), (3, 4, 20), (8, 16, 24), (30, 99)])
def test_each_shot_is_cut_like_a_video_of_its_own(plan, cuts):
    count = 31
    windows = list(plan.cut(frames(count), cuts))
    assert [number for window in windows for number in window.fresh_numbers] == list(range(count))
    assert [window.index for window in windows] == list(range(len(windows)))
    assert [window.numbers[0] for window in windows if window.opens_shot] == [0, *(c for c in cuts if c < count)]
    edges = [0, *(c for c in cuts if c < count), count]
    alone = [
        tuple(number + first for number in window.numbers)
        for first, end in pairwise(edges)
        for window in plan.cut(frames(end - first))
    ]
    assert [window.numbers for window in windows] == alone
    assert [len(window.numbers) for window in windows] == plan.lengths(count, cuts)


def test_frames_are_drawn_only_when_needed():
    drawn = []

    def watched():
        for number in range(100):
            drawn.append(number)
            yield torch.zeros(3, 1, 1)

    windows = WindowPlan(4).cut(watched())
    next(windows)
    assert drawn == [0, 1, 2, 3]


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_plan_reads_what_it_writes(plan):
    assert WindowPlan.parse(str(plan)) == plan


@pytest.mark.parametrize("text", ["", "x", "8:1:0:2", "0", "4:4", "8:-1", "3:1:0,1", "8:0:9", "8:0:1,1"])
def test_impossible_plans_are_refused(text):
    with pytest.raises(SettingsError, match="KP-SETTING-WINDOWS"):
        WindowPlan.parse(text)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_prompt_is_refused(text):
    with pytest.raises(SettingsError, match="the prompt is empty"):
        Prompt(text)


@pytest.mark.parametrize(
    ("text", "negative"), [("\udcff oil", ""), ("oil", "\udcff"), (None, ""), (b"oil", ""), ("oil", 5)]
)
def test_a_prompt_is_text(text, negative):
    with pytest.raises(SettingsError, match="no text in Unicode") as caught:
        Prompt(text, negative)
    assert caught.value.code == "KP-PROMPT-TEXT"
