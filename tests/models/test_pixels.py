import numpy as np
import torch

from kinopaint.models.pixels import padded, to_pictures, to_tensor


def test_every_value_survives_the_way_there_and_back():
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    picture[..., 1] = picture[::-1, ..., 1]
    tensor = to_tensor(picture)
    assert (tensor.min(), tensor.max()) == (-1, 1)
    assert np.array_equal(to_pictures(tensor[None])[0], picture)


def test_values_outside_are_clipped():
    assert to_pictures(torch.tensor([-9.0, 0.0, 9.0])[None, :, None, None])[0, 0, 0].tolist() == [0, 128, 255]


def test_padding_repeats_the_border_at_right_and_bottom():
    frame = torch.rand(3, 5, 9)
    result = padded(frame, 8)
    assert result.shape == (3, 8, 16)
    assert torch.equal(result[:, :5, :9], frame)
    assert torch.equal(result[:, 7, :9], frame[:, 4])
    assert padded(result, 8) is result
