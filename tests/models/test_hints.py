"""The pictures that ControlNets follow: contours stand out softly, and the embedded ControlNet is found by name."""

import pytest
import torch

from kinopaint.errors import ModelError
from kinopaint.models import finding
from kinopaint.models.added import ControlGiven
from kinopaint.models.hints import lines


@pytest.fixture
def step_edge():
    """Dark to the left of column 20, brighter to the right; values in [-1, 1]."""
    frame = torch.full((1, 3, 32, 40), -0.2)
    frame[..., 20:] = 0.4
    return frame


def test_lines_are_where_the_contour_is_and_nowhere_else(step_edge):
    found = lines(step_edge)
    assert found.shape == (1, 3, 32, 40)
    assert (found[..., 19:21] > 0.8).all()
    assert (found[..., :14] < 1e-6).all()
    assert (found[..., 26:] < 1e-6).all()
    assert torch.equal(found[:, 0], found[:, 2])


def test_lines_follow_slopes_not_brightness(step_edge):
    assert torch.allclose(lines(step_edge), lines(step_edge + 2 * 20 / 255), atol=0.02)
    assert torch.allclose(lines(step_edge), lines(-step_edge), atol=0.02)


def test_a_contour_between_equally_bright_colours_counts():
    frame = torch.full((1, 3, 24, 24), -0.5)
    frame[:, 0, :, :12] = 0.5
    frame[:, 1, :, 12:] = 0.5
    assert lines(frame)[..., 11:13].min() > 0.8
    faint = torch.zeros(1, 3, 24, 24)
    faint[:, 2, :, 12:] = 0.3
    assert lines(faint)[..., 11:13].min() > 0.5


def test_noise_of_a_sensor_leaves_no_lines_and_moves_the_others_little(step_edge):
    noise = 0.02 * torch.randn(step_edge.shape, generator=torch.Generator().manual_seed(0))
    noisy = lines(step_edge + noise)
    assert noisy[..., :14].max() < 0.1
    assert (noisy - lines(step_edge)).abs().max() < 0.15


def test_the_frames_of_a_batch_are_drawn_one_by_one(step_edge):
    pair = torch.cat([step_edge, step_edge.flip(-1)])
    assert torch.equal(lines(pair)[1:], lines(step_edge.flip(-1)))


def test_mini_names_the_embedded_controlnet_and_what_it_follows(tmp_path, monkeypatch):
    given = ControlGiven.parse("mini:0.8:0-0.7")
    assert (given.name, given.hint, given.weight, given.end) == ("mini", "lines", 0.8, 0.7)
    assert ControlGiven.parse("lines=some/folder").hint == "lines"
    monkeypatch.setattr(finding, "find_model", lambda name: finding.Found(tmp_path))
    with pytest.raises(ModelError, match="KP-MODEL-NOT-FOUND"):
        finding.find_part("mini", "--controlnet")
    (tmp_path / "controlnet").mkdir()
    (tmp_path / "controlnet/config.json").write_text("{}")
    assert finding.find_part("mini", "--controlnet").path == tmp_path / "controlnet"
