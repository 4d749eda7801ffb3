"""What a painting does not show of a photograph, near the edge of what it shows: filled with what is beside it. No torch.

A network paints a rim of light or dark along the outline of a person, on both sides of it. Where the person stays as she is, or is painted in
another style, half of that rim is left, around her, and belongs to nothing. So each painting is made of the photograph with the outline
moved to where it is not shown.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from stylenorm.bands import Pixels, painted_inside

WIDE = 24  # px at the size that is painted, by which an outline is moved
CLEAN = 4  # px beside an edge that have something of what lies on its other side
SOFT = 8.0  # px from nothing to all, from which on an edge is no outline, and both sides are to be seen in it
LEAST = 192  # px, shorter side, below which too much of the photograph would go
COARSE = 4  # px of the photograph to one of the fill's


def shown(layers: Sequence[Image.Image], inside: Image.Image | None, size: tuple[int, int]) -> list[Image.Image | None]:
    """What is to be seen of a painting and of those that lie over it where ``layers`` are 255, all inside a mask; mode "L", of ``size``.

    None for a painting of which all is.
    """
    if not layers and inside is None:
        return [None]
    left = Image.new("L", size, 255) if inside is None else inside.resize(size, Image.Resampling.BOX)
    seen: list[Image.Image | None] = []
    for layer in reversed(layers):
        layer = layer.resize(size, Image.Resampling.BOX)
        seen.append(ImageChops.multiply(left, layer))
        left = ImageChops.multiply(left, ImageOps.invert(layer))
    return [None if part.getextrema()[0] == 255 else part for part in (left, *reversed(seen))]


def moved(photo: Pixels, small: Image.Image, part: Image.Image | None) -> Pixels:
    """``photo`` with its outlines along the edge of ``part`` moved by `WIDE` px to where that is 0. As it is where the edge is soft, and a small one.

    small: the same in 8 bits.
    """
    if part is None or min(part.size) < LEAST or part.getextrema()[1] < 128 or _softness(part) > SOFT:
        return photo
    known = ImageOps.invert(_grown(part.point(lambda level: 0 if level > 127 else 255), CLEAN))
    if not known.getbbox():
        return photo
    far = ImageOps.invert(_grown(part.point(lambda level: 255 if level else 0), WIDE))
    kept = ImageChops.lighter(far.filter(ImageFilter.BoxBlur(WIDE / 4)), known.filter(ImageFilter.BoxBlur(1)))
    filled = _filled(small, known)
    return painted_inside(photo, np.asarray(filled).astype(photo.dtype) * 257, kept) if isinstance(photo, np.ndarray) else Image.composite(photo, filled, kept)


def _softness(part: Image.Image) -> float:
    """Mean width of its edge in px."""
    between = sum(part.histogram()[13:243])
    inside = part.point(lambda level: 255 if level > 127 else 0)
    border = sum(inside.filter(ImageFilter.BoxBlur(1)).histogram()[1:255]) / 2  # px along it
    return between / max(1, border)


def _grown(mask: Image.Image, px: int) -> Image.Image:
    """By about so many px on all sides."""
    return mask.filter(ImageFilter.BoxBlur(px)).point(lambda level: 255 if level > 4 else 0)


def _filled(photo: Image.Image, known: Image.Image) -> Image.Image:
    """What is not ``known`` (255) from what is nearest to it, smooth: means over larger and larger squares (Gortler et al. 1996)."""
    size = tuple(-(-side // COARSE) for side in photo.size)
    weights = np.asarray(known.resize(size, Image.Resampling.BOX), np.float32)[..., None] / 255
    sums = np.asarray(Image.composite(photo, Image.new("RGB", photo.size), known).resize(size, Image.Resampling.BOX), np.float32)
    filled = np.clip(_pulled(sums, weights) + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(filled).resize(photo.size, Image.Resampling.BILINEAR)


def _pulled(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(h, w, 3): means where weights are 1, and elsewhere what larger squares have. sums: of colours times weights."""
    height, width = weights.shape[:2]
    if max(height, width) == 1:
        return sums / np.maximum(weights, 1e-6)
    even = [(0, height % 2), (0, width % 2), (0, 0)]
    larger = [np.pad(x, even).reshape((height + 1) // 2, 2, (width + 1) // 2, 2, -1).sum((1, 3)) for x in (sums, weights)]
    scale = np.minimum(1, larger[1]) / np.maximum(larger[1], 1e-6)
    coarse = _pulled(larger[0] * scale, larger[1] * scale)
    up = np.stack([np.asarray(Image.fromarray(np.ascontiguousarray(coarse[..., c])).resize((width, height), Image.Resampling.BILINEAR)) for c in range(3)], -1)
    return sums + (1 - weights) * up
