"""Building blocks of the procedural renderings: direction fields, smoothing, lines, strokes, facets, papers.

Pictures are float32 RGB in [0, 1], lengths are pixels of a picture whose shorter side is about 256, `L` is
lightness / 100. Every function is pure: randomness comes from a generator that is seeded once per picture,
so neighbouring frames that share the seed share their noise, strokes and paper.
"""

from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

Array = np.ndarray


# The autoencoder's decoder is a convolution after nearest-neighbour enlargement: a pattern that is the same in every
# cell of 8 px is constant in the latents and comes back flat. Patterns that change sign from cell to cell survive, and
# need no random table either: they repeat with two cells.
TWO_CELLS = 16
DIAGONAL = TWO_CELLS / 2**0.5  # 11.3 px between lines or dots at 45 degrees


def smoothstep(low: float, high: float, value: Array) -> Array:
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def blur(image: Array, sigma: float) -> Array:
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)


def to_lab(rgb: Array) -> Array:
    return cv2.cvtColor(np.clip(rgb, 0, 1).astype(np.float32), cv2.COLOR_RGB2Lab)


def to_rgb(lab: Array) -> Array:
    return np.clip(cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB), 0, 1)


def lightness(rgb: Array) -> Array:
    return to_lab(rgb)[..., 0] / 100.0


def with_chroma(rgb: Array, factor: float, limit: float = 200.0) -> Array:
    lab = to_lab(rgb)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    scale = np.minimum(factor, limit / np.maximum(chroma, 1e-3))
    lab[..., 1:] *= scale[..., None]
    return to_rgb(lab)


def level(rgb: Array, weight: float = 0.7) -> Array:
    """Stretch the 1st and 99th percentile of lightness to black and white, blended by `weight`."""
    lab = to_lab(rgb)
    low, high = np.percentile(lab[..., 0], (1, 99))
    stretched = np.clip((lab[..., 0] - low) * 100.0 / max(high - low, 20.0), 0, 100)
    lab[..., 0] = (1 - weight) * lab[..., 0] + weight * stretched
    return to_rgb(lab)


@dataclass(frozen=True)
class Direction:
    """Tangent angle in radians, anisotropy in [0, 1] and edge strength in Lab units."""

    angle: Array
    anisotropy: Array
    detail: Array


def structure(rgb: Array, fine: float = 2.5, wide: float = 10.0) -> Direction:
    lab = blur(to_lab(rgb), 0.8)
    gx = cv2.Scharr(lab, cv2.CV_32F, 1, 0) / 32.0
    gy = cv2.Scharr(lab, cv2.CV_32F, 0, 1) / 32.0
    tensor = np.stack([(gx * gx).sum(-1), (gx * gy).sum(-1), (gy * gy).sum(-1)], -1)
    tensor = blur(tensor, fine) + 0.15 * blur(tensor, wide)
    e, f, g = tensor[..., 0], tensor[..., 1], tensor[..., 2]
    spread = np.sqrt((e - g) ** 2 + 4 * f * f)
    angle = 0.5 * np.arctan2(2 * f, e - g) + np.pi / 2
    return Direction(
        angle.astype(np.float32), (spread / (e + g + 1e-6)).astype(np.float32), np.sqrt(e + g).astype(np.float32)
    )


def mix_angles(first: Array, second: Array, weight: Array | float) -> Array:
    """Direction fields have no sign: they are mixed as double angles."""
    c = np.cos(2 * first) * (1 - weight) + np.cos(2 * second) * weight
    s = np.sin(2 * first) * (1 - weight) + np.sin(2 * second) * weight
    return (0.5 * np.arctan2(s, c)).astype(np.float32)


def grid(shape: tuple[int, ...]) -> tuple[Array, Array]:
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    return x, y


def diagonal(shape: tuple[int, ...], sign: int) -> Array:
    """Waves of deviation 1 at 45 degrees, which repeat with two cells; they rise with `sign` 1, fall with -1."""
    x, y = grid(shape)
    return np.float32(2**0.5) * np.cos((x + sign * y) * np.float32(2 * np.pi / TWO_CELLS))


def strokes_along(angle: Array) -> Array:
    """Waves of height 1, two cells apart: every pixel's run along that of the four directions that the latents can
    carry which is nearest to `angle`, and breaks off after two cells, each row a stroke aside.
    """
    x, y = grid(angle.shape)
    turn = np.float32(2 * np.pi / TWO_CELLS)
    waves, total = np.zeros_like(angle), np.zeros_like(angle)
    for direction, along, across in ((0, x, y), (1, x + y, y - x), (2, y, x), (3, x - y, x + y)):
        near = np.exp(5 * np.cos(2 * (angle - direction * np.float32(np.pi / 4))))
        waves += near * np.cos(turn * across) * np.cos(turn / 2 * along)
        total += near
    return waves / total


