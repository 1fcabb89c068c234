"""What gives each medium its name, measured on a picture: dots, joints, leads, swirls, hatching, pixels.

`FEATURES[medium].margin(picture)` is 0 or more where all parts of the feature reach their least value, which lies
between what photographs and what the generator's renderings have. Pictures are RGB uint8 at the size of training
(shorter side about 256 px, or a crop of such a one), and their upper left corner is where the cells of patterns begin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from training.renderings.blocks import DIAGONAL, TWO_CELLS, Array, to_lab
from training.renderings.graphic import DECO
from training.renderings.media import IRON, PIGMENTS

Measure = Callable[[Array], float]


@dataclass(frozen=True)
class Feature:
    """A name-giving feature: what it is, and the measures it takes with the least value of each."""

    what: str
    parts: tuple[tuple[Measure, float], ...]

    def margin(self, picture: Array) -> float:
        """How far the weakest part lies above its least value, relative to that."""
        return min((measure(picture) - least) / abs(least) for measure, least in self.parts)


def _lab(picture: Array) -> Array:
    return to_lab(picture.astype(np.float32) / 255)


def _fine(light: Array, sigma: float = 4.0) -> Array:
    return light - cv2.GaussianBlur(light, (0, 0), sigma)


def repeats(picture: Array, period: int = TWO_CELLS) -> float:
    """Share of the fine lightness that is one pattern, the same in every cell of `period` px; in [0, 1]."""
    fine = _fine(_lab(picture)[..., 0], period / 2)
    rows, cols = (n // period * period for n in fine.shape)
    cells = fine[:rows, :cols].reshape(rows // period, period, cols // period, period)
    return float(cells.mean((0, 2)).std() / max(fine.std(), 1e-3))


def blocks(picture: Array, period: int = TWO_CELLS // 2) -> float:
    """Steps at the borders of square pixels over steps inside of them, as log10; 0 where there are none."""
    lab = _lab(picture)
    across, down = np.abs(np.diff(lab, axis=1)).sum(-1), np.abs(np.diff(lab, axis=0)).sum(-1)
    border = np.concatenate([across[:, period - 1 :: period].ravel(), down[period - 1 :: period].ravel()]).mean()
    inside = np.concatenate([across[:, period // 2 :: period].ravel(), down[period // 2 :: period].ravel()]).mean()
    return float(np.log10((border + 0.05) / (inside + 0.05)))


def hatched(picture: Array, degrees: tuple[float, ...], periods: tuple[float, float], spread: float = 14.0) -> float:
    """Lines along `degrees` (x to y): power per frequency there over that of other directions, log10.

    `periods` bound the distance between lines, in px.
    """
    light = _fine(_lab(picture)[..., 0], 8.0)
    window = np.outer(np.hanning(light.shape[0]), np.hanning(light.shape[1]))
    power = np.abs(np.fft.fft2(light * window)) ** 2
    fy, fx = np.meshgrid(*(np.fft.fftfreq(n) for n in light.shape), indexing="ij")
    radius, angle = np.hypot(fx, fy), np.degrees(np.arctan2(fy, fx)) + 90
    band = (radius > 1 / periods[1]) & (radius < 1 / periods[0])
    near = np.min([np.abs((angle - d + 90) % 180 - 90) for d in degrees], 0) < spread
    return float(np.log10((power[band & near].mean() + 1e-3) / (power[band & ~near].mean() + 1e-3)))


def dark_lines(picture: Array, width: int = 7, depth: float = 25.0) -> float:
    """Share of pixels in dark lines narrower than `width` px that lie `depth` of L below their surroundings."""
    light = _lab(picture)[..., 0]
    return float((cv2.morphologyEx(light, cv2.MORPH_CLOSE, _disc(width)) - light > depth).mean())


def light_lines(picture: Array, width: int = 7, depth: float = 25.0) -> float:
    light = _lab(picture)[..., 0]
    return float((light - cv2.morphologyEx(light, cv2.MORPH_OPEN, _disc(width)) > depth).mean())


def _disc(width: int) -> Array:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))


def strokes(picture: Array, fine: float = 1.0, wide: float = 3.0) -> float:
    """How far the fine lightness runs in one direction locally, mean anisotropy in [0, 1]."""
    light = cv2.GaussianBlur(_lab(picture)[..., 0], (0, 0), fine)
    gx, gy = cv2.Scharr(light, cv2.CV_32F, 1, 0), cv2.Scharr(light, cv2.CV_32F, 0, 1)
    e, f, g = (cv2.GaussianBlur(a, (0, 0), wide) for a in (gx * gx, gx * gy, gy * gy))
    return float((np.sqrt((e - g) ** 2 + 4 * f * f) / (e + g + 30)).mean())


def texture(picture: Array, sigma: float = 1.5) -> float:
    """Median local contrast of the fine lightness: grain, relief, dots also where the picture is calm."""
    fine = _fine(_lab(picture)[..., 0], sigma)
    return float(np.median(np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 4.0))))


def flat(picture: Array) -> float:
    """Share of pixels without any slope of lightness: areas of one colour."""
    light = cv2.GaussianBlur(_lab(picture)[..., 0], (0, 0), 0.7)
    slope = np.hypot(cv2.Scharr(light, cv2.CV_32F, 1, 0), cv2.Scharr(light, cv2.CV_32F, 0, 1)) / 32
    return float((slope < 0.5).mean())


def busy(picture: Array) -> float:
    """Minus the share of flat pixels: strokes and cuts leave none."""
    return -flat(picture)


def warm(picture: Array) -> float:
    """Mean of b: yellow above 0, blue below."""
    return float(_lab(picture)[..., 2].mean())


def grey(picture: Array) -> float:
    """Minus the mean chroma."""
    lab = _lab(picture)
    return -float(np.hypot(lab[..., 1], lab[..., 2]).mean())


def chroma(picture: Array) -> float:
    return -grey(picture)


def two_tone(picture: Array) -> float:
    """Share of pixels that are nearly ink or nearly paper."""
    light = _lab(picture)[..., 0]
    return float(((light < 22) | (light > 82)).mean())


def near_palette(picture: Array, palette: Array, reach: float = 12.0) -> float:
    """Share of pixels within `reach` (Lab) of one of the palette's colours, RGB in [0, 1]."""
    lab = cv2.resize(_lab(cv2.GaussianBlur(picture, (0, 0), 0.7)), (96, 96), interpolation=cv2.INTER_AREA)
    inks = to_lab(palette[None].astype(np.float32))[0]
    return float((np.linalg.norm(lab[:, :, None] - inks, axis=-1).min(-1) < reach).mean())


