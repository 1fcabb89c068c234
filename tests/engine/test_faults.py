"""What counts as a result that must not be delivered."""

import pytest
import torch

from kinopaint.engine.faults import WatchedAutoencoder, find_fault

LIVELY = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def one_colour(*levels):
    """Frames of one grey each, with the faint noise that an encoder would leave."""
    noise = torch.rand(len(levels), 3, 8, 8, generator=torch.Generator().manual_seed(1)) / 255
    return torch.tensor(levels, dtype=torch.float32).view(-1, 1, 1, 1) + noise


def test_a_lively_result_is_right():
    assert find_fault(LIVELY.flip(-1), LIVELY) is None


@pytest.mark.parametrize("level", [-1.0, 1.0, 0.2, -7.0, 7.0])
def test_one_colour_is_a_fault_where_the_source_has_many(level):
    painted = LIVELY.clone()
    painted[1:2] = one_colour(level)
    found = find_fault(painted, LIVELY)
    assert found is not None
    assert (found.code, found.places) == ("KP-RESULT-FLAT", (1,))


def test_one_colour_is_right_where_the_source_has_one():
    assert find_fault(one_colour(-1, -1, -1), one_colour(1, 0, -1)) is None


def test_a_fade_to_black_is_right():
    assert find_fault(one_colour(-1, -1, -1), one_colour(-1, -1, -1) + LIVELY * 0.05) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_value_that_is_not_finite_is_a_fault(value):
    painted = LIVELY.clone()
    painted[2, 0, 3, 3] = value
    found = find_fault(painted, LIVELY)
    assert found is not None
    assert (found.code, found.places) == ("KP-RESULT-NONFINITE", (2,))


def test_infinite_latents_are_a_fault_although_the_picture_is_finite(loaded):
    watched = WatchedAutoencoder(loaded["tiny"].autoencoder)  # its decoder begins with tanh
    latents = torch.zeros(1, 4, 4, 4)
    watched.decode(latents)
    assert watched.finite
    latents[0, 0, 0, 0] = float("inf")
    assert watched.decode(latents).isfinite().all()
    assert not watched.finite
    found = find_fault(LIVELY, LIVELY, latents_finite=watched.finite)
    assert found is not None
    assert (found.code, found.places) == ("KP-RESULT-NONFINITE", (0, 1, 2))
