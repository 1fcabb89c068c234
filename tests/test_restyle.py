import numpy as np
import pytest

from kinopaint.errors import InputError
from kinopaint.methods import StyleAVideo
from kinopaint.restyle import restyle_pictures
from kinopaint.types import Prompt, WindowPlan

METHOD = StyleAVideo(num_inference_steps=1, windows=WindowPlan(2))


def pictures(count, size=(21, 34)):
    random = np.random.default_rng(0)
    return (random.integers(0, 256, (*size, 3), dtype=np.uint8) for _ in range(count))


def test_any_size_comes_back_lazily(parts):
    drawn = []
    source = (drawn.append(1) or picture for picture in pictures(5))
    results = restyle_pictures(source, Prompt("oil"), method=METHOD, parts=parts, seed=3)
    first = next(results)
    assert (first.dtype, first.shape) == (np.uint8, (21, 34, 3))
    assert len(drawn) == 2
    assert len(list(results)) == 4


def test_nothing_gives_nothing(parts):
    assert list(restyle_pictures([], Prompt("oil"), method=METHOD, parts=parts)) == []


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (np.zeros((21, 34, 3)), r"a frame is float64 \(21, 34, 3\); expected uint8"),
        ("frame.png", "a frame is str"),
        (np.zeros((21, 34), np.uint8), "expected uint8"),
        (np.zeros((0, 34, 3), np.uint8), "expected uint8"),
        (np.zeros((20, 34, 3), np.uint8), "a frame is 34x20, the first one was 34x21"),
    ],
)
def test_other_pictures_are_refused(bad, text, parts):
    with pytest.raises(InputError, match=text) as caught:
        list(restyle_pictures([*pictures(1), bad], Prompt("oil"), method=METHOD, parts=parts))
    assert (caught.value.code, caught.value.where) == ("KP-INPUT-FRAMES", "frame 1")
