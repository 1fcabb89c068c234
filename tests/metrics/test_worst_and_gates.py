"""The frames to look at, and limits for scripts."""

from itertools import pairwise

import pytest

from kinopaint.errors import SettingsError
from kinopaint.metrics.gates import Gate
from kinopaint.metrics.worst import worst_frames


def series(count=40, **changed):
    """Quiet series with a little spread; `changed` gives frame -> value for a metric."""
    quiet = {
        "e_warp_previous": [None] + [0.02 + 0.001 * (k % 3) for k in range(1, count)],
        "sharpness_ratio": [1.0 + 0.01 * (k % 3) for k in range(count)],
        "ssim": [0.8 + 0.01 * (k % 2) for k in range(count)],
    }
    for name, values in changed.items():
        for frame, value in values.items():
            quiet[name][frame] = value
    return quiet


TIMES = [k / 10 for k in range(40)]


def test_outliers_are_found_with_their_kind_the_worst_first():
    result = series(e_warp_previous={20: 0.3}, sharpness_ratio={5: 0.5}, ssim={33: 0.7})
    found = worst_frames(result, series(), TIMES)
    assert [(worst.frame, worst.why) for worst in found[:3]] == [
        (20, "flicker"),
        (5, "blur"),
        (33, "unlike the source"),
    ]
    assert found[0].time == 2.0
    assert found[0].value == 0.3
    assert all(one.score >= other.score for one, other in pairwise(found))


def test_what_the_source_does_too_is_no_flicker():
    moved = {"e_warp_previous": {20: 0.3}}
    assert all(worst.frame != 20 for worst in worst_frames(series(**moved), series(**moved), TIMES))


def test_neighbours_are_merged_and_at_most_five_listed():
    close = worst_frames(series(e_warp_previous={20: 0.3, 21: 0.4, 23: 0.2}), series(), TIMES)
    assert [worst.frame for worst in close if 17 < worst.frame < 26] == [21]
    many = series(e_warp_previous={k: 0.3 + k / 100 for k in range(1, 40, 6)})
    assert len(worst_frames(many, series(), TIMES)) == 5


def test_the_first_frame_of_a_shot_is_not_judged_and_shots_stand_alone():
    result = series(e_warp_previous={20: 0.9})
    assert worst_frames(result, series(), TIMES)[0].frame == 20
    assert all(worst.frame != 20 for worst in worst_frames(result, series(), TIMES, cuts=(20,)))
    soft = series(sharpness_ratio={k: 0.5 + 0.01 * (k % 3) for k in range(20, 40)})  # a softer shot is no outlier
    assert all(worst.why != "blur" or worst.score < 3 for worst in worst_frames(soft, series(), TIMES, cuts=(20,)))


def test_steady_and_short_clips_have_no_worst_frame():
    flat = {name: [1.0] * 5 for name in ("e_warp_previous", "sharpness_ratio", "ssim")}
    assert worst_frames(flat, flat, TIMES[:5]) == ()
    assert worst_frames(*[{name: values[:1] for name, values in flat.items()}] * 2, TIMES[:1]) == ()


@pytest.mark.parametrize(
    ("text", "value", "fails"),
    [
        ("e_warp>0.05", 0.06, True),
        ("e_warp > 0.05", 0.05, False),
        ("e_warp>=0.05", 0.05, True),
        ("ssim<.9", 0.8, True),
        ("ssim<=0.8", 0.8, True),
        ("psnr<3e1", 31, False),
        ("tem_con<0.9", 0.5, True),
    ],
)
def test_gates(text, value, fails):
    gate = Gate.parse(text)
    assert (gate.failure({gate.metric: value}, {}) is not None) == fails


def test_a_gate_on_what_could_not_be_measured_fails_and_says_why():
    assert "no encoder" in Gate.parse("content<0.5").failure({"content": None}, {"content": "no encoder"})


@pytest.mark.parametrize("text", ["", "e_warp", "e_warp=1", "e_warp>", ">1", "e_warp>x", "e_warp>nan", "e_wrap>1"])
def test_what_is_no_gate_is_refused(text):
    with pytest.raises(SettingsError) as raised:
        Gate.parse(text)
    assert raised.value.where == "--fail-if"
    if text == "e_wrap>1":
        assert "e_warp" in raised.value.fix
