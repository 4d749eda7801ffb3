"""Grain for plain ground, so that it is painted as well.

Where a photograph is of one even colour (a clipped sky, a studio's backdrop, a drawing's flat areas) the network has nothing to
hold on to but its own grid and borders: what it paints there is nothing, streaks or a lattice. Grain that is too weak to be
seen decides where a stroke begins. It is added where the picture bends least (its second differences over 4 px), to what the
network sees and to nothing else; a photograph's own noise is enough wherever it has some.

The grain is the same in every run and on every machine. It lies on the network's grid, and in films it moves along with it. It does
not repeat itself within 16,384 px: what repeats is painted as a wallpaper.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

GRAIN = 1.5  # levels of 255: standard deviation of the grain where it is strongest
PLAIN = 2.0  # levels: the noise, by standard deviation, from which on a place needs none
SIDE, PIECES = 256, 64  # px, side of the pattern, and how many pieces of that size, each moved by some other way, lie in a row
PERIOD = SIDE * PIECES  # px after which the grain repeats itself; a multiple of every network's stride
STEP, CELL = 4, 16  # px: between the pixels that are looked at, and the side of a place
BENT = 1.95  # the mean size of a second difference in white noise of deviation 1
MOST, SCALE = 15, 16  # levels at which second differences are cut off, and what they are multiplied by to be told in 8 bits
BAND = 64  # rows that are worked on at a time


def add_grain(pixels: np.ndarray, amount: float = 1.0, place: tuple[int, int] = (0, 0)) -> None:
    """Add grain to the plain ground of ``pixels`` (H, W, 3), uint8 or uint16, in place.

    amount: 0 for none, 1 for all of it. place: which (row, column) of the grain lies on the upper left pixel.
    """
    height, width = pixels.shape[:2]
    plain = plain_ground(pixels).point([round(share * amount) for share in range(256)])
    if not plain.getextrema()[1]:
        return
    used = np.asarray(plain).any(1)
    for first in range(0, height, BAND):
        last = min(height, first + BAND)
        if used[max(0, first // CELL - 1) : last // CELL + 2].any():
            share = plain.resize((width, last - first), Image.Resampling.BILINEAR, (0, first / CELL, width / CELL, last / CELL))
            _add(pixels[first:last], grain(place[0] + first, place[1], last - first, width), np.asarray(share))


def plain_ground(pixels: np.ndarray) -> Image.Image:
    """How plain ``pixels`` (H, W, 3) are: an "L" image of a pixel a place, 255 for one colour or an even gradient."""
    seen = pixels[::STEP, ::STEP]
    seen = seen if seen.dtype == np.uint8 else ((seen.astype(np.uint32) + 128) // 257).astype(np.uint8)
    bent = np.empty(seen.shape[:2], np.uint8)
    around = np.pad(seen, ((1, 1), (1, 1), (0, 0)), "edge")
    for first in range(0, len(bent), BAND):
        x = around[first : first + BAND + 2].astype(np.int16)
        twice = 2 * x[1:-1, 1:-1]
        both = np.abs(twice - x[:-2, 1:-1] - x[2:, 1:-1]) + np.abs(twice - x[1:-1, :-2] - x[1:-1, 2:])
        bent[first : first + BAND] = np.minimum(np.maximum(np.maximum(both[..., 0], both[..., 1]), both[..., 2]), MOST)
    return Image.fromarray(bent * np.uint8(SCALE)).reduce(CELL // STEP).point(shares())


def shares() -> list[int]:
    """How plain a place is, 0 to 255, by its mean second difference, `SCALE` times as large, from 0 to 255."""
    most = 2 * BENT * PLAIN * SCALE
    return [max(0, round(255 * (1 - v / most))) for v in range(256)]


def grain(top: int, left: int, height: int, width: int) -> np.ndarray:
    """White noise (height, width), int16, in 32nds of a level, of normal distribution or nearly so."""
    rows = [(y, min(SIDE - y % SIDE, top + height - y)) for y in _starts(top, height)]
    columns = [(x, min(SIDE - x % SIDE, left + width - x)) for x in _starts(left, width)]
    return np.concatenate([np.concatenate([_piece(y, x, h, w) for x, w in columns], 1) for y, h in rows])


def _starts(first: int, length: int) -> list[int]:
    return [first, *range(first - first % SIDE + SIDE, first + length, SIDE)]


def _piece(y: int, x: int, height: int, width: int) -> np.ndarray:
    """Of the grain what lies within one square of the pattern's size."""
    pattern, moved = tables()
    down, right = moved[y // SIDE % PIECES, x // SIDE % PIECES]
    return pattern[(y + down) % SIDE :, (x + right) % SIDE :][:height, :width]


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """The pattern twice in both directions, (2 SIDE, 2 SIDE) int16, and how each piece is moved, (PIECES, PIECES, 2).

    Sums of four numbers of 16 bits each from SplitMix64 (Steele et al. 2014).
    """
    z = np.arange(1, SIDE * SIDE + PIECES * PIECES + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    four = [((z >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64) for shift in (0, 16, 32, 48)]
    unit = (sum(four)[: SIDE * SIDE] / 65535 - 2) * 3**0.5  # of mean 0 and deviation 1
    pattern = np.rint(32 * GRAIN * unit).astype(np.int16).reshape(SIDE, SIDE)
    moved = np.stack(four[:2], 1)[SIDE * SIDE :] % SIDE
    return np.tile(pattern, (2, 2)), moved.reshape(PIECES, PIECES, 2)


def _add(pixels: np.ndarray, noise: np.ndarray, share: np.ndarray) -> None:
    """pixels (H, W, 3), in place; noise (H, W) in 32nds of a level; share (H, W) uint8."""
    if pixels.dtype == np.uint8:
        levels = (noise * (share >> np.uint8(1)).astype(np.int16) + np.int16(2048)) >> np.int16(12)
    else:
        levels = (noise.astype(np.int32) * share * 257 + 4096) >> 13
    white = np.iinfo(pixels.dtype).max
    for channel in range(3):  # of three, numpy would not see that they are next to one another
        np.clip(pixels[..., channel] + levels, 0, white, out=pixels[..., channel], casting="unsafe")
