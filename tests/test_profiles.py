import copy
from dataclasses import replace

import pytest
import torch

from kinopaint import deviations
from kinopaint.engine.run import _Watched
from kinopaint.errors import SettingsError
from kinopaint.job import Job
from kinopaint.profiles import PROFILES

RECOMMENDED = {"num_inference_steps": 20, "s_text": 2.0}


def settings(preset, **given):
    return Job.of("in.mp4", "oil", "out.mp4", preset=preset, **given).method(RECOMMENDED)


def test_no_profile_changes_what_is_shown():
    """Sharpness and speed are a profile's business; temporal and guidance scales are not."""
    for profile in PROFILES.values():
        assert not {"temporal", "s_text", "s_image", "text_branch", "init", "strength"} & set(profile.fields)


def test_exact_takes_the_methods_own_steps():
    method = settings("exact")
    assert (method.num_inference_steps, method.sampler, method.s_text) == (30, "ddim", 2.0)
    assert PROFILES["exact"].cache_every == 1


def test_fast_is_few_steps_without_gradient_and_with_a_lagged_mask():
    method = settings("fast")
    assert 6 <= method.num_inference_steps <= 8
    assert method.clip_strength == 0
    assert method.mask_lagged


def test_profiles_yield_to_what_is_given_and_to_later_presets():
    assert settings("balanced", steps=7).num_inference_steps == 7
    assert settings("balanced,ip2p").sampler == "checkpoint"
    assert settings("ip2p,balanced").sampler == "dpmpp_2m"


def test_a_lagged_mask_that_a_profile_asks_for_forbids_no_pilot_where_there_is_no_conflict():
    assert settings("balanced", pilot="full").pilot == "full"  # no mask
    job = Job.of("in.mp4", "oil", "out.mp4", s_mask=0.5, pilot="full")  # the embedded model's words see the frame
    assert job.method({"text_branch": "joint"}).mask_lagged
    with pytest.raises(SettingsError, match="mask_lagged=no"):
        Job.of("in.mp4", "oil", "out.mp4", s_mask=0.5, pilot="full", text_branch="null_image")


def test_a_methods_preset_alone_runs_as_it_says():
    job = Job.of("in.mp4", "oil", "out.mp4", preset="ip2p")
    assert job.profile.cache_every == 1
    assert job.method(RECOMMENDED).num_inference_steps == 20
    assert not job.method(RECOMMENDED).mask_lagged


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_changes_the_model_as_its_row_says(name, parts):
    small = copy.copy(parts.autoencoder)
    made = PROFILES[name].applied(replace(parts, small_autoencoder=small))
    assert (made.autoencoder is small) == (name == "live")
    assert (made.backbone.cache is not None) == (name == "balanced")
    choices = PROFILES[name].choices(settings(name), settings("exact"), made)
    expected = {
        "exact": {},
        "balanced": {"steps": "20 dpmpp_2m", "cache_every": 2},
        "fast": {"steps": "8 dpmpp_2m"},
        "live": {"steps": "4 dpmpp_2m", "guidance": "single", "small_decoder": True},
    }
    assert choices == expected[name]
    half = PROFILES[name].choices(settings(name), settings("exact"), replace(made, dtype=torch.bfloat16))
    assert half == {**expected[name], "dtype": "bfloat16"}


def test_a_profile_asks_nothing_of_other_backbones(parts):
    plain = replace(parts, backbone=_Watched(parts.backbone, print))
    assert PROFILES["balanced"].applied(plain) is plain
    assert PROFILES["live"].applied(plain).autoencoder is parts.autoencoder


def test_only_choices_that_act_are_told(parts):
    """Against what `exact` would do with the same settings, given ones included."""

    def choices(**given):
        job = Job.of("in.mp4", "oil", "out.mp4", preset="balanced", **given)
        return job.profile.choices(job.method({}), job.method({}, exact=True), parts)

    assert choices() == {"steps": "15 dpmpp_2m"}
    assert choices(sampler="ddim", steps=9) == {}
    assert choices(s_mask=0.5, clip_strength=0.02) == {"steps": "15 dpmpp_2m", "mask_lagged": True, "clip_every": 2}


def test_the_table_of_deviations_holds_what_the_profiles_choose():
    """A profile that is changed must be measured again: benchmarks/profiles.py --write."""
    rows = {row["name"]: row for row in deviations.table()["rows"]}
    assert rows["balanced"]["choices"] == {"steps": "15 dpmpp_2m", "cache_every": 2, "dtype": "bfloat16"}
    drafts = {"clip_strength": 0.0, "dtype": "bfloat16"}
    assert rows["fast"]["choices"] == {"steps": "8 dpmpp_2m", **drafts}
    assert rows["live"]["choices"] == {"steps": "4 dpmpp_2m", "guidance": "single", **drafts}
    for name in ("balanced", "fast", "live"):
        for choice, value in rows[name]["choices"].items():
            assert any(row["choices"] == {choice: value} for row in rows.values()), (name, choice)
    balanced = rows["balanced"]["deviation"]
    assert balanced["psnr_lowest"] >= 28
    assert balanced["pro_con"] >= 0.98
    assert balanced["content"] >= 0.98


def test_what_was_not_measured_is_said_to_be():
    row, weights = deviations.table()["rows"][0], deviations.table()["weights"]

    def told(choices=row["choices"], method="style-a-video", model="mini", weights=weights):
        return deviations.deviation(choices, method, model, weights)

    assert told() == row["deviation"]
    assert told(model="another") == told(method="fresco") == "not measured for this model and method"
    assert told(choices={"steps": "1 ddim"}) == "not measured for these choices"
    assert told(weights="0" * 64) == {**row["deviation"], "measured_with_earlier_weights": True}
