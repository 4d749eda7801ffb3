"""Colour profiles in 16 bits, which Pillow's LittleCMS does in 8 only: those made of curves and a matrix.

That is what the spaces of photographs are: sRGB, Display P3, Adobe RGB, ProPhoto, Rec. 2020. The arithmetic is
that of ICC.1:2022, F.3: curve, matrix to XYZ under D50, and back; out of range is clipped. Black becomes black, as in
8 bits: see `stylenorm.colour`. A file that tells its colours in numbers gets such a profile.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import ImageCms

from stylenorm.bands import BAND
from stylenorm.hdr import is_hdr

LEVELS = np.arange(65536) / 65535
D50 = np.array([0.9642, 1, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
SRGB_POINTS = 0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06  # x and y of white, red, green and blue
SRGB_GAMMA = 1 / 2.2  # what is within 5 % of it counts as sRGB, as in libpng
SRGB_CURVE = 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045
# ITU-T H.273: primaries other than sRGB's that pictures have, and transfers that are no HDR and for which browsers do not take sRGB's curve.
PRIMARIES = {
    9: ("BT.2020", (0.3127, 0.329, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)),
    11: ("DCI-P3", (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    12: ("Display P3", (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
}
GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0}
LIGHTEST_BLACK = ((50 + 16) / 116) ** 3  # LittleCMS takes no more than L* 50 for a black
TABLES = {b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"D2B0", b"D2B1", b"B2D0", b"B2D1"}


@dataclass(frozen=True)
class Space:
    """curves: (3,65536), from sample to light. matrix: (3,3), from light to XYZ; for grey all on the white's axis."""

    curves: np.ndarray
    matrix: np.ndarray
    grey: bool = False

    @property
    def black(self) -> float:
        """How light its black is, of 1 for white."""
        return float((self.matrix @ self.curves[:, 0])[1].clip(0, LIGHTEST_BLACK))


def converted(deep: np.ndarray, source: bytes, target: bytes) -> np.ndarray | None:
    """Samples uint16 (H,W,3|4) from one profile's colours to another's, alpha as it is.

    None if a profile has tables or is broken. The arithmetic is done in bands and into the array given.
    """
    start, end = space_of(source), space_of(target)
    if start is None or end is None or end.grey:
        return None
    turn, white = np.eye(3), np.ones(3)
    if not start.grey:
        turn, white = np.linalg.solve(end.matrix, start.matrix), np.linalg.solve(end.matrix, D50)
    scale = (1 - end.black) / (1 - start.black)  # towards white, which stays
    for top in range(0, len(deep), BAND):
        band = deep[top : top + BAND]
        light = np.stack([curve[band[..., i]] for i, curve in enumerate(start.curves)], -1)  # (h,W,3)
        light = (light @ (scale * turn.T) + (1 - scale) * white).clip(0, 1)
        for i, curve in enumerate(end.curves):
            band[..., i] = np.rint(np.interp(light[..., i], curve, LEVELS) * 65535)
    return deep


