"""Identities of the weighted sum (T1 to T3, T8)."""

import pytest
import torch

from kinopaint.engine.denoiser import Condition, Text
from kinopaint.engine.guidance import classifier_free, combine, limited, needed, rescaled, weighted
from kinopaint.errors import SettingsError

NOTHING, IMAGE, WORDS, MASK = (
    Condition(name, Text(torch.zeros(2, 3))) for name in ("nothing", "image", "words", "mask")
)


class Scripted:
    """A backbone that answers with a fixed tensor per branch, and counts."""

    latent_channels, image_channels = 4, 4

    def __init__(self, answers):
        self.answers, self.calls = answers, []

    def predict(self, latents, step, conditions, *, interventions=(), features=()):
        self.calls.append([condition.branch for condition in conditions])
        return torch.stack([self.answers[condition.branch] for condition in conditions])


@pytest.fixture
def answers():
    return dict(zip(("nothing", "image", "words", "mask"), torch.randn(4, 2, 4, 3, 3), strict=True))


def four(s_image, s_text, s_mask):
    return [(1 - s_image - s_text - s_mask, NOTHING), (s_image, IMAGE), (s_text, WORDS), (s_mask, MASK)]


@pytest.mark.parametrize("scales", [(1.5, 7.5, 0.5), (0.0, 0.0, 0.0), (-3.0, 20.0, 0.1)])
def test_equal_branches_give_that_prediction(scales, answers, step):
    same = dict.fromkeys(answers, answers["image"])
    result = weighted(Scripted(same), four(*scales))(torch.zeros(2, 4, 3, 3), step)
    assert torch.allclose(result, answers["image"], atol=1e-6)


@pytest.mark.parametrize(
    ("scales", "branch"), [((1, 0, 0), "image"), ((0, 1, 0), "words"), ((0, 0, 1), "mask"), ((0, 0, 0), "nothing")]
)
def test_one_hot_scales_pick_one_branch_and_evaluate_only_it(scales, branch, answers, step):
    backbone = Scripted(answers)
    result = weighted(backbone, four(*scales))(torch.zeros(2, 4, 3, 3), step)
    assert torch.equal(result, answers[branch])
    assert backbone.calls == [[branch]]


def test_a_constant_added_to_all_branches_is_added_to_the_result(answers, step):
    latents, constant = torch.zeros(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    plain = weighted(Scripted(answers), four(1.5, 7.5, 0.5))(latents, step)
    moved = weighted(Scripted({name: answer + constant for name, answer in answers.items()}), four(1.5, 7.5, 0.5))
    assert torch.allclose(moved(latents, step), plain + constant, atol=1e-5)


def test_all_branches_are_evaluated_in_one_call_in_order(answers, step):
    backbone = Scripted(answers)
    result = weighted(backbone, four(1.5, 7.5, 0.5))(torch.zeros(2, 4, 3, 3), step)
    assert backbone.calls == [["nothing", "image", "words", "mask"]]
    expected = sum(weight * answers[condition.branch].double() for weight, condition in four(1.5, 7.5, 0.5))
    assert torch.allclose(result.double(), expected, atol=1e-5)


def test_classifier_free_is_the_case_of_two(answers, step):
    result = classifier_free(Scripted(answers), NOTHING, WORDS, 7.5)(torch.zeros(2, 4, 3, 3), step)
    expected = answers["nothing"] + 7.5 * (answers["words"] - answers["nothing"])
    assert torch.allclose(result, expected, atol=1e-6)


def test_half_precision_predictions_are_summed_in_fp32():
    predictions = torch.randn(3, 1, 4, 3, 3).bfloat16()
    result = combine([-8.0, 1.5, 7.5], predictions)
    assert result.dtype == torch.float32
    assert torch.allclose(result, combine([-8.0, 1.5, 7.5], predictions.float()))


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(SettingsError, match=r"sum to 2\.0, not 1") as caught:
        needed([(1.0, NOTHING), (1.0, WORDS)])
    assert caught.value.code == "KP-SETTING-GUIDANCE"


def test_weights_that_are_zero_but_for_rounding_cost_nothing():
    assert [condition.branch for _, condition in needed(four(0.1, 0.7, 0.2))] == ["image", "words", "mask"]


def test_full_rescaling_gives_the_reference_its_spread():
    noise, reference = torch.randn(2, 2, 4, 8, 8)
    result = rescaled(5 * noise, reference, 1.0)
    assert torch.allclose(result.std((1, 2, 3)), reference.std((1, 2, 3)), rtol=1e-5)
    assert torch.allclose(rescaled(noise, reference, 0.0), noise)


def test_a_limited_move_keeps_its_direction_and_grows_with_the_logarithm(step):
    """In every frame by itself, measured in the clean estimate."""
    noise, move = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8) * torch.tensor([0.1, 3.0]).view(2, 1, 1, 1)
    limit = 0.25
    kept = limited(noise + move, move, step, limit) - noise

    def size(part):
        return part.square().mean((1, 2, 3)).sqrt() * step.sigma / step.alpha

    assert torch.allclose(size(kept), limit * torch.log1p(size(move) / limit), rtol=1e-4)
    assert torch.allclose(torch.cosine_similarity(kept.flatten(1), move.flatten(1)), torch.ones(2))
    assert (size(limited(2 * move, 2 * move, step, limit)) > size(limited(move, move, step, limit))).all()


def test_a_limit_far_away_or_no_move_changes_nothing(step):
    noise = torch.randn(1, 4, 8, 8)
    assert torch.allclose(limited(noise, noise, step, 1e6), noise, atol=1e-4)
    assert torch.equal(limited(noise, torch.zeros_like(noise), step, 0.1), noise)
