"""Media of thick paint, chalk and wax, and the painters who bent the scene. Lengths as in `media`."""

import numpy as np

from training.renderings.blocks import (
    TWO_CELLS,
    Array,
    Pass,
    Source,
    blur,
    diagonal,
    displaced,
    grid,
    kuwahara,
    lightness,
    lines,
    local_contrast,
    paint,
    palette_map,
    posterise,
    relief,
    sample,
    smoothstep,
    soft_inks,
    strokes_along,
    structure,
    to_lab,
    to_rgb,
    with_chroma,
)
from training.renderings.registry import adjusted, colour, medium, mix

Paintings = dict[str, list[Array]]


@medium("impasto (palette knife)")
def impasto(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    ground = kuwahara(with_chroma(source.rgb, 1.5), 5, source.direction)
    slab = np.tanh(2 * strokes_along(structure(source.rgb, 5.0, 24.0).angle))
    slab *= 1 - 0.6 * smoothstep(8, 18, source.detail)
    lab = to_lab(ground)
    lab[..., 0] += 3 * slab
    return relief(to_rgb(lab), 2.2 * slab, 0.4, 0.25)


@medium("gouache painting")
def gouache(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    image = source.simplified(6, 5)
    lab = to_lab(image)
    light = lab[..., 0] / 100
    lab[..., 0] = 14 + 82 * mix(light, posterise(light, 5, 0.08), 0.8) ** 0.85
    lab[..., 1:] *= 1.55
    flat = to_rgb(lab)
    out, height = flat, np.full(flat.shape[:2], 80, np.float32)
    for i, brush in enumerate(
        (
            Pass(9, 34, 11, (2, 2), 0.12),
            Pass(4, 14, 4, (2, 2), 0.08, only_detail=(3, 7)),
            Pass(2.6, 7, 2.0, (2, 2), 0.08, only_detail=(6, 12)),
        )
    ):
        out, height = paint(out, height, flat, source.angle, source.detail, brush, source.noise, f"gouache{i}")
    out = mix(out, flat, 0.5)
    return relief(out * 0.93 + 0.045, blur(height, 0.8) / 255 * 2, 0.07, 0.0)


@medium("chalk pastel drawing")
def chalk_pastel(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    image = kuwahara(adjusted(source.rgb, 1.5, 30, 100, 0.85), 2.5, source.direction)
    light = lightness(image)
    grain = 0.4 * noise.cold_press() + 0.3 * noise.strokes("tooth", np.pi / 4, 9, 0.8)
    rubbed = smoothstep(-1.6, 1.0, diagonal(light.shape, -1) + grain + 2.2 * (light - 0.4))
    again = smoothstep(-0.4, 1.2, diagonal(light.shape, -1) + grain + 1.5 * (light - 0.6))
    sheet = np.broadcast_to(colour(0.40, 0.37, 0.36), image.shape)
    out = mix(sheet, image, 0.15 + 0.85 * rubbed)
    out = mix(out, np.clip(image * 1.12 + 0.06, 0, 1), 0.5 * again)
    return mix(out, 0.45 * image, 0.6 * lines(blur(light, 0.8), source.angle, 1.8, 0.965, 25))


@medium("wax crayon drawing")
def wax_crayon(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    lab = to_lab(source.simplified(5, 5))
    lab[..., 0] = 26 + 0.70 * lab[..., 0]
    lab[..., 1:] *= 2.6
    pigment = to_rgb(mix(lab, soft_inks(lab, to_lab(CRAYONS[None])[0], 160), 0.7))
    tone = 1 - source.light
    paper = noise.cold_press()
    out = np.broadcast_to(colour(0.985, 0.98, 0.96), pigment.shape)
    x, y = (a * np.float32(2 * np.pi / TWO_CELLS) for a in grid(tone.shape))
    strokes = 2**0.5 * np.cos(y + 0.9 * np.sin(x))  # broad level scribble, two cells apart and as long a wave
    cover = smoothstep(-1.2, 1.0, 0.9 * strokes + 0.15 * paper + 2.0 * (tone + 0.12))
    out = out * (1 - 0.92 * cover[..., None] * (1 - pigment))
    shift = noise.displacement("hand", 2.5)
    soft = displaced(kuwahara(source.rgb, 3, source.direction), shift)
    outline = lines(lightness(soft), source.angle, 2.1, 0.965, 24)
    return mix(out, pigment * 0.35, 0.9 * outline)


CRAYONS = np.array(
    [
        (0.90, 0.15, 0.15), (0.95, 0.50, 0.12), (0.98, 0.85, 0.15), (0.55, 0.80, 0.20), (0.10, 0.55, 0.25),
        (0.15, 0.65, 0.70), (0.45, 0.75, 0.95), (0.10, 0.25, 0.70), (0.45, 0.20, 0.60), (0.95, 0.55, 0.70),
        (0.98, 0.80, 0.65), (0.50, 0.30, 0.15), (0.50, 0.50, 0.52), (0.12, 0.12, 0.14),
    ],
    np.float32,
)  # fmt: skip


@medium("chalkboard drawing")
def chalkboard(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    image = kuwahara(source.rgb, 2.5, source.direction)
    light = local_contrast(lightness(image), 0.45) ** 0.85
    rubbed, crossed = (0.8 * diagonal(light.shape, sign) + 0.15 * source.noise.cold_press() for sign in (-1, 1))
    chalk = 0.85 * smoothstep(0.2, 0.9, light) * smoothstep(-1.3, 1.1, rubbed + 3.0 * (light - 0.55))
    again = 0.6 * smoothstep(0.6, 0.95, light) * smoothstep(-1.2, 1.2, crossed + 3.0 * (light - 0.75))
    chalk = 1 - (1 - chalk) * (1 - again)
    outline = lines(1 - lightness(image), source.angle, 1.4, 0.976, 45) * (1 - smoothstep(0.4, 0.7, light))
    gap = lines(lightness(image), source.angle, 1.4, 0.976, 45)
    chalk = np.maximum(chalk * (1 - 0.75 * gap), 0.85 * outline)
    lab = to_lab(image)
    lab[..., 0] = 88 + 0.1 * lab[..., 0]
    lab[..., 1:] *= 1.3
    stick = mix(np.broadcast_to(colour(0.95, 0.95, 0.92), image.shape), to_rgb(lab), 0.7)
    return mix(np.broadcast_to(colour(0.13, 0.19, 0.165), image.shape), stick, chalk)


@medium("expressionist painting")
def expressionist(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    image = palette_map(source.rgb, paintings["expressionism"][0], 0)(source.rgb, 0.3, 0.6)
    image = kuwahara(kuwahara(image, 6, source.direction), 4, source.direction)
    lab = to_lab(image)
    light = np.clip(0.5 + 1.25 * (lab[..., 0] / 100 - 0.5), 0, 1)
    ramp = np.array([(14, -38), (30, -22), (-14, 10), (10, 32), (-2, 44), (-4, 30)], np.float32)
    tint = np.stack([np.interp(light, np.linspace(0, 1, 6), ramp[:, c]) for c in range(2)], -1)
    lab[..., 0] = 100 * light
    lab[..., 1:] = np.clip(1.68 * lab[..., 1:] + 0.62 * tint, -80, 80)
    # bold strokes lean with the form, by turns cold and glowing
    rising = smoothstep(-0.3, 0.3, blur(np.sin(2 * structure(source.rgb, 6.0, 30.0).angle), 5))
    up, down = (np.tanh(1.5 * diagonal(light.shape, sign)) for sign in (1, -1))
    stroke = (up + rising * (down - up)).astype(np.float32)
    lab += stroke[..., None] * np.array([4, 12, 15], np.float32)
    ink = lines(lightness(image), source.angle, 2.6, 0.955, 30)
    return relief(mix(to_rgb(lab), colour(0.05, 0.05, 0.14), 0.92 * ink), stroke, 0.35, 0.04)


@medium("cubist painting")
def cubist(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    x, y = grid(source.light.shape)
    # upright and slanting cuts, which repeat with four cells; between two cuts a plane goes from dark to light
    upright, slanting = (a / (2 * TWO_CELLS) % 1 - 0.5 for a in (x, x + y))
    slip = 5 * upright + 9 * slanting  # what is seen through a plane is moved along it
    rgb = sample(source.rgb, (x + slip).astype(np.float32), (y - slip).astype(np.float32))
    smooth = kuwahara(kuwahara(rgb, 5), 4)
    lab = to_lab(palette_map(smooth, paintings["cubism"][0], 0)(smooth, 0.65, 0.45))
    light = np.clip(lab[..., 0] + 22 * upright + 28 * slanting, 0, 100) / 100
    lab[..., 0] = 100 * mix(light, posterise(light, 5, 0.2), 0.3)
    contour = lines(lightness(smooth), structure(smooth).angle, 1.6, 0.972, 40)
    return mix(to_rgb(lab), colour(0.17, 0.11, 0.08), 0.75 * contour)