def lozenges(shape: tuple[int, ...], period: int) -> tuple[Array, Array, Array, Array]:
    """Squares that stand on a corner and repeat with `period` px: for every pixel the middle of its square, x and y,
    the distance to its border in px, and 1 or -1 by turns.
    """
    x, y = grid(shape)
    rising, falling = (x + y) / period, (x - y) / period
    p, q = np.floor(rising), np.floor(falling)
    off = np.maximum(np.abs(rising % 1 - 0.5), np.abs(falling % 1 - 0.5))
    border = np.float32(period / 2**0.5) * (0.5 - off).astype(np.float32)
    return period / 2 * (p + q + 1), period / 2 * (p - q), border, np.where((p + q) % 2 == 0, 1, -1)


def sample(image: Array, x: Array, y: Array, nearest: bool = False) -> Array:
    flag = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return cv2.remap(image, x, y, flag, borderMode=cv2.BORDER_REFLECT)


def kuwahara(rgb: Array, radius: float, direction: Direction | None = None) -> Array:
    """Anisotropic Kuwahara filter, eight sectors of three samples: flat regions with smooth outlines."""
    direction = direction or structure(rgb)
    a = radius * (1 + 0.9 * direction.anisotropy)
    b = radius / (1 + 0.9 * direction.anisotropy)
    cos, sin = np.cos(direction.angle), np.sin(direction.angle)
    x, y = grid(rgb.shape)
    source = blur(np.dstack([rgb, (rgb * rgb).sum(-1)]), max(0.28 * radius, 0.4))
    total, weights = np.zeros_like(rgb), np.zeros(rgb.shape[:2], np.float32)
    for sector in range(8):
        mean = np.zeros_like(source)
        for reach, turn, share in ((0.4, 0.0, 0.4), (0.8, 0.26, 0.3), (0.8, -0.26, 0.3)):
            phi = sector * np.pi / 4 + turn
            u, v = a * np.float32(reach * np.cos(phi)), b * np.float32(reach * np.sin(phi))
            mean += np.float32(share) * sample(source, x + cos * u - sin * v, y + sin * u + cos * v)
        variance = np.maximum(mean[..., 3] - (mean[..., :3] ** 2).sum(-1), 0)
        weight = 1 / (1 + 1e-3 * (255 * np.sqrt(variance) / 3) ** 8)
        total += mean[..., :3] * weight[..., None]
        weights += weight
    return np.clip(total / weights[..., None], 0, 1)


def along(texture: Array, angle: Array, reach: int, step: float = 1.0) -> Array:
    """Line integral convolution: the mean of `texture` over `reach` steps both ways along `angle`."""
    x0, y0 = grid(texture.shape)
    vx, vy = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    total = texture.astype(np.float32).copy()
    for sign in (1.0, -1.0):
        x, y = x0, y0
        dx, dy = np.float32(sign) * vx, np.float32(sign) * vy
        for _ in range(reach):
            x, y = x + np.float32(step) * dx, y + np.float32(step) * dy
            nx, ny = sample(vx, x, y, True), sample(vy, x, y, True)
            turn = np.where(nx * dx + ny * dy < 0, np.float32(-1), np.float32(1))
            dx, dy = nx * turn, ny * turn
            total += sample(texture, x, y)
    return total / (2 * reach + 1)


def lines(light: Array, angle: Array, sigma: float, tau: float, phi: float, reach: int = 5) -> Array:
    """Flow-guided difference of Gaussians: ink in [0, 1], 1 on dark lines of `light`."""
    dog = along(blur(light, sigma) - np.float32(tau) * blur(light, 1.6 * sigma), angle, reach)
    return 1 - np.clip(1 + np.tanh(phi * (dog - (1 - tau) / 2)), 0, 1)


def posterise(value: Array, count: int, softness: float) -> Array:
    scaled = count * value - 0.5
    base = np.floor(scaled)
    return ((base + smoothstep(0.5 - softness, 0.5 + softness, scaled - base) + 0.5) / count).astype(np.float32)


def local_contrast(light: Array, amount: float, sigma: float = 14.0) -> Array:
    return np.clip(light + amount * (light - blur(light, sigma)), 0, 1)


