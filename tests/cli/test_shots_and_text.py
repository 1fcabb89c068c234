"""--shots from the command line to the result's recipe, and hostile text on the way out."""

from __future__ import annotations

import json

import av
import cv2
import numpy as np
import pytest

from kinopaint.video import probe

HOSTILE = "a\x1b]0;owned\x07\x1b[2J\r\nKP-DONE \u202egnp <script>alert(1)</script>"


@pytest.fixture
def two_shots(tmp_path):
    """Eight frames of one scene and eight of another, at 10 per second, with hostile metadata."""
    path = tmp_path / "in.mkv"
    with av.open(str(path), "w") as out:
        out.metadata["comment"] = HOSTILE
        stream = out.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "bgr0"
        sound = out.add_stream("aac", rate=48000, layout="mono")
        sound.metadata["title"] = HOSTILE + "x" * 10_000
        for seed in (1, 2):
            noise = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), np.uint8)
            image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
            for _ in range(8):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


def test_probe_lists_shots(kinopaint, two_shots, tmp_path):
    ran = kinopaint("probe", two_shots)
    assert ran.code == 0
    assert "from frame 8 (0.800 s), 8 frames" in ran.out
    found = json.loads(kinopaint("probe", two_shots, "--json").out)
    assert found["shots"] == [{"first": 0, "start_s": 0.0, "frames": 8}, {"first": 8, "start_s": 0.8, "frames": 8}]
    assert json.loads(kinopaint("probe", two_shots, "--json", "--shots", "off").out)["shots"] is None
    (tmp_path / "cuts.txt").write_text("0.2\n")
    told = kinopaint("probe", two_shots, "--shots", tmp_path / "cuts.txt").out
    assert "from frame 2 (0.200 s), 14 frames" in told


def test_hostile_metadata_is_escaped_by_probe(kinopaint, two_shots):
    for words in ((), ("--json",)):
        ran = kinopaint("probe", two_shots, "--shots", "off", *words)
        assert ran.code == 0
        assert all(c.isprintable() or c == "\n" for c in ran.out)
        assert not any(line.startswith("KP-DONE") for line in ran.out.splitlines())
        assert max(map(len, ran.out.splitlines())) < (20_000 if words else 1000)
    assert "owned" in ran.out


def test_hostile_names_are_escaped_in_errors(kinopaint, tmp_path):
    for mode in ("plain", "json"):
        ran = kinopaint("stylize", f"{HOSTILE}.mp4", "oil", "-o", tmp_path / "o.mp4", "--progress", mode)
        assert ran.code == 3
        assert all(c.isprintable() or c == "\n" for c in ran.err)
        assert not any(line.startswith("KP-DONE") for line in ran.err.splitlines())


@pytest.fixture
def stylize(kinopaint, two_shots, model_folder, tmp_path):
    def run(*more):
        words = ["--model", model_folder, "--steps", 1, "--dtype", "float32", "--progress", "none", "--overwrite"]
        return kinopaint("stylize", two_shots, "oil", "-o", tmp_path / "o.mkv", *words, *more)

    return run


def cuts_in(path):
    return json.loads(probe(path).metadata["kinopaint"])["cuts"]


def test_cuts_are_found_and_told_in_the_recipe(stylize, tmp_path):
    assert stylize().code == 0
    assert cuts_in(tmp_path / "o.mkv") == [8]
    assert stylize("--every", 3).code == 0
    assert cuts_in(tmp_path / "o.mkv") == [3]
    assert stylize("--shots", "off").code == 0
    assert cuts_in(tmp_path / "o.mkv") == []


def test_cuts_come_from_a_file(stylize, tmp_path):
    cuts = tmp_path / "cuts.txt"
    cuts.write_text("3\n0.5\n")
    assert stylize("--shots", cuts).code == 0
    assert cuts_in(tmp_path / "o.mkv") == [3, 5]
    ran = stylize("--shots", cuts, "--plan")
    assert "16 in 5 windows" in ran.out  # 3 + 2 + 11 frames in windows of at most 4
    cuts.write_text("3\nlater\n")
    ran = stylize("--shots", cuts)
    assert (ran.code, ran.err.split(":")[0]) == (2, "KP-SHOTS-MARK")
    cuts.write_text("16\n")
    ran = stylize("--shots", cuts)
    assert (ran.code, ran.err.split(":")[0]) == (2, "KP-SHOTS-RANGE")
    assert stylize("--shots", "atuo").code == 2


def test_the_search_for_cuts_is_shown_with_the_time_left():
    from kinopaint.cli.progress import _line

    event = {"event": "shots", "frames_done": 120, "frames": 4000, "eta_s": 65.0}
    assert _line(event) == "looking for scene cuts: 120 of 4000 frames, 1:05 left"
