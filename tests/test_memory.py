"""The planner: what fits, what is refused, and that a run keeps what was chosen."""

import json

import pytest
import torch
from tests.clips import write_clip

import kinopaint
from kinopaint import memory
from kinopaint.engine.load import Load
from kinopaint.errors import SettingsError
from kinopaint.memory import Footprint, choose_load, footprint
from kinopaint.methods import StyleAVideo
from kinopaint.settings import parse_memory

CPU = torch.device("cpu")
FOUND = Footprint(held=1000, fixed=100, sample=50, frame=300, tile=80)


@pytest.mark.parametrize(
    ("text", "size"), [("8GB", 8 * 10**9), ("500 mb", 5 * 10**8), ("1.5GiB", 3 * 2**29), (1000, 1000), (None, None)]
)
def test_sizes_are_read_with_units(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["much", "8 elephants", "-1GB", "0", ""])
def test_other_words_are_refused(text):
    with pytest.raises(SettingsError, match="amount of memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("ceiling", "load"),
    [(10_000, Load(24, 4)), (2500, Load(24, 4)), (2200, Load(12, 2)), (1399, Load(3, 1)), (1299, Load(1, 1, 256))],
)
def test_the_largest_load_under_the_ceiling_is_chosen(ceiling, load):
    chosen = choose_load(FOUND, CPU, ceiling)
    assert chosen == load or FOUND.peak(chosen) <= ceiling < FOUND.peak(Load(chosen.samples * 2, chosen.frames * 2))
    assert FOUND.peak(chosen) <= ceiling


def test_a_ceiling_that_nothing_fits_under_is_refused_with_the_need():
    with pytest.raises(SettingsError, match="smallest load needs") as caught:
        choose_load(FOUND, CPU, 1100)
    assert caught.value.code == "KP-SETTING-MEMORY"
    assert caught.value.fix == "allow that much, or use a --work-size with 67% of the pixels or fewer"


def test_pictures_that_must_go_together_count_whatever_the_load():
    assert FOUND.peak(Load(1, 1), together=16) == FOUND.peak(Load(16, 1))
    assert choose_load(FOUND, CPU, 1900, together=16) == Load(12, 2)
    with pytest.raises(SettingsError, match="windows of fewer frames"):
        choose_load(FOUND, CPU, 1850, together=16)


def test_without_a_ceiling_free_memory_counts_and_the_smallest_is_tried(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 10**6)
    assert choose_load(FOUND, CPU, None) == Load()
    monkeypatch.setattr(memory, "free_memory", lambda device: 10)
    assert choose_load(FOUND, CPU, None) == Load(1, 1, 256)


def test_what_an_earlier_run_chose_stays_unless_a_ceiling_forbids(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 10)
    assert choose_load(FOUND, CPU, None, Load(12, 2)) == Load(12, 2)
    assert choose_load(FOUND, CPU, 1450, Load(12, 2)) == Load(6, 1)


def test_more_pictures_and_pixels_cost_more(parts):
    small, large = footprint(parts, 32, 48), footprint(parts, 64, 96)
    assert large.sample > 3 * small.sample > 0
    assert large.frame > 3 * small.frame > 0


def test_a_gradient_through_the_decoder_costs_more(parts):
    plain, back = footprint(parts, 64, 96), footprint(parts, 64, 96, through_decoder=True)
    assert back.frame > 1.5 * plain.frame
    asked = [StyleAVideo(clip_strength=0.1), StyleAVideo(clip_strength=0.1, clip_decoder="linear"), StyleAVideo()]
    assert [method.through_decoder for method in asked] == [True, False, False]


def test_the_autoencoder_is_not_tried_on_large_frames(parts, monkeypatch):
    """What it would take is reckoned from a part; the planner is not what runs out of memory."""
    shown = []
    inner = type(parts.autoencoder).encode
    monkeypatch.setattr(
        type(parts.autoencoder), "encode", lambda self, each: (shown.append(each.shape), inner(self, each))[1]
    )
    monkeypatch.setattr(type(parts.backbone), "predict", lambda self, latents, *rest: latents)
    monkeypatch.setattr(memory, "_restart_peak", lambda device: False)
    found, half = footprint(parts, 1024, 1536), footprint(parts, 512, 512)
    assert {shape[-2:] for shape in shown} == {(512, 512)}
    assert found.frame == 6 * half.frame
    assert half.tile < found.tile < found.frame


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4")


