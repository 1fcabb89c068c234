"""A run that was stopped, however, goes on with the same call, and its result equals that of an uninterrupted one."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from tests.clips import write_clip
from tests.fakes import fast, trail  # noqa: F401 - fixtures

import kinopaint
from kinopaint.errors import ModelError, OutputError, SettingsError
from kinopaint.video import probe
from kinopaint.video.isolated_sink import IsolatedSink
from kinopaint.work import WorkFolder, work_folder

FRAMES = 7  # windows of two: 0 1, 2 3, 4 5, 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, (64, 64))


@pytest.fixture
def run(fast, trail, clip, model_folder, tmp_path):  # noqa: F811
    """Restyle the clip by the method `trail`; `stop` is the frame before which somebody presses Ctrl-C."""

    def stylize(output="out.mkv", *, stop=None, source=clip, prompt="oil", **settings):
        trail.painted.clear()
        trail.interrupt_at = stop
        common = {"method": "trail", "model": model_folder, "dtype": "float32", "codec": "auto"}
        if output == "out.mkv":
            common["codec"] = "ffv1"
        notes = []
        try:
            done = kinopaint.stylize(source, prompt, tmp_path / output, progress=notes.append, **{**common, **settings})
        finally:
            trail.interrupt_at = None
        assert [note["message"] for note in notes if note["event"] == "warning" and "bit" in note["message"]] == []
        stylize.notes = [note["message"] for note in notes if note["event"] == "warning"]
        return done

    return stylize


@pytest.fixture(scope="module")
def known():
    return {}


@pytest.fixture
def whole(run, tmp_path, known):
    """The frames and times of an uninterrupted run."""
    if not known:
        run("whole.mkv", codec="ffv1")
        known["whole"] = decoded(tmp_path / "whole.mkv")
        (tmp_path / "whole.mkv").unlink()
    return known["whole"]


def decoded(path: Path) -> tuple[list[Fraction], np.ndarray]:
    with av.open(str(path)) as container:
        frames = [
            (frame.pts * frame.time_base, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    return [time for time, _ in frames], np.stack([picture for _, picture in frames])


def same(path: Path, whole) -> bool:
    times, pictures = decoded(path)
    return times == whole[0] and np.array_equal(pictures, whole[1])


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def stopped_at(run, frame, **settings) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(stop=frame, **settings)


@pytest.mark.parametrize("frame", [2, 3, 4, 6])
def test_only_unfinished_windows_are_painted_again(run, whole, trail, tmp_path, frame):  # noqa: F811
    stopped_at(run, frame)
    assert left_in(tmp_path) == ["out.mkv.kinopaint"]
    done = run()
    assert trail.painted == list(range(frame // 2 * 2, FRAMES))
    assert done.frames == FRAMES
    assert done.delivery.ok
    assert same(tmp_path / "out.mkv", whole)
    assert left_in(tmp_path) == ["out.mkv"]


def test_a_stop_before_the_first_window_is_done_leaves_nothing(run, tmp_path):
    stopped_at(run, 1)
    assert left_in(tmp_path) == []


def test_a_stop_while_the_result_is_encoded_costs_no_painting(run, whole, trail, tmp_path, monkeypatch):  # noqa: F811
    from kinopaint.video import SizePlan

    with monkeypatch.context() as patched:
        patched.setattr(SizePlan, "restore", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped_at(run, None)
    run()
    assert trail.painted == []
    assert same(tmp_path / "out.mkv", whole)


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "a bit of the last segment": (lambda work: spoil(work / "000002.mkv"), 4),
    "half of the last segment": (lambda work: os.truncate(work / "000002.mkv", 900), 4),
    "the last segment": (lambda work: (work / "000002.mkv").unlink(), 4),
    "a bit of the last carry": (lambda work: spoil(work / "000002.safetensors"), 4),
    "the last carry": (lambda work: (work / "000002.safetensors").unlink(), 4),
    "a bit of an old segment": (lambda work: spoil(work / "000000.mkv"), 0),
    "a bit of the segment before the last": (lambda work: spoil(work / "000001.mkv"), 0),
    "the end of the journal's last line": (
        lambda work: os.truncate(work / "journal.jsonl", (work / "journal.jsonl").stat().st_size - 5),
        4,
    ),
    "a letter in the journal's last line": (lambda work: edit_last_line(work / "journal.jsonl"), 4),
    "the journal": (lambda work: (work / "journal.jsonl").unlink(), 0),
    "an unfinished segment": (lambda work: (work / "000003.mkv").write_bytes(b"half"), 6),
}


def edit_last_line(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[-1] = lines[-1].replace('"frames": 2', '"frames": 1')
    path.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_work_is_done_again_and_not_trusted(run, whole, trail, tmp_path, what):  # noqa: F811
    damage, first = DAMAGE[what]
    stopped_at(run, 6)
    damage(tmp_path / "out.mkv.kinopaint")
    run()
    assert trail.painted == list(range(first, FRAMES))
    assert any("damaged" in note for note in run.notes) == (what not in ("the journal", "an unfinished segment"))
    assert same(tmp_path / "out.mkv", whole)


def test_damage_after_the_last_window_is_painted_again(run, whole, trail, tmp_path, monkeypatch):  # noqa: F811
    from kinopaint.video import SizePlan

    with monkeypatch.context() as patched:
        patched.setattr(SizePlan, "restore", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped_at(run, None)
    spoil(tmp_path / "out.mkv.kinopaint" / "000003.mkv")
    run()
    assert trail.painted == [6]
    assert same(tmp_path / "out.mkv", whole)


def test_work_on_something_else_is_refused_with_the_difference(run, trail, tmp_path, clip):  # noqa: F811
    stopped_at(run, 2)
    other = write_clip(tmp_path / "other.mp4", FRAMES + 1, (64, 64))
    for change, told in (
        ({"prompt": "chalk"}, "settings.prompt was 'oil', now it is 'chalk'"),
        ({"seed": 1}, "settings.seed was 0, now it is 1"),
        ({"shade": 0.5}, "settings.shade was 0.9, now it is 0.5"),
        ({"windows": "3"}, "settings.windows was '2', now it is '3'"),
        ({"source": other}, "source.fingerprint"),
        ({"dtype": "bfloat16"}, "dtype was 'float32', now it is 'bfloat16'"),
    ):
        with pytest.raises(OutputError) as caught:
            run(**change)
        assert caught.value.code == "KP-WORK-OTHER"
        assert told in caught.value.what
        assert "--restart" in caught.value.fix
        assert trail.painted == []
    run(prompt="chalk", restart=True)
    assert trail.painted == list(range(FRAMES))


def test_another_model_is_another_work(run, broken):
    from safetensors.torch import load_file, save_file

    stopped_at(run, 2, model=broken)
    weights = broken / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor + 1e-3 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(OutputError, match=r"model\.hashes"):
        run(model=broken)


def test_the_format_of_the_result_may_change_on_the_way(run, trail, tmp_path):  # noqa: F811
    stopped_at(run, 4)
    run(codec="h264", no_audio=True, size="32x32")
    assert trail.painted == [4, 5, 6]
    result = probe(tmp_path / "out.mkv")
    assert (result.codec, result.width, result.streams_of("audio")) == ("h264", 32, ())


def test_resume_and_restart_exclude_each_other(run):
    with pytest.raises(SettingsError, match="resume"):
        run(resume=True, restart=True)


@pytest.mark.parametrize("output", ["out.mkv", "out.gif"])
def test_a_stop_after_the_rename_costs_nothing(run, trail, tmp_path, monkeypatch, output):  # noqa: F811
    """Before the clean-up, and for GIF before its sidecar too."""
    first = "kinopaint.work.WorkFolder.discard" if output == "out.mkv" else "kinopaint.api.write_sidecar"
    with monkeypatch.context() as patched:
        patched.setattr(first, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped_at(run, None, output=output)
    assert left_in(tmp_path) == [output, f"{output}.kinopaint"]
    before = (tmp_path / output).stat().st_mtime_ns
    done = run(output)
    assert trail.painted == []
    assert done.frames == FRAMES
    assert done.delivery.ok
    assert done.delivery.frames == FRAMES
    assert (tmp_path / output).stat().st_mtime_ns == before
    assert left_in(tmp_path) == ([output] if output == "out.mkv" else [output, f"{output}.json"])


def test_a_stranger_under_the_final_name_is_not_taken_for_the_result(run, tmp_path, monkeypatch):
    stopped_at(run, 4)
    (tmp_path / "out.mkv").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        run()
    with monkeypatch.context() as patched:
        patched.setattr(WorkFolder, "discard", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        stopped_at(run, None, overwrite=True)
    (tmp_path / "out.mkv").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        run()
    assert (tmp_path / "out.mkv").read_bytes() == b"mine"


def test_other_settings_do_not_pass_for_the_finished_result(run, tmp_path):
    run(keep_work=True)
    with pytest.raises(OutputError, match="exists"):
        run(prompt="chalk")
    with pytest.raises(OutputError, match="exists"):
        run(codec="h264")


def test_kept_work_lets_the_same_call_end_at_once(run, trail, tmp_path):  # noqa: F811
    first = run(keep_work=True)
    assert left_in(tmp_path) == ["out.mkv", "out.mkv.kinopaint"]
    assert not list((tmp_path / "out.mkv.kinopaint").glob(".kinopaint-*"))
    again = run(keep_work=True)
    assert trail.painted == []
    assert again == first
    run(keep_work=True, overwrite=True, restart=True)
    assert trail.painted == list(range(FRAMES))
    run()
    assert left_in(tmp_path) == ["out.mkv"]


def test_a_sidecar_that_must_be_written_replaces_nothing(run, tmp_path):
    (tmp_path / "out.gif.json").write_text("mine")
    with pytest.raises(OutputError, match="recipe exists"):
        run("out.gif")
    assert (tmp_path / "out.gif.json").read_text() == "mine"
    assert left_in(tmp_path) == ["out.gif.json"]


def test_partial_files_of_a_killed_run_are_removed(run, tmp_path):
    stopped_at(run, 4)
    (tmp_path / "out.mkv.kinopaint" / ".kinopaint-0123456789ab.partial.mkv").write_bytes(b"half")
    stopped_at(run, 4)
    assert not list((tmp_path / "out.mkv.kinopaint").glob(".kinopaint-*"))


@pytest.mark.parametrize("room", [1000, 14000])
def test_a_full_disk_keeps_the_work(run, whole, trail, tmp_path, room):  # noqa: F811
    """A limit on the size of a file stands for the disk: first for segments, then for the result."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OutputError) as caught:
            run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "KP-OUTPUT-DISK-FULL"
    assert "run the same command again" in caught.value.fix
    assert not (tmp_path / "out.mkv").exists()
    painted = len(trail.painted)
    run()
    assert same(tmp_path / "out.mkv", whole)
    if room == 14000:
        assert (painted, trail.painted) == (FRAMES, [])