@lru_cache(maxsize=8)
def space_of(icc: bytes) -> Space | None:
    """The space of an RGB or grey profile, or None if it has tables or is broken."""
    try:
        tags = _tags(icc)
        if icc[20:24] != b"XYZ " or TABLES & tags.keys():
            return None
        if icc[16:20] == b"GRAY":
            return Space(np.stack([_curve(tags[b"kTRC"])] * 3), np.eye(3), grey=True)
        if icc[16:20] != b"RGB ":
            return None
        curves = np.stack([_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")])
        matrix = np.stack([_fixed(tags[name], 8, 3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")], 1)
        usable = np.isfinite(curves).all() and (np.diff(curves) >= 0).all() and abs(np.linalg.det(matrix)) > 1e-6
        return Space(curves, matrix) if usable else None
    except (KeyError, IndexError, struct.error, ValueError):
        return None


@lru_cache(maxsize=1)
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    entries = [struct.unpack_from(">4sII", icc, 132 + 12 * i) for i in range(min(count, 100))]
    return {name: icc[offset : offset + length] for name, offset, length in entries}


def _fixed(data: bytes, at: int, count: int) -> np.ndarray:
    return np.array(struct.unpack_from(f">{count}i", data, at)) / 65536


def _curve(data: bytes) -> np.ndarray:
    """curveType or parametricCurveType (10.6 and 10.18) at each of 65536 samples, cut to 0..1."""
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count == 0:
            return LEVELS
        values = np.array(struct.unpack_from(f">{count}H", data, 12))
        if count == 1:
            return LEVELS ** (values[0] / 256)
        return np.interp(LEVELS, np.linspace(0, 1, count), values / 65535)
    if data[:4] != b"para":
        raise ValueError("not a curve")
    (kind,) = struct.unpack_from(">H", data, 8)
    g, a, b, c, d, e, f = _parameters(kind, _fixed(data, 12, (1, 3, 4, 5, 7)[kind]))
    with np.errstate(invalid="ignore"):
        return np.where(LEVELS >= d, (a * LEVELS + b).clip(0) ** g + e, c * LEVELS + f).clip(0, 1)


def _parameters(kind: int, p: np.ndarray) -> tuple[float, ...]:
    """g, a, b, c, d, e, f of (aX + b)^g + e from d up, and cX + f below."""
    if kind == 0:
        return p[0], 1, 0, 0, -1, 0, 0
    if kind in (1, 2):  # from -b/a up; below it c alone
        c = p[3] if kind == 2 else 0
        return p[0], p[1], p[2], 0, -p[2] / p[1], c, c
    return (*p, 0, 0) if kind == 3 else tuple(p)


def png_profile(info: dict) -> bytes | None:
    """The profile of what a PNG tells in its gAMA and cHRM (PNG, third edition, 11.3.2), of which nothing else is kept.

    info: that of its image. Empty for what is as good as sRGB; None where it tells nothing, or nothing possible.
    """
    gamma, points = info.get("gamma"), info.get("chromaticity", SRGB_POINTS)
    if "srgb" in info:
        return b""
    if gamma is None or not 0.1 <= gamma <= 10:
        return None
    with suppress(ArithmeticError, np.linalg.LinAlgError, struct.error, ValueError):
        differs = abs(gamma / SRGB_GAMMA - 1) >= 0.05 or np.abs(np.subtract(points, SRGB_POINTS)).max() >= 0.002
        return _of_points(points, [1 / gamma], "gAMA, cHRM") if differs else b""
    return None


def numbered_profile(primaries: int, transfer: int) -> bytes | None:
    """The profile of colours that are told by ITU-T H.273's numbers, and not as HDR; None for sRGB and what counts as it."""
    name, points = PRIMARIES.get(primaries, ("sRGB", SRGB_POINTS))
    if points == SRGB_POINTS and transfer not in GAMMAS:
        return None
    curve = [GAMMAS[transfer]] if transfer in GAMMAS else SRGB_CURVE
    return _of_points(points, curve, f"{name}, gamma {curve[0]}" if len(curve) == 1 else name)


@lru_cache(maxsize=1)
def adobe_rgb() -> bytes:
    """The profile of Adobe RGB (1998), for cameras' files that say in EXIF alone that it is theirs."""
    return _of_points((0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), [563 / 256], "Adobe RGB")


def numbers_of(icc: bytes | None) -> tuple[int, int] | None:
    """H.273's (primaries, transfer) of a profile of high dynamic range that tells them (ICC.1:2022, 9.2.17); else None.

    Its curves or tables are a makeshift then, for programs that do not look at the numbers.
    """
    with suppress(TypeError, struct.error):
        told = _tags(icc).get(b"cicp", b"")
        if icc[16:20] == b"RGB " and len(told) >= 10 and is_hdr(told[9]):
            return told[8], told[9]
    return None


def _of_points(points, curve, name: str) -> bytes:
    """The profile of x and y of white, red, green and blue, and of the numbers of a parametric curve, one or five."""
    white, *primaries = [np.array([x / y, 1, (1 - x - y) / y]) for x, y in zip(points[::2], points[1::2])]
    matrix = np.stack(primaries, 1)
    matrix = matrix * np.linalg.solve(matrix, white)
    adapted = np.linalg.solve(BRADFORD, np.diag(BRADFORD @ D50 / (BRADFORD @ white)) @ BRADFORD)
    columns = [b"XYZ " + bytes(4) + _packed(column) for column in (adapted @ matrix).T]
    adaptation = b"sf32" + bytes(4) + _packed(adapted.ravel())
    curve = b"para" + struct.pack(">4xH2x", 0 if len(curve) == 1 else 3) + _packed(curve)
    text = name.encode("utf-16-be")
    text = b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(text), 28) + text
    tags = dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns)) | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    tags |= {b"desc": text, b"cprt": text, b"wtpt": b"XYZ " + bytes(4) + _packed(D50), b"chad": adaptation}
    return _profile(tags)


def _profile(tags: dict[bytes, bytes]) -> bytes:
    """The file of a display's RGB profile (ICC.1:2022, 7.2 and 7.3)."""
    table, data, first = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        table += struct.pack(">4sII", name, first + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x", first + len(data), 0x04300000, b"mntr", b"RGB ", b"XYZ ", b"acsp") + _packed(D50)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + data


def _packed(numbers) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)
