"""When deep features are reused, and that a reused step runs the outermost blocks only."""

from dataclasses import replace

import pytest
import torch

from kinopaint.engine.denoiser import Condition
from kinopaint.engine.feature_cache import FeatureCache
from kinopaint.models.layers import Resnet

DEEP = torch.zeros(1)


def pattern(cache, steps, call="call"):
    """1 for each full step."""
    found = []
    for step in steps:
        full = cache.recall(step, call) is None
        if full:
            cache.keep(call, DEEP)
        found.append(int(full))
    return found


def test_every_second_step_is_full_and_so_is_the_last_fifth(parts):
    assert pattern(FeatureCache(2), parts.schedule.steps(10)) == [1, 0, 1, 0, 1, 0, 1, 0, 1, 1]
    assert pattern(FeatureCache(3), parts.schedule.steps(10)) == [1, 0, 0, 1, 0, 0, 1, 0, 1, 1]


def test_a_new_window_reuses_nothing_of_the_one_before(parts):
    cache, steps = FeatureCache(3), parts.schedule.steps(10)
    pattern(cache, steps)
    assert cache.recall(steps[0], "call") is None
    assert cache.recall(steps[1], "call") is None


def test_windows_of_a_single_step_do_not_pile_up(parts):
    cache, steps = FeatureCache(2), parts.schedule.steps(1)
    for _ in range(5):
        pattern(cache, steps)
    assert len(cache._kept) == 1


def test_calls_of_a_step_are_known_by_place_and_shape(parts):
    cache, steps = FeatureCache(2), parts.schedule.steps(10)
    for value in (1.0, 2.0):
        assert cache.recall(steps[0], "same shape") is None
        cache.keep("same shape", torch.tensor(value))
    assert cache.recall(steps[1], "same shape") == 1
    assert cache.recall(steps[1], "same shape") == 2
    assert cache.recall(steps[1], "same shape") is None  # there was no third call
    assert pattern(FeatureCache(2), steps[:1]) == [1]


def test_other_calls_of_a_step_do_not_matter(parts):
    """A pilot that is asked on some steps only shifts nobody's place."""
    cache, steps = FeatureCache(2), parts.schedule.steps(10)
    for call in ("pilot", "branches"):
        assert cache.recall(steps[0], call) is None
        cache.keep(call, torch.tensor(float(len(call))))
    assert cache.recall(steps[1], "branches") == 8


def test_a_step_that_is_watched_is_full_and_serves_the_next(parts, conditions, deep_calls):
    proceed = [lambda call, rest: rest(call)]
    backbone, steps, latents = parts.backbone.caching(2), parts.schedule.steps(10), torch.zeros(1, 4, 4, 4)
    with torch.no_grad():
        for step in steps[:4]:
            backbone.predict(latents, step, conditions, interventions=[] if backbone.reuses(step) else proceed)
    assert len(deep_calls) == 2


@pytest.fixture
def conditions(parts):
    nothing, words = parts.text_encoder.encode(["", "oil"])
    return [Condition("nothing", nothing), Condition("style", words)]


@pytest.fixture
def deep_calls(parts):
    """How often a deep layer runs."""
    calls = []
    block = next(module for module in parts.backbone.unet.mid_block.modules() if isinstance(module, Resnet))
    handle = block.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    handle.remove()


def predicted(backbone, parts, conditions, count=10, **more):
    latents = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [backbone.predict(latents, step, conditions, **more) for step in parts.schedule.steps(count)]


def test_reused_steps_skip_the_deep_blocks_and_stay_near(parts, conditions, deep_calls):
    exact = predicted(parts.backbone, parts, conditions)
    assert len(deep_calls) == 10
    near = predicted(parts.backbone.caching(2), parts, conditions)
    assert len(deep_calls) == 16
    for index, (one, other) in enumerate(zip(exact, near, strict=True)):
        assert torch.equal(one, other) == (index in (0, 2, 4, 6, 8, 9))
        assert (one - other).abs().mean() < 0.2 * one.abs().mean()
    assert all("forward" not in vars(block) for block in parts.backbone.unet.modules())


def test_watched_and_steered_calls_and_gradients_are_always_full(parts, conditions, deep_calls):
    proceed = [lambda call, rest: rest(call)]
    predicted(parts.backbone.caching(2), parts, conditions, interventions=proceed)
    assert len(deep_calls) == 10
    backbone, steps = parts.backbone.caching(2), parts.schedule.steps(10)
    latents = torch.zeros(1, 4, 4, 4, requires_grad=True)
    for step in steps[:2]:
        backbone.predict(latents, step, conditions)
    assert len(deep_calls) == 12


def test_each_branch_has_features_of_its_own(parts, conditions):
    """Another number of branches at the full step: nothing fits, and the step is full."""
    backbone, steps, latents = parts.backbone.caching(2), parts.schedule.steps(10), torch.zeros(1, 4, 4, 4)
    with torch.no_grad():
        backbone.predict(latents, steps[0], conditions[:1])
        found = backbone.predict(latents, steps[1], conditions)
        assert torch.equal(found, parts.backbone.predict(latents, steps[1], conditions))


def test_the_model_itself_stays_exact(parts):
    assert parts.backbone.caching(2).unet is parts.backbone.unet
    assert parts.backbone.cache is None
    assert replace(parts, backbone=parts.backbone.caching(2)).backbone.cache is not None
