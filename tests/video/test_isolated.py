"""The decoding process: it sees what the reader sees, and whatever happens to it becomes one clear error."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip

from kinopaint.errors import InputError, SettingsError
from kinopaint.video import Limits, open_clip, probe, wire
from kinopaint.video.probe import scan
from kinopaint.video.reader import open_here

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
posix = pytest.mark.skipif(os.name != "posix", reason="sends signals")


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "a.mp4", audio=["aac"])


@pytest.fixture
def long_clip(tmp_path):
    """More than fits into the pipe."""
    return make_clip(tmp_path / "a.mp4", size=(320, 240), times=range(0, 512 * 40, 512))


def child_of(reader):
    return reader._running[-1]._process


def test_it_sees_what_the_reader_sees(clip):
    with open_clip(clip, start="0.05", every=2) as there:
        here = open_here(clip, start="0.05", every=2)
        for name in ("info", "selection", "expected_frames", "span"):
            assert getattr(there, name) == getattr(here, name)
        for _ in range(2):  # the second time in a new process
            for a, b in zip(there, here, strict=True):
                assert (a.index, a.pts, a.time_base, a.duration) == (b.index, b.pts, b.time_base, b.duration)
                assert np.array_equal(a.image, b.image)
                assert a.image.flags.writeable
    assert there.warnings == here.warnings
    assert probe(clip) == scan(clip)[0]


def test_warnings_come_with_the_frames(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pixel_format="bgra", tags=None)
    reader = open_clip(clip)
    list(reader)
    here = open_here(clip)
    list(here)
    assert reader.warnings == here.warnings


def test_settings_are_refused_without_starting_anything(tmp_path):
    with pytest.raises(SettingsError, match="KP-SETTING-TIME"):
        open_clip(tmp_path / "missing.mp4", start="soon")


def test_errors_of_the_other_process_are_ours(tmp_path):
    with pytest.raises(InputError, match="KP-INPUT-MISSING"):
        open_clip(tmp_path / "missing.mp4")
    with pytest.raises(InputError, match="KP-INPUT-URL"):
        probe("http://127.0.0.1:9/a.mp4")
    with pytest.raises(SettingsError, match="KP-SETTING-RANGE"):
        open_clip(make_clip(tmp_path / "a.mp4"), start=5)


@posix
@pytest.mark.parametrize(("number", "said"), [(signal.SIGSEGV, "SIGSEGV"), (signal.SIGKILL, "lack of memory")])
def test_a_crash_is_an_error_with_the_place(long_clip, number, said):
    with open_clip(long_clip) as reader:
        frames = iter(reader)
        first = [next(frames) for _ in range(3)]
        child_of(reader).send_signal(number)
        rest = []
        with pytest.raises(InputError, match=said) as caught:
            rest.extend(frames)
    assert caught.value.code == "KP-INPUT-CRASH"
    count = int(re.search(r"after frame (\d+) \(\d\.\d{3} s\)$", caught.value.where)[1]) + 1
    assert len(first) <= count < 40


@posix
def test_a_crash_while_looking_for_cuts_is_an_error_and_no_more(long_clip):
    with open_clip(long_clip) as reader:
        child_of(reader).kill()
        with pytest.raises(InputError, match="KP-INPUT-CRASH"):
            reader.find_cuts()
        assert sum(1 for _ in reader) == 40


@posix
def test_a_hang_is_ended_by_the_watchdog(long_clip):
    begin = time.monotonic()
    with open_clip(long_clip, limits=Limits(seconds=2)) as reader:
        frames = iter(reader)
        next(frames)
        child = child_of(reader)
        child.send_signal(signal.SIGSTOP)
        with pytest.raises(InputError, match="no progress for 2 s") as caught:
            list(frames)
    assert caught.value.code == "KP-INPUT-HANG"
    assert time.monotonic() - begin < 30
    assert child.poll() is not None


def test_a_slow_reader_is_no_hang(long_clip):
    with open_clip(long_clip, limits=Limits(seconds=2)) as reader:
        for frame in reader:
            if frame.index == 0:
                time.sleep(2.5)
    assert frame.index == 39


def test_slow_decoding_with_progress_is_no_hang(clip, monkeypatch, tmp_path):
    # The process is slowed down from within, packet by packet, by a module that Python loads at its start.
    (tmp_path / "slow.pth").write_text("")
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "from kinopaint.video import limits\n"
        "packet = limits.Guard.packet\n"
        "limits.Guard.packet = lambda self: (time.sleep(0.15), packet(self))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("kinopaint.video.isolated._START", _slowed())
    with open_clip(clip, limits=Limits(seconds=2)) as reader:  # 26 packets at 0.15 s before the first answer
        assert sum(1 for _ in reader) == 6


def _slowed():
    from kinopaint.video.isolated import _START

    return _START.replace("from kinopaint", "import slow; from kinopaint", 1)


@linux
@pytest.mark.parametrize("mebibytes", [400, 430])  # now the picture finds no room, now the decoder's threads
def test_too_much_memory_is_an_error(tmp_path, mebibytes):
    clip = make_clip(tmp_path / "a.mkv", size=(4096, 4096), times=[0], codec="ffv1", planes=[16, 128, 128])
    with pytest.raises(InputError, match=r"more than 0\.4 GiB of memory") as caught:
        list(open_clip(clip, limits=Limits(memory=mebibytes * 2**20)))
    assert caught.value.code == "KP-INPUT-LIMIT"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (Limits(frames=5), "KP-INPUT-LIMIT"),
        (Limits(packets=8), "KP-INPUT-LIMIT"),
        (Limits(pixels=64 * 48 - 1), "KP-INPUT-TOO-LARGE"),
    ],
)
def test_limits_of_frames_packets_and_pixels(clip, limits, code):
    with pytest.raises(InputError) as caught:
        open_clip(clip, limits=limits)
    assert caught.value.code == code
    assert str(clip) in caught.value.where


def test_an_ended_iteration_leaves_no_process(long_clip):
    reader = open_clip(long_clip)
    child = child_of(reader)
    for _ in reader:
        break
    assert child.poll() is not None
    forgotten = child_of(open_clip(long_clip))
    assert forgotten.wait(5) is not None
    reader.close()


def test_close_ends_an_iteration_in_progress(long_clip):
    reader = open_clip(long_clip)
    frames = iter(reader)
    next(frames)
    reader.close()
    assert list(frames) == []


READS = """
reader = open_clip(sys.argv[1])
frames = iter(reader)
next(frames)
decoder = reader._running[0]
"""
HANGS = """
isolated._START = isolated._START.replace(
    "import main", "import main; import time; from kinopaint.video import limits; "
    "limits.Guard.packet = lambda self: time.sleep(1000)"
)
decoder = isolated.Decoder(sys.argv[1], Limits())
decoder._arrived.get()  # it is alive
decoder._send({"do": "probe", "path": sys.argv[1]})
time.sleep(0.5)
"""


@posix
@pytest.mark.parametrize("doing", [READS, HANGS], ids=["reads", "hangs"])
def test_it_ends_with_the_run(long_clip, doing):
    head = "import os, sys, time\nfrom kinopaint.video import Limits, isolated, open_clip\n"
    program = f"{head}{doing}print(decoder._process.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(long_clip)], capture_output=True, text=True, env=environment, check=False
    )
    pid, end = int(done.stdout), time.monotonic() + 10
    while time.monotonic() < end and _alive(pid):
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # in a container nobody may collect the dead
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


@linux
def test_it_may_write_nothing_and_leaves_the_terminal_to_us(clip):
    with open_clip(clip) as reader:
        limits = Path(f"/proc/{child_of(reader).pid}/limits").read_text()
        assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max core")] == [
            ["size", "0"]
        ] or ("Max core file size        0" in limits)
        assert "Max file size             0" in limits
        assert os.getsid(child_of(reader).pid) != os.getsid(0)


@linux
def test_its_memory_does_not_grow_with_the_clip(tmp_path):
    def resident(count):
        options = {"preset": "ultrafast"}
        clip = make_clip(tmp_path / f"{count}.mp4", size=(320, 240), times=range(0, 512 * count, 512), options=options)
        with open_clip(clip) as reader:
            for frame in reader:
                if frame.index == count - 5:
                    text = Path(f"/proc/{child_of(reader).pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))

    assert resident(400) < resident(40) + 2_000  # kB; a frame has 230


def test_it_imports_no_torch():
    program = "import sys, kinopaint.video.child; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.strip() == "False"


def test_a_file_that_is_replaced_is_refused(clip, tmp_path):
    with open_clip(clip) as reader:
        assert sum(1 for _ in reader) == 6
        os.replace(make_clip(tmp_path / "b.mp4"), clip)
        for _ in range(2):
            with pytest.raises(InputError, match="KP-INPUT-CHANGED"):
                list(reader)


def test_a_file_that_still_grows_is_refused(long_clip):
    with open_clip(long_clip) as reader:
        frames = iter(reader)
        next(frames)
        with long_clip.open("ab") as file:
            file.write(b"more")
        with pytest.raises(InputError, match="KP-INPUT-CHANGED"):
            list(frames)


def test_values_pass_the_wire_unchanged(clip):
    info, times = scan(clip)
    stream = io.BytesIO()
    value = {"info": info, "pair": (Fraction(1, 3), None), "times": times, "list": [True, 1.5, "é\udcff\n"]}
    wire.send(stream, value)
    stream.seek(0)
    found = wire.receive(stream)
    assert np.array_equal(found.pop("times"), value.pop("times"))
    assert found == value
    with pytest.raises(EOFError):
        wire.receive(stream)


@pytest.mark.parametrize(
    "text",
    [
        '{"record": ["os", "stat_result", {}]}',
        '{"record": ["kinopaint.video.opening", "open_container", {}]}',
        '{"array": ["object", 2]}',
        '{"array": ["uint8", 1000000, 1000000]}',
        '{"call": []}',
    ],
)
def test_rubbish_on_the_wire_is_refused(text):
    with pytest.raises(ValueError, match=r"record|array|tagged"):
        wire.receive(io.BytesIO(wire._HEAD.pack(len(text), 0) + text.encode()))


def test_limits_can_be_raised_from_outside_and_errors_say_how(clip, monkeypatch):
    monkeypatch.setenv("KINOPAINT_LIMITS", "frames=5, packets=1000,memory=4GB,seconds=20.5")
    assert Limits.chosen() == Limits(frames=5, packets=1000, memory=4 * 10**9, seconds=20.5)
    with pytest.raises(InputError, match="more than 5 frames") as caught:
        probe(clip)
    assert caught.value.fix.endswith("set the environment variable KINOPAINT_LIMITS to frames=10")
    monkeypatch.setenv("KINOPAINT_LIMITS", "frames=10")
    assert probe(clip).frame_count == 6
    monkeypatch.setenv("KINOPAINT_LIMITS", "pixels=3000")
    with pytest.raises(InputError, match="3000 pixels") as caught:
        probe(clip)
    assert "KINOPAINT_LIMITS to pixels=6000" in caught.value.fix


@pytest.mark.parametrize("text", ["frame=5", "frames", "frames=0", "frames=many", "memory=8 sheep", "seconds=-1"])
def test_limits_that_cannot_be_read_are_refused(clip, monkeypatch, text):
    monkeypatch.setenv("KINOPAINT_LIMITS", text)
    with pytest.raises(SettingsError) as caught:
        open_clip(clip)
    assert (caught.value.code, caught.value.where) == ("KP-SETTING-LIMITS", "KINOPAINT_LIMITS")


def test_how_far_the_search_for_cuts_is_comes_through(clip, monkeypatch):
    from kinopaint.video import isolated

    often = f"from kinopaint.video import reader; reader.TOLD_EVERY = -1; {isolated._START}"
    monkeypatch.setattr(isolated, "_START", often)
    seen = []
    with open_clip(clip) as reader:
        assert reader.find_cuts(seen.append) == ()
        assert seen == [1, 2, 3, 4, 5, 6]
        assert sum(1 for _ in reader) == 6
