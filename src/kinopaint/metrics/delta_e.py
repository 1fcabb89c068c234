"""ΔE2000, the CIE's colour difference (ISO/CIE 11664-6; Sharma et al., Color Res. Appl. 30, 2005), and Lab from sRGB.

About 1 is just noticeable side by side, 2 to 3 at a glance.
"""

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

Lab = Float[np.ndarray, "*place 3"]  # L* 0 to 100, a*, b*; illuminant D65, 2 degrees

_Numbers = NDArray[np.float64] | np.float64

_TO_XYZ = np.array(  # IEC 61966-2-1, as printed there
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)
_WHITE = _TO_XYZ.sum(1)


def lab_from_rgb(picture: UInt8[np.ndarray, "*place 3"]) -> Lab:
    """CIE Lab of 8-bit sRGB; white is exactly (100, 0, 0)."""
    coded = picture / 255.0
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    relative = linear @ _TO_XYZ.T / _WHITE
    x, y, z = np.moveaxis(
        np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative * (29 / 6) ** 2 / 3 + 4 / 29), -1, 0
    )
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def delta_e_2000(one: Lab, other: Lab) -> Float[np.ndarray, "*place"]:
    """The difference of colours, place by place; symmetric, 0 for equal ones."""
    (l1, a1, b1), (l2, a2, b2) = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    mean_chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    stretch = 1.5 - 0.5 * _saturation(mean_chroma)
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.degrees(np.arctan2(b1, a1)) % 360, np.degrees(np.arctan2(b2, a2)) % 360
    grey = c1 * c2 == 0  # of which no hue is defined

    turn = (h2 - h1 + 180) % 360 - 180
    turn = np.where((turn == -180) & (h2 > h1), 180, turn)
    turn = np.where(grey, 0, turn)
    dl, dc, dh = l2 - l1, c2 - c1, 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn) / 2)

    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = np.where(np.abs(h1 - h2) > 180, (h1 + h2 + 360) / 2 % 360, (h1 + h2) / 2)
    hue = np.where(grey, h1 + h2, hue)
    t = 1 - 0.17 * _cos(hue - 30) + 0.24 * _cos(2 * hue) + 0.32 * _cos(3 * hue + 6) - 0.20 * _cos(4 * hue - 63)
    s_l = 1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)
    s_c, s_h = 1 + 0.045 * chroma, 1 + 0.015 * chroma * t
    rotation = -2 * _saturation(chroma) * np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    dl, dc, dh = dl / s_l, dc / s_c, dh / s_h
    return np.asarray(np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh))


def _saturation(chroma: _Numbers) -> _Numbers:
    return np.sqrt(chroma**7 / (chroma**7 + 25.0**7))


def _cos(degrees: _Numbers) -> _Numbers:
    return np.cos(np.radians(degrees))
