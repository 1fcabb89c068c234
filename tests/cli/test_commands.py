"""Usage, and the commands that only tell something."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from kinopaint.cli import COMMANDS, main


def test_help_names_every_command(kinopaint):
    ran = kinopaint("--help")
    assert ran.code == 0
    assert all(name in ran.out for name in COMMANDS)


def test_letters_that_the_terminal_lacks_are_escaped(monkeypatch):
    printed = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", printed)
    assert main(["--help"]) == 0
    print(json.dumps("ü🎨", ensure_ascii=False), flush=True)
    *shown, text = printed.buffer.getvalue().decode("ascii").splitlines()
    assert "usage: kinopaint COMMAND \\u2026" in shown
    assert json.loads(text) == "ü🎨"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(kinopaint, command):
    ran = kinopaint(command, "--help")
    assert ran.code == 0
    assert f"kinopaint {command}" in ran.out


@pytest.mark.parametrize("command", ["stylize", "preview"])
def test_help_shows_each_field_of_the_method_with_its_default(kinopaint, command):
    text = re.sub(r"\s+", " ", kinopaint(command, "--help").out)
    for name, default in {
        "--s-image": "1.5",
        "--s-text": "7.5",
        "--steps": "30",
        "--text-branch": "null_image",
    }.items():
        found = re.search(rf"{name}[ ,].*?\(default: ([^ )]*)", text)
        assert found
        assert found[1] == default


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["stylise"], "stylize"),
        (["stylize", "--s-txt", "5", "in.mp4", "words", "-o", "out.mp4"], "--s-text"),
        (["stylize", "in.mp4", "words", "-o", "out.mp4", "--metod", "x"], "--method"),
        (["stylize", "in.mp4", "words", "-o", "out.mp4", "--method", "style-a-vido"], "style-a-video"),
        (["stylize", "in.mp4", "words", "-o", "out.mp4", "--preset", "balansed"], "balanced"),
        (["stylize", "in.mp4", "words", "-o", "out.mp4", "--set", "s_imge=1"], "s_image"),
        (["stylize", "in.mp4", "words", "-o", "out.mp4", "--text-branch", "null-image"], "null_image"),
        (["stylize", "in.mp4", "words", "-o", "out.mp4", "--progress", "jsn"], "json"),
        (["methods", "style-a-vidoe"], "style-a-video"),
    ],
)
def test_unknown_names_say_what_is_near(kinopaint, words, near):
    ran = kinopaint(*words)
    assert ran.code == 2
    assert near in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("words", [[], ["stylize"], ["stylize", "in.mp4", "words"], ["probe"], ["probe", "a", "b"]])
def test_incomplete_commands_are_wrong_usage(kinopaint, words):
    assert kinopaint(*words).code == 2


def test_options_that_are_not_there_are_not_swallowed(kinopaint):
    for option in ("--resum", "--restart-all", "--keep_work"):
        ran = kinopaint("stylize", "in.mp4", "words", "-o", "out.mp4", option)
        assert ran.code == 2
        assert option in ran.err


def test_probe_describes_the_clip(kinopaint, clip):
    ran = kinopaint("probe", clip)
    assert ran.code == 0
    assert "48x32" in ran.out
    assert "12.000 per second" in ran.out
    assert "aac" in ran.out
    found = json.loads(kinopaint("probe", clip, "--json").out)
    assert (found["width"], found["height"], found["frame_count"], found["rate"]) == (48, 32, 6, "12/1")


def test_probe_of_nothing_is_an_input_error(kinopaint, tmp_path):
    ran = kinopaint("probe", tmp_path / "nothing.mp4")
    assert ran.code == 3
    assert ran.err.startswith("KP-INPUT-MISSING")


def test_methods_lists_and_describes(kinopaint):
    assert "style-a-video" in kinopaint("methods").out
    assert "pictures through the network per frame" in kinopaint("methods", "pix2video").out
    ran = kinopaint("methods", "style-a-video")
    assert "2305.05464" in ran.out
    assert "--s-text" in ran.out
    assert "--preset paper" in ran.out
    found = json.loads(kinopaint("methods", "style-a-video", "--json").out)["style-a-video"]
    assert found["fields"]["s_text"]["default"] == 7.5
    assert found["fields"]["num_inference_steps"]["option"] == "--steps"


def test_doctor_looks_at_devices_codecs_models_and_extras(kinopaint):
    ran = kinopaint("doctor")
    assert ran.code == 0
    assert all(word in ran.out for word in ("device cpu", "codec h264", "model mini", "extra demo", "torch"))
    assert {entry["name"] for entry in json.loads(kinopaint("doctor", "--json").out)} >= {"device cpu", "codec av1"}


def test_a_fault_of_our_own_is_reported_without_a_traceback(kinopaint, clip, monkeypatch):
    from kinopaint import video

    def broken(path):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(video, "probe", broken)
    ran = kinopaint("probe", clip, "--shots", "off")
    assert ran.code == 1
    assert ran.err.startswith("KP-INTERNAL: RuntimeError: unforeseen")
    assert "Traceback" not in ran.err
    assert "Traceback" in kinopaint("probe", clip, "--shots", "off", "--debug").err


@pytest.mark.parametrize("sheet", ["sheet.mp4", "sheet.gif", "sheet", "sheets/%04d.png"])
def test_what_holds_no_sheet_is_refused_before_anything_is_opened(kinopaint, sheet):
    ran = kinopaint("preview", "nowhere.mp4", "oil", "-o", sheet, "--model", "./nowhere")
    assert ran.code == 2
    assert ran.err.startswith("KP-SETTING-FORMAT")


def test_an_input_without_a_name_is_not_the_working_folder(kinopaint, tmp_path, monkeypatch):
    (tmp_path / "holiday.png").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    ran = kinopaint("stylize", "", "oil", "-o", "out.mp4")
    assert ran.code == 3
    assert ran.err.startswith("KP-INPUT-MISSING")


def test_words_that_look_like_options_are_told_where_they_go(kinopaint):
    for words in (["-moody"], ["oil", "--negative-prompt", "-blurry"]):
        ran = kinopaint("stylize", "in.mp4", *words, "-o", "out.mp4")
        assert ran.code == 2
        assert f"go to the end, after --, or behind \"=\": '{words[-1]}'" in ran.err
    assert kinopaint("stylize", "-o", "out.mp4", "--", "nowhere.mp4", "-moody").code == 3
    assert kinopaint("stylize", "nowhere.mp4", "--very moody painting", "-o", "out.mp4").code == 3
    assert kinopaint("stylize", "nowhere.mp4", "--negative-promt=grey and blurry", "-o", "out.mp4").code == 2
    assert kinopaint("stylize", "nowhere.mp4", "oil", "-o", "out.mp4", "--negative-prompt=-blurry").code == 3


def test_a_prompt_without_quotes_is_told_of_them(kinopaint):
    ran = kinopaint("stylize", "in.mp4", "an", "oil", "painting", "-o", "out.mp4")
    assert ran.code == 2
    assert "in quotes" in ran.err
