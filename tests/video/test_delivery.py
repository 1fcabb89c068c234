import json
from dataclasses import replace
from fractions import Fraction

import pytest
from clips import make_clip

from kinopaint.video import DeliveryPlan, check_delivery
from kinopaint.video.delivery import OtherStreams, SoundPlan

SOUND = SoundPlan(21, Fraction(-1024, 48000), Fraction(20480, 48000))

PLAN = DeliveryPlan(
    frames=6,
    first=Fraction(0),
    last=Fraction(1, 6),
    duration=Fraction(1, 5),
    width=64,
    height=48,
    others=OtherStreams((SOUND,)),
    times=range(6),
    time_base=Fraction(1, 30),
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("delivery") / "a.mp4", audio=["aac"])


def test_a_right_delivery(clip):
    check = check_delivery(clip, PLAN)
    assert check.ok, check.mismatches
    assert json.loads(json.dumps(check.as_dict()))["last"] == "1/6"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"frames": 7}, "frames: 6 in the output, 7 planned"),
        ({"first": Fraction(1, 30)}, "first time"),
        ({"last": Fraction(1, 5)}, "last time"),
        ({"duration": Fraction(1, 4)}, "duration"),
        ({"width": 62}, "size: 64x48 in the output, 62x48 planned"),
        ({"sample_aspect_ratio": Fraction(4, 3)}, "pixel shape"),
        ({"alpha": True}, "transparency: False in the output, True planned"),
        ({"times": [0, 1, 2, 4, 4, 5]}, "time of frame 3: 1/10 in the output, 2/15 planned"),
        ({"others": OtherStreams((replace(SOUND, packets=20),))}, "packets of sound 0: 21 in the output, 20 planned"),
        ({"others": OtherStreams((replace(SOUND, first=Fraction(1, 10)),))}, "begin of sound 0"),
        ({"others": OtherStreams((replace(SOUND, end=Fraction(1)),))}, "end of sound 0"),
        ({"others": OtherStreams((replace(SOUND, packets=None, end=Fraction(1)),))}, "end of sound 0"),
        ({"others": OtherStreams()}, "sound streams: 1 in the output, 0 planned"),
        ({"others": OtherStreams((SOUND,), subtitles=1)}, "subtitle streams: 0 in the output, 1 planned"),
        ({"others": OtherStreams((SOUND,), chapters=1)}, "chapters: 0 in the output, 1 planned"),
        ({"color": "bt601, limited range"}, "colour"),
    ],
)
def test_each_difference_is_seen(clip, change, sentence):
    (mismatch,) = check_delivery(clip, replace(PLAN, **change)).mismatches
    assert mismatch.startswith(sentence)


def test_times_may_be_rounded_to_the_containers_clock(clip):
    plan = replace(PLAN, last=Fraction(167, 1000), times=None)
    assert not check_delivery(clip, plan).ok
    assert check_delivery(clip, replace(plan, tick=Fraction(1, 1000))).ok


def test_an_output_that_cannot_be_opened_is_a_mismatch(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"\0" * 100)
    assert not check_delivery(tmp_path / "a.mp4", PLAN).ok


def test_a_truncated_output_is_a_mismatch(tmp_path, clip):
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes()[:-200])
    assert not check_delivery(tmp_path / "a.mp4", PLAN).ok
