"""The twelve moods: colour grades in Lab, laid over a photograph or over its rendering in a medium.

`apply_mood(rgb, mood, seed)` is a pure function: weights are smoothsteps of the picture below, blossoms and lights
are anchored by the seed or by `source`, so neighbouring frames that share both are as steady as their renderings.
Lengths hold where the shorter side is 256 pixels and grow with it. Hues are degrees, chroma and L are Lab units.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from training.renderings.blocks import Array, Noise, blur, grid, smoothstep, to_lab, to_rgb

# media with a palette of their own take a mood by less, so that both stay readable
FIXED_PALETTE = {
    "ukiyo-e woodblock print",
    "art deco poster",
    "pop art with halftone dots",
    "neon (cyberpunk)",
    "thermal camera image",
}


@dataclass(frozen=True)
class Scene:
    """What a mood may look at: the picture to grade, the photograph below it, and noise of the canvas."""

    rgb: Array
    source: Array
    noise: Noise
    scale: float  # shorter side / 256

    @property
    def lab(self) -> Array:
        return to_lab(self.rgb)

    def skin(self) -> Array:
        """1 on skin and fair hair of the photograph, 12 px beyond their borders, in [0, 1]."""
        lab = blur(to_lab(self.source), 1.5 * self.scale)
        distance = ((lab[..., 1] - 15) / 13) ** 4 + ((lab[..., 2] - 15) / 15) ** 4
        mask = np.exp(-distance) * smoothstep(25, 45, lab[..., 0])
        return np.clip(1.9 * blur(blur(mask, 4 * self.scale), 6 * self.scale), 0, 1)


Mood = Callable[[Scene], Array]
MOODS: dict[str, Mood] = {}


def mood(name: str) -> Callable[[Mood], Mood]:
    def register(function: Mood) -> Mood:
        MOODS[name] = function
        return function

    return register


def apply_mood(rgb: Array, name: str, seed: int, source: Array | None = None, medium: str | None = None) -> Array:
    """Return `rgb` (float32 in [0, 1]) in the mood `name`; the same arguments give the same pixels.

    `source` is the photograph that `rgb` renders (default: `rgb` is the photograph). On media with a fixed palette
    70 % of the grade are applied, mixed in Lab.
    """
    shape = (rgb.shape[0], rgb.shape[1])
    scene = Scene(rgb, rgb if source is None else source, Noise(seed, shape), min(shape) / 256)
    graded = np.clip(MOODS[name](scene), 0, 1)
    if medium in FIXED_PALETTE:
        graded = to_rgb(0.3 * to_lab(rgb) + 0.7 * to_lab(graded))
    return graded.astype(np.float32)


def polar(lab: Array) -> tuple[Array, Array]:
    """Hue in [0, 360) and chroma."""
    return np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) % 360, np.hypot(lab[..., 1], lab[..., 2])


def from_polar(light: Array, hue: Array, chroma: Array) -> Array:
    angle = np.radians(hue)
    return np.dstack([light, chroma * np.cos(angle), chroma * np.sin(angle)]).astype(np.float32)


def near_hue(hue: Array, chroma: Array, centre: float, reach: float) -> Array:
    """1 within `reach` / 2 of the hue `centre`, 0 beyond `reach`, 0 on greys."""
    away = np.abs((hue - centre + 180) % 360 - 180)
    return (1 - smoothstep(0.5 * reach, reach, away)) * smoothstep(3, 10, chroma)


def ramp(light: Array, *colours: tuple[float, float, float]) -> Array:
    """Lab of an RGB gradient through `colours`, evenly spaced over L of 0 to 100."""
    stops = np.linspace(0, 100, len(colours))
    table = np.array(colours, np.float32)
    return to_lab(np.dstack([np.interp(light, stops, table[:, i]) for i in range(3)]).astype(np.float32))


def tinted(lab: Array, tint: Array, keep: float) -> Array:
    """`tint` plus the share `keep` of the own colour."""
    out = tint.copy()
    out[..., 1:] += keep * lab[..., 1:]
    return out


def screen(rgb: Array, light: Array) -> Array:
    return 1 - (1 - rgb) * (1 - np.clip(light, 0, 1))


def contrast(light: Array, amount: float) -> Array:
    return np.clip(50 + amount * (light - 50), 0, 100)


def not_too_dark(lab: Array, least: float = 18.0) -> Array:
    """Lift the shadows until the median of L is `least`: below that, lines vanish."""
    missing = max(least - float(np.median(lab[..., 0])), 0.0)
    lab[..., 0] += missing * (1 - lab[..., 0] / 100)
    return lab


@mood("autumn colours")
def autumn(scene: Scene) -> Array:
    lab = scene.lab
    hue, chroma = polar(lab)
    green, blue = near_hue(hue, chroma, 125, 75), near_hue(hue, chroma, 260, 70)
    turned = from_polar(lab[..., 0], hue - 0.9 * green * (hue - 62), chroma * (1 + 0.35 * green - 0.35 * blue))
    out = np.where((green > 0)[..., None], turned, lab * np.dstack([np.ones_like(blue), *[1 - 0.35 * blue] * 2]))
    out[..., 0] *= 0.97
    out[..., 1] += 5 + 9 * green
    out[..., 2] += 9 + 6 * green
    return to_rgb(out)


@mood("winter")
def winter(scene: Scene) -> Array:
    lab = scene.lab
    hue, chroma = polar(lab)
    green = near_hue(hue, chroma, 125, 60) * (1 - scene.skin())
    light = 100 * (lab[..., 0] / 100) ** 0.82
    frost = smoothstep(45, 80, light)
    out = lab * (0.42 - 0.30 * green)[..., None]
    out[..., 0] = np.minimum(light + 16 * green + 10 * frost * (1 - light / 110), 97)
    shadow = 1 - smoothstep(20, 75, light)
    out[..., 1] -= 2
    out[..., 2] -= 9 + 6 * shadow
    return to_rgb(out)


@mood("spring blossom")
def spring(scene: Scene) -> Array:
    lab, scale = scene.lab, scene.scale
    hue, chroma = polar(lab)
    skin = scene.skin()
    green = near_hue(hue, chroma, 125, 65) * (1 - skin)
    grey_light = (1 - smoothstep(6, 20, chroma)) * smoothstep(50, 85, lab[..., 0])
    patches = scene.noise.smooth("blossom", 2.2 * scale) + 0.5 * scene.noise.smooth("boughs", 9 * scale)
    patches = 0.8 * green * smoothstep(0.25, 0.9, patches)
    out = lab.copy()
    out[..., 0] = 100 * (lab[..., 0] / 100) ** 0.78
    out[..., 1:] *= 1.15
    out[..., 1] += 5 + 8 * grey_light
    out[..., 2] += 8 * green - 3 * grey_light
    out = out * (1 - patches[..., None]) + np.array((80, 26, -2), np.float32) * patches[..., None]
    rgb = to_rgb(out)
    return 0.82 * rgb + 0.18 * screen(rgb, blur(rgb, 6 * scale))


@mood("moonlit night")
def moonlit(scene: Scene) -> Array:
    lab = scene.lab
    light = lab[..., 0]
    out = lab * np.float32(0.28)
    out[..., 0] = 3 + 60 * (light / 100) ** 1.25 + 16 * smoothstep(70, 97, light)
    out[..., 1] -= 2
    out[..., 2] -= 28 - 20 * smoothstep(30, 95, light)
    rgb = to_rgb(not_too_dark(out))
    bloom = blur(rgb * smoothstep(0.55, 0.85, light / 100)[..., None], 7 * scene.scale)
    return screen(rgb, 0.35 * bloom * np.array((0.7, 0.85, 1.0), np.float32))


def sun_place(source: Array) -> tuple[float, float]:
    """(x, y) as shares of the frame: the brightest part of its upper third, drawn towards (.78, .12)."""
    light = to_lab(source)[..., 0] / 100
    height, width = light.shape
    x, y = grid(light.shape)
    x, y = x / width, y / height
    weight = blur(light, 0.06 * min(height, width)) ** 14 * (1 - smoothstep(0.2, 0.45, y))
    weight = weight + 0.02 * np.exp(-((x - 0.78) ** 2 + (y - 0.12) ** 2) / 0.02)
    weight /= weight.sum()
    return float((x * weight).sum()), float((y * weight).sum())


@mood("golden-hour sunset")
def sunset(scene: Scene) -> Array:
    lab = scene.lab
    high = smoothstep(25, 80, lab[..., 0])
    out = lab.copy()
    out[..., 1:] *= 1.12
    out[..., 1] += 7 + 4 * high
    out[..., 2] += -11 + 41 * high
    out[..., 0] = 100 * (0.95 * lab[..., 0] / 100) ** 1.15
    sun_x, sun_y = sun_place(scene.source)
    x, y = grid(lab.shape)
    distance = np.hypot((x / lab.shape[1] - sun_x), (y - sun_y * lab.shape[0]) / lab.shape[1])
    glow = 0.52 * np.exp(-((distance / 0.4) ** 2)) + 0.3 * np.exp(-((distance / 0.13) ** 2))
    return screen(to_rgb(out), glow[..., None] * np.array((1.0, 0.66, 0.25), np.float32))


@mood("vivid colours")
def vivid(scene: Scene) -> Array:
    lab = scene.lab
    _, chroma = polar(lab)
    lab[..., 1:] *= (85 * np.tanh(2 * chroma / 85) / np.maximum(chroma, 1e-3))[..., None]
    lab[..., 0] = contrast(lab[..., 0], 1.12)
    return to_rgb(lab)


@mood("muted earth tones")
def earth(scene: Scene) -> Array:
    lab = scene.lab
    hue, chroma = polar(lab)
    blue = near_hue(hue, chroma, 260, 80)
    lab[..., 0] = 10 + 0.76 * lab[..., 0]
    lab[..., 1:] *= 0.48
    lab[..., 1] += 5
    lab[..., 2] += 15 - 4 * blue
    return to_rgb(lab)


@mood("monochrome")
def monochrome(scene: Scene) -> Array:
    lab = scene.lab
    lab[..., 0] = contrast(lab[..., 0], 1.12)
    lab[..., 1:] = 0
    return to_rgb(lab)


@mood("sepia")
def sepia(scene: Scene) -> Array:
    return to_rgb(
        ramp(scene.lab[..., 0], (0.10, 0.06, 0.03), (0.42, 0.29, 0.17), (0.76, 0.62, 0.43), (0.98, 0.93, 0.80))
    )


@mood("ocean blues")
def ocean(scene: Scene) -> Array:
    lab = scene.lab
    colours = ((0.01, 0.05, 0.14), (0.03, 0.22, 0.42), (0.10, 0.50, 0.66), (0.45, 0.78, 0.84), (0.95, 0.99, 0.98))
    return to_rgb(tinted(lab, ramp(lab[..., 0], *colours), 0.22))


@mood("pink and teal (vaporwave)")
def vaporwave(scene: Scene) -> Array:
    lab = scene.lab
    light = lab[..., 0]
    pink = ramp(light, (0.16, 0.02, 0.26), (0.72, 0.10, 0.56), (1.0, 0.48, 0.72), (1.0, 0.94, 0.97))
    teal = ramp(light, (0.08, 0.04, 0.28), (0.10, 0.28, 0.62), (0.16, 0.76, 0.78), (0.88, 1.0, 0.94))
    smooth = blur(lab, 1.5 * scene.scale)
    warmth = 0.8 * smooth[..., 2] + 0.6 * smooth[..., 1]
    warmth = warmth - 0.7 * max(float(warmth.mean()), 0.0)  # a warm picture would be pink all over
    wave = 6 * np.sin(2 * np.pi * smooth[..., 0] / 100)
    height = 1 - grid(light.shape)[1] / light.shape[0]
    cool = (0.8 * smoothstep(-10, 12, wave - warmth) + 0.2 * height)[..., None]
    return to_rgb(tinted(lab, pink * (1 - cool) + teal * cool, 0.15))


@mood("candlelight")
def candlelight(scene: Scene) -> Array:
    lab = scene.lab
    height, width = lab.shape[:2]
    x, y = grid(lab.shape)
    distance = np.hypot(x / width - 0.5, (y - 0.55 * height) / width) / 0.42
    light = 100 * (lab[..., 0] / 100) ** 0.8 * (0.34 + 0.72 * np.exp(-(distance**2)))
    colours = ((0.02, 0.01, 0.005), (0.26, 0.09, 0.02), (0.70, 0.33, 0.07), (0.98, 0.70, 0.26), (1.0, 0.93, 0.66))
    rgb = to_rgb(not_too_dark(tinted(lab, ramp(light, *colours), 0.25)))
    warm = blur(rgb * smoothstep(35, 80, light)[..., None], 8 * scene.scale)
    return screen(rgb, 0.35 * warm * np.array((1.0, 0.75, 0.4), np.float32))
