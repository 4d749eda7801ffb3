"""Films of high dynamic range, as phones make them, in the range and the colours that paintings and most screens have.

The network knows sRGB, and what it paints is that. So frames in HLG or PQ (BT.2100) are brought to BT.709 before, with their lights made
fainter instead of cut off: by tables that are FFmpeg's own (swscale's "perceptual" intent, a white of 203 cd/m2), which it takes seconds
to compute.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

TRANSFERS = {16: "pq", 18: "hlg"}  # by FFmpeg's numbers
SIDE = 33  # colours along each side of a table


def is_hdr(transfer: int) -> bool:
    return transfer in TRANSFERS


def in_standard_range(image: Image.Image, transfer: int) -> Image.Image:
    """An "RGB" frame of BT.2020's primaries and that transfer, as FFmpeg numbers it, in BT.709; any other one as it is."""
    return image.filter(_table(TRANSFERS[transfer])) if is_hdr(transfer) else image


@lru_cache
def _table(name: str) -> ImageFilter.Color3DLUT:
    with np.load(Path(__file__).with_suffix(".npz")) as tables:
        return ImageFilter.Color3DLUT(SIDE, (tables[name] / np.float32(255)).ravel())
