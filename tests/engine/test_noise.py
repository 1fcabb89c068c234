import torch
from diffusers.utils.torch_utils import randn_tensor

from kinopaint.engine.noise import frame_noise, shared_noise

SHAPE = (4, 5, 6)


def test_shared_noise_is_what_diffusers_draws():
    assert torch.equal(shared_noise(SHAPE, 7), randn_tensor((1, *SHAPE), torch.Generator().manual_seed(7)))


def test_frame_noise_does_not_depend_on_the_window():
    whole = frame_noise(SHAPE, 3, range(6))
    assert torch.equal(torch.cat([frame_noise(SHAPE, 3, [0, 1]), frame_noise(SHAPE, 3, [2, 3, 4, 5])]), whole)
    assert torch.equal(frame_noise(SHAPE, 3, [4]), whole[4:5])


def test_frames_and_seeds_differ():
    noises = torch.cat([frame_noise(SHAPE, seed, range(4)) for seed in range(3)])
    assert len({tuple(noise.flatten().tolist()) for noise in noises}) == 12
    assert not torch.equal(shared_noise(SHAPE, 0), shared_noise(SHAPE, 1))
