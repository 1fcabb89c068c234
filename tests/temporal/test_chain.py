"""T29, and a chain that is the same however the clip is cut into windows."""

from dataclasses import replace

import pytest
import torch

from kinopaint.engine.carry import pack_carry, unpack_carry
from kinopaint.engine.run import stylize_windows
from kinopaint.errors import ModelError
from kinopaint.methods.style_a_video import StyleAVideo
from kinopaint.models.refiner import RefinementNet
from kinopaint.temporal.chain import Past, Present, refine_in_order
from kinopaint.temporal.colour_anchor import anchored
from kinopaint.temporal.net import net
from kinopaint.types import Clip, Prompt, WindowPlan


def leaning(present: Present, past: Past):
    return (present.painted + past.refined) / 2, None


def test_the_first_frame_stays_and_each_leans_on_the_result_before_it():
    painted, source = torch.randn(2, 3, 3, 8, 8)
    refined, past = refine_in_order(painted, source, None, leaning)
    assert torch.equal(refined[0], painted[0])
    assert torch.allclose(refined[2], painted[2] / 2 + (painted[1] / 2 + painted[0] / 2) / 2)
    assert torch.equal(past.refined, refined[2])
    assert torch.equal(past.painted, painted[2])
    assert torch.equal(past.source, source[2])


def test_no_backend_carries_nothing():
    painted = torch.randn(2, 3, 8, 8)
    refined, past = refine_in_order(painted, painted, None, None)
    assert refined is painted
    assert past is None


@pytest.mark.parametrize("anchor", [False, True])
def test_cutting_the_clip_elsewhere_changes_nothing(anchor):
    painted, source = torch.rand(2, 5, 3, 8, 8) * 2 - 1
    whole, _ = refine_in_order(painted, source, None, leaning, anchor=anchor)
    first, past = refine_in_order(painted[:2], source[:2], None, leaning, anchor=anchor)
    second, _ = refine_in_order(painted[2:], source[2:], past, leaning, anchor=anchor)
    assert torch.allclose(torch.cat([first, second]), whole, atol=1e-6)


def test_anchored_colours_are_those_of_the_shot_so_far():
    calm, lit = torch.rand(2, 3, 16, 16) - 0.5
    lit = (lit * 0.6 + 0.2).clamp(-1, 1)
    same, running = anchored(calm, None)
    assert same is calm
    matched, later = anchored(lit, running)
    again = anchored(matched, None)[1]
    assert torch.allclose(again, running, atol=1.5)  # Lab units; a little is clipped at the edge of the gamut
    assert (later - running).abs().max() > 0
    assert torch.allclose(later, running + 0.05 * (anchored(lit, None)[1] - running), atol=1e-4)


@pytest.mark.parametrize("carries_state", [False, True])
@pytest.mark.parametrize("guide", ["painted", "source"])
def test_the_network_sees_frame_previous_result_and_guides(guide, carries_state):
    """In [0, 1]; its answer is clamped, and its state goes on only where it was trained so."""
    seen = []

    class Refiner:
        def __call__(self, *given):
            seen.append(given)
            return given[0] + 0.3, (torch.full((1,), float(len(seen))), torch.zeros(1))

    refiner = Refiner()
    refiner.guide, refiner.carries_state = guide, carries_state
    painted, source = torch.rand(2, 3, 3, 8, 8) * 2 - 1
    refined, _ = refine_in_order(painted, source, None, net(refiner))
    assert torch.allclose(refined[1:], (painted[1:] + 0.6).clamp(max=1), atol=1e-6)
    guides = source if guide == "source" else painted
    for place, (now, earlier, own, before, state) in enumerate(seen, 1):
        expected = (painted[place], refined[place - 1], guides[place], guides[place - 1])
        for got, frame in zip((now, earlier, own, before), expected, strict=True):
            assert torch.allclose(got[0], frame / 2 + 0.5, atol=1e-6)
        assert (state is None) == (place == 1 or not carries_state)


# Within the method.


@pytest.fixture(scope="module")
def refining(parts):
    torch.manual_seed(7)
    return replace(parts, refiner=RefinementNet(width=4, blocks=1).eval().requires_grad_(False))


@pytest.fixture
def moving():
    """A texture that moves two pixels a frame."""
    texture = torch.rand(3, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    texture = torch.nn.functional.avg_pool2d(texture[None], 5, 1, 2)[0] * 2
    return torch.stack([texture[:, :, 2 * i : 2 * i + 48] for i in range(4)])


def painted(method, frames, parts, cuts=()):
    clip = Clip(frames.shape[-2], frames.shape[-1], len(frames), cuts=cuts)
    return list(stylize_windows(method, frames, clip, Prompt("oil"), parts))


def joined(done):
    return torch.cat([window.frames for window in done])


@pytest.mark.parametrize("temporal", ["flow_blend", "net"])
def test_windows_shots_and_resuming(temporal, moving, refining):
    method = StyleAVideo(num_inference_steps=2, temporal=temporal, noise="per_frame", windows=WindowPlan(2))
    plain = joined(painted(replace(method, temporal="identity"), moving, refining))
    done = painted(method, moving, refining)
    result = joined(done)
    assert torch.equal(result[0], plain[0])
    assert (result[1:] - plain[1:]).abs().amax((1, 2, 3)).min() > 1e-3
    whole = joined(painted(replace(method, windows=WindowPlan(4)), moving, refining))
    assert torch.allclose(whole, result, atol=1e-4)

    kept = unpack_carry(pack_carry(done[0].carry, method), method)
    clip = Clip(32, 48, 4)
    (resumed,) = stylize_windows(method, moving, clip, Prompt("oil"), refining, resume_at=1, carry=kept)
    assert torch.equal(resumed.frames, result[2:])

    cut = joined(painted(method, moving, refining, cuts=(2,)))
    assert torch.equal(cut[:2], result[:2])
    assert torch.allclose(cut[2], plain[2], atol=1e-5)  # a shot begins with a frame that leans on nothing


def test_a_model_without_the_network_is_refused(moving, parts):
    with pytest.raises(ModelError, match="needs a refinement network") as caught:
        painted(StyleAVideo(temporal="net"), moving, parts)
    assert caught.value.code == "KP-MODEL-NO-REFINER"
