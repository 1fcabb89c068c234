import pytest
import torch

from kinopaint.engine.inversion import Trajectory
from kinopaint.engine.samplers import sample_ddim
from kinopaint.engine.schedule import NoiseSchedule
from kinopaint.errors import ShapeError
from kinopaint.latents.keep import keep

STEPS = NoiseSchedule.from_config({}).steps(5)


def drawn(seed, frames=3):
    return torch.randn(frames, 2, 4, 5, generator=torch.Generator().manual_seed(seed))


def shrinking(latents, step):
    return 0.3 * latents + 0.1 * latents.mean(0)  # frames know of each other


def recorded(start, places=None):
    record = Trajectory.starting(start, places)
    sample_ddim(shrinking, start, STEPS, after=[record])
    return record


@pytest.mark.parametrize("places", [(0, 2), (1,), None])
def test_kept_frames_are_where_they_were_at_every_step_and_others_are_not(places):
    known = recorded(drawn(0), places)
    held = [0, 1, 2] if places is None else list(places)
    start = drawn(1)
    start[held] = known.start
    seen = Trajectory.starting(start)
    result = sample_ddim(shrinking, start, STEPS, after=[keep(known, places), seen])
    assert torch.equal(torch.stack(seen.levels)[:, held], torch.stack(known.levels))
    assert torch.equal(result[held], known.levels[-1])
    others = [place for place in range(3) if place not in held]
    assert not any(torch.equal(seen.levels[-1][place], recorded(drawn(0)).levels[-1][place]) for place in others)


def test_without_places_the_first_frames_are_kept():
    known = recorded(drawn(0), (0, 2))
    result = keep(known)(drawn(1), STEPS[2])
    assert torch.equal(result[:2], known.after(STEPS[2]))
    assert torch.equal(result[2], drawn(1)[2])


def test_outside_a_mask_the_known_is_kept_inside_nothing():
    known, mask = recorded(drawn(0)), torch.zeros(3, 1, 4, 5)
    mask[..., :2] = 1
    mask[..., 2] = 0.25
    result = keep(known, outside=mask)(drawn(1), STEPS[1])
    assert torch.equal(result[..., :2], drawn(1)[..., :2])
    assert torch.equal(result[..., 3:], known.after(STEPS[1])[..., 3:])
    mixed = 0.25 * drawn(1) + 0.75 * known.after(STEPS[1])
    assert torch.allclose(result[..., 2], mixed[..., 2])


def test_the_latents_that_come_in_are_not_written_to():
    latents = drawn(1)
    keep(recorded(drawn(0)))(latents, STEPS[0])
    assert torch.equal(latents, drawn(1))


def test_an_inversion_read_backwards_keeps_what_it_recorded():
    """The trajectory of an inversion holds the background of an edit at the right noise level."""
    schedule = NoiseSchedule.from_config({})
    record = Trajectory.starting(drawn(0))
    noise = sample_ddim(shrinking, drawn(0), schedule.reversed_steps(5), after=[record])
    known = record.reversed
    assert torch.equal(known.start, noise)
    assert torch.equal(sample_ddim(lambda z, step: z * 0, noise, STEPS, after=[keep(known)]), drawn(0))


def test_a_trajectory_of_another_run_is_refused():
    known = recorded(drawn(0))
    with pytest.raises(ShapeError, match="has 5 steps, the run 7"):
        keep(known)(drawn(1), NoiseSchedule.from_config({}).steps(7)[0])
    with pytest.raises(ShapeError, match="holds 3 frames for 1 places"):
        keep(known, (0,))(drawn(1), STEPS[0])
