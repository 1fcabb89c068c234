import copy
from dataclasses import replace

import pytest

from kinopaint.engine.run import _Watched
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
    told = PROFILES[name].told(made)
    assert told["cache_every"] == (2 if name == "balanced" else 1)
    assert told["small_decoder"] == (name == "live")


def test_a_profile_asks_nothing_of_other_backbones(parts):
    plain = replace(parts, backbone=_Watched(parts.backbone, print))
    assert PROFILES["balanced"].applied(plain) is plain
    assert PROFILES["live"].applied(plain).autoencoder is parts.autoencoder
