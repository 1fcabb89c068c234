"""`kinopaint again`: the recipe in a result is enough to make it once more."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.clips import write_clip
from tests.fakes import fast, trail  # noqa: F401 - fixtures
from tests.test_resume import FRAMES, decoded, left_in, same

import kinopaint
from kinopaint.cli import main
from kinopaint.errors import InputError, ModelError, OutputError
from kinopaint.models import mini_path
from kinopaint.repeat import read_recipe
from kinopaint.sheet import write_picture


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, (128, 64))


@pytest.fixture
def clip(original, tmp_path):
    return shutil.copy(original, tmp_path / "clip.mp4")


@pytest.fixture
def made(fast, trail, clip, model_folder, tmp_path):  # noqa: F811
    """Make a result by the method `trail` with settings that are not the defaults."""

    def stylize(name="out.mkv", **settings):
        common = {"method": "trail", "model": model_folder, "dtype": "float32", "seed": 5}
        place = tmp_path / name
        kinopaint.stylize(clip, "oil, and 'quotes' — ü", place, progress=lambda event: None, **{**common, **settings})
        return place

    return stylize


def again(*given, **more):
    return kinopaint.again(*given, progress=lambda event: None, **more)


def test_the_frames_are_identical_and_the_recipe_says_the_same(made, model_folder, tmp_path):
    """With the settings whose way through JSON is not plain."""
    first = made(
        codec="ffv1", shade=0.6, windows="3:1", start=0.25, end="0.5", shots=[1, "0.3"], size="32x32", no_audio=True
    )
    done = again(first, model=model_folder)
    assert done.output == tmp_path / "out-again.mkv"
    assert same(done.output, decoded(first))
    before = read_recipe(first)
    apart = {"given", "delivery", "memory", "seconds"}
    assert {key: value for key, value in done.recipe.items() if key not in apart} == {
        key: value for key, value in before.items() if key not in apart
    }
    assert left_in(tmp_path) == ["clip.mp4", "out-again.mkv", "out.mkv"]


@pytest.mark.parametrize("name", ["out.mp4", "out.webm", "out.mov", "out.gif"])
def test_every_container_gives_its_recipe_back(made, model_folder, tmp_path, name):
    first = made(name)
    assert (tmp_path / f"{name}.json").exists() == (name == "out.gif")
    done = again(first, tmp_path / f"new-{name}", model=model_folder)
    assert same(done.output, decoded(first))


def test_a_picture_gives_its_recipe_back(made, clip, trail, model_folder, tmp_path):  # noqa: F811
    import numpy as np

    write_picture(tmp_path / "in.png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    settings = {"method": "trail", "model": model_folder, "dtype": "float32"}
    kinopaint.stylize(tmp_path / "in.png", "öl", tmp_path / "out.png", progress=lambda event: None, **settings)
    done = again(tmp_path / "out.png", model=model_folder)
    assert same(done.output, decoded(tmp_path / "out.png"))


def test_a_method_of_the_package_repeats_itself(original, model_folder, tmp_path):
    clip = shutil.copy(original, tmp_path / "clip.mp4")
    words = ["stylize", clip, "oil", "-o", tmp_path / "a.mkv", "--model", model_folder, "--steps", 1, "--end", "0.3"]
    assert main([*map(str, words), "--codec", "ffv1", "--progress", "none"]) == 0
    words = ["again", tmp_path / "a.mkv", "-o", tmp_path / "b.mkv", "--model", model_folder, "--progress", "none"]
    assert main([*map(str, words)]) == 0
    assert same(tmp_path / "b.mkv", decoded(tmp_path / "a.mkv"))


def test_as_much_is_computed_at_once_as_then(original, model_folder, tmp_path, monkeypatch):
    """Another batch rounds otherwise: what is free now does not count."""
    clip = shutil.copy(original, tmp_path / "clip.mp4")
    settings = {"model": model_folder, "steps": 1, "end": "0.3", "codec": "ffv1", "progress": lambda event: None}
    monkeypatch.setattr("kinopaint.memory.free_memory", lambda device: 10)
    first = kinopaint.stylize(clip, "oil", tmp_path / "a.mkv", **settings)
    assert first.recipe["load"] == "1 samples, 1 frames at once, tiles of 256 pixels"
    monkeypatch.setattr("kinopaint.memory.free_memory", lambda device: 10**12)
    done = again(tmp_path / "a.mkv", model=model_folder)
    assert done.recipe["load"] == first.recipe["load"]
    assert same(done.output, decoded(tmp_path / "a.mkv"))


def test_what_was_put_on_the_model_must_be_the_same(
    clip,
    model_folder,
    model_folders,
    trail,  # noqa: F811
    in_this_process,
    tmp_path,
):
    first, run = tmp_path / "out.mkv", {"method": "trail", "model": model_folder, "dtype": "float32"}
    kinopaint.stylize(clip, "oil", first, vae=model_folder / "vae", progress=lambda event: None, **run)
    with pytest.raises(ModelError, match="KP-MODEL-OTHER") as caught:
        again(first, model=model_folder)
    assert "--vae" in caught.value.fix
    trail.painted.clear()
    with pytest.raises(ModelError, match="contents, weights or order differ"):
        again(first, model=model_folder, vae=model_folders["v_prediction"] / "vae")
    assert trail.painted == []
    words = ["again", first, "--model", model_folder, "--vae", model_folder / "vae", "--progress", "none"]
    assert main([*map(str, words)]) == 0
    assert same(tmp_path / "out-again.mkv", decoded(first))


def test_memory_that_ran_out_then_is_said(made, model_folder):
    first = made("out.gif")
    beside = first.with_name("out.gif.json")
    recipe = json.loads(beside.read_text())
    recipe["fallbacks"] = [{"frame": 2, "step": "12 samples, 2 frames at once"}, {"frame": 4, "step": "float32"}]
    beside.write_text(json.dumps(recipe))
    told = []
    kinopaint.again(first, model=model_folder, progress=told.append)
    (note,) = (event["message"] for event in told if "memory ran out" in event.get("message", ""))
    assert "at frame 2" in note
    assert "12 samples" in note


@pytest.mark.parametrize("given", ["out", "out/shot_%03d.png"])
def test_a_sequence_gives_its_recipe_back(made, model_folder, tmp_path, given):
    made("out/shot_%03d.png")
    done = again(tmp_path / given, model=model_folder)
    assert done.output == tmp_path / "out-again"
    for picture in sorted((tmp_path / "out").iterdir()):
        assert (done.output / picture.name).read_bytes() == picture.read_bytes()
    with pytest.raises(OutputError, match="KP-OUTPUT-EXISTS"):
        again(tmp_path / given, model=model_folder)


def test_another_source_or_none_is_refused(made, clip, model_folder, tmp_path):
    first = made()
    other = write_clip(tmp_path / "other.mp4", FRAMES + 1, (64, 64))
    with pytest.raises(InputError) as caught:
        again(first, model=model_folder, input=other)
    assert caught.value.code == "KP-INPUT-OTHER"
    shutil.move(clip, tmp_path / "moved.mp4")
    with pytest.raises(InputError) as caught:
        again(first, model=model_folder)
    assert caught.value.code == "KP-INPUT-MISSING"
    assert "--input" in caught.value.fix
    assert same(again(first, model=model_folder, input=tmp_path / "moved.mp4").output, decoded(first))


def test_another_model_is_refused(made, model_folders):
    first = made()
    with pytest.raises(ModelError) as caught:
        again(first, model=model_folders["tiny"])
    assert caught.value.code == "KP-MODEL-OTHER"
    with pytest.raises(ModelError):  # the recorded name is a folder's, without its place
        again(first)


def test_nothing_is_overwritten_unasked(made, model_folder, tmp_path):
    first = made()
    (tmp_path / "out-again.mkv").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        again(first, model=model_folder)
    with pytest.raises(OutputError, match="exists"):
        again(first, first, model=model_folder)
    again(first, model=model_folder, overwrite=True)


def test_other_versions_are_said(made, model_folder, monkeypatch):
    first = made()
    monkeypatch.setattr("kinopaint.repeat.versions", lambda: {"torch": "9.9"})
    told = []
    kinopaint.again(first, model=model_folder, progress=told.append)
    (note,) = (event["message"] for event in told if event["event"] == "warning" and "made with" in event["message"])
    assert "torch" in note
    assert "(here 9.9)" in note
    assert "may differ by rounding" in note


def test_a_device_that_is_not_here_is_said(made, model_folder, monkeypatch):
    first = made("out.gif")
    beside = first.with_name("out.gif.json")
    beside.write_text(json.dumps({**json.loads(beside.read_text()), "device": "cuda:99"}))
    told = []
    assert kinopaint.again(first, model=model_folder, progress=told.append).recipe["device"] == "cpu"
    assert any("made on cuda:99" in event.get("message", "") for event in told)


def test_a_clip_without_recipe_is_refused(clip):
    with pytest.raises(InputError) as caught:
        again(clip)
    assert caught.value.code == "KP-INPUT-RECIPE"


def changed(recipe, *keys, value):
    inner = recipe
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return recipe


@pytest.mark.parametrize(
    "spoil",
    [
        lambda recipe: "no recipe",
        lambda recipe: [],
        lambda recipe: {},
        lambda recipe: changed(recipe, "settings", value=None),
        lambda recipe: changed(recipe, "source", "name", value=3),
        lambda recipe: changed(recipe, "source", "name", value="/etc/hostname"),
        lambda recipe: changed(recipe, "source", "name", value="../clip.mp4"),
        lambda recipe: changed(recipe, "settings", "shots", value="/etc/passwd"),
        lambda recipe: changed(recipe, "model", "hashes", value=None),
        lambda recipe: changed(recipe, "fallbacks", value=[3]),
    ],
)
def test_a_forged_recipe_reaches_for_nothing(made, model_folder, spoil, tmp_path):
    first = made("out.gif")
    beside = first.with_name("out.gif.json")
    beside.write_text(json.dumps(spoil(json.loads(beside.read_text()))))
    with pytest.raises(InputError) as caught:
        again(first, model=model_folder)
    assert caught.value.code == "KP-INPUT-RECIPE"
    assert not (tmp_path / "out-again.gif").exists()


def test_a_recipe_cannot_switch_the_network_on_or_overwrite(made, model_folder, tmp_path):
    first = made("out.gif")
    beside = first.with_name("out.gif.json")
    recipe = json.loads(beside.read_text())
    recipe["settings"] |= {"overwrite": True, "output": "x.gif", "download": True, "device": "cuda", "sidecar": True}
    beside.write_text(json.dumps(recipe))
    (tmp_path / "out-again.gif").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        again(first, model=model_folder)


def test_the_embedded_controlnet_need_not_be_given_again(made, model_folder, tmp_path, monkeypatch):
    from tests.checkpoints import write_controlnet

    embedded = tmp_path / "mini"
    shutil.copytree(model_folder, embedded)
    shutil.copy(mini_path() / "styles.json", embedded)
    write_controlnet(model_folder, embedded / "controlnet", seed=0)
    monkeypatch.setattr("kinopaint.models.mini_path", lambda: embedded)
    first = made(model="mini", controlnet="mini:0.5", codec="ffv1")
    done = again(first)
    assert done.recipe["settings"]["controlnet"] == ["lines=mini:0.5:0-1"]
    assert same(done.output, decoded(first))
    other = made("other.mkv", model="mini", controlnet=f"lines={embedded / 'controlnet'}", codec="ffv1")
    with pytest.raises(ModelError, match="with additions to the model: controlnet"):
        again(other)
