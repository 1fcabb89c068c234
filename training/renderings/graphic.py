"""Media of facets, paper, thread, poster ink and gold. Lengths as in `media`."""

import cv2
import numpy as np

from training.renderings.blocks import (
    TWO_CELLS,
    Array,
    Source,
    blur,
    grid,
    kuwahara,
    lightness,
    lines,
    lozenges,
    relief,
    sample,
    skin,
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


PAPERS = np.array(
    [
        (0.96, 0.95, 0.92), (0.78, 0.78, 0.76), (0.50, 0.50, 0.50), (0.13, 0.13, 0.15), (0.85, 0.20, 0.18),
        (0.45, 0.12, 0.14), (0.93, 0.52, 0.16), (0.97, 0.80, 0.20), (0.60, 0.74, 0.25), (0.16, 0.42, 0.22),
        (0.16, 0.55, 0.56), (0.55, 0.76, 0.90), (0.15, 0.38, 0.75), (0.10, 0.16, 0.36), (0.48, 0.26, 0.56),
        (0.94, 0.62, 0.68), (0.88, 0.70, 0.54), (0.56, 0.36, 0.22), (0.30, 0.20, 0.14),
    ],
    np.float32,
)  # fmt: skip


@medium("paper cut-out")
def paper_cutout(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    lab = blur(to_lab(with_chroma(source.simplified(6, 6), 1.6)), 1.0)
    sheets = mix(lab, soft_inks(lab, to_lab(PAPERS[None])[0], 12), 0.92)
    x, y = grid(source.light.shape)
    above = 1 - sheets[..., 0] / 100  # dark papers lie over light ones

    def step(reach: float) -> Array:
        """How far the sheet `reach` px up and left lies above that of the pixel."""
        return np.clip(sample(above, x - reach, y - reach) - above, -1, 1)

    drop = blur(smoothstep(0.04, 0.3, step(4)), 1.5)
    out = to_rgb(sheets) * (1 - 0.6 * drop - 0.3 * blur(smoothstep(0.04, 0.3, step(8)), 4))[..., None]
    edge = smoothstep(0.06, 0.3, -step(2.5))  # the white core of the paper where it is cut
    return mix(out, colour(0.97, 0.96, 0.94), 0.8 * blur(edge, 0.6))


@medium("cross-stitch embroidery")
def cross_stitch(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    size, fine = 12, 8
    rows, cols = source.light.shape
    h, w = -(-rows // size), -(-cols // size)
    image = with_chroma(kuwahara(source.rgb, 2.5, source.direction), 1.75)
    padded = cv2.copyMakeBorder(image, 0, h * size - rows, 0, w * size - cols, cv2.BORDER_REPLICATE)
    stitch = cv2.resize(padded, (w, h), interpolation=cv2.INTER_AREA)
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
    coloured = np.kron(stitch, np.ones((size, size, 1), np.float32))
    cover, shade = (np.tile(a, (h, w))[:rows, :cols] for a in (cover, shade))
    linen = 0.62 * colour(0.67, 0.64, 0.58)
    return np.clip(coloured[:rows, :cols] * shade[..., None] + linen * (1 - cover)[..., None], 0, 1)


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
    calm = 1 - smoothstep(1.8, 5, blur(source.detail, 5))
    calm = smoothstep(0.25, 0.7, blur(np.clip(calm - skin(source.lab), 0, 1), 4))
    ramp = np.array([(0.22, 0.13, 0.06), (0.50, 0.33, 0.12), (0.83, 0.63, 0.22), (0.97, 0.87, 0.55)], np.float32)
    foil = np.stack([np.interp(source.light, (0, 0.3, 0.7, 1), ramp[:, c]) for c in range(3)], -1).astype(np.float32)
    # spirals and rings by turns, on a lattice of four cells
    x, y = grid(source.light.shape)
    u, v, _, turn = lozenges(source.light.shape, 2 * TWO_CELLS)
    dx, dy = x - u, y - v
    radius, polar = np.hypot(dx, dy), np.arctan2(dy, dx)
    waves = np.cos(2 * np.pi * radius / 8 - np.where(turn > 0, polar, 0))
    motif = blur((smoothstep(-0.3, 0.6, waves) * smoothstep(11.5, 9.5, radius)).astype(np.float32), 0.6)
    dye = np.where(turn[..., None] > 0, colour(0.25, 0.14, 0.06), colour(0.10, 0.26, 0.34))
    leaf = relief(mix(foil, dye, 0.7 * motif), 1.4 * motif, 0.4, 0.15)
    body = adjusted(source.simplified(4, 3), 1.35)
    lab = to_lab(body)
    lab[..., 2] += 12
    body = mix(to_rgb(lab), foil, 0.26)
    contour = lines(lightness(body), structure(body).angle, 1.5, 0.972, 45)
    return mix(mix(body, leaf, calm), colour(0.22, 0.12, 0.05), 0.75 * contour)
