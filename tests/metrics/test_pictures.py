"""PSNR, SSIM, sharpness, ΔE2000: by hand, against scikit-image and colour-science, monotony."""

import warnings

import cv2
import numpy as np
import pytest
from tests.metrics.conftest import texture

from kinopaint.metrics.colour_drift import colour_drift, mean_lab
from kinopaint.metrics.delta_e import delta_e_2000, lab_from_rgb
from kinopaint.metrics.psnr import psnr
from kinopaint.metrics.sharpness import sharpness, sharpness_ratio
from kinopaint.metrics.ssim import ssim


def noisy(picture, strength, seed=1):
    noise = np.random.default_rng(seed).normal(0, strength, picture.shape)
    return np.rint(picture + noise).clip(0, 255).astype(np.uint8)


def test_psnr_by_hand():
    picture = texture()
    assert psnr(picture, picture) == 100
    assert psnr(picture + 5, picture) == pytest.approx(10 * np.log10(255**2 / 25))
    one = picture.copy()
    one[0, 0, 0] += 255 - one[0, 0, 0]
    error = (255.0 - picture[0, 0, 0]) ** 2 / picture.size
    assert psnr(one, picture) == pytest.approx(10 * np.log10(255**2 / error))


@pytest.mark.parametrize("strength", [1, 10, 60])
def test_psnr_and_ssim_agree_with_scikit_image(strength):
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    for source in (texture(), texture(11, 30), np.full((20, 25, 3), 250, np.uint8)):
        result = noisy(source, strength)
        assert psnr(result, source) == pytest.approx(peak_signal_noise_ratio(source, result, data_range=255), abs=1e-4)
        wang = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        theirs = structural_similarity(source, result, channel_axis=2, data_range=255, **wang)
        assert ssim(result, source) == pytest.approx(theirs, abs=1e-4)


def test_ssim_against_plain_numpy():
    source, result = texture(13, 12), noisy(texture(13, 12), 20)
    at = np.arange(-5, 6)
    line = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.outer(line, line).sum()
    values = []
    for channel in range(3):
        for y in range(5, 8):
            for x in range(5, 7):
                a, b = (p[y - 5 : y + 6, x - 5 : x + 6, channel].astype(float) for p in (source, result))
                ma, mb = (window * a).sum(), (window * b).sum()
                va, vb = (window * a * a).sum() - ma * ma, (window * b * b).sum() - mb * mb
                cov = (window * a * b).sum() - ma * mb
                c1, c2 = 2.55**2, 7.65**2
                values.append((2 * ma * mb + c1) * (2 * cov + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2)))
    assert ssim(result, source) == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_of_equal_and_of_tiny_pictures():
    assert ssim(texture(), texture()) == pytest.approx(1, abs=1e-6)
    assert ssim(texture(), texture()) <= 1
    assert ssim(texture(10, 40), texture(10, 40)) is None


def test_more_noise_is_less_like_the_source():
    for metric in (psnr, ssim):
        values = [metric(noisy(texture(), strength), texture()) for strength in (0, 4, 16, 64)]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[3]


def test_sharpness_by_hand():
    picture = np.zeros((3, 3, 3), np.uint8)
    picture[:, 2] = 255  # one step of 1 per row, in one of two columns of differences
    assert sharpness(picture) == pytest.approx(0.5)
    picture[2] = 255  # now also downwards: lengths √2 (corner), 1, 1, 0 → see below
    # differences of the 2x2 upper left part: (0,0): 0; (0,1): across 1; (1,0): down 1; (1,1): √2
    assert sharpness(picture) == pytest.approx((0 + 1 + 1 + 2**0.5) / 4)
    assert sharpness(picture[:1]) is None


def test_sharpness_against_plain_numpy():
    picture = texture()
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) / 255.0
    total = 0.0
    for y in range(luma.shape[0] - 1):
        for x in range(luma.shape[1] - 1):
            total += np.hypot(luma[y, x + 1] - luma[y, x], luma[y + 1, x] - luma[y, x])
    assert sharpness(picture) == pytest.approx(total / ((luma.shape[0] - 1) * (luma.shape[1] - 1)), rel=1e-5)