@pytest.mark.parametrize("call", range(0, 24, 3))
def test_no_room_at_any_moment_keeps_the_work(run, whole, tmp_path, monkeypatch, call):
    """Each time something is brought to the disk, that fails once."""
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) - 1 == call:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        try:
            run()
        except OutputError as error:
            assert error.code == "KP-OUTPUT-DISK-FULL"  # noqa: PT017
            assert not (tmp_path / "out.mkv").exists()
    assert len(calls) > call
    if not (tmp_path / "out.mkv").exists():
        run()
    assert same(tmp_path / "out.mkv", whole)
    assert left_in(tmp_path) == ["out.mkv"]


def test_a_fallback_is_told_kept_in_the_recipe_and_kept_up_after_a_stop(run, tmp_path):
    """bfloat16 fails in the second window: it and all later ones are painted in float32, resumed or not."""
    half = {"method": "fragile", "dtype": "bfloat16"}
    done = run("whole.mkv", codec="ffv1", **half)
    assert done.recipe["fallbacks"] == [{"frame": 2, "step": "float32"}]
    assert json.loads(probe(tmp_path / "whole.mkv").metadata["kinopaint"])["fallbacks"] == done.recipe["fallbacks"]
    assert any("frame 2; going on with float32" in note for note in run.notes)
    stopped_at(run, 6, **half)
    resumed = run(**half)
    assert resumed.recipe["fallbacks"] == done.recipe["fallbacks"]
    assert same(tmp_path / "out.mkv", decoded(tmp_path / "whole.mkv"))


