import numpy as np
import pytest
from clips import picture

from kinopaint.errors import SettingsError, ShapeError
from kinopaint.video import plan_size
from kinopaint.video.sizing import enlarge_guided, resize


@pytest.mark.parametrize(
    ("source", "work", "padded"),
    [
        ((512, 256), (512, 256), (512, 256)),
        ((718, 718), (718, 718), (720, 720)),
        ((1280, 720), (768, 432), (768, 432)),
        ((720, 1280), (432, 768), (432, 768)),
        ((63, 47), (63, 47), (64, 64)),  # never enlarged
        ((2, 2), (2, 2), (64, 64)),
        ((1, 9), (1, 9), (64, 64)),
        ((5000, 2), (768, 1), (768, 64)),
    ],
)
def test_auto_work_size(source, work, padded):
    plan = plan_size(*source)
    assert (plan.work, plan.padded, plan.output) == (work, padded, source)


@pytest.mark.parametrize(
    ("text", "size"), [("source", (1280, 720)), ("640x360", (640, 360)), ("short:512", (910, 512)), (" 4X4 ", (4, 4))]
)
def test_sizes_as_written(text, size):
    assert plan_size(1280, 720, size=text).output == size


@pytest.mark.parametrize("text", ["", "0x5", "short:0", "640", "640x", "auto2", "99999x2", "-3x4"])
def test_what_is_not_a_size_is_refused(text):
    with pytest.raises(SettingsError, match="KP-SETTING-SIZE"):
        plan_size(64, 64, size=text)


@pytest.mark.parametrize("size", [(64, 64), (63, 47), (2, 2), (1, 5), (300, 3)])
def test_padding_and_back_changes_no_pixel(size):
    plan, image = plan_size(*size), picture(0, size)
    prepared = plan.prepare(image)
    assert prepared.shape == (plan.padded[1], plan.padded[0], 3)
    assert np.array_equal(plan.restore(prepared, image), image)


def test_the_model_gets_the_multiple_it_asks_for():
    assert plan_size(130, 200, multiple=64).padded == (192, 256)


def test_a_reduced_picture_comes_back_at_its_size():
    plan, image = plan_size(1001, 501), picture(0, (1001, 501))
    assert plan.restore(plan.prepare(image), image).shape == image.shape


def test_another_output_size_is_delivered():
    plan, image = plan_size(200, 150, size="100x80"), picture(0, (200, 150))
    assert plan.restore(plan.prepare(image), image).shape == (80, 100, 3)


def test_the_guide_brings_back_sharp_edges():
    source = np.full((128, 128, 3), 40, np.uint8)
    source[:, 61:] = 220
    painted = resize(source, (32, 32)) // 2 + 60  # same edge, other colours
    target = source // 2 + 60
    error = np.abs(enlarge_guided(painted, source).astype(int) - target).mean()
    plain = np.abs(resize(painted, (128, 128)).astype(int) - target).mean()
    assert error < plain / 3


def test_the_guide_adds_no_noise_to_even_paint():
    noise = np.random.default_rng(0).integers(0, 12, (128, 128, 1)) + 100
    paint = np.full((32, 32, 3), 90, np.uint8)
    assert np.abs(enlarge_guided(paint, noise.repeat(3, 2).astype(np.uint8)).astype(int) - 90).max() <= 1


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ShapeError, match="48, 64"):
        plan_size(64, 48).prepare(picture(0, (48, 64)))
