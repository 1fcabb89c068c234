"""Media of thick paint, chalk and wax, and the painters who bent the scene. Lengths as in `media`."""

import cv2
import numpy as np

from training.renderings.blocks import (
    Array,
    Pass,
    Source,
    blur,
    displaced,
    grid,
    kuwahara,
    lightness,
    lines,
    local_contrast,
    mix_angles,
    paint,
    palette_map,
    posterise,
    relief,
    sample,
    smoothstep,
    structure,
    to_lab,
    to_rgb,
    triangles,
    with_chroma,
)
from training.renderings.registry import adjusted, colour, medium, mix, painting

Paintings = dict[str, list[Array]]


@medium("impasto (palette knife)")
def impasto(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    k = draw.uniform(0.95, 1.2)
    rich = with_chroma(source.rgb, 1.45)
    ground = kuwahara(rich, 6, source.direction)
    canvas = np.ascontiguousarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
    height = np.full(ground.shape[:2], 70, np.uint8)
    rows, cols = height.shape
    for name, spacing, long, wide, spread, detail in (
        ("broad", 9 * k, 30 * k, 15 * k, 8, None),
        ("middle", 6.5 * k, 17 * k, 8 * k, 7, (3, 8)),
        ("small", 3.8, 9, 4, 4, (6, 12)),
    ):
        table = source.noise.generator(name).random((int(1024 / spacing), int(1024 / spacing), 14), dtype=np.float32)
        gy, gx = np.mgrid[: table.shape[0], : table.shape[1]].astype(np.float32)
        px, py = (gx + table[..., 0]) * np.float32(spacing), (gy + table[..., 1]) * np.float32(spacing)
        inside = (px < cols - 0.5) & (py < rows - 0.5)
        px, py, jitter = px[inside], py[inside], table[inside]
        ix, iy = px.astype(np.int32), py.astype(np.int32)
        goal = to_lab(blur(ground if detail is None else rich, 0.3 * wide))[iy, ix]
        goal[:, 0] += spread * (2 * jitter[:, 3] - 1)
        goal[:, 1:] += 0.7 * spread * (2 * jitter[:, 4:6] - 1)
        shade = (to_rgb(goal[None])[0] * 255).astype(np.int32)
        turn = source.angle[iy, ix] + 0.5 * (jitter[:, 2] - 0.5)
        size = np.ones(len(px), np.float32) if detail is None else smoothstep(*detail, source.detail[iy, ix])
        across, down = np.stack([np.cos(turn), np.sin(turn)], -1), np.stack([-np.sin(turn), np.cos(turn)], -1)
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], np.float32) / 2
        for i in np.argsort(jitter[:, 6]):
            if size[i] < 0.3:
                continue
            wobble = corners * (0.85 + 0.3 * jitter[i, 8:12, None])
            slab = wobble[:, :1] * across[i] * long * size[i] + wobble[:, 1:] * down[i] * wide * size[i]
            centre = np.array((px[i], py[i]))
            points = np.round((centre + slab) * 16).astype(np.int32)
            inner = np.round((centre - 0.6 + 0.8 * slab) * 16).astype(np.int32)
            top = int(60 + 110 * jitter[i, 7])
            cv2.fillConvexPoly(canvas, points, shade[i].tolist(), cv2.LINE_AA, 4)
            cv2.fillConvexPoly(height, points, top + 55, cv2.LINE_AA, 4)
            cv2.fillConvexPoly(height, inner, top, cv2.LINE_AA, 4)
    drag = source.noise.strokes("drag", source.angle, 10, 0.8)
    thickness = blur(height.astype(np.float32), 0.7) / 255 * 4.5 + 0.22 * drag
    return relief(canvas.astype(np.float32) / 255, thickness, 0.7, 0.2)


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
    out = mix(out, flat, 0.35)
    streak = smoothstep(1.0, 2.0, source.noise.strokes("chalky", source.angle, 12, 0.9))
    out = mix(out, np.clip(out + 0.10, 0, 1), 0.8 * streak)
    paper = source.noise.cold_press()
    return relief(out * 0.93 + 0.045, blur(height, 0.8) / 255 * 2 + 0.3 * paper, 0.07, 0.0)


