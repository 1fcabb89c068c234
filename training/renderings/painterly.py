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
    structure,
    to_lab,
    to_rgb,
    triangles,
    with_chroma,
)
from training.renderings.registry import adjusted, colour, medium, mix

Paintings = dict[str, list[Array]]


@medium("impasto (palette knife)")
def impasto(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    rich = with_chroma(source.rgb, 1.5)
    ground = kuwahara(rich, 6, source.direction)
    angle = structure(source.rgb, 5.0, 24.0).angle
    out, height = ground, np.full(ground.shape[:2], 40, np.float32)
    for slab in (
        Pass(12, 22, 12, tolerance=0.4, segments=1, taper=False, regular=True),
        Pass(6, 10, 5, tolerance=0.3, segments=1, taper=False, only_detail=(5, 10), regular=True),
    ):
        out, height = paint(out, height, rich, angle, source.detail, slab, source.noise, "knife")
    ridge = np.clip((blur(height, 0.7) - blur(height, 5)) / 22, -1, 1)
    lab = to_lab(out)
    lab[..., 0] += 10 * ridge
    return relief(to_rgb(lab), blur(height, 0.7) / 255 * 7, 0.8, 0.25)


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
    cover = smoothstep(-0.9, 0.7, strokes + 0.45 * paper + 3.2 * (tone + 0.02))
    out = out * (1 - 0.92 * cover[..., None] * (1 - pigment))
    shift = noise.displacement("hand", 4.4)
    soft = displaced(kuwahara(source.rgb, 3, source.direction), shift)
    outline = lines(lightness(soft), source.angle, 2.1, 0.965, 24) * smoothstep(-1.4, 0.3, paper + 0.6)
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
    noise = source.noise
    image = kuwahara(source.rgb, 2.5, source.direction)
    light = local_contrast(lightness(image), 0.45) ** 0.85
    tooth = 0.5 * noise.cold_press()
    first = noise.strokes("first", -0.8 + 0.15 * noise.smooth("lean", 30), 12, 0.9)
    second = noise.strokes("second", 0.5, 12, 0.9)
    chalk = 0.85 * smoothstep(0.2, 0.9, light) * smoothstep(-1.1, 1, first + tooth + 3.2 * (light - 0.55))
    again = 0.6 * smoothstep(0.6, 0.95, light) * smoothstep(-1.1, 1, second + tooth + 3.0 * (light - 0.75))
    chalk = 1 - (1 - chalk) * (1 - again)
    dark = lines(source.light, source.angle, 1.2, 0.98, 50)
    bright = lines(1 - source.light, source.angle, 1.1, 0.98, 50) * (1 - smoothstep(0.35, 0.6, light))
    chalk = np.maximum(chalk * (1 - 0.8 * dark), 0.85 * bright * smoothstep(-1.5, 0.2, first + tooth + 0.7))
    lab = to_lab(image)
    lab[..., 0] = 88 + 0.1 * lab[..., 0]
    lab[..., 1:] *= 1.3
    stick = mix(np.broadcast_to(colour(0.95, 0.95, 0.92), image.shape), to_rgb(lab), 0.7)
    wiped = noise.strokes("wiped", 0.25, 25, 4.0)
    board = colour(0.13, 0.19, 0.165) * (1 + 0.16 * wiped + 0.10 * noise.turbulence("dust"))[..., None]
    return mix(np.clip(board, 0, 1), stick, chalk)


@medium("expressionist painting")
def expressionist(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    bent = displaced(source.rgb, noise.displacement("lean", 3, 22))
    direction = structure(bent)
    image = palette_map(bent, paintings["expressionism"][0], 0)(bent, 0.3, 0.6)
    image = kuwahara(kuwahara(image, 6, direction), 5, direction)
    lab = to_lab(image)
    light = np.clip(0.5 + 1.25 * (lab[..., 0] / 100 - 0.5), 0, 1)
    ramp = np.array([(14, -38), (30, -22), (-14, 10), (10, 32), (-2, 44), (-4, 30)], np.float32)
    tint = np.stack([np.interp(light, np.linspace(0, 1, 6), ramp[:, c]) for c in range(2)], -1)
    lab[..., 0] = 100 * light
    lab[..., 1:] = np.clip(1.68 * lab[..., 1:] + 0.62 * tint, -80, 80)
    wild = to_rgb(lab)
    out, height = wild, np.full(wild.shape[:2], 80, np.float32)
    detail = direction.detail
    for i, brush in enumerate((Pass(6.5, 44, 9, (9, 12), 0.3, 7), Pass(4.5, 22, 4, (8, 10), 0.2, only_detail=(3, 7)))):
        out, height = paint(out, height, wild, direction.angle, detail, brush, noise, f"wild{i}")
    ink = lines(lightness(bent), direction.angle, 2.6, 0.95, 30) * smoothstep(-1.3, 0.3, noise.smooth("broken", 2))
    return relief(mix(out, colour(0.05, 0.05, 0.14), 0.92 * ink), height / 255 * 3, 0.3, 0.04)


@medium("cubist painting")
def cubist(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    rows, cols = source.light.shape
    x, y = grid(source.light.shape)
    wide, soft = structure(source.rgb, 16, 30).angle, blur(source.light, 8)
    step = 64.0
    dx, dy = np.zeros_like(x), np.zeros_like(x)
    passage, cuts = np.zeros_like(x), np.zeros_like(x)
    for j in range(int(rows / step) + 1):
        for i in range(int(cols / step) + 1):
            px, py = (i + 0.5) * step, (j + 0.5) * step
            at = min(int(py), rows - 1), min(int(px), cols - 1)
            angle = float(wide[at]) + (0.75 if (i + j) % 2 else -0.65)
            reach, deep = 0.5, float(1 - soft[at])
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            u, v = c * (x - px) + s * (y - py), -s * (x - px) + c * (y - py)
            half = 60 + 55 * reach
            fade = 1 - smoothstep(0.75 * half, half, np.abs(u))
            shift = (3.4 + 3.4 * deep) * fade * np.exp(-np.abs(v) / 34) * np.sign(v)
            dx, dy = dx + c * shift, dy + s * shift
            sign = np.float32(1 if (i + j) % 2 else -1)
            width = 13 + 16 * deep
            cast = np.where(sign * v > 0, -27, 19) * np.exp(-np.abs(v) / width) * fade
            passage += cast.astype(np.float32)
            cuts = np.maximum(cuts, np.clip(1.3 - np.abs(v), 0, 1) * fade)
    rgb = sample(source.rgb, x + dx.astype(np.float32), y + dy.astype(np.float32))
    smooth = kuwahara(kuwahara(rgb, 5), 4)
    image = mix(smooth, triangles(smooth, 16)[0], 0.6)
    lab = to_lab(palette_map(image, paintings["cubism"][0], 0)(image, 0.65, 0.45))
    light = np.clip(lab[..., 0] + 26 * np.tanh(passage / 26), 0, 100) / 100
    lab[..., 0] = 100 * mix(light, posterise(light, 5, 0.08), 0.5)
    out = to_rgb(lab)
    contour = lines(lightness(smooth), structure(smooth).angle, 1.4, 0.975, 45)
    out = mix(out, colour(0.17, 0.11, 0.08), np.maximum(0.75 * cuts, 0.7 * contour))
    bristles = source.noise.strokes("bristles", source.angle, 8)
    return relief(out, 0.3 * bristles + 0.2 * source.noise.cold_press(), 0.3, 0.03)