@dataclass
class Noise:
    """Noise fields anchored to the canvas: the same seed and size always give the same field."""

    seed: int
    shape: tuple[int, int]
    _cache: dict[str, Array] = field(default_factory=dict)

    def generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *name.encode()])

    def white(self, name: str) -> Array:
        if name not in self._cache:
            # drawn on a fixed large table, so a crop of the same canvas sees the same noise
            table = self.generator(name).standard_normal((1024, 1024), dtype=np.float32)
            self._cache[name] = np.ascontiguousarray(table[: self.shape[0], : self.shape[1]])
        return self._cache[name]

    def smooth(self, name: str, sigma: float) -> Array:
        noise = blur(self.white(name), sigma)
        return noise / (noise.std() + 1e-6)

    def turbulence(self, name: str, base: float = 24.0) -> Array:
        total = sum(0.55**i * self.smooth(f"{name}{i}", base / 2**i) for i in range(4))
        return total / total.std()

    def strokes(self, name: str, angle: Array | float, reach: int = 10, sigma: float = 0.0) -> Array:
        noise = self.smooth(name, sigma) if sigma else self.white(name)
        field_angle = np.full(self.shape, angle, np.float32) if np.isscalar(angle) else angle
        drawn = along(noise, field_angle, reach)
        return drawn / drawn.std()

    def cold_press(self) -> Array:
        paper = 0.6 * self.smooth("paper-a", 1.6) + 0.4 * self.smooth("paper-b", 0.8)
        return paper / paper.std()

    def displacement(self, name: str, amount: float, scale: float = 12.0) -> tuple[Array, Array]:
        return amount * self.smooth(name + "x", scale) / 2, amount * self.smooth(name + "y", scale) / 2


def displaced(image: Array, shift: tuple[Array, Array]) -> Array:
    x, y = grid(image.shape)
    return sample(image, x + shift[0], y + shift[1])


def relief(rgb: Array, height: Array, strength: float, gloss: float) -> Array:
    """Light `rgb` as a surface of `height` from the upper left."""
    gx = cv2.Sobel(height.astype(np.float32), cv2.CV_32F, 1, 0) / 8
    gy = cv2.Sobel(height.astype(np.float32), cv2.CV_32F, 0, 1) / 8
    delta = np.clip(0.7 * strength * (gx + gy), -0.6, 0.6)[..., None]
    return np.clip(rgb * (1 + delta) + gloss * np.clip(2 * delta - 0.15, 0, None), 0, 1)


@dataclass(frozen=True)
class Pass:
    """One layer of brush strokes: lattice spacing, length, width, colour jitter (L, ab), tolerance."""

    spacing: float
    length: float
    width: float
    jitter: tuple[float, float] = (4.0, 4.0)
    tolerance: float = 0.15
    segments: int = 5
    only_detail: tuple[float, float] | None = None


