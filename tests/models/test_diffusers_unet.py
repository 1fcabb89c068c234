from dataclasses import replace

import pytest
import torch

from kinopaint.engine.denoiser import Condition
from kinopaint.engine.interventions import is_self, under, where
from kinopaint.errors import ShapeError


@pytest.fixture
def latents():
    return torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def conditions(parts):
    nothing, words = parts.text_encoder.encode(["", "oil"])
    image = torch.randn(3, 4, 4, 6, generator=torch.Generator().manual_seed(1))
    return [Condition("nothing", nothing), Condition("content", nothing, image), Condition("style", words, image)]


@pytest.mark.parametrize("name", ["epsilon", "v_prediction"])
def test_prediction_is_the_networks_own_turned_into_noise(name, loaded, latents, conditions, step):
    backbone = loaded[name].backbone
    for index, condition in enumerate(conditions):
        image = torch.zeros_like(latents) if condition.image is None else condition.image
        output = backbone.unet(
            torch.cat([latents, image], 1), int(step.timestep), condition.text.states.expand(3, -1, -1)
        ).sample
        noise = step.alpha * output + step.sigma * latents if name == "v_prediction" else output
        assert torch.allclose(backbone.predict(latents, step, conditions)[index], noise, atol=1e-5)


def test_sample_prediction_becomes_noise(parts, latents, conditions, step):
    from kinopaint.models.diffusers_unet import DiffusersBackbone

    other = DiffusersBackbone(parts.backbone.unet, "sample", image_channels=4)
    clean = parts.backbone.predict(latents, step, conditions)
    noise = other.predict(latents, step, conditions)
    assert torch.allclose(step.alpha * clean + step.sigma * noise, latents.expand_as(clean), atol=1e-4)


def test_intervention_that_only_proceeds_changes_nothing(parts, latents, conditions, step):
    plain = parts.backbone.predict(latents, step, conditions)
    wrapped = parts.backbone.predict(latents, step, conditions, interventions=[lambda call, proceed: proceed(call)])
    assert torch.equal(plain, wrapped)


def test_weights_edited_into_themselves_change_nothing_but_rounding(parts, latents, conditions, step):
    plain = parts.backbone.predict(latents, step, conditions)
    same = parts.backbone.predict(
        latents,
        step,
        conditions,
        interventions=[lambda call, proceed: proceed(call.editing_weights(lambda weights: weights))],
    )
    assert torch.allclose(plain, same, atol=1e-5)


def test_interventions_leave_no_trace(parts, latents, conditions, step):
    plain = parts.backbone.predict(latents, step, conditions)
    doubled = parts.backbone.predict(
        latents,
        step,
        conditions,
        interventions=[lambda call, proceed: 2 * proceed(call)],
        features=[lambda call: call.feature * 2],
    )
    assert not torch.allclose(plain, doubled)
    assert torch.equal(plain, parts.backbone.predict(latents, step, conditions))


def test_sites_have_paths_and_real_sizes(parts, conditions, step):
    """SD halves with rounding up: 5x7 cells become 3x4 and 2x2."""
    sites = {}

    def watch(call, proceed):
        assert call.query.shape[:2] == (3, 2)
        assert call.query.shape[3] == call.site.height * call.site.width
        assert call.branches == ("nothing", "content", "style")
        assert call.key.shape[3] == (16 if call.site.is_cross else call.query.shape[3])
        sites[call.site.path] = (call.site.height, call.site.width)
        return proceed(call)

    small = [Condition(condition.branch, condition.text) for condition in conditions]
    parts.backbone.predict(torch.randn(2, 4, 5, 7), step, small, interventions=[watch])
    assert sites["down_blocks.0.attentions.0.transformer_blocks.0.attn1"] == (5, 7)
    assert sites["up_blocks.2.attentions.1.transformer_blocks.0.attn2"] == (3, 4)
    assert sites["mid_block.attentions.0.transformer_blocks.0.attn1"] == (1, 1)
    assert len(sites) == 2 * 10


