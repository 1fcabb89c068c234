"""stylize and preview, from clip to file, on a tiny random model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

import kinopaint as package
from kinopaint.video import probe


@pytest.fixture
def job(kinopaint, clip, model_folder, tmp_path):
    """Run `stylize` with 1 step on the tiny model; more words and other values may be given."""

    def run(*more, source=clip, prompt="an oil painting", output="out.mp4", model=model_folder, steps=1):
        common = ["--model", model, "--steps", steps, "--dtype", "float32", "--progress", "none"]
        return kinopaint("stylize", source, prompt, "-o", tmp_path / output, *common, *more)

    return run


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_clip_comes_back_whole_with_its_recipe(job, clip, tmp_path):
    ran = job("--sidecar", "--seed", 7)
    assert ran == (0, "", "")
    source, result = probe(clip), probe(tmp_path / "out.mp4")
    assert (result.width, result.height) == (source.width, source.height)
    assert (result.frame_count, result.first, result.duration) == (source.frame_count, source.first, source.duration)
    assert [s.packets for s in result.streams_of("audio")] == [s.packets for s in source.streams_of("audio")]
    recipe = json.loads(result.metadata["kinopaint"])
    assert recipe["settings"]["seed"] == 7
    assert recipe["settings"]["num_inference_steps"] == 1
    assert recipe["source"]["fingerprint"].startswith("sha256:")
    assert len(recipe["model"]["hashes"]) == 3
    beside = json.loads((tmp_path / "out.mp4.json").read_text(encoding="utf-8"))
    assert beside.pop("delivery")["ok"]
    assert beside == recipe
    assert left_in(tmp_path) == ["out.mp4", "out.mp4.json"]


def test_same_seed_same_frames_other_seed_other_frames(job, tmp_path):
    for name, seed in (("a.mkv", 1), ("b.mkv", 1), ("c.mkv", 2)):
        assert job("--codec", "ffv1", "--seed", seed, output=name).code == 0
    a, b, c = (read(tmp_path / name) for name in ("a.mkv", "b.mkv", "c.mkv"))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def read(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_part_of_a_clip_keeps_its_own_times(job, clip, tmp_path):
    assert job("--start", "0.25", "--end", "0.5").code == 0
    result = probe(tmp_path / "out.mp4")
    assert result.frame_count == 3
    assert result.start == probe(clip).start + 3 / result.rate


def test_size_no_audio_and_codec(job, tmp_path):
    assert job("--size", "96x64", "--no-audio", "--codec", "vp9", output="out.webm").code == 0
    result = probe(tmp_path / "out.webm")
    assert (result.width, result.height, result.codec, result.streams_of("audio")) == (96, 64, "vp9", ())


def test_image_in_gives_image_out(job, tmp_path):
    from kinopaint.sheet import write_picture

    picture = np.full((40, 50, 3), 90, np.uint8)
    write_picture(tmp_path / "in.png", picture)
    assert job(source=tmp_path / "in.png", output="out.png").code == 0
    assert read(tmp_path / "out.png").shape == (1, 40, 50, 3)
    assert b"an oil painting" in (tmp_path / "out.png").read_bytes()  # the recipe, in a text chunk
    assert left_in(tmp_path) == ["in.png", "out.png"]


def test_gif_gets_a_sidecar_because_it_holds_no_recipe(job, tmp_path):
    assert job(output="out.gif").code == 0
    assert left_in(tmp_path) == ["out.gif", "out.gif.json"]


def test_json_progress_begins_with_start_and_ends_with_done(job):
    events = [json.loads(line) for line in job("--progress", "json", steps=2).err.splitlines()]
    assert events[0]["event"] == "start"
    assert events[0]["frames"] == 6
    assert events[-1]["event"] == "done"
    assert events[-1]["frames"] == 6
    steps = [event for event in events if event["event"] == "progress"]
    assert {"frames_done", "frames", "eta_s"} <= steps[0].keys()
    assert [event["frames_done"] for event in steps] == sorted(event["frames_done"] for event in steps)
    assert steps[-1]["frames_done"] == 6


def test_json_failure_is_the_last_object(job, tmp_path):
    ran = job("--progress", "json", source=tmp_path / "nothing.mp4")
    assert ran.code == 3
    last = json.loads(ran.err.splitlines()[-1])
    assert last.keys() == {"event", "code", "what", "where", "fix"}
    assert last["code"] == "KP-INPUT-MISSING"


def test_plain_progress_says_frames_and_time(job):
    ran = job("--progress", "plain")
    assert "6 of 6 frames" in ran.err
    assert "left" in ran.err


def test_words_beyond_the_text_encoder_give_a_warning(job):
    assert "warning" in job("--progress", "plain", prompt="very " * 60 + "blue").err


def test_plan_tells_and_does_nothing(job, tmp_path):
    ran = job("--plan", steps=5)
    assert ran.code == 0
    for words in ("6 in 2 windows of at most 4", "10 (5 steps), 90 pictures", "about", "48x32"):
        assert words in ran.out
    assert left_in(tmp_path) == []


def test_presets_apply_in_order_and_options_win(job, tmp_path):
    assert job("--preset", "ip2p,exact", "--s-text", "3", "--sidecar").code == 0
    settings = json.loads((tmp_path / "out.mp4.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["text_branch"], settings["init"], settings["s_text"]) == ("joint", "noise", 3.0)
    assert settings["num_inference_steps"] == 1


def test_fast_takes_at_most_eight_steps(kinopaint, clip, model_folder, tmp_path):
    words = ("stylize", clip, "oil", "-o", tmp_path / "o.mp4", "--model", model_folder, "--preset", "fast", "--plan")
    assert "(8 steps)" in kinopaint(*words).out


def test_the_folder_recommends_and_options_win(kinopaint, clip, broken, tmp_path):
    about = {"recommended": {"style-a-video": {"s_text": 4.5, "s_image": 2.5, "num_inference_steps": 2}}}
    (broken / "kinopaint.json").write_text(json.dumps(about))
    words = ("stylize", clip, "oil", "-o", tmp_path / "o.mp4", "--model", broken, "--s-image", "1", "--sidecar")
    assert kinopaint(*words, "--progress", "none").code == 0
    settings = json.loads((tmp_path / "o.mp4.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["s_text"], settings["s_image"], settings["num_inference_steps"]) == (4.5, 1.0, 2)


def test_overwrite_replaces_and_nothing_else_does(job, tmp_path):
    taken = tmp_path / "out.mp4"
    taken.write_bytes(b"mine")
    ran = job()
    assert ran.code == 4
    assert ran.err.startswith("KP-OUTPUT-EXISTS")
    assert taken.read_bytes() == b"mine"
    assert job("--overwrite").code == 0
    assert probe(taken).frame_count == 6


def test_preview_puts_results_under_their_sources(kinopaint, clip, model_folder, tmp_path):
    sheet = tmp_path / "sheet.png"
    ran = kinopaint("preview", clip, "oil", "-o", sheet, "--model", model_folder, "--steps", 1, "--frames", 2)
    assert ran.code == 0
    height, width = read(sheet).shape[1:3]
    assert width >= 2 * 48
    assert height >= 2 * 32
    assert left_in(tmp_path) == ["sheet.png"]


# Bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--steps", "0"], "KP-SETTING"),
        (["--steps", "many"], "KP-SETTING"),
        (["--s-text", "nan"], "KP-SETTING"),
        (["--s-text", "inf"], "KP-SETTING"),
        (["--s-text", "1,5"], "KP-SETTING"),
        (["--strength", "2"], "KP-SETTING"),
        (["--seed", "-1"], "KP-SETTING"),
        (["--every", "0"], "KP-SETTING"),
        (["--start", "soon"], "KP-SETTING"),
        (["--start", "5", "--end", "2"], "KP-SETTING"),
        (["--size", "huge"], "KP-SETTING"),
        (["--work-size", "0x0"], "KP-SETTING"),
        (["--codec", "h246"], "KP-SETTING-CODEC"),
        (["--codec", "vp9", "--quality", "99"], "KP-SETTING-QUALITY"),
        (["--codec", "ffv1"], "KP-SETTING-CODEC"),
        (["--fps", "fast"], "KP-SETTING-FPS"),
        (["--windows", "2:4"], "KP-SETTING-WINDOWS"),
        (["--device", "abacus"], "KP-SETTING-DEVICE"),
        (["--dtype", "float8"], "KP-SETTING-DTYPE"),
        (["--set", "s_text"], "KP-USAGE"),
        (["--set", "s_text=1", "--s-text", "2"], "KP-USAGE"),
    ],
)
def test_settings_are_refused_before_anything_is_opened(kinopaint, tmp_path, more, code):
    nothing = tmp_path / "nothing.mp4"  # would be 3, and the model 5
    ran = kinopaint("stylize", nothing, "oil", "-o", tmp_path / "out.mp4", "--model", tmp_path / "none", *more)
    assert ran.code == 2
    assert ran.err.startswith(code)
    assert "Traceback" not in ran.err
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("prompt", ["", "   ", "\n"])
def test_empty_prompt_is_a_setting(job, prompt, tmp_path):
    ran = job(prompt=prompt)
    assert ran.code == 2
    assert ran.err.startswith("KP-PROMPT-EMPTY")
    assert left_in(tmp_path) == []


def truncated(clip: Path, path: Path, share: float) -> Path:
    data = clip.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def as_matroska(clip: Path, path: Path) -> Path:
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return path


def sound_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


BAD = {
    "missing": lambda clip, folder: folder / "missing.mp4",
    "text renamed": lambda clip, folder: written(folder / "a.mp4", b"Dear all,\nthis is no video.\n" * 40),
    "ffconcat script": lambda clip, folder: written(folder / "b.mp4", f"ffconcat version 1.0\nfile {clip}\n".encode()),
    "playlist": lambda clip, folder: written(folder / "c.mp4", b"#EXTM3U\n#EXTINF:1,\nclip.mp4\n"),
    "url": lambda clip, folder: "http://example.org/a.mp4",
    "truncated mp4": lambda clip, folder: truncated(clip, folder / "d.mp4", 0.6),
    "truncated mkv": lambda clip, folder: truncated(as_matroska(clip, folder / "w.mkv"), folder / "e.mkv", 0.6),
    "audio only": lambda clip, folder: sound_only(folder / "f.m4a"),
    "no bytes": lambda clip, folder: written(folder / "g.mp4", b""),
    "folder": lambda clip, folder: folder,
    "device": lambda clip, folder: "/dev/zero",
}


@pytest.mark.parametrize("kind", BAD)
def test_input_that_is_no_clip(job, clip, tmp_path, tmp_path_factory, kind):
    source = BAD[kind](clip, tmp_path_factory.mktemp("bad"))
    ran = job(source=source)
    assert ran.code == 3
    assert ran.err.startswith("KP-INPUT-")
    assert "do:" in ran.err
    assert "Traceback" not in ran.err
    assert left_in(tmp_path) == []


def test_range_outside_the_clip(job, tmp_path):
    ran = job("--start", "60")
    assert ran.code == 2
    assert left_in(tmp_path) == []


def test_outputs_that_cannot_be(job, clip, kinopaint, tmp_path):
    assert job(output="no/such/folder/out.mp4").code == 4
    assert job(output="out.avi2").code == 2
    assert job(output="out").code == 2
    (tmp_path / "dir.mp4").mkdir()
    assert job(output="dir.mp4").code == 4
    assert job(output="out.png").code == 2  # several frames into a picture
    same = tmp_path / "same.mp4"
    same.write_bytes(clip.read_bytes())
    ran = job("--overwrite", source=same, output="same.mp4")
    assert (ran.code, ran.err[:19]) == (2, "KP-OUTPUT-IS-INPUT:")
    assert same.read_bytes() == clip.read_bytes()
    assert left_in(tmp_path) == ["dir.mp4", "same.mp4"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(job, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert job(output="locked/out.mp4").code == 4


@pytest.mark.parametrize(
    ("model", "near"), [("min", "mini"), ("no/such/folder/here", "folder"), ("nobody/nothing", "--download")]
)
def test_model_that_is_not_there(job, tmp_path, model, near):
    ran = job(model=model)
    assert ran.code == 5
    assert near in ran.err
    assert "Traceback" not in ran.err
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler", "model_index.json"])
def test_model_folder_with_a_missing_part(job, broken, tmp_path, part):
    path = broken / part
    path.unlink() if path.is_file() else path.rename(broken.parent / "away")
    ran = job(model=broken)
    assert ran.code == 5
    assert ran.err.startswith("KP-MODEL-")
    assert "Traceback" not in ran.err
    assert "out.mp4" not in left_in(tmp_path)


@pytest.mark.parametrize("file", ["unet/diffusion_pytorch_model.safetensors", "vae/config.json", "model_index.json"])
def test_model_folder_with_a_corrupt_part(job, broken, tmp_path, file):
    path = broken / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    ran = job(model=broken)
    assert ran.code == 5
    assert ran.err.startswith("KP-MODEL-")
    assert "Traceback" not in ran.err
    assert "out.mp4" not in left_in(tmp_path)


def test_a_failure_in_the_middle_leaves_what_is_painted(job, tmp_path, monkeypatch):
    from kinopaint.video import SizePlan

    calls = []

    def fail_at_the_fifth(self, image, guide):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("unforeseen")
        return guide

    monkeypatch.setattr(SizePlan, "restore", fail_at_the_fifth)
    ran = job()
    assert ran.code == 1
    assert ran.err.startswith("KP-INTERNAL")
    assert left_in(tmp_path) == ["out.mp4.kinopaint"]


def test_ctrl_c_stops_with_6_and_says_how_to_go_on(job, tmp_path, monkeypatch):
    from kinopaint.video import SizePlan

    def interrupted(self, image, guide):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SizePlan, "restore", interrupted)
        ran = job()
    assert ran.code == 6
    assert ran.err.startswith("KP-STOPPED")
    assert "6 finished frames are kept in out.mp4.kinopaint" in ran.err
    assert "run the same command again to go on" in ran.err
    assert left_in(tmp_path) == ["out.mp4.kinopaint"]
    assert "6 of them done before" in job("--progress", "plain").err
    assert left_in(tmp_path) == ["out.mp4"]


def test_ctrl_c_in_the_first_window_leaves_nothing(job, tmp_path, monkeypatch):
    from kinopaint.methods import StyleAVideo

    def interrupted(self, *window_and_parts):
        raise KeyboardInterrupt

    monkeypatch.setattr(StyleAVideo, "stylize", interrupted)
    ran = job()
    assert (ran.code, ran.err[:10]) == (6, "KP-STOPPED")
    assert "no frame was finished" in ran.err
    assert left_in(tmp_path) == []


@pytest.mark.slow
def test_sigterm_stops_a_real_process_with_6_and_leaves_nothing(clip, model_folder, tmp_path):
    words = [clip, "oil", "-o", tmp_path / "out.mp4", "--model", model_folder, "--steps", 900, "--progress", "json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "kinopaint", "stylize", *map(str, words)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if json.loads(line)["event"] == "progress":
                break
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 60
        rest = process.stderr.read()
        assert process.wait(max(1.0, deadline - time.monotonic())) == 6
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    assert json.loads(rest.splitlines()[-1])["code"] == "KP-STOPPED"
    assert left_in(tmp_path) == []
