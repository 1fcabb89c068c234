"""Media of pen, brush, print and camera: each a pure function of a levelled photograph, its noise and a few parameters.

Lengths are pixels of a picture whose shorter side is about 256; patterns keep periods of 5 px and more, because finer
ones do not survive an autoencoder of factor 8.
"""

import cv2
import numpy as np

from training.renderings.blocks import (
    DIAGONAL,
    TWO_CELLS,
    Array,
    Source,
    blur,
    cell_means,
    diagonal,
    displaced,
    grid,
    kuwahara,
    lightness,
    lines,
    local_contrast,
    lozenges,
    mix_angles,
    palette_map,
    posterise,
    relief,
    sample,
    skin,
    smooth_labels,
    smoothstep,
    strokes_along,
    structure,
    to_lab,
    to_rgb,
    with_chroma,
)
from training.renderings.registry import adjusted, colour, medium, mix


@medium("oil painting")
def oil(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    lab = to_lab(kuwahara(with_chroma(source.rgb, 1.35), 3.5, source.direction))
    light = local_contrast(lab[..., 0] / 100, 0.25)
    lab[..., 0] = 100 * light**1.1
    # bristles rise or fall with the nearest diagonal of the form, so that strokes turn with the picture
    rising = smoothstep(-0.35, 0.35, blur(np.sin(2 * structure(source.rgb, 3.5, 20.0).angle), 2))
    up, down = (diagonal(light.shape, sign) / np.float32(2**0.5) for sign in (1, -1))
    stroke = up + rising * (down - up)
    lab[..., 0] = 0.94 * lab[..., 0] + 5 * stroke * (0.4 + 0.6 * smoothstep(0.05, 0.35, light))
    lab[..., 2] += 4 * stroke + 5  # a warm varnish
    return relief(to_rgb(lab), 0.6 * stroke, 0.5, 0.15)


@medium("watercolor painting")
def watercolour(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    noise = source.noise
    lab = source.lab.copy()
    lab[..., 0] = 20 + 80 * source.light**0.75
    lab[..., 1:] *= draw.uniform(1.25, 1.5)
    image = displaced(to_rgb(lab), noise.displacement("wobble", 1.2))
    wash = kuwahara(kuwahara(image, 5, source.direction), 3.5, source.direction)
    lab = to_lab(wash)
    light = lab[..., 0] / 100
    lab[..., 0] = 100 * mix(light, posterise(light, 6, 0.14), 0.55)
    wash = to_rgb(lab)
    light = lab[..., 0] / 100
    turbulence = noise.turbulence("pigment")
    paper = noise.cold_press()  # faint: the latents turn more of it into cracks
    gx = cv2.Sobel(light, cv2.CV_32F, 1, 0) / 8
    gy = cv2.Sobel(light, cv2.CV_32F, 0, 1) / 8
    edge = np.clip(np.hypot(gx, gy) * 100 / 5, 0, 1)
    inner = np.clip((blur(light, 3) - light) * 100 / 9, 0, 1)
    density = 1 + 1.1 * edge * inner * smoothstep(0.15, 0.5, light)
    density = density + 0.18 * turbulence * smoothstep(0.1, 0.6, light) + 0.05 * paper * (1 - 0.8 * light)
    out = np.clip(wash, 0.02, 1) ** np.clip(density, 0.4, 3)[..., None]
    bloom = smoothstep(0.9, 1.7, turbulence)[..., None]
    out = 1 - (1 - out) * (1 - 0.18 * bloom)
    out *= 1 - 0.08 * np.exp(-(((turbulence - 0.9) / 0.16) ** 2))[..., None]
    sheet = colour(0.99, 0.982, 0.96)
    out = mix(out, sheet, np.clip(smoothstep(0.82, 0.98, light), 0, 1))
    pencil = lines(lightness(kuwahara(source.rgb, 2.5, source.direction)), source.angle, 1.0, 0.98, 40)
    out = out * (1 - 0.4 * pencil)[..., None]
    return relief(out * sheet, paper, 0.04, 0)


@medium("pencil sketch")
def pencil(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    smooth = lightness(kuwahara(source.rgb, 2.5, source.direction))
    tone = 1 - smooth**0.75
    hatching = diagonal(tone.shape, 1) + 0.25 * source.noise.cold_press()
    layers = [
        0.9 * tone * smoothstep(-1.2, 1.2, 0.75 * hatching + 2.4 * (tone - 0.4)),
        0.5 * tone * smoothstep(0.5, 0.8, tone),
        0.85 * lines(smooth, source.angle, 1.2, 0.978, 40),
    ]
    empty = np.prod([1 - np.clip(d, 0, 1) for d in layers], axis=0)
    ink = np.minimum(1 - empty, 0.93)
    return mix(np.broadcast_to(colour(0.965, 0.96, 0.945), source.rgb.shape), colour(0.16, 0.16, 0.17), ink)


@medium("coloured pencil drawing")
def coloured_pencil(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    noise = source.noise
    lab = to_lab(kuwahara(source.rgb, 2.5, source.direction))
    tone = 1 - lab[..., 0] / 100
    lab[..., 0] = 42 + 0.52 * lab[..., 0]
    hue, chroma = np.arctan2(lab[..., 2], lab[..., 1]), 1.8 * np.hypot(lab[..., 1], lab[..., 2])
    paper = noise.cold_press()
    out = np.broadcast_to(colour(0.985, 0.98, 0.965), source.rgb.shape)
    for turn, onset, strength, sign in ((0, 0.12, 0.85, 1), (18, 0.80, 0.6, -1), (-16, 0.70, 0.5, 1)):
        pigment = lab.copy()
        pigment[..., 1] = chroma * np.cos(hue + np.deg2rad(turn))
        pigment[..., 2] = chroma * np.sin(hue + np.deg2rad(turn))
        strokes = 0.8 * diagonal(tone.shape, sign) + 0.15 * paper
        cover = strength * smoothstep(-1.3, 1.3, strokes + 2.6 * (tone - onset - 0.1))
        out = out * (1 - cover[..., None] * (1 - to_rgb(pigment)))
    outline = lines(lightness(kuwahara(source.rgb, 2.5, source.direction)), source.angle, 1.2, 0.978, 40)
    return out * (1 - 0.6 * outline[..., None] * (1 - 0.5 * source.rgb))


@medium("charcoal drawing")
def charcoal(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    simple = source.simplified(4, 4)
    light = local_contrast(lightness(simple), 0.4) ** 0.72
    tone = 1 - light
    grain = 0.7 * diagonal(tone.shape, 1) + 0.35 * source.noise.cold_press()  # the stick's side, rubbed over paper
    grain = smoothstep(-1.3, 1.1, grain + 2.4 * (tone - 0.45))
    density = 0.55 * grain * tone + 0.55 * np.sqrt(tone) * blur(tone, 3) + 0.5 * smoothstep(0.62, 0.9, tone)
    outline = lines(lightness(kuwahara(source.rgb, 2.5, source.direction)), source.angle, 1.8, 0.965, 22)
    ink = np.clip(1 - (1 - np.clip(density, 0, 0.97)) * (1 - 0.9 * outline), 0, 0.97)
    out = mix(np.broadcast_to(colour(0.90, 0.875, 0.83), source.rgb.shape), colour(0.10, 0.095, 0.09), ink)
    return mix(out, colour(0.99, 0.985, 0.97), 0.75 * smoothstep(0.86, 0.97, light))


@medium("ink wash painting (sumi-e)")
def ink_wash(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    noise = source.noise
    soft = displaced(source.rgb, noise.displacement("bleed", 1.0))
    direction = structure(soft, 3.5, 16)
    image = kuwahara(kuwahara(kuwahara(soft, 6, direction), 6, direction), 4, direction)
    light = np.clip(lightness(image) ** 0.85 / 0.72, 0, 1)
    light = mix(light, posterise(light, 4, 0.14), 0.6)
    turbulence = noise.turbulence("wash")
    rim = np.clip((blur(light, 3) - light) * 100 / 9, 0, 1)
    wash = np.clip(light, 0.03, 1) ** (1.0 * (1 + 0.18 * turbulence * smoothstep(0.05, 0.5, light) + 0.4 * rim))
    wash = mix(wash, blur(wash.astype(np.float32), 3), 0.25)
    dry = smoothstep(-1.3, 0.2, noise.strokes("dry", direction.angle, 10))
    brush = lines(lightness(soft), direction.angle, 2.4, 0.96, 26) * dry
    fine = 0.5 * lines(lightness(kuwahara(soft, 2.5, direction)), direction.angle, 1.3, 0.976, 40)
    ink = 1 - (1 - (1 - wash) * 0.92) * (1 - 0.85 * brush) * (1 - fine)
    paper = colour(0.955, 0.935, 0.875) * (1 + 0.012 * noise.smooth("fibre", 1.0)[..., None])
    return mix(paper, colour(0.09, 0.09, 0.105), np.clip(ink, 0, 0.95))


def hatch(shape: tuple[int, ...], angle: float, period: float, width: Array, soft: float = 0.5) -> Array:
    """Parallel lines that take `width` of their period, whose edges fade over `soft` px to both sides."""
    x, y = grid(shape)
    across = x * np.float32(-np.sin(angle)) + y * np.float32(np.cos(angle))
    distance = np.abs((across / period) % 1.0 - 0.5) * period
    return np.clip((0.5 * period * width - distance) / (2 * soft) + 0.5, 0, 1)


@medium("pen and ink drawing with cross-hatching")
def pen_and_ink(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    smooth = lightness(kuwahara(source.rgb, 2.5, source.direction))
    tone = blur(1 - local_contrast(smooth, 0.3) ** 0.8, 0.8)
    ink = np.zeros_like(tone)
    for angle, period, onset in (
        (45, DIAGONAL, 0.2),
        (-45, DIAGONAL, 0.46),
        (0, TWO_CELLS, 0.7),
    ):
        width = 0.62 * smoothstep(onset - 0.05, onset + 0.6, tone)
        line = hatch(tone.shape, np.deg2rad(angle), period, width, 1.7) * smoothstep(onset - 0.06, onset + 0.06, tone)
        ink = 1 - (1 - ink) * (1 - line)
    ink = np.maximum(ink, smoothstep(0.8, 0.95, tone))
    ink = np.maximum(ink, lines(smooth, source.angle, 1.3, 0.98, 60))
    return mix(np.broadcast_to(colour(0.975, 0.965, 0.935), source.rgb.shape), colour(0.13, 0.13, 0.16), ink)


@medium("copper engraving")
def engraving(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    smooth = lightness(kuwahara(source.rgb, 2.5, source.direction))
    light = local_contrast(smooth, 0.35) ** 0.85
    tone, form = blur(1 - light, 0.7), blur(light, 5)
    x, y = grid(tone.shape)
    ink = np.zeros_like(tone)
    for u, onset in (((x - y) / 2**0.5 + 9 * form, 0.06), ((x + y) / 2**0.5 - 9 * form, 0.6)):
        u = u.astype(np.float32)
        slope = np.hypot(cv2.Sobel(u, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(u, cv2.CV_32F, 0, 1) / 8)
        distance = np.abs((u / DIAGONAL) % 1 - 0.5) * DIAGONAL / np.maximum(slope, 0.4)
        half = np.clip(tone - onset, 0, 1) ** 0.85 * 0.5 * DIAGONAL
        line = np.clip((half - distance) / 3.4 + 0.5, 0, 1) * smoothstep(onset, onset + 0.08, tone)
        ink = 1 - (1 - ink) * (1 - line)
    ink = np.maximum(ink, 0.9 * lines(smooth, source.angle, 1.2, 0.98, 50))
    return mix(np.broadcast_to(colour(0.955, 0.925, 0.85), source.rgb.shape), colour(0.25, 0.15, 0.09), ink)


@medium("woodcut (linocut)")
def woodcut(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    image = source.simplified(4, 3)
    light = local_contrast(lightness(image) ** 0.75, 0.45)
    tone = 2.9 * (light - 0.44)
    value = tone + 0.62 * diagonal(tone.shape, -1) * np.exp(-((tone / 0.95) ** 2))  # parallel cuts of the gouge
    ink = 1 - smoothstep(-0.32, 0.32, value)
    ink = np.maximum(ink, lines(source.light, source.angle, 1.8, 0.968, 40))
    return mix(np.broadcast_to(colour(0.95, 0.92, 0.84), source.rgb.shape), colour(0.12, 0.11, 0.11), ink)


PIGMENTS = np.array(
    [
        (0.94, 0.90, 0.79),
        (0.85, 0.78, 0.62),
        (0.10, 0.20, 0.38),
        (0.22, 0.38, 0.55),
        (0.52, 0.64, 0.70),
        (0.80, 0.62, 0.32),
        (0.87, 0.58, 0.46),
        (0.50, 0.56, 0.40),
        (0.30, 0.37, 0.30),
        (0.66, 0.26, 0.20),
        (0.42, 0.33, 0.27),
        (0.12, 0.12, 0.15),
    ],
    np.float32,
)


@medium("ukiyo-e woodblock print")
def ukiyoe(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    noise = source.noise
    bright = adjusted(source.rgb, 1.3, 22, 100, 0.75)
    image = palette_map(bright, paintings["ukiyo-e"][0], 0)(bright, 0.5, 0.5)
    image = kuwahara(kuwahara(image, 6, source.direction), 5, source.direction)
    lab = to_lab(image)
    pigments = to_lab(PIGMENTS[None])[0]
    label = smooth_labels(lab, pigments, 1.8)
    means = cell_means(lab, label, len(pigments))
    flat = blur((0.62 * pigments + 0.38 * means).astype(np.float32)[label], 0.5)
    flat[..., 0] += np.clip(0.5 * (blur(lab[..., 0], 14) - blur(flat[..., 0], 14)), -9, 9)
    out = to_rgb(flat)
    height = np.arange(out.shape[0], dtype=np.float32)[:, None] / out.shape[0]
    sky = 0.55 * smoothstep(0.3, 0.0, height) * smoothstep(0.62, 0.85, blur(lightness(out), 3))
    out = mix(out, colour(0.16, 0.30, 0.50), sky)
    key = lines(lightness(source.simplified(5, 5)), source.angle, 1.6, 0.972, 50)
    out = mix(out, colour(0.10, 0.13, 0.22), 0.92 * key)
    return out * (1 + 0.022 * noise.strokes("wood", 0.03, 25, 0.8) + 0.012 * noise.cold_press())[..., None]


def dot_screen(shape: tuple[int, ...]) -> Array:
    """Halftone screen in [0, 1] at 45 degrees: one in the corner and one in the middle of two by two cells."""
    x, y = grid(shape)
    turn = np.float32(2 * np.pi / TWO_CELLS)
    return (2 + np.cos((x + y) * turn) + np.cos((x - y) * turn)) / 4


@medium("comic book")
def comic(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    image = cv2.bilateralFilter(source.rgb, 7, 0.12, 5)
    lab = to_lab(kuwahara(kuwahara(image, 3.5, source.direction), 2.5, source.direction))
    calm = lab[..., 0] / 100
    light = local_contrast(calm, 0.25) ** 0.8
    flat = posterise(light**0.9, 4, 0.12)
    lab[..., 0] = 100 * (0.12 + 0.88 * flat)
    lab[..., 1:] *= 1.6
    screen = dot_screen(light.shape)
    tone = np.clip(1 - light, 0.1, 0.62)
    dots = smoothstep(-0.06, 0.06, screen - (1 - tone))
    middle = smoothstep(0.25, 0.40, 1 - light) * (1 - smoothstep(0.68, 0.82, 1 - light))
    out = to_rgb(lab) * (1 - 0.38 * dots * middle)[..., None]
    ink = np.maximum(lines(calm, source.angle, 1.6, 0.966, 40), lines(calm, source.angle, 1.0, 0.98, 40))
    ink = np.maximum(ink, 1 - smoothstep(0.12, 0.2, light))
    return mix(out, colour(0.04, 0.04, 0.06), ink)


@medium("anime (cel shading)")
def anime(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    image = cv2.bilateralFilter(source.simplified(4.5, 4), 7, 0.1, 5)
    lab = to_lab(image)
    light = lab[..., 0] / 100
    light = mix(light, posterise(light, 3, 0.05), 0.66) ** 0.66
    shade = 1 - smoothstep(0.3, 0.75, light)
    lab[..., 0] = 8 + 92 * light
    lab[..., 1:] = lab[..., 1:] * 1.65 + shade[..., None] * np.array([4, -9], np.float32)
    out = to_rgb(lab)
    glow = blur(out * smoothstep(0.75, 0.95, light)[..., None], 9)
    out = 1 - (1 - out) * (1 - 0.45 * glow)
    haze = smoothstep(0.5, 0.0, np.arange(out.shape[0], dtype=np.float32)[:, None] / out.shape[0])
    out = mix(out, colour(0.80, 0.90, 1.0), 0.18 * haze * np.ones_like(light))
    # fur and folds of cloth have no contours: they come from the simplified picture alone
    ink = lines(lightness(source.simplified(4.5, 4.5)), source.angle, 1.3, 0.972, 60)
    return mix(out, out * 0.28, 0.95 * ink)


POP = np.array(
    [
        (0.98, 0.96, 0.9),
        (0.95, 0.85, 0.1),
        (0.9, 0.12, 0.16),
        (0.1, 0.35, 0.8),
        (0.3, 0.75, 0.9),
        (0.95, 0.6, 0.66),
        (0.15, 0.62, 0.35),
        (0.95, 0.5, 0.12),
        (0.35, 0.15, 0.5),
        (0.05, 0.05, 0.07),
    ],
    np.float32,
)
POP_DOTS = np.array(
    [
        (0.9, 0.2, 0.2),
        (0.95, 0.45, 0.1),
        (0.6, 0.05, 0.2),
        (0.05, 0.1, 0.45),
        (0.1, 0.3, 0.75),
        (0.88, 0.15, 0.2),
        (0.05, 0.35, 0.3),
        (0.85, 0.15, 0.1),
        (0.7, 0.1, 0.5),
        (0.05, 0.05, 0.07),
    ],
    np.float32,
)


@medium("pop art with halftone dots")
def pop_art(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    image = source.simplified(5, 4)
    lab = to_lab(image)
    light = np.clip(0.12 + 0.98 * (lab[..., 0] / 100) ** 0.62, 0, 1)
    lab[..., 0] = 100 * light
    lab[..., 1:] *= 2.6
    label = smooth_labels(lab, to_lab(POP[None])[0], 1.8)
    flat, inner = blur(POP[label], 0.8), blur(POP_DOTS[label], 0.8)
    screen = dot_screen(light.shape)
    dots = smoothstep(-0.13, 0.13, screen - (1 - np.clip(1.05 - light, 0.1, 0.62)))
    out = mix(flat, inner, dots * (1 - smoothstep(0.84, 0.93, light)))
    out = mix(out, colour(0.99, 0.98, 0.95), smoothstep(0.9, 0.97, light))
    ink = np.maximum(lines(lightness(image), source.angle, 1.8, 0.958, 55), 1 - smoothstep(0.1, 0.17, source.light))
    return mix(out, colour(0.03, 0.03, 0.05), ink)


@medium("pointillist painting")
def pointillist(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    lab = source.lab.copy()
    shade = 1 - smoothstep(0.15, 0.55, source.light)
    lab[..., 0] = 16 + 0.84 * lab[..., 0]
    lab[..., 1:] = 1.75 * lab[..., 1:] + shade[..., None] * np.array([4, -14], np.float32)
    x, y = grid(source.light.shape)
    soft = blur(lab, 1.5)

    # a large dot in the middle of every other cell, a small one of the opposite hue in the cells between
    def dots(base: Array, aside: int, radius: float, warmth: float) -> tuple[Array, Array]:
        p, q = np.round((x - 4 - aside + y - 4) / TWO_CELLS), np.round((x - aside - y) / TWO_CELLS)
        u, v = 8 * (p + q) + 4 + aside, 8 * (p - q) + 4
        dot = sample(soft, u, v) + warmth * np.array([0.2, 14, 20], np.float32)
        inside = smoothstep(0.9, -0.9, np.hypot(x - u, y - v) - np.float32(radius))
        return mix(base, to_rgb(dot.astype(np.float32)), inside), inside

    out = mix(to_rgb(blur(lab, 3)), colour(0.95, 0.92, 0.82), 0.6)
    out, small = dots(out, 8, 4.2, -1.0)
    out, large = dots(out, 0, 5.4, 1.0)
    return relief(out, 2 * blur(np.maximum(small, large), 0.8), 0.2, 0.02)


@medium("impressionist painting")
def impressionist(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    image = palette_map(source.rgb, paintings["impressionism"][0], 0)(source.rgb, 0.25, 0.5)
    lab = to_lab(kuwahara(image, 3.5, source.direction))
    shade = 1 - smoothstep(0.15, 0.5, lab[..., 0] / 100)
    lab[..., 0] = 24 + 0.76 * lab[..., 0]
    lab[..., 1:] = 1.5 * lab[..., 1:] + shade[..., None] * np.array([9, -20], np.float32)
    # dabs of warm light along the forms, and violet ones between them
    dab = np.tanh(2.2 * strokes_along(structure(blur(source.rgb, 2), 4.0, 20.0).angle))
    detail = smoothstep(8, 18, source.detail)
    lab = lab + ((1 - 0.6 * detail) * dab)[..., None] * np.array([5, 4, 11], np.float32)
    return relief(to_rgb(lab), 1.2 * dab, 0.25, 0.05)


@medium("swirling post-impressionist painting (van Gogh)")
def van_gogh(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    # The strokes flow around the large shapes of the scene, however faint, and curl where it gets lighter or darker:
    # swirls that the picture itself tells.
    around = structure(blur(source.rgb, 5), 8.0, 24.0)
    curl = 1.3 * np.tanh(7 * (blur(source.light, 9) - blur(source.light, 30)))
    weight = np.maximum(smoothstep(3.5, 9, source.detail), 0.85 * skin(source.lab))
    angle = mix_angles((around.angle + 0.25 + curl).astype(np.float32), source.angle, weight)
    goal = paintings["van-gogh"][0]
    image = kuwahara(source.rgb, 3, source.direction)
    lab = to_lab(palette_map(image, goal, 0)(image, 0.5, 0.6))
    light = lab[..., 0:1] / 100
    lab[..., 1:] *= 1.5
    lab[..., 2:] += 16 * smoothstep(0.6, 0.9, light) - 18 * (1 - smoothstep(0.1, 0.5, light))
    lab[..., 0] += 0.6 * (lab[..., 0] - blur(lab[..., 0], 6))
    stroke = np.tanh(3 * strokes_along(angle))
    lab = lab + stroke[..., None] * np.array([9, 2, 9], np.float32)
    ink = lines(lightness(source.simplified(5, 5)), source.angle, 1.8, 0.965, 40)
    out = mix(to_rgb(lab), colour(0.07, 0.10, 0.24), 0.65 * ink)
    return relief(out, 1.2 * stroke, 0.4, 0.1)


@medium("mosaic of tiles")
def mosaic(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    lab = to_lab(with_chroma(source.rgb, 1.6, 85))
    u, v, border, turn = lozenges(source.light.shape, TWO_CELLS)
    glaze = sample(blur(lab, 2.5), u, v)
    glaze[..., 0] = 50 + 1.12 * (glaze[..., 0] - 50) + 5 * turn
    surface = smoothstep(0.2, 2.4, border)
    out = relief(to_rgb(glaze.astype(np.float32)), 2.0 * blur(surface, 0.8), 0.35, 0.1)
    return mix(0.3 * out + 0.7 * colour(0.36, 0.33, 0.31), out, surface)


@medium("stained glass window")
def stained_glass(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    image = source.simplified(6, 5)
    lab = to_lab(image)
    # diamond panes, by turns of a lighter and of a deeper glass, and leads along the picture's outlines
    _, _, border, glass = lozenges(source.light.shape, 2 * TWO_CELLS)
    chroma, hue = np.hypot(lab[..., 1], lab[..., 2]), np.arctan2(lab[..., 2], lab[..., 1])
    strong = np.minimum(2.3 * chroma + 10, 85)
    hue = hue + 0.35 * glass
    pane = np.dstack([18 + 0.80 * lab[..., 0] + 7 * glass, strong * np.cos(hue), strong * np.sin(hue)])
    glow = 0.84 + 0.28 * smoothstep(1, 9, border)
    out = to_rgb(pane) * glow[..., None]
    outline = lines(lightness(image), source.angle, 2.2, 0.965, 40)
    lead = np.maximum(1 - smoothstep(0.2, 2.6, border), outline)
    return mix(out, colour(0.07, 0.07, 0.08), lead)


@medium("pixel art")
def pixel_art(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    rows, cols = source.light.shape
    size = TWO_CELLS // 2  # one pixel to a latent
    image = kuwahara(with_chroma(source.rgb, 1.4), 2.5, source.direction)
    h, w = -(-rows // size), -(-cols // size)
    padded = cv2.copyMakeBorder(image, 0, h * size - rows, 0, w * size - cols, cv2.BORDER_REPLICATE)
    small = cv2.resize(padded, (w, h), interpolation=cv2.INTER_AREA)
    small = np.clip(small + 0.7 * (small - blur(small, 1.0)), 0, 1)
    lab = to_lab(small)
    lab[..., 0] = 50 + 1.2 * (lab[..., 0] - 50)
    flat = np.ascontiguousarray(lab.reshape(-1, 3), np.float32)
    cv2.setRNGSeed(int(draw.integers(1 << 30)))
    _, _, palette = cv2.kmeans(flat, 20, None, (cv2.TERM_CRITERIA_MAX_ITER, 12, 0), 1, cv2.KMEANS_PP_CENTERS)
    distance = np.linalg.norm(flat[:, None] - palette[None], axis=-1)
    order = np.argsort(distance, 1)
    first, second = order[:, 0], order[:, 1]
    d1, d2 = np.take_along_axis(distance, order[:, :2], 1).T
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16 + 1 / 32
    threshold = np.tile(bayer, (h // 4 + 1, w // 4 + 1))[:h, :w].ravel()
    take = (d1 / (d1 + d2 + 1e-6) - 0.47) / 0.44 + 0.5 > threshold
    chosen = palette[np.where(take & (d1 / (d1 + d2 + 1e-6) > 0.38), second, first)].reshape(h, w, 3)
    rgb = to_rgb(chosen.astype(np.float32))
    return np.ascontiguousarray(np.kron(rgb, np.ones((size, size, 1), np.float32))[:rows, :cols])


@medium("blueprint")
def blueprint(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    light = lightness(source.simplified(3.5, 2.5))
    ink = 0.9 * lines(light, source.angle, 1.4, 0.972, 40)
    shadow = 0.84 * smoothstep(0.50, 1.15, 1 - light)
    shade = hatch(light.shape, np.pi / 4, DIAGONAL, shadow) * smoothstep(0.49, 0.61, 1 - light)
    ink = np.maximum(ink, 0.36 * shade)
    ground = colour(0.055, 0.215, 0.50) * (1 + 0.06 * source.noise.turbulence("sheet")[..., None])
    x, y = grid(light.shape)
    net = np.zeros_like(light)
    for period, strength in ((8, 0.10), (32, 0.26)):
        d = np.minimum(np.minimum(x % period, period - x % period), np.minimum(y % period, period - y % period))
        net = np.maximum(net, strength * np.clip(1.0 - d, 0, 1))
    return mix(ground, colour(0.90, 0.95, 1.0), np.clip(np.maximum(ink, net), 0, 1))


@medium("neon (cyberpunk)")
def neon(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    light = source.light**1.35
    stops = np.array([(0.01, 0.0, 0.04), (0.07, 0.03, 0.20), (0.26, 0.10, 0.42), (0.45, 0.28, 0.62)], np.float32)
    base = np.stack([np.interp(light, (0, 0.35, 0.75, 1), stops[:, c]) for c in range(3)], -1).astype(np.float32)
    tubes = lines(lightness(kuwahara(source.rgb, 2.5, source.direction)), source.angle, 1.5, 0.972, 45)
    tubes = tubes * smoothstep(2, 7, source.detail)
    warmth = np.clip((0.9 * source.lab[..., 1] + 0.35 * source.lab[..., 2]) / 45, -1, 1)
    hue = np.clip(0.5 + 0.4 * blur(warmth, 4) + 0.3 * np.sin(9 * blur(source.light, 12)), 0, 1)
    ramp = np.array([(0.1, 1, 1), (0.15, 0.45, 1), (0.6, 0.25, 1), (1, 0.15, 0.85), (1, 0.15, 0.3)], np.float32)
    tint = np.stack([np.interp(hue, np.linspace(0, 1, 5), ramp[:, c]) for c in range(3)], -1).astype(np.float32)
    glow = sum(0.5 * blur((tubes[..., None] * tint).astype(np.float32), s) for s in (2, 5, 13))
    out = base + tubes[..., None] * tint + glow + (tubes**4)[..., None] * 0.5
    return np.clip(out, 0, 1)


@medium("film noir")
def noir(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    grey = source.rgb @ colour(0.55, 0.35, 0.10)
    grey = local_contrast(grey, 0.5) ** 1.3
    grey = mix(grey, grey * grey * (3 - 2 * grey), 0.7)
    rows, cols = grey.shape
    x, y = grid(grey.shape)
    blinds = smoothstep(-0.5, 0.5, np.cos(y * np.float32(2 * np.pi / TWO_CELLS)))  # a window's shadow on light walls
    wall = smoothstep(0.35, 0.75, blur(grey, 8)) * (1 - smoothstep(2, 5, blur(source.detail, 4)))
    grey = grey * (1 - 0.35 * blinds * wall)
    radius = np.hypot((x - cols / 2) / cols, (y - rows / 2) / rows)
    grey = grey * (1 - 0.5 * np.clip(radius - 0.25, 0, 1))
    grey = grey + 0.35 * blur((smoothstep(0.7, 0.95, grey) * grey).astype(np.float32), 8)
    grey = grey + 0.015 * source.noise.smooth("grain", 0.7)
    return np.repeat(np.clip(grey, 0, 1)[..., None], 3, -1)


@medium("faded vintage photograph")
def vintage(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    lab = to_lab(blur(source.rgb, 0.7))
    lab[..., 1:] *= 0.5
    lab[..., 0] = 20 + 0.68 * lab[..., 0]
    out = to_rgb(lab) * colour(1.09, 0.985, 0.76)
    shade = 1 - smoothstep(0.15, 0.5, lightness(out))
    out = out + shade[..., None] * colour(0.06, 0.01, 0.0)
    rows, cols = source.light.shape
    x, y = grid(source.light.shape)
    radius = np.hypot((x - cols / 2) / cols, (y - rows / 2) / rows)
    out = out * (1 - 0.6 * radius**2)[..., None]
    side = x / cols if draw.random() > 0.5 else 1 - x / cols
    leak = smoothstep(0.72, 1.05, side + 0.08 * source.noise.smooth("leak", 40))
    out = 1 - (1 - np.clip(out, 0, 1)) * (1 - leak[..., None] * colour(0.55, 0.25, 0.05))
    dust = smoothstep(3.1, 3.6, source.noise.smooth("dust", 1.1))
    return mix(out * (1 + 0.02 * source.noise.smooth("grain", 0.8))[..., None], colour(0.95, 0.92, 0.85), 0.7 * dust)


IRON = np.array(
    [
        (0, 0, 0.02),
        (0.12, 0.0, 0.36),
        (0.50, 0.0, 0.58),
        (0.82, 0.12, 0.42),
        (0.97, 0.42, 0.08),
        (1.0, 0.80, 0.12),
        (1, 1, 0.92),
    ],
    np.float32,
)


@medium("thermal camera image")
def thermal(source: Source, draw: np.random.Generator, paintings: dict[str, list[Array]]) -> Array:
    lab = to_lab(kuwahara(source.rgb, 3, source.direction))
    light = lab[..., 0] / 100
    warmth = np.clip((0.9 * lab[..., 1] + 0.35 * lab[..., 2]) / 45, -0.6, 1)
    heat = 0.52 * light + 0.5 * warmth * (0.4 + 0.6 * light) + 0.12
    heat = mix(heat, blur(heat.astype(np.float32), 5), 0.25).astype(np.float32)
    heat = np.clip(blur(heat, 1.0), 0, 1)
    return np.stack([np.interp(heat, np.linspace(0, 1, 7), IRON[:, c]) for c in range(3)], -1).astype(np.float32)