class LostGpu(RuntimeError):
    """As torch.AcceleratorError, which cannot be made in Python everywhere."""


@pytest.mark.parametrize("kind", [RuntimeError, getattr(torch, "AcceleratorError", LostGpu)])
def test_a_device_that_fails_on_the_way_costs_one_window(run, whole, trail, tmp_path, monkeypatch, kind):  # noqa: F811
    inner = trail.stylize

    def failing(self, window, *rest):
        if window.index == 2:
            raise kind("CUDA error: the launch timed out and was terminated\nCUDA kernel errors might be …")
        return inner(self, window, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(trail, "stylize", failing)
        with pytest.raises(ModelError) as caught:
            run()
    assert (caught.value.code, caught.value.where) == ("KP-DEVICE-LOST", "frames 4 to 5")
    assert caught.value.what == "the device failed: CUDA error: the launch timed out and was terminated"
    assert "same command" in caught.value.fix
    assert "--device cpu --restart" in caught.value.fix
    assert left_in(tmp_path) == ["out.mkv.kinopaint"]
    run()
    assert trail.painted == [4, 5, 6]
    assert same(tmp_path / "out.mkv", whole)


def test_a_device_that_fails_while_the_model_is_loaded_is_told_too(run, monkeypatch):
    def load(*given, **named):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr("kinopaint.api.load_model", load)
    with pytest.raises(ModelError, match="KP-DEVICE-LOST"):
        run()


def test_other_faults_are_not_blamed_on_the_device(run, trail, monkeypatch):  # noqa: F811
    def broken(self, *given):
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    monkeypatch.setattr(trail, "stylize", broken)
    with pytest.raises(RuntimeError, match="size of tensor"):
        run()


def test_an_encoder_that_hangs_costs_no_painting(run, whole, trail, tmp_path, monkeypatch):  # noqa: F811
    """It is stopped in its own process; the watchdog ends it, and the same call goes on with what is painted."""
    monkeypatch.setenv("KINOPAINT_LIMITS", "writing=1.5")
    write = IsolatedSink.write

    def stopped(sink, image, frame):
        if frame.index == 3:
            sink._process.send_signal(signal.SIGSTOP)
        write(sink, image, frame)

    with monkeypatch.context() as patched:
        patched.setattr("kinopaint.video.writer.IsolatedSink", IsolatedSink)
        patched.setattr(IsolatedSink, "write", stopped)
        with pytest.raises(OutputError) as caught:
            run()
    assert caught.value.code == "KP-OUTPUT-HANG"
    assert left_in(tmp_path) == ["out.mkv.kinopaint"]
    run()
    assert trail.painted == []
    assert same(tmp_path / "out.mkv", whole)


def test_rubbish_is_not_delivered(run, tmp_path):
    with pytest.raises(ModelError) as caught:
        run(shade=0.0)
    assert (caught.value.code, caught.value.where) == ("KP-RESULT-FLAT", "frames 0 to 1")
    assert left_in(tmp_path) == []


def test_a_clip_replaced_meanwhile_is_noticed(run, trail, clip, tmp_path, monkeypatch):  # noqa: F811
    source = Path(shutil.copy(clip, tmp_path / "in.mp4"))
    whole = WorkFolder.finish_painting

    def replaced(self):
        whole(self)
        write_clip(source, FRAMES + 2, (64, 64))

    monkeypatch.setattr(WorkFolder, "finish_painting", replaced)
    with pytest.raises(kinopaint.errors.InputError):
        run(source=source)
    assert not (tmp_path / "out.mkv").exists()


def test_the_longest_name_has_a_work_folder(run, tmp_path):
    name = "ü" * 125 + "x.mkv"
    assert len(os.fsencode(name)) == 255
    stopped_at(run, 4, output=name, codec="ffv1")
    (folder,) = tmp_path.iterdir()
    assert folder == work_folder(tmp_path / name)
    run(name, codec="ffv1")
    assert left_in(tmp_path) == [name]