@medium("chalk pastel drawing")
def chalk_pastel(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    image = adjusted(source.rgb, 1.6, 18, 100, 0.9)
    lean = np.full(source.angle.shape, -0.85 + draw.uniform(-0.15, 0.15), np.float32)
    angle = mix_angles(lean, source.angle, smoothstep(3, 8, source.detail))
    sheet = colour(0.66, 0.62, 0.60) + 0.03 * draw.standard_normal(3).astype(np.float32)
    ground = mix(image, sheet, 0.45)
    out, height = ground, np.full(ground.shape[:2], 90, np.float32)
    for i, stick in enumerate(
        (
            Pass(6, 36, 6.5, (8, 9), 0.3),
            Pass(4.2, 22, 3.6, (8, 8), 0.2),
            Pass(2.6, 9, 2.1, (6, 7), 0.15, only_detail=(4, 9)),
        )
    ):
        laid, height = paint(out, height, image, angle, source.detail, stick, noise, f"pastel{i}")
        out = mix(out, laid, 0.75)
    grain = 1.15 * noise.cold_press() + 0.85 * noise.strokes("tooth", angle, 9, 0.8)
    cover = 0.2 + 0.8 * smoothstep(-1.9, 0.3, grain + 0.5 + 0.9 * (lightness(image) - 0.45))
    return mix(np.broadcast_to(sheet, out.shape), out, cover)


@medium("wax crayon drawing")
def wax_crayon(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    lab = to_lab(source.simplified(5, 5))
    lab[..., 0] = 26 + 0.70 * lab[..., 0]
    lab[..., 1:] *= 2.0
    box = to_lab(CRAYONS[None])[0]
    distance = ((lab[:, :, None] - box) ** 2).sum(-1)
    weight = np.exp(-(distance - distance.min(-1, keepdims=True)) / 160)
    weight /= weight.sum(-1, keepdims=True)
    pigment = to_rgb(mix(lab, (weight[..., None] * box).sum(2).astype(np.float32), 0.7))
    tone = 1 - source.light
    paper = noise.cold_press()
    out = np.broadcast_to(colour(0.985, 0.98, 0.96), pigment.shape)
    for name, lean, onset in (("first", -0.9, 0.20), ("second", 0.35, 0.52)):
        drawn = noise.strokes(name, lean + 0.15 * noise.smooth(name + "lean", 26), 12, 1.1)
        cover = smoothstep(-0.8, 0.8, drawn + 0.75 * paper + 3 * (tone - onset))
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
    bent = displaced(source.rgb, noise.displacement("lean", 8, 22))
    direction = structure(bent)
    image = palette_map(bent, painting(paintings, "expressionism", draw), int(draw.integers(1 << 30)))(bent, 0.3, 0.6)
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
    wide = structure(source.rgb, 16, 30).angle
    step = 74.0
    table = source.noise.generator("cuts").random((12, 12, 6))
    dx, dy = np.zeros_like(x), np.zeros_like(x)
    passage, cuts = np.zeros_like(x), np.zeros_like(x)
    for j in range(int(rows / step) + 1):
        for i in range(int(cols / step) + 1):
            a, b, turn, reach, side, deep = table[j % 12, i % 12]
            px, py = (i + a) * step, (j + b) * step
            at = wide[min(int(py), rows - 1), min(int(px), cols - 1)]
            angle = float(at) + (0.12, 0.75, -0.65, -0.12, 1.45)[int(turn * 5)]
            c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
            u, v = c * (x - px) + s * (y - py), -s * (x - px) + c * (y - py)
            half = 60 + 55 * reach
            fade = 1 - smoothstep(0.75 * half, half, np.abs(u))
            shift = (3.4 + 3.4 * deep) * fade * np.exp(-np.abs(v) / 34) * np.sign(v)
            dx, dy = dx + c * shift, dy + s * shift
            sign = np.float32(1 if side > 0.5 else -1)
            width = 13 + 16 * deep
            cast = np.where(sign * v > 0, -27, 19) * np.exp(-np.abs(v) / width) * fade
            passage += cast.astype(np.float32)
            cuts = np.maximum(cuts, np.clip(1.3 - np.abs(v), 0, 1) * fade)
    rgb = sample(source.rgb, x + dx.astype(np.float32), y + dy.astype(np.float32))
    smooth = kuwahara(kuwahara(rgb, 5), 4)
    image = mix(smooth, triangles(smooth, 13, source.noise, "facets")[0], 0.6)
    goal = painting(paintings, "cubism", draw)
    lab = to_lab(palette_map(image, goal, int(draw.integers(1 << 30)))(image, 0.65, 0.45))
    light = np.clip(lab[..., 0] + 26 * np.tanh(passage / 26), 0, 100) / 100
    lab[..., 0] = 100 * mix(light, posterise(light, 5, 0.08), 0.5)
    out = to_rgb(lab)
    contour = lines(lightness(smooth), structure(smooth).angle, 1.4, 0.975, 45)
    out = mix(out, colour(0.17, 0.11, 0.08), np.maximum(0.75 * cuts, 0.7 * contour))
    bristles = source.noise.strokes("bristles", source.angle, 8)
    return relief(out, 0.3 * bristles + 0.2 * source.noise.cold_press(), 0.3, 0.03)
