"""Media of facets, paper, thread, poster ink and gold. Lengths as in `media`."""

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
    posterise,
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
    facets, normals, hanging = triangles(with_chroma(source.rgb, 1.45), TWO_CELLS)
    lab = to_lab(facets)
    lab[..., 0] += 20 * np.clip(normals @ colour(-0.5, -0.6, 0.0), -1, 1) + 6 * (2 * hanging - 1)
    return to_rgb(lab)


@medium("paper cut-out")
def paper_cutout(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    lab = to_lab(source.simplified(6, 6))
    light = blur(lab[..., 0], 3) / 100
    sheets = posterise(light, 4, 0.06)
    # papers are dyed through: one colour from edge to edge, the hue of the broad surroundings
    dye = blur(lab[..., 1:], 6) * 1.9
    x, y = grid(light.shape)

    def lies_below(reach: float) -> Array:
        """1 where the sheet `reach` px up and left is a darker one, which lies above."""
        return smoothstep(0.06, 0.2, sheets - sample(sheets, x - reach, y - reach))

    shadow = 0.5 * blur(lies_below(4), 1.5) + 0.25 * blur(lies_below(8), 4)
    out = to_rgb(np.dstack([6 + 96 * sheets, dye])) * (1 - shadow)[..., None]
    cut = smoothstep(0.06, 0.2, sample(sheets, x + 2.5, y + 2.5) - sheets)  # the paper's white core at the lower edge
    return mix(out, colour(0.97, 0.96, 0.94), 0.75 * blur(cut, 0.6))


@medium("cross-stitch embroidery")
def cross_stitch(source: Source, draw: np.random.Generator, paintings: Paintings) -> Array:
    x, y = grid(source.light.shape)
    image = blur(with_chroma(kuwahara(source.rgb, 2.5, source.direction), 1.75), 2.5)
    out = np.broadcast_to(colour(0.56, 0.53, 0.47), image.shape)  # linen, in the shade between the threads
    # two round threads across every square of two cells, from corner to corner, one over the other
    for across, bright in ((x + y, 0.92), (x - y, 1.08)):
        near = np.abs(across % TWO_CELLS - TWO_CELLS / 2) / np.float32(2**0.5)  # px from the thread's middle
        lit = bright * (0.5 + 0.55 * np.sqrt(np.clip(1 - (near / 4) ** 2, 0, 1)))
        out = mix(out, image * lit[..., None], smoothstep(4.0, 2.6, near))
    return np.clip(out, 0, 1)


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