def test_more_blur_is_less_sharp():
    values = [sharpness(cv2.GaussianBlur(texture(), (0, 0), sigma)) for sigma in (0.3, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert values[3] < 0.6 * values[0]


def test_sharpness_ratio_is_of_means_and_needs_a_source_with_edges():
    assert sharpness_ratio([1.0, 3.0], [2.0, 6.0]) == pytest.approx(0.5)
    assert sharpness_ratio([1.0, 0.0], [0.1, 3.9]) == pytest.approx(0.25)
    assert sharpness_ratio([1.0], [0.0]) is None
    assert sharpness_ratio([None], [None]) is None


SHARMA = (  # Sharma, Wu, Dalal 2005, table 1: pairs 1, 4, 7, 9, 11, 17, 25, 34
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
    ((50, 0, 0), (50, -1, 2), 2.3669),
    ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
    ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
)


@pytest.mark.parametrize(("one", "other", "expected"), SHARMA)
def test_delta_e_of_the_published_pairs(one, other, expected):
    one, other = np.array(one, float), np.array(other, float)
    assert delta_e_2000(one, other) == pytest.approx(expected, abs=1e-4)
    assert delta_e_2000(other, one) == pytest.approx(expected, abs=1e-4)


def test_delta_e_and_lab_agree_with_scikit_image():
    from skimage.color import deltaE_ciede2000, rgb2lab

    one, other = texture(seed=1), noisy(texture(seed=1), 30)
    a, b = lab_from_rgb(one), lab_from_rgb(other)
    assert np.allclose(a, rgb2lab(one), atol=2e-2)  # their matrix has more digits than the standard prints
    assert np.allclose(delta_e_2000(a, b), deltaE_ciede2000(a, b), atol=1e-4)


def test_delta_e_and_lab_agree_with_colour_science():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its optional parts
        import colour
    random = np.random.default_rng(2)
    one, other = random.uniform((0, -90, -90), (100, 90, 90), (2, 500, 3))
    assert np.allclose(delta_e_2000(one, other), colour.delta_E(one, other, method="CIE 2000"), atol=1e-4)
    picture = texture(seed=1)
    white = colour.CCS_ILLUMINANTS["CIE 1931 2 Degree Standard Observer"]["D65"]
    xyz = colour.sRGB_to_XYZ(picture / 255)
    assert np.allclose(lab_from_rgb(picture), colour.XYZ_to_Lab(xyz, white), atol=2e-2)


def test_white_black_and_grey():
    lab = lab_from_rgb(np.array([[255] * 3, [0] * 3, [119] * 3], np.uint8))
    assert np.allclose(lab, [[100, 0, 0], [0, 0, 0], [50.03, 0, 0]], atol=0.01)


def test_colour_drift_against_colour_science_and_plain_loops():
    colour = pytest.importorskip("colour")
    frames = np.random.default_rng(5).integers(0, 256, (11, 40, 48, 3), np.uint8)
    frames[4:] //= 2
    means = [mean_lab(frame) for frame in frames]
    windows = []
    for start in (0, 2, 4, 6, 8, 10):  # a quarter of eleven frames is two; the eleventh is half a window
        members = means[start : start + 2]
        windows.append([sum(float(lab[c]) for lab in members) / len(members) for c in range(3)])
    expected = np.mean([colour.delta_E(window, windows[0], method="CIE 2000") for window in windows[1:]])
    assert colour_drift(means, rate=24) == pytest.approx(expected, abs=1e-4)


def test_colour_drift_by_hand():
    grey = [np.array([lightness, 0.0, 0.0]) for lightness in (50, 50, 60, 60, 70, 70)]
    by_window = [float(delta_e_2000(np.array([50.0, 0, 0]), np.array([x, 0.0, 0.0]))) for x in (60, 70)]
    assert colour_drift(grey, rate=2) == pytest.approx(np.mean([0, *by_window[:1] * 2, *by_window[1:] * 2]))  # 1 frame
    long = [colour for colour in grey for _ in range(4)]
    assert colour_drift(long, rate=4) == pytest.approx(np.mean([0, *by_window[:1] * 2, *by_window[1:] * 2]))
    assert colour_drift(grey[:1], rate=2) is None


def test_a_stronger_cast_drifts_more():
    def drift(cast):
        pictures = [texture() + np.array([round(cast * index), 0, 0], np.uint8) for index in range(16)]
        return colour_drift([mean_lab(picture) for picture in pictures], rate=4)

    values = [drift(cast) for cast in (0, 0.5, 1, 2)]
    assert values[0] == 0
    assert values == sorted(values)
    assert values[3] > 3


def test_mean_colour_of_a_flat_picture_is_its_colour():
    flat = np.full((200, 300, 3), (10, 200, 90), np.uint8)
    assert np.allclose(mean_lab(flat), lab_from_rgb(flat[0, 0]), atol=1e-9)
