"""Layouts: small maps of flat colours that say which style a generated picture has where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from stylenorm.colors import color_name
from stylenorm.errors import ImageError, StyleError

COLORS = 32  # at most, in one layout
FINEST = 1024  # px, longer side that a layout is worked with at: its borders are soft


@dataclass(frozen=True)
class Layout:
    """Which of S styles is wanted where: ``index`` (h, w) of numbers below S, stretched over the picture.

    soft: width of the borders between styles, in % of the picture's shorter side, from 0 to 30.
    """

    index: np.ndarray
    soft: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.soft <= 30:
            raise StyleError(f"the soft border must lie between 0 and 30 %, not {self.soft:g}")

    @classmethod
    def of(cls, image: Image.Image, colors: Sequence[tuple[int, int, int]], soft: float = 4.0, nearest: bool = False) -> "Layout":
        """From a map in flat ``colors``; style k is wanted where it has the k-th of them.

        nearest: what is in none of the colours, such as the edges of a brush, counts as the nearest one.
        Raises `StyleError` for a map with other colours, or too many, and for a colour that is not in it.
        """
        pixels = np.asarray(image.convert("RGB"))
        found, index = np.unique(pixels.reshape(-1, 3) @ np.array([65536, 256, 1]), return_inverse=True)
        there = np.stack([found >> 16, found >> 8 & 255, found & 255], 1)
        table = np.array(list(colors)).reshape(-1, 3)
        if len(table) > COLORS or (not nearest and len(there) > COLORS):
            count = max(len(there), len(table))
            raise StyleError(f"the layout has {count:,} colours; draw it in at most {COLORS} flat ones, and keep it as PNG")
        apart = np.abs(there[:, None] - table[None]).sum(2)  # colours of the map, colours with a style
        if not nearest:
            cls._check(there, table, apart)
        return cls(apart.argmin(1)[index].reshape(pixels.shape[:2]).astype(np.uint8), soft)

    @staticmethod
    def _check(there: np.ndarray, table: np.ndarray, apart: np.ndarray) -> None:
        told = ", ".join(map(color_name, there))
        for colors, distance, complaint in (
            (there, apart.min(1, initial=1), "the layout has the colour {}, to which no style is bound; it has {}"),
            (table, apart.min(0, initial=1), "a style is bound to the colour {}, which the layout does not have; it has {}"),
        ):
            for color in colors[distance > 0]:
                raise StyleError(complaint.format(color_name(color), told))

    def check_size(self, width: int, height: int) -> None:
        """Raises `ImageError` where the map would have to be stretched more one way than the other."""
        h, w = self.index.shape
        if abs(np.log(w * height / (h * width))) > 0.05 and abs(w / h * height - width) > 2:
            raise ImageError(
                f"the layout is {w} x {h} px and the picture is to be {width} x {height}; give both the same proportions"
            )

    def shares(self, width: int, height: int, wrap: bool) -> "Shares":
        """How much of each style there is where, for a picture of that size; ``wrap`` continues it across its edges."""
        scale = min(1.0, FINEST / max(width, height))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        index = np.asarray(Image.fromarray(self.index).resize(size, Image.Resampling.NEAREST))
        masks = F.one_hot(torch.from_numpy(index.astype(np.int64))).permute(2, 0, 1).float()  # S, h, w
        sigma = self.soft / 200 * min(size)
        return Shares(_blurred(_blurred(masks, sigma, 1, wrap), sigma, 2, wrap), (height, width), wrap)


@dataclass(frozen=True)
class Shares:
    """Masks (S, h, w) that add up to 1, stretched over a picture of ``size`` = (height, width) px."""

    masks: Tensor
    size: tuple[int, int]
    wrap: bool

    def window(self, top: int, left: int, height: int, width: int) -> Tensor:
        """(S, height / 2, width / 2) of the picture's part from pixel (top, left) on, which may be outside of it."""
        out = self.masks
        for axis, (start, length) in enumerate(((top, height), (left, width)), 1):
            count = out.shape[axis]
            place = (torch.arange(start + 1, start + length, 2, device="cpu", dtype=torch.float64) * (count / self.size[axis - 1]) - 0.5)
            place = place if self.wrap else place.clamp(0, count - 1)
            low = place.floor()
            part = (place - low).float().view([-1 if a == axis else 1 for a in range(3)])
            first, second = (out.index_select(axis, (low.long() + k) % count) for k in (0, 1))
            out = first + part * (second - first)
        return out


def _blurred(masks: Tensor, sigma: float, axis: int, wrap: bool) -> Tensor:
    """(S, h, w) through a Gaussian of ``sigma`` along ``axis``."""
    radius = min(round(3 * sigma), masks.shape[axis] - 1)
    if radius < 1:
        return masks
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device="cpu", dtype=torch.float32) / sigma) ** 2)
    rows = masks.movedim(axis, -1)
    padded = F.pad(rows.flatten(0, 1)[:, None], (radius, radius), mode="circular" if wrap else "replicate")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None]).view(rows.shape).movedim(-1, axis)
