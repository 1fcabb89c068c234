"""Scene cuts: found to the frame, and nowhere else."""

import cv2
import numpy as np
import pytest
from clips import make_clip, shared_file

from kinopaint.video import open_clip
from kinopaint.video.reader import open_here
from kinopaint.video.shots import find_cuts

SIZE = (160, 90)
RATE = 25


def scene(seed, size=SIZE):
    """A picture of coloured blobs of several sizes."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size[1], size[0], 3), np.float32)
    for sigma, weight in ((2, 1.0), (6, 2.5), (16, 7.0)):
        picture += weight * cv2.GaussianBlur(rng.normal(size=picture.shape).astype(np.float32), (0, 0), sigma)
    low, high = np.quantile(picture, [0.02, 0.98])
    return np.clip((picture - low) / (high - low) * 200 + 25, 0, 255).astype(np.uint8)


def panning(seed, count, speed=2):
    """A window that moves over a wide scene, `speed` pixels per picture, under a little noise."""
    wide, noise = scene(seed, (SIZE[0] + speed * count, SIZE[1])), np.random.default_rng(seed)
    for place in range(count):
        part = wide[:, place * speed : place * speed + SIZE[0]]
        yield np.clip(part + noise.normal(0, 3, part.shape), 0, 255).astype(np.uint8)


def cuts(*parts):
    return list(find_cuts([picture for part in parts for picture in part], RATE))


def test_cuts_are_found_to_the_frame():
    assert cuts(panning(1, 20), panning(2, 13), panning(3, 30)) == [20, 33]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_short_clips_have_no_cut(count):
    assert cuts(panning(1, count)) == []


@pytest.mark.parametrize(("first", "second"), [(1, 11), (2, 11), (9, 2), (9, 1)])
def test_cuts_near_the_ends_are_found(first, second):
    assert cuts(panning(1, first), panning(2, second)) == [first]


def test_a_cut_to_and_from_black_is_found():
    black = [np.zeros((SIZE[1], SIZE[0], 3), np.uint8)] * 12
    assert cuts(panning(1, 12), black, panning(2, 12)) == [12, 24]


def test_a_cut_between_plain_colours_is_found():
    red, blue = (np.full((SIZE[1], SIZE[0], 3), color, np.uint8) for color in ((200, 20, 20), (20, 20, 200)))
    assert cuts([red] * 12, [blue] * 12) == [12]


@pytest.mark.parametrize("speed", [0, 8, 25])
def test_a_pan_is_no_cut(speed):
    assert cuts(panning(1, 30, speed)) == []


def test_a_pan_that_starts_and_ends_at_once_is_no_cut():
    still = list(panning(1, 40, 0))[:10]
    wide = scene(1, (SIZE[0] + 2000, SIZE[1]))
    fast = [wide[:, 40 * place : 40 * place + SIZE[0]] for place in range(20)]
    assert cuts([fast[0]] * 10, fast, [fast[-1]] * 10) == []
    assert cuts(still) == []


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_flash_is_no_cut(length):
    pictures = list(panning(1, 40))
    for place in range(20, 20 + length):
        pictures[place] = np.clip(pictures[place].astype(int) * 2 + 160, 0, 255).astype(np.uint8)
    assert cuts(pictures) == []


def test_a_foreign_picture_within_a_shot_is_no_cut():
    pictures = list(panning(1, 40))
    pictures[20] = scene(7)
    assert cuts(pictures) == []


def test_a_fade_and_a_dissolve_are_no_cuts():
    one, other = list(panning(1, 50)), list(panning(2, 50))
    share = np.clip((np.arange(50) - 12) / 25, 0, 1)
    dissolve = [(a * (1 - s) + b * s).astype(np.uint8) for a, b, s in zip(one, other, share, strict=True)]
    out = [(a * (1 - s)).astype(np.uint8) for a, s in zip(one, share, strict=True)]
    assert cuts(dissolve) == []
    assert cuts(out, reversed(out)) == []


def test_light_that_goes_on_is_no_cut():
    pictures = list(panning(1, 30))
    assert cuts(pictures[:15], [np.minimum(p.astype(int) + 50, 255).astype(np.uint8) for p in pictures[15:]]) == []


def test_noise_and_a_still_picture_have_no_cuts():
    rng = np.random.default_rng(0)
    assert cuts(rng.integers(0, 256, (30, SIZE[1], SIZE[0], 3), np.uint8)) == []
    assert cuts([scene(1)] * 30) == []


def test_pictures_are_drawn_one_by_one_and_few_are_held():
    drawn = []

    def watched():
        for index, picture in enumerate([*panning(1, 20), *panning(2, 200)]):
            drawn.append(index)
            yield picture

    found = find_cuts(watched(), RATE)
    assert next(found) == 20
    assert len(drawn) <= 20 + RATE // 5 + 1


@pytest.fixture
def two_shots(tmp_path):
    """Twelve frames of one scene and twelve of another, at 30 per second."""
    return write_two_shots(tmp_path / "a.mp4")


def write_two_shots(path):
    pictures = [*panning(1, 12), *panning(2, 12)]
    return make_clip(path, times=range(0, 512 * 24, 512), size=SIZE, pictures=pictures)


def test_a_reader_finds_the_cuts_of_its_range(two_shots):
    assert open_here(two_shots).find_cuts() == (12,)
    assert open_here(two_shots, start="0.1", every=5).find_cuts() == (9,)
    assert open_here(two_shots, end="0.3").find_cuts() == ()


def test_the_decoding_process_finds_them_and_then_reads_on(two_shots):
    with open_clip(two_shots) as clip:
        assert clip.find_cuts() == (12,)
        assert sum(1 for _ in clip) == 24
        assert clip.find_cuts() == (12,)


# Cuts of the real clips, seen and checked by eye.
REAL = {
    "street_bikes.mp4": (30, 76, 137, 187, 242),
    "nasa_13013_two_streams.mp4": (202,),
    "man_skiing.mp4": (),
    "intel_person_bicycle_car.gif": (),
    "plant_handheld_realshort.mp4": (),
}


@pytest.mark.parametrize("name", REAL)
def test_the_cuts_of_real_clips(name):
    assert open_here(shared_file(f"videos/{name}")).find_cuts() == REAL[name]


def test_joins_of_real_clips():
    """Precision and recall over joins: all of them, and nothing else."""
    names = ("intel_store_aisle.gif", "man_skiing.mp4", "plant_handheld_realshort.mp4", "intel_fruit_vegetable.gif")
    parts = []
    for name in names:
        reader = open_here(shared_file(f"videos/{name}"), end=1)
        parts.append([cv2.resize(frame.image, SIZE, interpolation=cv2.INTER_AREA) for frame in reader])
    order = [0, 1, 2, 3, 1, 0, 3, 2, 0]
    pictures = [picture for part in order for picture in parts[part]]
    edges = np.cumsum([len(parts[part]) for part in order])[:-1]
    assert list(find_cuts(pictures, RATE)) == edges.tolist()
