"""What people and machines bring along: strange prompts, clocks that jump, a comma for the decimal point."""

import locale
import os
import sys
import time

import numpy as np
import pytest
from tests.clips import write_clip

import kinopaint
from kinopaint.methods import StyleAVideo


@pytest.fixture
def paint(model_folder, tmp_path):
    clip = write_clip(tmp_path / "in.mp4", 3, sound=False)

    def run(name, prompt="oil", **settings):
        settings = {"steps": 1, "dtype": "float32", "codec": "ffv1", **settings}
        output = tmp_path / f"{name}.mkv"
        kinopaint.stylize(clip, prompt, output, model=model_folder, progress=lambda event: None, **settings)
        with kinopaint.video.open_clip(output) as result:
            return np.stack([frame.image for frame in result])

    return run


@pytest.mark.parametrize("prompt", ["🎨👩‍🎨🇫🇷 ✏️", "a\nwatercolor\tpainting", "日本語の水彩画 in oil"])
def test_any_script_is_a_prompt(paint, prompt):
    assert paint("a", prompt).shape == (3, 32, 48, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have names in Unicode only")
def test_a_name_may_hold_bytes_that_are_no_text(model_folder, tmp_path):
    """As archives of other times and places hold them; the recipe names the source all the same."""
    clip = write_clip(tmp_path / os.fsdecode(b"caf\xe9.mp4"), 2)
    for output in ("out.mkv", "out.gif"):
        kinopaint.stylize(clip, "oil", tmp_path / output, model=model_folder, steps=1, progress=lambda event: None)
        again = kinopaint.again(tmp_path / output, model=model_folder, progress=lambda event: None)
        assert again.recipe["source"]["name"] == clip.name


def test_five_thousand_words_are_cut_and_it_is_said(parts):
    words = "very " * 4999 + "blue"
    frames = [np.zeros((32, 48, 3), np.uint8) + np.arange(48, dtype=np.uint8)[None, :, None]] * 2
    method = StyleAVideo(num_inference_steps=1)
    with pytest.warns(UserWarning, match="will not see") as told:
        painted = list(kinopaint.stylize_frames(frames, words, method=method, parts=parts))
    assert len(painted) == 2
    assert len(str(told[0].message)) < 1000


def test_scales_that_cancel_are_no_fault(paint):
    assert paint("a", s_image=0, s_text=0, s_mask=0).std() > 0


def test_a_clock_that_jumps_changes_nothing(paint, monkeypatch):
    steady = paint("steady")
    moments = iter(range(10**9, 0, -86400))
    monkeypatch.setattr(time, "time", lambda: float(next(moments)))
    assert np.array_equal(paint("jumping"), steady)


def test_a_decimal_comma_changes_nothing(paint):
    before = locale.setlocale(locale.LC_ALL)
    for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "German_Germany.1252"):
        try:
            locale.setlocale(locale.LC_ALL, name)
            break
        except locale.Error:
            continue
    else:
        pytest.skip("no locale with a decimal comma on this system")
    try:
        assert np.array_equal(paint("comma", s_text="1.5"), paint("point", s_text=1.5))
    finally:
        locale.setlocale(locale.LC_ALL, before)
