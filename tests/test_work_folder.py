"""The lock of a work folder, and what stays in the folder."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kinopaint
from kinopaint.errors import OutputError
from kinopaint.work import WorkFolder, frames_kept, work_folder

RECIPE = {"settings": {"seed": 0}, "versions": {"torch": "1"}}
HOLD = """
import sys, time
from pathlib import Path
from kinopaint.work import WorkFolder
with WorkFolder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.mp4"


def pictures(count=2):
    return np.zeros((count, 64, 64, 3), np.uint8)


@pytest.fixture
def other_process(output):
    environment = {**os.environ, "PYTHONPATH": str(Path(kinopaint.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_run_is_told_who_holds_the_output_and_takes_it_over_when_that_is_dead(output, other_process):
    with pytest.raises(OutputError) as caught, WorkFolder(output):
        pass
    error = caught.value
    assert (error.code, error.exit_code) == ("KP-OUTPUT-BUSY", 4)
    assert f"process {other_process.pid} on {socket.gethostname()}, since 20" in error.what
    assert str(output) in error.where
    assert (work_folder(output) / "lock").exists()
    other_process.send_signal(signal.SIGKILL)
    other_process.wait()
    with WorkFolder(output) as work:
        work.begin(RECIPE)
    assert not work_folder(output).exists()


def test_two_runs_in_one_process_exclude_each_other_too(output):
    with WorkFolder(output), pytest.raises(OutputError, match=str(os.getpid())), WorkFolder(output):
        pass
    assert not work_folder(output).exists()


@pytest.mark.filterwarnings("ignore:flock not supported")
def test_a_drive_that_knows_no_locks_still_keeps_two_runs_apart(output, monkeypatch):
    def unknown(handle, operation):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with WorkFolder(output), pytest.raises(OutputError, match="is working on this output"), WorkFolder(output):
        pass
    with WorkFolder(output):
        pass


def test_finished_windows_stay_and_nothing_else(output):
    with WorkFolder(output) as work:
        work.begin(RECIPE)
    assert not work_folder(output).exists()
    with WorkFolder(output) as work:
        work.begin(RECIPE)
        work.keep(pictures(), b"carry 0")
        work.keep(pictures(1), b"carry 1", "float32")
        work.keep(pictures(1), b"carry 2")
    assert frames_kept(output) == 4
    carries = sorted(path.name for path in work_folder(output).glob("*.safetensors"))
    assert carries == ["000001.safetensors", "000002.safetensors"]
    with WorkFolder(output) as work:
        work.begin(RECIPE)
        assert (work.windows, work.frames, work.painted, work.carry()) == (3, 4, False, b"carry 2")
        assert work.fallbacks == [{"frame": 2, "step": "float32"}]
        assert len(list(work.pictures())) == 4
        assert work.notes == []


def test_segments_that_rot_while_they_are_read_are_noticed(output):
    with WorkFolder(output) as work:
        work.begin(RECIPE)
        work.keep(pictures(), None)
        (work.path / "000000.mkv").write_bytes(b"something else")
        with pytest.raises(OutputError) as caught:
            list(work.pictures())
    assert caught.value.code == "KP-WORK-DAMAGED"


def test_another_version_of_a_library_is_another_work(output):
    with WorkFolder(output) as work:
        work.begin(RECIPE)
        work.keep(pictures(), None)
    with WorkFolder(output) as work, pytest.raises(OutputError, match=r"versions\.torch was '1', now it is '2'"):
        work.begin({**RECIPE, "versions": {"torch": "2"}})
    with WorkFolder(output) as work:
        work.begin({**RECIPE, "versions": {"torch": "1", "python": "3.99"}})  # which rounds nothing
        assert work.windows == 1


def test_a_file_in_the_place_of_the_folder_is_an_error_of_ours(output):
    work_folder(output).write_bytes(b"mine")
    with pytest.raises(OutputError), WorkFolder(output):
        pass
    assert work_folder(output).read_bytes() == b"mine"
