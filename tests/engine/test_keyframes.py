"""Keyframes and their windows: every frame is written once, every keyframe painted once, with the right anchors."""

from itertools import pairwise

import pytest
import torch

from kinopaint.engine.keyframes import (
    KeyframePlan,
    adaptive_keyframes,
    differences,
    grouped,
    uniform_keyframes,
)
from kinopaint.errors import SettingsError
from kinopaint.types import WindowPlan

SIZES = range(3, 10)
COUNTS = range(1, 51)
PLANS = [KeyframePlan.parse(text) for text in ("3", "4", "5", "8", "8:2", "3:4", "5:7", "8:10:30", "4:2:5", "6:1:3")]


def frames(count):
    """Numbered frames, as small as frames can be; the change from one to the next varies."""
    return (torch.full((3, 1, 1), float(number)) for number in range(count))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", COUNTS)
def test_every_keyframe_is_new_in_one_window(count, size):
    groups = grouped(count, size)
    assert sum(groups) == count
    assert min(groups) >= 1
    assert groups[0] <= size
    assert all(group <= size - 2 for group in groups[1:])
    assert len(groups) == 1 + max(0, -(-(count - size) // (size - 2)))  # no window more than needed
    if len(groups) > 1:
        assert groups[-1] >= min(3, size - 2)
        assert groups[0] >= 2  # the two anchors are two frames


@pytest.mark.parametrize("plan", PLANS, ids=str)
@pytest.mark.parametrize("count", COUNTS)
def test_every_frame_is_fresh_once_and_every_keyframe_painted_once(plan, count):
    windows = list(plan.cut(frames(count)))
    assert [number for window in windows for number in window.fresh_numbers] == list(range(count))
    painted = []
    for index, window in enumerate(windows):
        assert window.index == index
        assert window.frames[:, 0, 0, 0].tolist() == list(window.numbers)
        assert window.opens_shot == (index == 0)
        assert len(window.keys) <= plan.size
        numbers = [window.numbers[place] for place in window.keys]
        assert numbers == sorted(set(numbers))
        if index:
            assert window.fresh == slice(2, len(window.numbers))
            assert numbers[:2] == [0, painted[-1]]
            assert window.keys[:2] == (0, 1)
            before = windows[index - 1]
            assert [before.numbers[place] for place in before.carried] == numbers[:2]
        fresh = numbers[2:] if index else numbers
        assert fresh[-1] == window.numbers[-1]
        painted += fresh
    assert painted[0] == 0
    assert painted[-1] == count - 1
    gaps = [after - before for before, after in pairwise(painted)]
    assert all(gap < 2 * max(plan.nearest, plan.farthest) for gap in gaps)
    if plan.farthest == 1:
        assert painted == list(range(count))


@pytest.mark.parametrize(
    "plan", [KeyframePlan(5, nearest=1, farthest=1), KeyframePlan(4, nearest=2, farthest=5)], ids=str
)
@pytest.mark.parametrize("cuts", [(1,), (7,), (3, 4, 20), (30, 99)])
def test_each_shot_is_cut_like_a_video_of_its_own(plan, cuts):
    count = 31
    clip = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(1))
    windows = list(plan.cut(clip, cuts))
    edges = [0, *(cut for cut in cuts if cut < count), count]
    alone = [
        tuple(number + first for number in window.numbers)
        for first, end in pairwise(edges)
        for window in plan.cut(clip[first:end])
    ]
    assert [window.numbers for window in windows] == alone
    assert [window.numbers[0] for window in windows if window.opens_shot] == edges[:-1]


def test_a_plan_for_all_frames_is_the_window_plan_with_anchors_but_for_the_end():
    windows = list(KeyframePlan(8, nearest=1, farthest=1).cut(frames(29)))
    plain = list(WindowPlan(8, 1, (0,)).cut(frames(29)))
    assert [window.numbers for window in windows][:3] == [window.numbers for window in plain][:3]
    assert [len(window.fresh_numbers) for window in windows] == [8, 6, 6, 6, 3]
    assert KeyframePlan(8, nearest=1, farthest=1).lengths(29) == [8, 8, 8, 8, 5]
    assert KeyframePlan(8, nearest=1, farthest=1).lengths(29, (9,)) == [6, 5, 8, 8, 8]


def test_no_more_frames_are_drawn_than_the_plan_says():
    drawn = []

    def watched():
        for number in range(100):
            drawn.append(number)
            yield torch.zeros(3, 1, 1)

    windows = KeyframePlan(5, nearest=2, farthest=2).cut(watched())
    next(windows)
    assert len(drawn) <= (5 + 3) * 2 + 4 * 2 + 1


def test_without_windows_there_are_no_frames():
    assert list(KeyframePlan().cut(frames(0))) == []


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_a_plan_reads_what_it_writes(plan):
    assert KeyframePlan.parse(str(plan)) == plan
    assert KeyframePlan.parse(str(plan.every_frame())) == KeyframePlan(plan.size, nearest=1, farthest=1)


@pytest.mark.parametrize("text", ["", "x", "2", "8:0", "8:5:4", "8:1:2:3", "0", "-8"])
def test_impossible_plans_are_refused(text):
    with pytest.raises(SettingsError, match="KP-SETTING-WINDOWS"):
        KeyframePlan.parse(text)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("stride", [1, 2, 7, 60])
def test_uniform_keyframes_are_equally_far_apart_and_end_with_the_last(count, stride):
    keys = uniform_keyframes(count, stride)
    assert (keys[0], keys[-1]) == (0, count - 1)
    assert {after - before for before, after in pairwise(keys[:-1])} <= {stride}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("nearest", "farthest"), [(1, 1), (1, 4), (3, 3), (3, 7), (10, 30)])
def test_adaptive_keyframes_keep_their_distances(count, nearest, farthest):
    changes = torch.rand(count, generator=torch.Generator().manual_seed(count))
    keys = adaptive_keyframes(changes, nearest, farthest)
    assert (keys[0], keys[-1]) == (0, count - 1)
    gaps = [after - before for before, after in pairwise(keys)]
    assert all(gap >= nearest for gap in gaps) or len(keys) == 2
    assert all(gap <= max(farthest, 2 * nearest - 1) for gap in gaps)


def test_adaptive_keyframes_lie_where_most_changes_in_the_whole_clip():
    changes = torch.zeros(21)
    changes[[4, 15]] = torch.tensor([2.0, 3.0])
    assert adaptive_keyframes(changes, 3, 12) == [0, 4, 15, 20]  # 15 alone leaves a gap of 15
    assert adaptive_keyframes(changes, 3, 15) == [0, 15, 20]
    assert adaptive_keyframes(changes, 6, 14) == [0, 6, 20]  # 15 is too near the end; ties go to the first


def test_differences_are_of_neighbours_and_blind_to_grain():
    flat, bright = torch.zeros(3, 40, 40), torch.full((3, 40, 40), 0.5)
    rows, columns = torch.arange(40.0)[:, None], torch.arange(40.0)
    checked = 0.5 * (rows + columns).remainder(2).expand(3, -1, -1)
    found = differences([flat, flat, bright, checked - 0.25])
    assert found[:2].tolist() == [0, 0]
    assert found[2] == pytest.approx(0.25)
    assert differences([flat, checked - 0.25])[1] < 1e-4
