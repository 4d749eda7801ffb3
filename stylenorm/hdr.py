"""Films and photographs of high dynamic range, in the range and the colours that paintings and most screens have.

The network knows sRGB, and what it paints is that. So what is in HLG or PQ (ITU-R BT.2100) is brought to BT.709, or a photograph to sRGB, before:
white of 203 cd/m2 (BT.2408) is white there, what is darker than half of it stays as bright as it is, and lights above it are made fainter and
not cut off (BT.2390).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageFilter

from stylenorm.bands import BAND

TRANSFERS = {16: "pq", 18: "hlg"}  # by FFmpeg's numbers, which are those of ITU-T H.273
SIDE = 65  # colours along each side of a table: between two, greys are up to twice as far from grey with 33
WHITE, PEAK = 203.0, 1000.0  # cd/m2: of paper, and the brightest light that is told from others
LUMINANCE = np.array([0.2627, 0.6780, 0.0593])  # of BT.2020's primaries
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # ITU-R BT.2087
# From linear light of these primaries to that of BT.709's; all others stand for BT.2020's. Display P3: SMPTE EG 432-1.
NARROWER = {1: np.eye(3), 12: np.array([[1.2249, -0.2249, 0], [-0.0421, 1.0421, 0], [-0.0196, -0.0786, 1.0983]])}
M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128  # of PQ
A, B, C = 0.17883277, 0.28466892, 0.55991073  # of HLG


def is_hdr(transfer: int) -> bool:
    return transfer in TRANSFERS


def in_standard_range(image: Image.Image, transfer: int, primaries: int = 9, still: bool = False) -> Image.Image:
    """An "RGB" frame of that transfer and those primaries, as FFmpeg numbers them, in BT.709; one of another transfer as it is.

    primaries: 1 for BT.709's, which some cameras have with HLG, 12 for Display P3's; all others stand for BT.2020's.
    still: in the codes of sRGB, as photographs are shown, and not of films.
    """
    if not is_hdr(transfer):
        return image
    return image.filter(_table(TRANSFERS[transfer], primaries if primaries in NARROWER else 9, still))


def deep_in_standard_range(deep: np.ndarray, transfer: int, primaries: int) -> None:
    """The same for a photograph's samples uint16 (H,W,3|4), in place, to sRGB."""
    for top in range(0, len(deep), BAND):
        band = deep[top : top + BAND, :, :3]
        band[:] = np.rint(standard(band / 65535, TRANSFERS[transfer], primaries, still=True) * 65535)


@lru_cache
def _table(name: str, primaries: int, still: bool) -> ImageFilter.Color3DLUT:
    steps = np.linspace(0, 1, SIDE)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    made = standard(np.stack([red, green, blue], -1), name, primaries, still)
    return ImageFilter.Color3DLUT(SIDE, made.astype(np.float32).ravel())


def standard(signal: np.ndarray, name: str, primaries: int = 9, still: bool = False) -> np.ndarray:
    """Codes (..., 3) of those primaries, "hlg" or "pq", 0 to 1, as codes of BT.709, or if ``still`` of sRGB, 0 to 1."""
    light = from_hlg(signal) if name == "hlg" else from_pq(signal)  # cd/m2
    luminance = np.clip(light @ LUMINANCE, 1e-6, None)[..., None]  # not the strongest of the three, which has an edge along all greys
    linear = light * (_fainter(luminance) / luminance) / WHITE @ NARROWER.get(primaries, TO_BT709).T
    # Colours that BT.709 does not have become greyer, and keep hue and luminance.
    grey = np.clip(linear @ (LUMINANCE @ np.linalg.inv(TO_BT709)), 0, 1)[..., None]
    away = linear - grey
    with np.errstate(divide="ignore", invalid="ignore"):
        room = np.where(away > 0, (1 - grey) / away, np.where(away < 0, -grey / away, np.inf))
    linear = (grey + away * np.minimum(1, room.min(-1, keepdims=True))).clip(0, 1)
    if still:
        return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return linear ** (1 / 2.4)  # as BT.1886 shows it


def from_hlg(signal: np.ndarray) -> np.ndarray:
    """cd/m2 on a screen of 1,000 (BT.2100: inverse OETF, then an OOTF of 1.2)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - C) / A) + B) / 12)
    return PEAK * scene * np.clip(scene @ LUMINANCE, 0, None)[..., None] ** 0.2


def from_pq(signal: np.ndarray) -> np.ndarray:
    """cd/m2 (BT.2100, SMPTE ST 2084)."""
    root = signal ** (1 / M2)
    return 10_000 * (np.clip(root - C1, 0, None) / (C2 - C3 * root)) ** (1 / M1)


def to_pq(light: np.ndarray) -> np.ndarray:
    root = (np.asarray(light) / 10_000) ** M1
    return ((C1 + C2 * root) / (1 + C3 * root)) ** M2


def _fainter(light: np.ndarray) -> np.ndarray:
    """Lights up to `PEAK`, in cd/m2, brought to `WHITE` at most: BT.2390's EETF, a spline in PQ above the knee."""
    top, white = to_pq(PEAK), to_pq(WHITE) / to_pq(PEAK)
    knee, code = 1.5 * white - 0.5, np.clip(to_pq(light) / top, 0, 1)
    t = np.clip((code - knee) / (1 - knee), 0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * white
    return from_pq(np.where(code < knee, code, spline) * top)
