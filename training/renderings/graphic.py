"""Media of facets, paper, thread, poster ink and gold. Lengths as in `media`."""

import cv2
import numpy as np

from training.renderings.blocks import (
    TWO_CELLS,
    Array,
    Source,
    blur,
    cells,
    grid,
    kuwahara,
    lightness,
    lines,
    relief,
    skin,
    smooth_labels,
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


@medium("low-poly render")
def low_poly(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    facets, normals, upper = triangles(with_chroma(source.rgb, 1.45), TWO_CELLS)
    lab = to_lab(facets)
    lab[..., 0] += 20 * np.clip(normals @ colour(-0.5, -0.6, 0.0), -1, 1) + 4.5 * (2 * upper - 1)
    return to_rgb(lab)


@medium("paper cut-out")
def paper_cutout(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    lab = to_lab(with_chroma(source.simplified(6, 6), 1.75))
    small = cv2.resize(lab, (64, 64), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    cv2.setRNGSeed(int(draw.integers(1 << 30)))
    _, _, sheets = cv2.kmeans(small, 9, None, (cv2.TERM_CRITERIA_MAX_ITER, 15, 0), 1, cv2.KMEANS_PP_CENTERS)
    kept: list[Array] = []
    for sheet in sheets[np.argsort(-sheets[:, 0])]:  # from light to dark; nearly equal papers would lie as crumbs
        if all(np.linalg.norm(sheet - other) > 13 for other in kept):
            kept.append(sheet)
    palette = np.stack(kept)
    label = smooth_labels(lab, palette, 2.4)
    out = np.broadcast_to(to_rgb(palette[None, :1])[0, 0], source.rgb.shape).astype(np.float32)
    for i in range(1, len(palette)):
        layer = smoothstep(0.4, 0.6, blur((label >= i).astype(np.float32), 0.8))
        drop = blur(np.roll(layer, (3, 3), (0, 1)), 2.2) * (1 - layer)
        ambient = blur(layer, 5) * (1 - layer)
        out = out * (1 - 0.5 * drop - 0.18 * ambient)[..., None]
        edge = np.clip(layer - np.roll(layer, (1, 1), (0, 1)), 0, 1)
        paper = to_rgb(palette[None, i : i + 1])[0, 0] * (1 + 0.045 * noise.smooth(f"fibre{i}", 1.1))[..., None]
        out = mix(out, np.clip(paper, 0, 1), layer)
        out = mix(out, np.clip(out + 0.22, 0, 1), 0.8 * edge)
    return out


@medium("cross-stitch embroidery")
def cross_stitch(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    size, fine = 12, 8
    rows, cols = source.light.shape
    h, w = -(-rows // size), -(-cols // size)
    image = with_chroma(kuwahara(source.rgb, 2.5, source.direction), 1.75)
    padded = cv2.copyMakeBorder(image, 0, h * size - rows, 0, w * size - cols, cv2.BORDER_REPLICATE)
    lab = to_lab(cv2.resize(padded, (w, h), interpolation=cv2.INTER_AREA))
    flat = np.ascontiguousarray(lab.reshape(-1, 3))
    cv2.setRNGSeed(int(draw.integers(1 << 30)))
    _, label, threads = cv2.kmeans(flat, 26, None, (cv2.TERM_CRITERIA_MAX_ITER, 12, 0), 1, cv2.KMEANS_PP_CENTERS)
    stitch = to_rgb(threads[label.ravel()].reshape(h, w, 3))
    # one cross, drawn large and reduced: two round threads, the upper one brighter
    u, v = np.meshgrid(np.arange(size * fine), np.arange(size * fine))
    u, v = (u + 0.5) / (size * fine) - 0.5, (v + 0.5) / (size * fine) - 0.5
    cover, shade = np.zeros_like(u), np.zeros_like(u)
    for across, run, bright in ((u + v, u - v, 0.86), (u - v, u + v, 1.06)):
        near = np.abs(across) / np.sqrt(2) / 0.19
        thread = (near < 1) & (np.abs(run) < 0.96)
        lit = bright * (0.72 + 0.38 * np.sqrt(np.clip(1 - near**2, 0, 1))) * (1 + 0.07 * np.sin(run * 40))
        cover, shade = np.where(thread, 1, cover), np.where(thread, lit, shade)
    cover, shade = (
        cv2.resize(a.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) for a in (cover, shade * cover)
    )
    tile = (h, w)
    jitter = 1 + 0.06 * (2 * source.noise.generator("tension").random((260, 260)).astype(np.float32)[:h, :w] - 1)
    coloured = np.kron(stitch * jitter[..., None], np.ones((size, size, 1), np.float32))
    linen = colour(0.67, 0.64, 0.58) * (1 + 0.05 * source.noise.cold_press())[..., None]
    cover, shade = np.tile(cover, tile)[:rows, :cols], np.tile(shade, tile)[:rows, :cols]
    return np.clip(coloured[:rows, :cols] * shade[..., None] + linen * 0.62 * (1 - cover)[..., None], 0, 1)


DECO = np.array(
    [
        (0.95, 0.90, 0.78), (0.84, 0.66, 0.30), (0.16, 0.48, 0.50), (0.08, 0.15, 0.30), (0.87, 0.44, 0.33),
        (0.62, 0.24, 0.18), (0.58, 0.66, 0.52), (0.92, 0.78, 0.58), (0.36, 0.56, 0.64), (0.10, 0.09, 0.11),
    ],
    np.float32,
)  # fmt: skip


@medium("art deco poster")
def art_deco(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    image = with_chroma(source.simplified(6, 6, 5), 1.5)
    lab = to_lab(image)
    flat = mix(lab, soft_inks(lab, to_lab(DECO[None])[0], 120), 0.85)
    x, y = grid(source.light.shape)
    folded = np.abs(x % TWO_CELLS - TWO_CELLS / 2)  # chevrons: diagonals that turn back, two cells apart
    chevrons = np.tanh(2 * np.cos((y + folded) * np.float32(2 * np.pi / TWO_CELLS)))
    calm = 1 - smoothstep(2, 5, blur(source.detail, 4))
    flat[..., 0] += 5.5 * chevrons * calm * (1 - skin(source.lab))
    out = to_rgb(flat)
    contours = lines(lightness(image), source.angle, 2.2, 0.968, 40)
    gold = np.clip(2 * blur(contours, 3) - contours, 0, 1)  # beside the ink
    out = mix(out, colour(0.90, 0.74, 0.40), 0.6 * gold)
    return mix(out, colour(0.10, 0.10, 0.16), 0.95 * contours)


@medium("gold-leaf decorative painting (Klimt)")
def klimt(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    noise = source.noise
    face = skin(source.lab)
    calm = 1 - smoothstep(1.8, 5, blur(source.detail, 5))
    calm = smoothstep(0.25, 0.7, blur(np.clip(calm - face, 0, 1), 4))
    foil = np.clip(source.light + 0.06 * noise.turbulence("foil"), 0, 1)
    ramp = np.array([(0.22, 0.13, 0.06), (0.50, 0.33, 0.12), (0.83, 0.63, 0.22), (0.97, 0.87, 0.55)], np.float32)
    gold = np.stack([np.interp(foil, (0, 0.3, 0.7, 1), ramp[:, c]) for c in range(3)], -1).astype(np.float32)
    size = 26.0
    lattice = cells(source.light.shape, size, 0.5, noise, "motifs")
    table = noise.generator("kinds").random((len(lattice.seeds), 4)).astype(np.float32)
    kind, turn, tint = table[lattice.index, 0], table[lattice.index, 1], table[lattice.index, 2]
    x, y = grid(source.light.shape)
    dx, dy = x - lattice.seeds[lattice.index, 0], y - lattice.seeds[lattice.index, 1]
    radius, polar = np.hypot(dx, dy), np.arctan2(dy, dx)
    inside = 1 - smoothstep(0.40 * size, 0.46 * size, radius)
    spiral = smoothstep(0.1, 0.6, np.cos(2 * np.pi * radius / 6.5 - polar - 6.28 * turn)) * inside
    rings = smoothstep(0.1, 0.6, np.cos(2 * np.pi * radius / 7.5)) * inside
    check = ((np.floor(dx / 5.5) + np.floor(dy / 5.5)) % 2) * inside
    motif = np.where(kind < 0.5, spiral, np.where(kind < 0.8, check, rings)).astype(np.float32)
    dyes = np.array([(0.25, 0.14, 0.06), (0.08, 0.08, 0.09), (0.62, 0.16, 0.12), (0.12, 0.32, 0.42)], np.float32)
    dye = dyes[np.where(kind < 0.5, 0, 1 + (tint * 2.99).astype(np.int32))]
    leaf = mix(gold, dye, 0.75 * blur(motif, 0.6))
    leaf = relief(leaf, 1.6 * blur(motif, 0.8) + 0.25 * noise.smooth("hammer", 2.5), 0.5, 0.2)
    body = adjusted(source.simplified(4, 3), 1.35)
    lab = to_lab(body)
    lab[..., 2] += 12
    body = mix(to_rgb(lab), gold, 0.26)
    contour = lines(lightness(body), structure(body).angle, 1.5, 0.972, 45)
    out = mix(mix(body, leaf, calm), colour(0.22, 0.12, 0.05), 0.75 * contour)
    sparkle = smoothstep(2.3, 3.2, noise.smooth("sparkle", 0.9)) * (0.3 + 0.7 * calm) * smoothstep(0.3, 0.7, foil)
    return mix(out, colour(1.0, 0.96, 0.75), 0.7 * sparkle)
