"""The Python interface, on a tiny random model."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from tests.clips import write_clip

import kinopaint
from kinopaint import api
from kinopaint.engine.run import stylize_windows
from kinopaint.errors import InputError, KinopaintError, ModelError, OutputError, SettingsError
from kinopaint.job import Job
from kinopaint.methods import Fresco, StyleAVideo
from kinopaint.models.pixels import to_pictures, to_tensor
from kinopaint.recipe import fingerprint
from kinopaint.types import Clip, Prompt
from kinopaint.video import probe
from kinopaint.work import WorkFolder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


@pytest.fixture
def method():
    return StyleAVideo(num_inference_steps=1)


def pictures(count, height=32, width=48, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def test_stylize_returns_path_count_recipe_and_check(clip, model_folder, tmp_path):
    result = kinopaint.stylize(
        clip, "oil", tmp_path / "o.mp4", model=model_folder, steps=1, s_text=6.0, dtype="float32", seed=3
    )
    assert result.output == tmp_path / "o.mp4"
    assert result.frames == probe(clip).frame_count == probe(result.output).frame_count
    assert result.recipe["settings"]["s_text"] == 6.0
    assert result.recipe["settings"]["seed"] == 3
    assert result.delivery.ok


def test_frames_keep_number_order_size_and_type(parts, method):
    source = pictures(5)
    painted = list(kinopaint.stylize_frames(iter(source), "oil", method=method, parts=parts))
    assert [picture.shape for picture in painted] == [(32, 48, 3)] * 5
    assert all(picture.dtype == np.uint8 for picture in painted)


def test_frames_equal_the_engine_on_the_same_frames(parts, method):
    source = pictures(3)
    frames = [to_tensor(picture) for picture in source]
    with torch.no_grad():
        windows = stylize_windows(method, frames, Clip(32, 48), Prompt("oil"), parts)
        expected = np.concatenate([to_pictures(done.frames) for done in windows])
    assert np.array_equal(np.stack(list(kinopaint.stylize_frames(source, "oil", method=method, parts=parts))), expected)


def test_frames_are_drawn_window_by_window(parts, method):
    drawn = []

    def source():
        for index, picture in enumerate(pictures(20)):
            drawn.append(index)
            yield picture

    stream = kinopaint.stylize_frames(source(), "oil", method=method, parts=parts)
    assert drawn == []
    next(stream)
    assert len(drawn) <= method.windows.size + 1


def test_gradients_stay_on_for_who_draws_the_frames(parts, method):
    stream = kinopaint.stylize_frames(pictures(3), "oil", method=method, parts=parts)
    next(stream)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        stream.close()  # whoever ends it elsewhere leaves nothing behind either
    assert torch.is_grad_enabled()


def test_a_caller_in_inference_mode_gets_the_same_from_a_method_with_gradients(model_folder, clip, tmp_path):
    method = Fresco(num_inference_steps=2, optimise_iterations=1)

    def painted():
        parts = kinopaint.load_model(model_folder, device="cpu", dtype="float32")
        return np.stack(list(kinopaint.stylize_frames(pictures(2), "oil", method=method, parts=parts)))

    expected = painted()
    with torch.inference_mode():
        assert np.array_equal(painted(), expected)
        settings = {"model": model_folder, "dtype": "float32", "method": "fresco", "steps": 2, "optimise_iterations": 1}
        assert kinopaint.stylize(clip, "oil", tmp_path / "o.mp4", **settings).delivery.ok
        assert torch.is_inference_mode_enabled()


def test_strength_zero_gives_back_the_picture_as_the_autoencoder_sees_it(parts):
    source = pictures(1)
    unchanged = next(iter(kinopaint.stylize_frames(source, "oil", method=StyleAVideo(strength=0.0), parts=parts)))
    with torch.no_grad():  # as the frames are made: layers round otherwise where gradients are wanted
        raw = parts.autoencoder.encode(to_tensor(source[0])[None])
        seen = to_pictures(parts.autoencoder.decode(parts.autoencoder.scaled(raw)))[0]
    assert np.array_equal(unchanged, seen)


def test_sides_that_do_not_fit_the_model_come_back_as_they_were(parts, method):
    painted = list(kinopaint.stylize_frames(pictures(2, 37, 51), "oil", method=method, parts=parts))
    assert [picture.shape for picture in painted] == [(37, 51, 3)] * 2


def test_seed_decides(parts, method):
    source = pictures(1)

    def run(seed):
        return next(iter(kinopaint.stylize_frames(source, "oil", method=method, parts=parts, seed=seed)))

    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))


def test_no_frames_give_no_frames(parts):
    assert list(kinopaint.stylize_frames([], "oil", parts=parts)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((32, 48), np.uint8),
        np.zeros((32, 48, 4), np.uint8),
        np.zeros((32, 48, 3), np.float32),
        np.zeros((32, 40, 3), np.uint8),
        "picture",
    ],
)
def test_other_pictures_are_refused_by_number(parts, method, wrong):
    with pytest.raises(InputError, match="frame 1"):
        list(kinopaint.stylize_frames([pictures(1)[0], wrong], "oil", method=method, parts=parts))


@pytest.mark.parametrize("wrong", [None, "in.mp4", np.zeros((0, 8, 3), np.uint8)])
def test_the_first_picture_is_looked_at_like_any_other(parts, method, wrong):
    with pytest.raises(InputError, match="frame 0"):
        list(kinopaint.stylize_frames([wrong], "oil", method=method, parts=parts))


def test_a_sheet_for_the_same_name_needs_no_recipe(clip, model_folder, tmp_path):
    (tmp_path / "s.jpg.json").write_text("mine")
    kinopaint.preview(clip, "oil", tmp_path / "s.jpg", frames=1, model=model_folder, steps=1)


def test_wrong_words_and_seeds_are_refused_at_the_call(parts):
    with pytest.raises(SettingsError, match="empty"):
        kinopaint.stylize_frames(pictures(1), " ", parts=parts)
    with pytest.raises(SettingsError, match="whole number"):
        kinopaint.stylize_frames(pictures(1), "oil", parts=parts, seed="one")


def test_every_error_is_ours_and_carries_a_code(clip, model_folder, tmp_path):
    output = tmp_path / "o.mp4"
    cases = [
        (SettingsError, {"s_txt": 1}),
        (SettingsError, {"overwite": True}),
        (SettingsError, {"text_branch": "both"}),
        (SettingsError, {"s_text": float("nan")}),
        (SettingsError, {"method": "style-b-video"}),
        *((SettingsError, {name: None}) for name in ("method", "preset", "size", "work_size", "codec", "model")),
        *((SettingsError, {name: None}) for name in ("device", "dtype", "seed", "every", "shots")),
        (SettingsError, {"size": (64, 48)}),
        (SettingsError, {"windows": 0}),
        (ModelError, {"model": ""}),
        (ModelError, {"model": "x" * 5000}),
        (ModelError, {"model": tmp_path / "none"}),
    ]
    for kind, settings in cases:
        with pytest.raises(kind) as caught:
            kinopaint.stylize(clip, "oil", output, **{"model": model_folder, **settings})
        assert isinstance(caught.value, KinopaintError)
        assert caught.value.code.startswith("KP-")
    with pytest.raises(SettingsError, match="overwrite"):
        kinopaint.stylize(clip, "oil", output, model=model_folder, overwite=True)
    output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        kinopaint.stylize(clip, "oil", output, model=model_folder)


def test_progress_is_told_by_dictionaries(clip, model_folder, tmp_path):
    events = []
    kinopaint.stylize(
        clip, "oil", tmp_path / "o.mp4", model=model_folder, steps=1, dtype="float32", progress=events.append
    )
    kinds = [event["event"] for event in events]
    assert (kinds[0], kinds[-1]) == ("start", "done")
    assert events[-1]["frames"] == 6


def test_preview_writes_one_sheet(clip, model_folder, tmp_path):
    sheet = kinopaint.preview(clip, "oil", tmp_path / "s.jpg", frames=9, model=model_folder, steps=1, dtype="float32")
    assert probe(sheet).is_image  # six frames are all there are


def test_available_methods_are_names():
    assert "style-a-video" in kinopaint.available_methods()


def test_a_sequence_gives_a_sequence_with_its_recipe_beside_it(model_folder, tmp_path):
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)
    settings = {"model": model_folder, "steps": 1, "dtype": "float32", "fps": "24000/1001"}
    result = kinopaint.stylize(tmp_path / "in" / "%d.png", "oil", tmp_path / "out" / "%03d.png", **settings)
    assert result.output == tmp_path / "out"
    assert sorted(path.name for path in result.output.iterdir()) == ["001.png", "002.png", "003.png"]
    recipe = json.loads((tmp_path / "out.json").read_text())
    assert recipe == json.loads(json.dumps(result.recipe))
    assert (recipe["settings"]["fps"], recipe["source"]["name"]) == ("24000/1001", "in/%d.png")
    assert recipe["source"]["fingerprint"].startswith("sha256-files:")
    assert recipe["delivery"]["ok"]


def test_a_sequence_whose_run_was_stopped_after_its_naming_is_recognised(model_folder, tmp_path):
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures(3)):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), picture)

    def run(**more):
        settings = {"model": model_folder, "steps": 1, "dtype": "float32", **more}
        return kinopaint.stylize(tmp_path / "in", "oil", tmp_path / "out" / "%d.png", **settings)

    first = run(keep_work=True)
    assert (tmp_path / "out.kinopaint").is_dir()
    assert run().delivery == first.delivery
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out.json"]
    with pytest.raises(OutputError, match="KP-OUTPUT-EXISTS"):
        run()


def test_a_recipe_that_must_be_written_beside_the_result_overwrites_nothing(clip, model_folder, tmp_path):
    (tmp_path / "a.gif.json").write_text("precious")
    with pytest.raises(OutputError, match=r"KP-OUTPUT-EXISTS.*recipe"):
        kinopaint.stylize(clip, "oil", tmp_path / "a.gif", model=model_folder, steps=1)
    assert (tmp_path / "a.gif.json").read_text() == "precious"


def test_the_fingerprint_of_a_sequence_follows_names_and_contents(tmp_path):
    def after(name, content):
        (tmp_path / name).write_bytes(content)
        return fingerprint(tmp_path)

    assert len({after("1.png", b"a"), after("1.png", b"b"), after("2.png", b"a")}) == 3


def test_a_window_is_kept_while_the_next_one_is_painted(clip, model_folder, tmp_path, monkeypatch):
    """Keeping window 0 waits here for window 1 to begin, which without a thread of its own would never come."""
    painting, inner_keep, inner, kept = threading.Event(), WorkFolder.keep, StyleAVideo.stylize, []

    def keep(self, *given):
        if not kept:
            assert painting.wait(60)
        kept.append(self.windows)
        inner_keep(self, *given)

    def stylize(self, window, *rest):
        if window.index == 1:
            painting.set()
        return inner(self, window, *rest)

    monkeypatch.setattr(WorkFolder, "keep", keep)
    monkeypatch.setattr(StyleAVideo, "stylize", stylize)
    settings = {"model": model_folder, "steps": 1, "windows": "2"}
    done = kinopaint.stylize(clip, "oil", tmp_path / "o.mp4", progress=lambda event: None, **settings)
    assert kept == list(range(-(-done.frames // 2)))


def test_what_goes_wrong_while_a_window_is_kept_stops_the_run(clip, model_folder, tmp_path, monkeypatch):
    painted, inner = [], StyleAVideo.stylize

    def keep(self, *given):
        raise OutputError("KP-OUTPUT-FULL", "no room")

    def stylize(self, window, *rest):
        painted.append(window.index)
        return inner(self, window, *rest)

    monkeypatch.setattr(WorkFolder, "keep", keep)
    monkeypatch.setattr(StyleAVideo, "stylize", stylize)
    settings = {"model": model_folder, "steps": 1, "windows": "1"}
    with pytest.raises(OutputError, match="no room"):
        kinopaint.stylize(clip, "oil", tmp_path / "o.mp4", progress=lambda event: None, **settings)
    assert painted == [0, 1]  # one window ahead, no more


WRONG = [None, 1, True, b"x", [1], {}, object(), np.array([1, 2]), 10**400]  # as a path, and as most else


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_other_types_are_settings_errors(wrong, clip, tmp_path):
    output = tmp_path / "o.mp4"
    calls = [
        lambda: kinopaint.stylize(wrong, "oil", output),
        lambda: kinopaint.stylize(clip, "oil", wrong),
        lambda: kinopaint.stylize(clip, wrong, output),
        lambda: kinopaint.preview(clip, "oil", wrong),
        lambda: kinopaint.again(wrong),
        lambda: kinopaint.evaluate(wrong, clip),
        lambda: kinopaint.evaluate(clip, wrong),
        lambda: Job.of(clip, "oil", output, model=wrong),
    ]
    if wrong is not None:  # which stands for "not given"
        names = ["negative_prompt", "memory", "quality"]
        if type(wrong) is int and wrong == 1:  # one byte, CRF 1
            names = names[:1]
        calls += [lambda name=name: Job.of(clip, "oil", output, **{name: wrong}) for name in names]
        calls += [lambda: kinopaint.evaluate(clip, clip, prompt=wrong)]
        calls += [lambda: kinopaint.evaluate(clip, clip, clip=wrong)]
        calls += [lambda: kinopaint.stylize(clip, "oil", output, progress=wrong)]
    for call in calls:
        with pytest.raises(SettingsError):
            call()


def test_models_and_methods_of_other_types_are_settings_errors():
    """In a process of its own: here the tests' own checks of types would come first."""
    code = """
import kinopaint
for wrong in (1, True, b"x", [1], {}, object()):
    calls = [lambda: kinopaint.load_model(wrong), lambda: kinopaint.methods.get_method(wrong)]
    for name in ("vae", "lora", "controlnet", "ip_adapter", "image_prompt"):
        calls.append(lambda name=name: kinopaint.stylize("in.mp4", "oil", "out.mp4", **{name: wrong}))
        calls.append(lambda name=name: kinopaint.load_model("mini", **{name: wrong}))
    for call in calls:
        try:
            call()
        except kinopaint.errors.SettingsError:
            continue
        raise SystemExit(f"{wrong!r} was taken")
"""
    here = {**os.environ, "PYTHONPATH": str(Path(kinopaint.__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code], env=here, check=True)


@pytest.mark.parametrize("name", ["no_audio", "download", "allow_damaged", "overwrite", "restart", "keep_work"])
def test_no_means_no(name, tmp_path):
    assert getattr(Job.of("in.mp4", "oil", tmp_path / "o.mp4", **{name: "no"}), name) is False
    for wrong in ("perhaps", None, [], 2):
        with pytest.raises(SettingsError, match="yes or no"):
            Job.of("in.mp4", "oil", tmp_path / "o.mp4", **{name: wrong})


def test_numbers_that_are_too_large_or_not_whole_are_refused(tmp_path):
    huge = 10**400
    for settings in ({"steps": huge}, {"s_text": huge}, {"memory": huge}, {"memory": "0.5"}, {"clip_layer": -huge}):
        with pytest.raises(SettingsError):
            Job.of("in.mp4", "oil", tmp_path / "o.mp4", **settings)
    for wrong in (Fraction(1, 2), Decimal("2.5"), np.float32(2.5)):
        with pytest.raises(SettingsError, match="whole number"):
            Job.of("in.mp4", "oil", tmp_path / "o.mp4", seed=wrong)
    for call in (
        lambda: Job.of("in.mp4", "oil", "o.mp4", seed=2**64),
        lambda: kinopaint.stylize_frames([], "oil", seed=2**64),
    ):
        with pytest.raises(SettingsError, match=r"below 2\*\*63"):
            call()


@pytest.mark.parametrize("wrong", ["style-a-video", 1, StyleAVideo, [], object()], ids=str)
def test_frames_take_objects_and_say_which(parts, method, wrong):
    with pytest.raises(SettingsError, match=r"methods\.StyleAVideo\("):
        kinopaint.stylize_frames(pictures(1), "oil", method=wrong, parts=parts)
    with pytest.raises(SettingsError, match="load_model"):
        kinopaint.stylize_frames(pictures(1), "oil", method=method, parts="mini" if isinstance(wrong, str) else wrong)
    with pytest.raises(SettingsError, match="iterable"):
        kinopaint.stylize_frames(7, "oil", method=method, parts=parts)


def test_again_says_what_it_does_not_take(clip):
    for name in ("shots", "dtype", "seed", "overwrit"):
        with pytest.raises(SettingsError, match="recipe"):
            kinopaint.again(clip, **{name: "x"})
    with pytest.raises(InputError, match="KP-INPUT-MISSING"):
        kinopaint.again("")


def test_what_a_model_recommends_wrongly_is_blamed_on_its_file(clip, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    for value in ({"s_text": "much"}, {"strength": 2.0}, {"temporal": "often"}, {"num_inference_steps": None}):
        (folder / "kinopaint.json").write_text(json.dumps({"recommended": {"style-a-video": value}}))
        calls = (
            lambda: kinopaint.stylize(clip, "oil", tmp_path / "o.mp4", model=folder),
            lambda: list(kinopaint.stylize_frames(pictures(1), "oil", parts=kinopaint.load_model(folder))),
        )
        for call in calls:
            with pytest.raises(ModelError, match="KP-MODEL-JSON") as caught:
                call()
            assert caught.value.where == str(folder / "kinopaint.json")
            assert str(next(iter(value.values()))) in caught.value.what


def test_what_a_model_recommends_for_later_versions_is_left_out(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    about = {"recommended": {"style-a-video": {"num_inference_steps": 1, "of_tomorrow": 3}}}
    (folder / "kinopaint.json").write_text(json.dumps(about))
    assert len(list(kinopaint.stylize_frames(pictures(1), "oil", parts=kinopaint.load_model(folder)))) == 1


def test_what_a_model_recommends_and_nobody_knows_is_said(clip, model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    about = {"recommended": {"style-a-video": {"num_inference_steps": 1, "s_txt": 3}, "style-a-vide": {"s_text": 3}}}
    (folder / "kinopaint.json").write_text(json.dumps(about))
    events = []
    kinopaint.stylize(clip, "oil", tmp_path / "o.mp4", model=folder, progress=events.append)
    told = [event["message"] for event in events if event["event"] == "warning"]
    assert any("left out: style-a-vide, style-a-video: s_txt" in text for text in told)


def test_what_is_asked_for_and_does_nothing_is_said(clip, model_folder, tmp_path):
    def told(call, **more):
        events = []
        call(progress=events.append, **more)
        return [event["message"] for event in events if "does nothing" in event.get("message", "")]

    target = tmp_path / "o.mp4"
    settings = {"model": model_folder, "preset": "live", "steps": 1, "temporal": "flow_blend"}
    asked = {"s_text": 9.0, "clip_every": 2, "negative_prompt": "blue"}
    expected = [
        "--s-text does nothing with guidance=single",
        "--negative-prompt does nothing with guidance=single",
        "--clip-every does nothing without a CLIP step (clip_strength)",
    ]
    stylize = functools.partial(kinopaint.stylize, clip, "oil")
    assert told(stylize, output=target, **settings) == []
    assert told(stylize, output=target, overwrite=True, **settings, **asked) == expected
    assert told(functools.partial(kinopaint.again, target), model=model_folder, input=clip) == []
    preview = functools.partial(kinopaint.preview, clip, "oil", tmp_path / "sheet.png")
    assert told(preview, frames=1, **settings, **asked) == expected


def test_words_that_are_cut_off_are_those_that_the_network_is_asked_with():
    encoder = SimpleNamespace(max_tokens=3, beyond_limit=lambda text: " ".join(text.split()[3:]))
    schedule = SimpleNamespace(stands_in_for="")
    ready = SimpleNamespace(
        parts=SimpleNamespace(text_encoder=encoder, schedule=schedule, recommended={}),
        job=SimpleNamespace(prompt=Prompt("please paint it in oil", "no blue no red"), model="x", method_name="fresco"),
        prompt=Prompt("oil painting", "no blue no red"),
        method=Fresco(),
    )
    told = list(api._doubts(ready, heard=True))
    assert told[0] == "the text encoder reads 3 tokens; it will not see: red"
    assert len(told) == 2  # and as what it is read


def test_a_strength_that_is_no_whole_step_is_said(clip, model_folder, tmp_path):
    for strength, expected in ((0.2, 1), (0.25, 0), (0.0, 0)):
        events = []
        settings = {"model": model_folder, "steps": 4, "strength": strength, "overwrite": True}
        kinopaint.stylize(clip, "oil", tmp_path / "o.mp4", progress=events.append, **settings)
        assert sum("nothing is painted" in event.get("message", "") for event in events) == expected


def test_values_may_have_the_types_that_python_has_for_them(model_folder, tmp_path):
    settings = {"device": torch.device("cpu"), "dtype": torch.float32, "windows": 3, "negative_prompt": None}
    job = Job.of("in.mp4", "oil", tmp_path / "out.mp4", **settings)
    assert (job.device, job.dtype, job.prompt.negative) == ("cpu", "float32", "")
    assert job.method({}).windows.size == 3
    parts = kinopaint.load_model(model_folder, device=torch.device("cpu"), dtype=torch.float32)
    assert parts.dtype == torch.float32


def test_names_that_no_file_can_have(clip, model_folder, tmp_path):
    for name in (f"{'x' * 300}.mp4", "a\0.mp4", f"{'x' * 5000}/o.mp4"):
        with pytest.raises(OutputError, match="KP-OUTPUT-NAME"):
            kinopaint.stylize(clip, "oil", tmp_path / name, model=model_folder)
    with pytest.raises(InputError, match="KP-INPUT-MISSING"):
        kinopaint.stylize("", "oil", tmp_path / "o.mp4", model=model_folder)
