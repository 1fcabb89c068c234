"""Importing stays cheap, the public names are there, the demo clip looks like a clip."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

import kinopaint
from kinopaint import demo
from kinopaint.errors import OutputError, SettingsError

HEAVY = ("torch", "diffusers", "transformers", "cv2", "av", "numpy", "rich")


def modules_after(code: str) -> tuple[set[str], float]:
    """Modules that a fresh interpreter has loaded after `code`, and the seconds that `code` took."""
    script = f"""
import sys, time, json, io, contextlib
begin = time.perf_counter()
with contextlib.redirect_stdout(io.StringIO()):
    {code}
took = time.perf_counter() - begin
print(json.dumps([sorted(sys.modules), took]))
"""
    here = {**os.environ, "PYTHONPATH": str(Path(kinopaint.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, env=here
    )
    names, took = json.loads(done.stdout)
    return set(names), took


@pytest.mark.parametrize(
    "code",
    [
        "import kinopaint",
        "import kinopaint.cli; kinopaint.cli.main(['--help'])",
        "import kinopaint.cli; kinopaint.cli.main(['probe', '--help'])",
    ],
)
def test_start_costs_no_heavy_import_and_under_a_second(code):
    loaded, took = modules_after(code)
    assert not loaded & set(HEAVY)
    assert took < 1.0


def test_every_public_name_is_there_and_listed_once():
    assert sorted(kinopaint.__all__) == list(dict.fromkeys(sorted(kinopaint.__all__)))
    assert set(kinopaint._HOME) | set(kinopaint._MODULES) == set(kinopaint.__all__)
    for name in kinopaint.__all__:
        assert getattr(kinopaint, name) is not None
    assert set(kinopaint.__all__) <= set(dir(kinopaint))


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="paint_it"):
        _ = kinopaint.paint_it


def test_the_package_says_that_it_is_typed():
    assert (Path(kinopaint.__file__).parent / "py.typed").is_file()


def test_demo_clip_is_smooth_sharp_and_has_sound(tmp_path):
    path = demo.write_clip(tmp_path / "clip.mp4", frames=8)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (*demo.SIZE, demo.RATE)
        assert stream.codec_context.colorspace == 1  # BT.709
        assert container.streams.audio[0].codec_context.name == "aac"
        frames = [frame.to_ndarray(format="rgb24").astype(float) for frame in container.decode(stream)]
    assert len(frames) == 8
    steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert min(steps) > 0.2  # the camera moves
    assert max(steps) < 10  # but does not jump
    assert all(np.abs(np.diff(frame, axis=1)).mean() > 1.5 for frame in frames)  # detail, not fog


def test_demo_frames_repeat_exactly():
    first, again = (np.stack(list(demo.render("cat", frames=2, size=(64, 32)))) for _ in range(2))
    assert np.array_equal(first, again)


def test_demo_refuses_an_existing_file_and_an_unknown_scene(tmp_path, capsys):
    taken = tmp_path / "clip.mp4"
    taken.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        demo.write_clip(taken)
    assert taken.read_bytes() == b"mine"
    with pytest.raises(SettingsError, match="coffe"):
        next(demo.render("coffe"))
    assert demo.main([str(taken)]) == 4
    assert "KP-OUTPUT-EXISTS" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_demo_can_be_repeated(tmp_path):
    """The clip of the first time is taken again; programs in place of the installation say how they were called."""
    shutil.copy(Path(__file__).parents[1] / "Makefile", tmp_path)
    binaries = tmp_path / "venv" / "bin"
    binaries.mkdir(parents=True)
    for name, does in (("python", '[ ! -e "$3" ] && touch "$3"'), ("kinopaint", "true")):
        (binaries / name).write_text(f'#!/bin/sh\necho "{name} $*" >> called\n{does}\n')
        (binaries / name).chmod(0o755)
    for made in ("pyproject.toml", "venv/.torch", "venv/.package"):
        (tmp_path / made).touch()

    def demo_with(**variables):
        words = [f"{name}={value}" for name, value in variables.items()]
        subprocess.run(
            ["make", "demo", "VENV=venv", *words], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]}
        )

    demo_with()
    demo_with(PROMPT="a pencil sketch")
    demo_with(VIDEO="my clip.mp4")
    stylize = "kinopaint stylize --overwrite --output out/{1}-painted.mp4 -- {0} {2}"
    assert (tmp_path / "called").read_text().splitlines() == [
        "python -m kinopaint.demo out/demo-clip.mp4",
        stylize.format("out/demo-clip.mp4", "demo-clip", "a watercolor painting"),
        stylize.format("out/demo-clip.mp4", "demo-clip", "a pencil sketch"),
        stylize.format("my clip.mp4", "my clip", "a watercolor painting"),
    ]
