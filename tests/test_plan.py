"""What the trials of a plan keep of the run that they stand for."""

import pytest
from tests.clips import write_clip

from kinopaint.engine.corrections import is_due
from kinopaint.methods import Fresco, StyleAVideo
from kinopaint.plan import _clip_interval, plan


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.2])
@pytest.mark.parametrize("every", [1.0, 4.0, 0.5, 0.33])
def test_the_clip_steps_of_a_trial_are_as_far_apart_as_in_the_run(every, strength):
    interval = _clip_interval(StyleAVideo(clip_strength=0.1, clip_every=every, strength=strength))
    steps = int(30 * strength)
    made = [index for index in range(steps) if is_due(index, steps, every)]
    assert interval == (made[1] if len(made) > 1 else int(every))


def test_without_steps_or_clip_steps_the_interval_is_one():
    assert _clip_interval(StyleAVideo(clip_every=0.5, strength=0.0)) == 1
    assert _clip_interval(Fresco()) == 1


def test_a_strength_that_leaves_no_step_is_planned(model_folder, tmp_path):
    found = plan(write_clip(tmp_path / "a.mp4"), "oil", tmp_path / "b.mp4", model=model_folder, strength=0.001)
    assert found.samples == 0
    assert found.seconds > 0
