import pytest
import torch

from kinopaint.engine.interventions import (
    AttentionCall,
    FeatureCall,
    Site,
    attend,
    attention_weights,
    before,
    chained,
    down_to,
    in_decoder,
    in_encoder,
    in_middle,
    in_steps,
    is_cross,
    is_self,
    under,
    where,
)


@pytest.fixture
def call(step):
    query, key, value = torch.randn(3, 2, 3, 4, 6, 8)
    site = Site("up_blocks.1.attentions.0.transformer_blocks.0.attn1", False, 2, 3)
    return AttentionCall(query, key, value, site, step, ("nothing", "style"))


def test_attention_equals_its_formula(call):
    expected = (call.query @ call.key.transpose(-1, -2) / 8**0.5).softmax(-1) @ call.value
    assert torch.allclose(attend(call), expected, atol=1e-6)


def test_weights_left_as_they_are_change_nothing_but_rounding(call):
    seen = []
    edited = call.editing_weights(lambda weights: seen.append(weights) or weights)
    assert torch.allclose(attend(edited), attend(call), atol=1e-6)
    assert torch.allclose(seen[0].sum(-1), torch.ones(2, 3, 4, 6))


def test_edits_apply_in_order(call):
    edited = call.editing_weights(lambda weights: weights * 2).editing_weights(lambda weights: weights + 1)
    expected = (attention_weights(call.query, call.key) * 2 + 1) @ call.value
    assert torch.allclose(attend(edited), expected, atol=1e-5)


def test_the_first_intervention_is_outermost(call):
    order = []

    def named(name):
        def act(call, proceed):
            order.append(name)
            result = proceed(call)
            order.append(name + "'")
            return result

        return act

    chained([named("a"), named("b")])(call)
    assert order == ["a", "b", "b'", "a'"]


def test_predicates_combine(call):
    assert (is_self & in_decoder)(call)
    assert not (is_cross | in_encoder | in_middle)(call)
    assert (~is_cross)(call)
    assert under("up_blocks.1")(call)
    assert not under("up_blocks.10")(call)
    assert under("up_blocks.1.attentions.0.transformer_blocks.0.attn1")(call)
    assert before(0.5)(call)  # step 7 of 30
    assert not before(0.2)(call)
    assert down_to(call.step.timestep)(call)
    assert not down_to(call.step.timestep + 1)(call)


def test_where_acts_only_where_it_should(call):
    doubled = lambda call, proceed: 2 * proceed(call)  # noqa: E731
    assert torch.equal(chained([where(is_cross, doubled)])(call), attend(call))
    assert torch.equal(chained([where(is_self, doubled)])(call), 2 * attend(call))


def test_a_feature_hook_acts_only_in_its_steps(step):
    call = FeatureCall(torch.ones(2, 3, 4, 5, 6), "up_blocks.1", step, ("nothing", "style"))
    doubled = lambda call: 2 * call.feature  # noqa: E731
    assert in_steps(lambda each: each is not step, doubled)(call) is call.feature
    assert torch.equal(in_steps(lambda each: each is step, doubled)(call), 2 * call.feature)
