"""What holds for every registered method, on the tiny model."""

import dataclasses
import sys

import pytest
import torch

from kinopaint.engine.run import stylize_windows
from kinopaint.methods import available_methods, get_method
from kinopaint.types import Clip, Prompt, WindowPlan

METHODS = available_methods()
WITH_NOISE = {"pix2video": {"fresh_noise": 0.5}}  # methods that draw none by default


def few_steps(name, **fields):
    kind = get_method(name)
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**({"num_inference_steps": 2} if "num_inference_steps" in names else {}), **fields)


def run(method, frames, parts, seed=0):
    clip = Clip(frames.shape[-2], frames.shape[-1], len(frames))
    parts = dataclasses.replace(parts, seed=seed)
    return torch.cat([done.frames for done in stylize_windows(method, frames, clip, Prompt("oil"), parts)])


@pytest.mark.parametrize("name", METHODS)
def test_it_is_a_frozen_dataclass_whose_fields_explain_themselves(name):
    kind = get_method(name)
    assert kind.__dataclass_params__.frozen
    assert kind.__doc__
    for field in dataclasses.fields(kind):
        assert field.metadata["help"], field.name
        assert field.default is not dataclasses.MISSING, field.name
    assert isinstance(kind().windows, WindowPlan)


@pytest.mark.parametrize("name", METHODS)
def test_presets_name_fields(name):
    kind = get_method(name)
    names = {field.name for field in dataclasses.fields(kind)}
    for preset in getattr(kind, "presets", {}).values():
        assert set(preset) <= names


@pytest.mark.parametrize("name", METHODS)
def test_it_says_what_it_costs(name):
    kind = get_method(name)
    told = f"{getattr(kind(), 'cost', '')} {sys.modules[kind.__module__].__doc__}"
    assert "through the network" in told
    assert "emory" in told


@pytest.mark.parametrize("model", ["epsilon", "v_prediction", "tiny"])
@pytest.mark.parametrize("name", METHODS)
def test_frames_come_back_finite_in_number_and_size(name, model, loaded, frames):
    result = run(few_steps(name), frames, loaded[model])
    assert result.shape == frames.shape
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_everything(name, parts, frames):
    method = few_steps(name, **WITH_NOISE.get(name, {}))
    first = run(method, frames, parts, seed=1)
    assert torch.equal(first, run(method, frames, parts, seed=1))
    assert not torch.equal(first, run(method, frames, parts, seed=2))