def hue_share(picture: Array, low: float, high: float, least: float, light: tuple[float, float] = (0, 100)) -> float:
    """Share of pixels of hue `low` to `high` degrees, at least `least` chroma and lightness within `light`."""
    lab = _lab(picture)
    hue, strength = np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360, np.hypot(lab[..., 1], lab[..., 2])
    within = (lab[..., 0] >= light[0]) & (lab[..., 0] <= light[1])
    return float(((hue >= low) & (hue <= high) & (strength > least) & within).mean())


def paper(picture: Array, least: float = 85.0) -> float:
    """Share of pixels that are bare paper."""
    return float((_lab(picture)[..., 0] > least).mean())


def no_black(picture: Array) -> float:
    """Lightness of the darkest twentieth."""
    return float(np.percentile(_lab(picture)[..., 0], 5))


def dark(picture: Array) -> float:
    """Minus the median lightness."""
    return -float(np.median(_lab(picture)[..., 0]))


def broken(picture: Array, sigma: float = 1.5) -> float:
    """Median local change of colour (a, b): dots and dabs of other hues beside one another."""
    lab = _lab(picture)[..., 1:]
    fine = ((lab - cv2.GaussianBlur(lab, (0, 0), 3.0)) ** 2).sum(-1)
    return float(np.median(np.sqrt(cv2.GaussianBlur(fine, (0, 0), 4.0))))


