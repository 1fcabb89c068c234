"""The encoding process: it writes what the sink in this process writes, and its end becomes one clear error."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import av
import numpy as np
import pytest
from clips import make_clip, read_packets

from kinopaint.errors import InputError, OutputError, SettingsError
from kinopaint.video import delivery, helper, isolated_sink, open_clip, open_writer, writer
from kinopaint.video.encoder import VideoSink
from kinopaint.video.reader import open_here

posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "a.mkv", audio=["aac", "libopus"], metadata={"title": "öl"})


@pytest.fixture
def long_clip(tmp_path):
    return make_clip(tmp_path / "a.mp4", size=(320, 240), times=range(0, 512 * 30, 512), audio=["aac"])


def copied(source, target, **options):
    with open_here(source) as frames, open_writer(target, source=frames.info, **options) as sink:
        for frame in frames:
            sink.write(frame.image, frame)
        return sink.finish()


@pytest.mark.parametrize("name", ["b.mp4", "b.webm", "b.gif"])
def test_it_writes_what_is_written_here(clip, tmp_path, name, monkeypatch):
    there = copied(clip, tmp_path / name)
    packets = read_packets(tmp_path / name, "video"), read_packets(tmp_path / name, "audio")
    (tmp_path / name).unlink()
    monkeypatch.setattr(writer, "IsolatedSink", lambda target, final: VideoSink(target))
    here = copied(clip, tmp_path / name)
    assert there == here
    assert bool(there.warnings) == (name != "b.mp4")
    assert packets == (read_packets(tmp_path / name, "video"), read_packets(tmp_path / name, "audio"))


def test_the_source_is_opened_in_no_process_of_ours(clip, tmp_path, monkeypatch):
    """Neither when it is looked at, nor decoded, nor when its sound is copied; nor is the result, which holds that."""
    opened = []
    inner = av.open

    def watched(file, *given, **named):
        opened.append(file)
        return inner(file, *given, **named)

    monkeypatch.setattr(av, "open", watched)
    with open_clip(clip) as frames, open_writer(tmp_path / "b.mp4", source=frames.info) as sink:
        frames.find_cuts()
        for frame in frames:
            sink.write(frame.image, frame)
        written = sink.finish()
    assert written.delivery.audio_packets
    assert opened == []
    open_here(clip).close()
    assert opened == [str(clip)]  # so it would have been seen


def test_errors_of_the_other_process_are_ours(clip, tmp_path):
    with open_here(clip) as frames:
        with pytest.raises(SettingsError, match="KP-SETTING-FORMAT"):
            open_writer(tmp_path / "b.gif", source=replace(frames.info, rate=frames.info.rate * 100))
        moved = clip.rename(tmp_path / "moved.mkv")
        with pytest.raises(InputError, match="KP-INPUT-MISSING"):
            open_writer(tmp_path / "b.mp4", source=frames.info)
        moved.rename(clip)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv"]


def half_written(clip, tmp_path):
    frames = open_here(clip)
    sink = open_writer(tmp_path / "b.mp4", source=frames.info)
    for frame in frames:
        if frame.index == 5:
            return sink, frame
        sink.write(frame.image, frame)
    raise AssertionError


def go_on(sink, frame):
    """Write until it is noticed."""
    for _ in range(10):
        sink.write(frame.image, frame)
        frame = replace(frame, pts=frame.pts + 512)
    sink.finish()


@posix
@pytest.mark.parametrize(("number", "said"), [(signal.SIGSEGV, "crashed (SIGSEGV)"), (signal.SIGKILL, "was killed")])
def test_a_crash_is_an_error_with_the_place_and_leaves_nothing(long_clip, tmp_path, number, said):
    sink, frame = half_written(long_clip, tmp_path)
    sink._sink._process.send_signal(number)
    with sink, pytest.raises(OutputError) as caught:
        go_on(sink, frame)
    assert (caught.value.code, caught.value.what) == (
        "KP-OUTPUT-CRASH",
        f"the encoder {said}" + (", most likely for lack of memory" if number == signal.SIGKILL else ""),
    )
    assert "after frame" in caught.value.where
    assert "same command" in caught.value.fix
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


@posix
@pytest.mark.parametrize("while_", ["writing", "finishing"])
def test_a_hang_is_ended_by_the_watchdog(long_clip, tmp_path, monkeypatch, while_):
    monkeypatch.setenv("KINOPAINT_LIMITS", "writing=1.5")
    begin = time.monotonic()
    sink, frame = half_written(long_clip, tmp_path)
    child = sink._sink._process
    child.send_signal(signal.SIGSTOP)
    with sink, pytest.raises(OutputError, match=r"no progress for 1\.5 s") as caught:
        go_on(sink, frame) if while_ == "writing" else sink.finish()
    assert caught.value.code == "KP-OUTPUT-HANG"
    assert "KINOPAINT_LIMITS to writing=3" in caught.value.fix
    assert time.monotonic() - begin < 60
    assert child.poll() is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


@posix
def test_slow_encoding_of_a_file_that_grows_is_no_hang(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("KINOPAINT_LIMITS", "writing=2")
    slow = (
        "import time; from kinopaint.video import encoder; finish = encoder.VideoSink.finish\n"
        "def slowly(self):\n"
        "    for _ in range(15): time.sleep(0.2); open(self.path, 'ab').close(); __import__('os').utime(self.path)\n"
        "    return finish(self)\n"
        "def made(self, target): inner(self, target); self.path = target.path\n"
        "inner = encoder.VideoSink.__init__; encoder.VideoSink.__init__ = made; encoder.VideoSink.finish = slowly\n"
    )
    (tmp_path / "slow_encoder.py").write_text(slow)
    monkeypatch.setattr(isolated_sink, "_START", f"import slow_encoder; {isolated_sink._START}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert copied(clip, tmp_path / "b.mp4").delivery.ok


@posix
def test_a_picture_too_large_for_the_pipe_is_watched_too(tmp_path, monkeypatch):
    monkeypatch.setenv("KINOPAINT_LIMITS", "writing=1.5")
    clip = make_clip(
        tmp_path / "a.mp4", size=(1280, 720), times=range(0, 512 * 8, 512), options={"preset": "ultrafast"}
    )
    sink, frame = half_written(clip, tmp_path)
    sink._sink._process.send_signal(signal.SIGSTOP)
    with sink, pytest.raises(OutputError, match="KP-OUTPUT-HANG"):
        go_on(sink, frame)


def test_what_was_handed_over_may_be_changed(clip, tmp_path, monkeypatch):
    send = helper.wire.send

    def late(stream, value):
        time.sleep(0.05)
        send(stream, value)

    monkeypatch.setattr(helper.wire, "send", late)
    with open_here(clip) as frames, open_writer(tmp_path / "b.mkv", source=frames.info, codec="ffv1") as sink:
        images = []
        for frame in frames:
            images.append(frame.image.copy())
            sink.write(frame.image, frame)
            frame.image[:] = 0
        sink.finish()
    with open_here(tmp_path / "b.mkv") as back:
        assert all(np.array_equal(a.image, b) for a, b in zip(back, images, strict=True))


def test_it_imports_no_torch():
    program = "import sys, kinopaint.video.sink_child; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"


def test_the_check_of_the_delivery_opens_nothing_here(clip, monkeypatch):
    monkeypatch.setattr(av, "open", lambda *given, **named: pytest.fail("opened here"))
    assert delivery.scan(clip)[0].frame_count == 6