def test_the_load_is_in_the_recipe_and_the_error_of_the_plan_is_told(clip, model_folder, tmp_path):
    events = []
    result = kinopaint.stylize(
        clip, "oil", tmp_path / "o.mp4", model=model_folder, steps=1, memory="64GB", progress=events.append
    )
    assert Load.parse(result.recipe["load"]) == Load()
    done = events[-1]
    assert done["expected_memory"] > 0
    assert done["memory"] > 0
    assert done["expected_seconds"] > 0
    told = result.recipe["seconds"]
    assert 0 < told["measured"] <= done["seconds"]
    assert told["planned"] == done["expected_seconds"]


def test_the_peak_is_in_the_recipe_and_more_than_was_allowed_is_said(clip, model_folder, tmp_path, monkeypatch):
    run = {"model": model_folder, "steps": 1, "memory": "64GB"}
    events = []
    told = kinopaint.stylize(clip, "oil", tmp_path / "a.mp4", **run, progress=events.append).recipe["memory"]
    assert told["ceiling"] == 64 * 10**9
    assert 0.3 < told["planned"] / told["measured"] < 2
    assert not any("peak of memory" in event.get("message", "") for event in events)
    monkeypatch.setattr("kinopaint.api.peak_memory", lambda device: 65 * 10**9)
    result = kinopaint.stylize(clip, "oil", tmp_path / "b.mp4", **run, progress=events.append)
    assert result.recipe["memory"]["measured"] == 65 * 10**9
    (note,) = (event["message"] for event in events if "peak of memory" in event.get("message", ""))
    assert note == "the peak of memory was 65000 MB, more than the 64000 MB of --memory"


def test_a_ceiling_below_what_the_model_holds_is_refused_before_the_work(clip, model_folder, tmp_path):
    with pytest.raises(SettingsError, match="KP-SETTING-MEMORY") as caught:
        kinopaint.stylize(clip, "oil", tmp_path / "a.mp4", model=model_folder, memory="50MB")
    assert caught.value.fix == "allow that much, or use a smaller model: its weights alone take more"
    assert list(tmp_path.iterdir()) == []


def test_what_kernels_take_besides_their_results_counts(parts, monkeypatch):
    """Where the system tells, by how the process grew; else by a factor."""
    grown = footprint(parts, 32, 48)
    monkeypatch.setattr(memory, "_peak", lambda device: 0)  # as if it did not grow
    least = footprint(parts, 32, 48)
    assert least.frame <= grown.frame <= memory._MOST_SCRATCH * least.frame
    monkeypatch.setattr(memory, "_restart_peak", lambda device: False)
    assert footprint(parts, 32, 48).frame == memory._SCRATCH * least.frame
    assert footprint(parts, 32, 48, window=9).besides > footprint(parts, 32, 48, window=1).besides


def test_a_run_that_ran_out_of_memory_goes_on_where_it_was(clip, model_folder, tmp_path, monkeypatch):
    """Out of memory in the second window, killed in the third: the same command ends with the frames of a run that was
    not killed, and both recipes name the rung.
    """
    inner = StyleAVideo.stylize

    def hungry(self, window, *rest):
        if window.index and rest[-1].load.samples > 6:
            raise MemoryError
        if window.index == 2 and die:
            raise KeyboardInterrupt
        return inner(self, window, *rest)

    monkeypatch.setattr(StyleAVideo, "stylize", hungry)
    settings = {"model": model_folder, "steps": 1, "dtype": "float32", "windows": "2", "codec": "ffv1"}
    die, whole = False, tmp_path / "whole.mkv"
    first = kinopaint.stylize(clip, "oil", whole, **settings, progress=lambda event: None)
    die = True
    with pytest.raises(KeyboardInterrupt):
        kinopaint.stylize(clip, "oil", tmp_path / "o.mkv", **settings, progress=lambda event: None)
    die = False
    again = kinopaint.stylize(clip, "oil", tmp_path / "o.mkv", **settings, progress=lambda event: None)
    assert json.dumps(again.recipe["fallbacks"]) == json.dumps(first.recipe["fallbacks"])
    assert again.recipe["fallbacks"] == [{"frame": 2, "step": f"{Load(12, 2)}; {Load(6, 1)}"}]
    with kinopaint.video.open_clip(whole) as one, kinopaint.video.open_clip(tmp_path / "o.mkv") as other:
        assert all((a.image == b.image).all() for a, b in zip(one, other, strict=True))