IRON_RAMP = np.stack([np.interp(np.linspace(0, 6, 40), np.arange(7), IRON[:, c]) for c in range(3)], -1)
NEAR_DIAGONAL = (0.75 * DIAGONAL, 1.3 * DIAGONAL)
CROSSED = partial(hatched, degrees=(45, -45), periods=NEAR_DIAGONAL, spread=18)
RISING, FALLING = (partial(hatched, degrees=(angle,), periods=NEAR_DIAGONAL) for angle in (-45, 45))
FOUR_CELLS = partial(repeats, period=2 * TWO_CELLS)
LEVEL = partial(hatched, degrees=(0,), periods=(12, 20))
FEATURES: dict[str, Feature] = {
    "oil painting": Feature("bristles along the diagonals of the forms", ((CROSSED, 0.15), (repeats, 0.2))),
    "impasto (palette knife)": Feature("raised slabs of paint", ((texture, 3.0), (FOUR_CELLS, 0.22))),
    "watercolor painting": Feature("paper shines through, nothing is black", ((paper, 0.03), (no_black, 17))),
    "gouache painting": Feature("flat matte areas without black", ((flat, 0.34), (no_black, 20))),
    "chalk pastel drawing": Feature("strokes at 45 degrees on toned paper", ((FALLING, 0.5),)),
    "wax crayon drawing": Feature("broad level scribble, 16 px apart", ((LEVEL, 0.2), (repeats, 0.15))),
    "pencil sketch": Feature("grey lines and hatching", ((grey, -4), (dark_lines, 0.02), (repeats, 0.15))),
    "coloured pencil drawing": Feature("hatching at 45 degrees with paper between", ((RISING, 0.4), (texture, 1.0))),
    "charcoal drawing": Feature("rubbed and smudged tone without colour", ((grey, -10), (repeats, 0.11))),
    "ink wash painting (sumi-e)": Feature("grey washes with brush lines", ((grey, -8), (strokes, 0.5), (paper, 0.02))),
    "pen and ink drawing with cross-hatching": Feature(
        "crossed lines at 45 degrees", ((CROSSED, 0.3), (two_tone, 0.5), (grey, -8))
    ),
    "copper engraving": Feature(
        "parallel lines that swell with the tone", ((CROSSED, 0.38), (dark_lines, 0.055), (light_lines, 0.025))
    ),
    "woodcut (linocut)": Feature("black and paper, parallel cuts", ((two_tone, 0.65), (repeats, 0.12))),
    "ukiyo-e woodblock print": Feature(
        "a dozen pigments", ((partial(near_palette, palette=PIGMENTS), 0.42), (strokes, 0.56))
    ),
    "comic book": Feature("ink lines and dots every 11 px", ((dark_lines, 0.03), (repeats, 0.11))),
    "anime (cel shading)": Feature("flat cels with fine lines", ((flat, 0.25), (dark_lines, 0.008), (two_tone, 0.2))),
    "pop art with halftone dots": Feature("dots every 11 px, at 45 degrees", ((repeats, 0.13), (two_tone, 0.4))),
    "pointillist painting": Feature("dots of other hues side by side", ((broken, 9.0), (repeats, 0.22))),
    "impressionist painting": Feature(
        "dabs of broken colour, no black", ((broken, 4.0), (FOUR_CELLS, 0.2), (no_black, 22))
    ),
    "swirling post-impressionist painting (van Gogh)": Feature(
        "thick strokes of broken colour", ((texture, 3.0), (broken, 4.5), (FOUR_CELLS, 0.2))
    ),
    "cubist painting": Feature("planes with straight shaded cuts", ((strokes, 0.6), (texture, 2.0), (busy, -0.26))),
    "expressionist painting": Feature("wild colour in bold strokes", ((chroma, 19), (broken, 4.2), (strokes, 0.55))),
    "mosaic of tiles": Feature("square tiles on a corner, 11 px apart", ((repeats, 0.3), (CROSSED, 0.3))),
    "stained glass window": Feature(
        "black lead lines", ((partial(dark_lines, width=9, depth=20), 0.08), (CROSSED, 0.3))
    ),
    "pixel art": Feature("squares of 8 px", ((blocks, 0.3),)),
    "low-poly render": Feature("flat triangles, 32 px long", ((flat, 0.35), (FOUR_CELLS, 0.28))),
    "paper cut-out": Feature("flat sheets, their cuts pale", ((flat, 0.38), (light_lines, 0.01), (no_black, 14))),
    "cross-stitch embroidery": Feature("crossed threads, 11 px apart", ((CROSSED, 0.5), (repeats, 0.3), (busy, -0.15))),
    "chalkboard drawing": Feature("hatched chalk, its sticks pale", ((CROSSED, 0.3), (repeats, 0.12), (grey, -14))),
    "blueprint": Feature(
        "Prussian blue with a grid", ((partial(hue_share, low=255, high=300, least=20), 0.7), (repeats, 0.095))
    ),
    "neon (cyberpunk)": Feature(
        "bright tubes in the dark", ((chroma, 26), (dark, -45), (partial(light_lines, width=9, depth=18), 0.03))
    ),
    "faded vintage photograph": Feature("no black, yellowed", ((no_black, 20), (warm, 8), (grey, -37))),
    "film noir": Feature("grey and dark", ((grey, -6), (dark, -80))),
    "art deco poster": Feature("ten inks", ((partial(near_palette, palette=DECO), 0.38),)),
    "thermal camera image": Feature("the iron palette", ((partial(near_palette, palette=IRON_RAMP, reach=18), 0.85),)),
    "gold-leaf decorative painting (Klimt)": Feature(
        "gold leaf", ((partial(hue_share, low=60, high=100, least=25), 0.2),)
    ),
}
