import json
from dataclasses import replace
from fractions import Fraction

import pytest
from clips import make_clip

from kinopaint.errors import OutputError
from kinopaint.video import DeliveryPlan, check_delivery, color, encoder, open_writer
from kinopaint.video.delivery import OtherStreams, SoundPlan
from kinopaint.video.encoder import VideoSink
from kinopaint.video.passthrough import Passthrough
from kinopaint.video.reader import open_here
from kinopaint.video.target import Target

pytestmark = pytest.mark.usefixtures("in_this_process")

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


# What breaks between the pictures and the file is seen, whatever the format: here each part is broken on purpose.


def lose_a_frame(monkeypatch):
    write = VideoSink.write
    monkeypatch.setattr(VideoSink, "write", lambda sink, image, f: None if f.index == 2 else write(sink, image, f))


def move_frames(monkeypatch, *numbers):
    write = VideoSink.write

    def late(sink, image, frame):
        by = round(Fraction(1, 50) / frame.time_base) if frame.index in numbers else 0
        write(sink, image, replace(frame, pts=frame.pts + by))

    monkeypatch.setattr(VideoSink, "write", late)


def move_a_frame(monkeypatch):
    move_frames(monkeypatch, 2)


def move_the_first_frame(monkeypatch):
    move_frames(monkeypatch, 0)


def move_the_last_frame(monkeypatch):
    move_frames(monkeypatch, 5)


def prolong_the_last_frame(monkeypatch):
    write = VideoSink.write
    monkeypatch.setattr(VideoSink, "write", lambda sink, image, f: write(sink, image, replace(f, duration=Fraction(1))))


def lose_a_packet_of_sound(monkeypatch):
    write, lost = Passthrough._write, []

    class Nowhere:
        def mux(self, packets):
            lost.extend(packets)

    def leaky(through, packet):
        kept = through._output
        if not lost:
            through._output = Nowhere()
        write(through, packet)
        through._output = kept

    monkeypatch.setattr(Passthrough, "_write", leaky)


def shift_the_sound(monkeypatch):
    write = Passthrough._write

    def late(through, packet):
        by = round(Fraction(1, 10) / packet.time_base)
        first = through._routes[packet.stream_index].first
        packet.pts, packet.dts = packet.pts + by, packet.dts + by
        write(through, packet)
        through._routes[packet.stream_index].first = Fraction(0) if first is None else first

    monkeypatch.setattr(Passthrough, "_write", late)


def tag_other_colours(monkeypatch):
    monkeypatch.setattr(color, "BT709", 9)
    monkeypatch.setattr(encoder, "BT709", 9)


def stretch_the_pixels(monkeypatch):
    add = VideoSink._add_video

    def stretched(sink, *args):
        stream = add(sink, *args)
        monkeypatch.setattr(Target, "_planned_shape", Fraction(2))
        return stream

    monkeypatch.setattr(VideoSink, "_add_video", stretched)
    finish = VideoSink.finish

    def and_back(sink):
        monkeypatch.setattr(Target, "_planned_shape", Fraction(1))
        return finish(sink)

    monkeypatch.setattr(VideoSink, "finish", and_back)


def lose_the_transparency(monkeypatch):
    monkeypatch.setattr(Target, "pixel_format", "bgr0")


@pytest.mark.parametrize(
    ("ending", "codec", "harm", "sentence"),
    [
        *((ending, "auto", lose_a_frame, "frames: 5 in") for ending in (".mp4", ".mov", ".mkv", ".webm", ".gif")),
        *((ending, "auto", move_a_frame, "time of frame 2") for ending in (".mp4", ".mkv", ".webm", ".gif")),
        (".mp4", "auto", move_the_first_frame, "first time"),
        (".mkv", "av1", move_the_last_frame, "last time"),
        (".mov", "prores", prolong_the_last_frame, "duration"),
        (".mkv", "auto", lose_a_packet_of_sound, "packets of sound 0: 20 in the output, 21 planned"),
        (".mp4", "auto", shift_the_sound, "begin of sound 0"),
        (".mp4", "auto", tag_other_colours, "colour: bt2020"),
        (".webm", "auto", tag_other_colours, "colour: bt2020"),
        (".mov", "prores", tag_other_colours, "colour: bt2020"),
        (".mp4", "auto", stretch_the_pixels, "pixel shape: 2 in the output, 1 planned"),
        (".mkv", "ffv1", lose_the_transparency, "transparency: False in the output, True planned"),
    ],
)
def test_whatever_breaks_while_writing_is_seen(tmp_path, monkeypatch, ending, codec, harm, sentence):
    seen = {"codec": "ffv1", "pixel_format": "bgra", "tags": None} if harm is lose_the_transparency else {}
    steady = {"times": range(0, 240, 40), "time_base": Fraction(1, 1000), "last_duration": 40}
    source = make_clip(tmp_path / "a.mkv", audio=["aac"], **steady, **seen)
    harm(monkeypatch)
    with open_here(source) as clip, open_writer(tmp_path / f"b{ending}", source=clip.info, codec=codec) as writer:
        for frame in clip:
            writer.write(frame.image, frame)
        with pytest.raises(OutputError, match="KP-OUTPUT-DELIVERY") as caught:
            writer.finish()
    assert sentence in caught.value.what
    assert caught.value.exit_code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["a.mkv"]
