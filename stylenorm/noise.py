"""Noise at several scales as a function of seed and place: any window of an endless canvas, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

OCTAVES = (1, 2, 4, 8, 16, 32, 64, 128)  # px between the random numbers that an octave is drawn through

# Three planes to R, G, B: what all share, and two of colour, of which each channel gets the same power.
_SHARED, _COLOR = np.array([[1, 0, 0]] * 3), np.array([[0, 0.75**0.5, 0.5], [0, -(0.75**0.5), 0.5], [0, 0, -1]])


@dataclass(frozen=True)
class Noise:
    """What a picture is generated from: random fields of ever larger forms, added up (Ulyanov et al. 2016).

    seed: from 0 to 2^63 - 1. period: (height, width) px after which the field repeats, None for never.
    slope: an octave of cells of s px has the amplitude s^slope, so that 0 gives all the same and less gives finer
    grain. contrast: the field's standard deviation about grey, 0.5. color: how much of its power is colour, 0 to 1.

    A value is a hash of its place, so tiles of one canvas can be made in any order, by anyone.
    """

    seed: int = 0
    period: tuple[int, int] | None = None
    slope: float = 0.0
    contrast: float = 0.2
    color: float = 0.5

    def window(self, top: int, left: int, height: int, width: int) -> Tensor:
        """(1, 3, height, width) float32: the canvas from pixel (top, left) on, which may be negative."""
        planes = np.zeros((3, width, height), np.float32)  # columns first: the second pass of an octave leaves them so
        power = sum(cell ** (2 * self.slope) for cell in OCTAVES)
        for octave, cell in enumerate(OCTAVES):
            amplitude = np.float32(self.contrast * cell**self.slope / power**0.5)
            for plane in range(3):
                planes[plane] += amplitude * self._octave(cell, 3 * octave + plane, (top, left), (height, width))
        mix = ((1 - self.color) ** 0.5 * _SHARED + self.color**0.5 * _COLOR).astype(np.float32)
        # A sum of three in a fixed order: a matrix product may take another order for another size.
        mixed = np.stack([row[0] * planes[0] + row[1] * planes[1] + row[2] * planes[2] for row in mix])
        return torch.from_numpy(np.ascontiguousarray(mixed.transpose(0, 2, 1)) + np.float32(0.5))[None]

    def _octave(self, cell: int, stream: int, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
        """(width, height) of one plane's octave, of variance 1, through cubic B-splines."""
        key = _hashed(_hashed(np.uint32(self.seed & 0xFFFFFFFF)) ^ np.uint32(self.seed >> 32)) ^ _hashed(np.uint32(stream))
        # Octaves start at places of their own, so that no common grid shows.
        offsets = [float(_hashed(key + np.uint32(axis + 1))) / 2**32 for axis in (0, 1)]
        rows, columns = (
            _Taps.of(cell, *axis) for axis in zip(start, shape, self.period or (None, None), offsets)
        )
        hashes = _hashed(_hashed(rows.lattice ^ key)[:, None] + columns.lattice)
        values = (hashes.astype(np.float32) / np.float32(2**32) - np.float32(0.5)) * np.float32(12**0.5)
        return columns.drawn(np.ascontiguousarray(rows.drawn(values).T))


@dataclass(frozen=True)
class _Taps:
    """One axis of an octave: the lattice points it needs, and for each pixel its first one and the four weights."""

    lattice: np.ndarray  # (n,) uint32, repeated after the period
    first: np.ndarray  # (length,) index into the lattice
    weights: np.ndarray | None  # (4, length), None where a pixel is a lattice point

    @classmethod
    def of(cls, cell: int, start: int, length: int, period: int | None, offset: float) -> "_Taps":
        x = np.arange(start, start + length, dtype=np.int64)
        count = None if period is None else max(1, round(period / cell))
        if cell == 1:
            return cls((x if count is None else x % count).astype(np.uint32), np.arange(length), None)
        spacing = cell if period is None else period / count
        turns, x = (0, x) if period is None else np.divmod(x, period)  # the same fraction in each period, to the bit
        place = (x + 0.5) / spacing + offset
        whole = np.floor(place)
        f = (place - whole).astype(np.float32)
        index = whole.astype(np.int64) + (0 if count is None else turns * count)
        lattice = np.arange(index[0], index[-1] + 4)
        weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, 3 * (f + f**2 - f**3) + 1, f**3]) / np.float32(6)
        # The squares of the weights have the mean 151/315 over a cell.
        weights *= np.float32((315 / 151) ** 0.5)
        return cls((lattice if count is None else lattice % count).astype(np.uint32), index - index[0], weights)

    def drawn(self, values: np.ndarray) -> np.ndarray:
        """(n, m) at the lattice points to (length, m) at the pixels."""
        if self.weights is None:
            return values
        out = self.weights[0][:, None] * values[self.first]
        for k in (1, 2, 3):
            out += self.weights[k][:, None] * values[self.first + k]
        return out


def _hashed(x: np.ndarray) -> np.ndarray:
    """uint32 to uint32, every bit of one depending on every bit of the other (lowbias32, Wellons 2018)."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
        x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
        return x ^ (x >> np.uint32(16))


@dataclass(frozen=True)
class Between:
    """Noise on the way from ``start``, at t = 0, to ``end``, at 1: a quarter circle, so that it is as strong all the way."""

    start: Noise
    end: Noise
    t: float

    def window(self, top: int, left: int, height: int, width: int) -> Tensor:
        near, far = (noise.window(top, left, height, width) - 0.5 for noise in (self.start, self.end))
        angle = self.t * math.pi / 2
        return 0.5 + math.cos(angle) * near + math.sin(angle) * far