def test_one_frame_can_read_from_another(parts, latents, conditions, step):
    """Keys and values of the first frame for all: a frame equal to the first gets the first frame's result."""
    latents = latents[:1].expand(3, -1, -1, -1).clone()
    latents[2] += 1

    def first(call, proceed):
        return proceed(
            replace(call, key=call.key[:, :1].expand_as(call.key), value=call.value[:, :1].expand_as(call.value))
        )

    text_only = [Condition("style", conditions[2].text)]
    shared = parts.backbone.predict(latents, step, text_only, interventions=[where(is_self, first)])
    plain = parts.backbone.predict(latents, step, text_only)
    assert torch.allclose(shared[:, :2], plain[:, :2], atol=1e-5)
    assert not torch.allclose(shared[:, 2], plain[:, 2], atol=1e-5)


def test_feature_hooks_see_every_decoder_block(parts, latents, conditions, step):
    seen = []
    hooked = parts.backbone.predict(
        latents,
        step,
        conditions,
        features=[lambda call: seen.append((call.path, call.feature.shape[:2], call.branches[-1])) or call.feature],
    )
    assert seen == [(f"up_blocks.{index}", (3, 3), "style") for index in range(4)]
    assert torch.equal(hooked, parts.backbone.predict(latents, step, conditions))


def test_splitting_into_calls_changes_nothing_but_rounding(parts, latents, conditions, step, monkeypatch):
    whole = parts.backbone.predict(latents, step, conditions)
    calls = []
    handle = parts.backbone.unet.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    monkeypatch.setattr(parts.backbone, "batch", 6)
    assert torch.allclose(parts.backbone.predict(latents, step, conditions), whole, atol=1e-5)
    monkeypatch.setattr(parts.backbone, "batch", 1)
    parts.backbone.predict(latents, step, conditions)
    parts.backbone.predict(latents, step, conditions, interventions=[lambda call, proceed: proceed(call)])
    handle.remove()
    assert calls == [6, 3, *[1] * 9, 9]  # a watched call is never split


def test_each_condition_may_have_its_own_latents(parts, latents, conditions, step):
    own = torch.stack([latents, latents + 1, latents - 1])
    together = parts.backbone.predict(own, step, conditions)
    for index, condition in enumerate(conditions):
        assert torch.allclose(parts.backbone.predict(own[index], step, [condition])[0], together[index], atol=1e-5)


def test_gradients_reach_the_latents(parts, latents, conditions, step):
    latents.requires_grad_()
    parts.backbone.predict(latents, step, conditions).square().sum().backward()
    assert latents.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in parts.backbone.unet.parameters())


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((3, 5, 4, 6), "5 channels, the network takes 4"),
        ((2, 3, 4, 4, 6), "for 3 conditions"),
        ((3, 4, 4, 5), "the image of branch 'content'"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(shape, text, parts, conditions, step):
    with pytest.raises(ShapeError, match=text):
        parts.backbone.predict(torch.zeros(shape), step, conditions)


def test_a_path_selects_one_block(parts, latents, conditions, step):
    seen = []
    watch = where(is_self & under("mid_block"), lambda call, proceed: seen.append(call.site.path) or proceed(call))
    parts.backbone.predict(latents, step, conditions, interventions=[watch])
    assert seen == ["mid_block.attentions.0.transformer_blocks.0.attn1"]


def test_half_precision_is_no_farther_from_fp32_than_that_of_diffusers(model_folder, parts, latents, conditions, step):
    from diffusers import UNet2DConditionModel

    from kinopaint.models import load_model

    ours = load_model(model_folder, device="cpu", dtype="bfloat16").backbone
    stock = UNet2DConditionModel.from_pretrained(model_folder / "unet", torch_dtype=torch.bfloat16)
    errors = {"ours": [], "stock": []}
    for condition in conditions:
        exact = parts.backbone.predict(latents, step, [condition])[0]
        image = torch.zeros_like(latents) if condition.image is None else condition.image
        sample, text = torch.cat([latents, image], 1).bfloat16(), condition.text.states.expand(3, -1, -1).bfloat16()
        with torch.no_grad():
            errors["stock"].append((stock(sample, int(step.timestep), text).sample.float() - exact).square().mean())
        errors["ours"].append((ours.predict(latents, step, [condition])[0] - exact).square().mean())
    assert sum(errors["ours"]) <= 1.1 * sum(errors["stock"])