def paint(
    ground: Array, height: Array, source: Array, angle: Array, detail: Array, stroke: Pass, noise: Noise, name: str
) -> tuple[Array, Array]:
    """Lay one pass of strokes over `ground` (RGB) and `height`; returns both."""
    rows, cols = source.shape[:2]
    rng = noise.generator(name)
    ny, nx = int(1024 / stroke.spacing), int(1024 / stroke.spacing)
    jitter = rng.random((ny, nx, 10), dtype=np.float32)
    gy, gx = np.mgrid[:ny, :nx].astype(np.float32)
    px = (gx + 0.5 + (jitter[..., 0] - 0.5)) * np.float32(stroke.spacing)
    py = (gy + 0.5 + (jitter[..., 1] - 0.5)) * np.float32(stroke.spacing)
    keep = (px < cols - 0.5) & (py < rows - 0.5)
    px, py, jitter = px[keep], py[keep], jitter[keep]

    def look(field_: Array, x: Array, y: Array) -> Array:
        return field_[np.clip(y + 0.5, 0, rows - 1).astype(np.int32), np.clip(x + 0.5, 0, cols - 1).astype(np.int32)]

    soft = blur(source, max(0.35 * stroke.width, 0.5))
    lab = to_lab(soft)
    colour = look(lab, px, py)
    vx, vy = np.cos(angle), np.sin(angle)
    size = 0.75 + 0.5 * jitter[:, 2]
    if stroke.only_detail:
        size = size * smoothstep(*stroke.only_detail, look(detail, px, py))
    halves = []
    advance = stroke.length / (2 * stroke.segments)
    for sign in (1.0, -1.0):
        x, y = px.copy(), py.copy()
        dx, dy = sign * look(vx, x, y), sign * look(vy, x, y)
        go = np.ones_like(x)
        path = []
        for _ in range(stroke.segments):
            x, y = x + np.float32(advance) * dx * go, y + np.float32(advance) * dy * go
            away = np.linalg.norm(look(lab, x, y) - colour, axis=-1) / 100.0
            go = go * (1 - smoothstep(0.6 * stroke.tolerance, 1.4 * stroke.tolerance, away))
            mx, my = look(vx, x, y), look(vy, x, y)
            turn = np.where(mx * dx + my * dy < 0, np.float32(-1), np.float32(1))
            dx, dy = mx * turn, my * turn
            path.append(np.stack([x, y], -1))
        halves.append(path)
    points = np.stack([*halves[1][::-1], np.stack([px, py], -1), *halves[0]], 1)
    shade = colour.copy()
    shade[:, 0] += stroke.jitter[0] * (2 * jitter[:, 3] - 1)
    shade[:, 1:] += stroke.jitter[1] * (2 * jitter[:, 4:6] - 1)
    rgb = (to_rgb(shade[None])[0] * 255).astype(np.int32)
    widths = np.maximum(np.round(stroke.width * size), 0).astype(np.int32)
    order = np.argsort(jitter[:, 6], kind="stable")
    canvas = np.ascontiguousarray((np.clip(ground, 0, 1) * 255).astype(np.uint8))
    ridge = np.ascontiguousarray(np.clip(height, 0, 255).astype(np.uint8))
    fixed = np.round(points * 16).astype(np.int32)
    top = (60 + 120 * jitter[:, 7]).astype(np.int32)
    for i in order:
        width = int(widths[i])
        if width < 1:
            continue
        cv2.polylines(canvas, [fixed[i]], False, rgb[i].tolist(), width, cv2.LINE_AA, 4)
        cv2.polylines(ridge, [fixed[i]], False, int(top[i]), width, cv2.LINE_AA, 4)
        if width > 3:
            cv2.polylines(ridge, [fixed[i]], False, int(top[i]) + 40, max(width // 2, 1), cv2.LINE_AA, 4)
    return canvas.astype(np.float32) / 255, ridge.astype(np.float32)


def soft_inks(lab: Array, inks: Array, reach: float) -> Array:
    """Each colour as a mixture of the nearest of `inks` [n, 3], all in Lab; `reach` is the square of a distance."""
    distance = ((lab[:, :, None] - inks) ** 2).sum(-1)
    weight = np.exp(-(distance - distance.min(-1, keepdims=True)) / reach)
    weight /= weight.sum(-1, keepdims=True)
    return (weight[..., None] * inks).sum(2).astype(np.float32)


def smooth_labels(lab: Array, palette: Array, sigma: float) -> Array:
    """The index of the nearest palette entry for every pixel, with smooth outlines."""
    distance = ((lab[:, :, None, :] - palette[None, None]) ** 2 * np.array([1.0, 1.6, 1.6], np.float32)).sum(-1)
    distance = np.sqrt(distance)
    channels = [blur(np.ascontiguousarray(distance[..., i]), sigma) for i in range(len(palette))]
    return np.argmin(np.stack(channels, -1), -1)


def cell_means(image: Array, index: Array, count: int) -> Array:
    flat = index.ravel()
    size = np.maximum(np.bincount(flat, minlength=count), 1)
    return np.stack([np.bincount(flat, image[..., c].ravel(), count) / size for c in range(3)], -1).astype(np.float32)


def palette_map(source: Array, target: Array, seed: int, keep_light: float = 0.3) -> "PaletteMap":
    """Smooth colour map that carries the colours of `source` towards those of a painting `target`."""
    rng = np.random.default_rng(seed)
    small = cv2.resize(source, (64, 64), interpolation=cv2.INTER_AREA)
    trim = [int(0.06 * n) for n in target.shape[:2]]
    target = target[trim[0] : -trim[0] or None, trim[1] : -trim[1] or None]
    goal = cv2.resize(target, (64, 64), interpolation=cv2.INTER_AREA)
    start = to_lab(small).reshape(-1, 3)
    moving, goal = start.copy(), to_lab(goal).reshape(-1, 3)
    for _ in range(12):
        rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
        a, b = moving @ rotation, goal @ rotation
        for axis in range(3):
            order = np.argsort(a[:, axis])
            a[order, axis] += 0.8 * (np.sort(b[:, axis]) - a[order, axis])
        moving = (a @ rotation.T).astype(np.float32)
    features = PaletteMap.features(start)
    weights = np.linalg.solve(features.T @ features + 3.0 * np.eye(features.shape[1]), features.T @ (moving - start))
    return PaletteMap(weights.astype(np.float32), keep_light)


@dataclass(frozen=True)
class PaletteMap:
    weights: Array
    light_share: float

    @staticmethod
    def features(lab: Array) -> Array:
        light, a, b = lab[..., 0] / 100, lab[..., 1] / 60, lab[..., 2] / 60
        columns = [np.ones_like(light), light, a, b, light**2, light * a, light * b, a * b, a**2, b**2, light**3]
        return np.stack(columns, -1)

    def __call__(self, rgb: Array, amount: float, own_chroma: float) -> Array:
        lab = to_lab(rgb)
        move = (self.features(lab) @ self.weights).astype(np.float32)
        out = lab.copy()
        out[..., 0] += self.light_share * amount * move[..., 0]
        out[..., 1:] += amount * move[..., 1:]
        out[..., 1:] = (1 - own_chroma) * out[..., 1:] + own_chroma * lab[..., 1:] * 1.1
        return to_rgb(out)


def skin(lab: Array) -> Array:
    a, b, light = lab[..., 1], lab[..., 2], lab[..., 0]
    mask = np.exp(-(((a - 15) / 13) ** 4) - ((b - 15) / 15) ** 4) * smoothstep(25, 45, light)
    return np.clip(1.9 * blur(mask.astype(np.float32), 4), 0, 1)


@dataclass
class Source:
    """A levelled photograph with what most media ask of it, computed once."""

    rgb: Array
    noise: Noise

    @cached_property
    def lab(self) -> Array:
        return to_lab(self.rgb)

    @cached_property
    def light(self) -> Array:
        return self.lab[..., 0] / 100

    @cached_property
    def direction(self) -> Direction:
        return structure(self.rgb)

    @property
    def angle(self) -> Array:
        return self.direction.angle

    @property
    def detail(self) -> Array:
        return self.direction.detail

    def simplified(self, *radii: float) -> Array:
        image = self.rgb
        for radius in radii:
            image = kuwahara(image, radius, self.direction)
        return image


def triangles(rgb: Array, height: int) -> tuple[Array, Array, Array]:
    """Rows of triangles that stand on their longest side and on their corner by turns, `height` px high and twice as
    wide; their corners are pulled to strong edges.

    Returns the mean colour of each pixel's triangle, the slope of the lightness within it as an RGB-sized normal
    (x, y, 0), and 1 where the triangle stands on its corner, else 0.
    """
    rows, cols = rgb.shape[:2]
    light = lightness(rgb)
    strength = structure(rgb, 1.5, 6.0).detail
    x, y = grid(light.shape)
    ny, nx = -(-rows // height) + 1, -(-cols // (2 * height)) + 2
    gy, gx = np.mgrid[:ny, :nx]
    spot = np.stack([(2 * gx - gy % 2) * height, gy * height], -1).reshape(-1, 2)  # every other row half a step aside
    row = ((y + height / 2) // height).astype(np.int32)
    place = (row * nx + ((x + height * (1 + row % 2)) // (2 * height)).astype(np.int32)).ravel()
    weight = (strength.ravel() + 1e-3) ** 6
    total = np.maximum(np.bincount(place, weight, nx * ny), 1e-30)
    edge = np.stack([np.bincount(place, weight * a.ravel(), nx * ny) / total for a in (x, y)], -1)
    strongest = np.zeros(nx * ny, np.float32)
    np.maximum.at(strongest, place, strength.ravel())
    inner = ((spot > 0) & (spot < (cols - 1, rows - 1))).all(1)
    pull = (0.6 * smoothstep(3, 8, strongest) * inner)[:, None]
    points = spot * (1 - pull) + edge * pull
    first = (gy * nx + gx)[:-1, :-1]
    aside = (gy % 2)[:-1, :-1]  # below a row that is not moved aside, the next one begins half a step to the left
    below = first + nx
    hanging = np.stack([first, first + 1, below + 1 - aside], -1).reshape(-1, 3)
    standing = np.stack([first + aside, below, below + 1], -1).reshape(-1, 3)
    index = np.zeros((rows, cols), np.int32)
    for i, corner in enumerate(points[np.concatenate([hanging, standing])]):
        cv2.fillConvexPoly(index, np.round(corner * 16).astype(np.int32), i, cv2.LINE_8, 4)
    soft = blur(light, 2.5)
    slope = np.dstack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1), np.zeros_like(soft)])
    count = len(hanging) + len(standing)
    return (
        cell_means(rgb, index, count)[index],
        cell_means(slope, index, count)[index] * 4,
        (index < len(hanging)).astype(np.float32),
    )
