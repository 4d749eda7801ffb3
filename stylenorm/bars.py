"""Black bars above and below a film, or beside it, which are no part of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]  # left, top, right, bottom, px

BLACK = 24  # levels of 255: what is no brighter is black, but for what an encoder makes of it
STRAY, SEEN = 0.01, 0.5  # share of a line that is brighter: at most in a bar, and at least, in some frame, just inside of it
LEAST, MOST = 0.01, 0.4  # of a side, that a bar takes
UNEVEN = 0.01  # of a side, by which two bars that face each other differ
PICTURE = 0.5  # share of the bars that is brighter in a frame which fills them


def picture_in(frames: Iterable[np.ndarray]) -> Box | None:
    """What bars leave of frames (H, W, 3) uint8, of one size and from all over a film; None where there are no bars.

    Bars end at a sharp edge, and are as broad on one side as on the other: night around a lit window is none. One of the two is black in
    all frames; subtitles may stand in the other.
    """
    rows = columns = shape = None
    for frame in frames:
        bright = frame.max(axis=2) > BLACK
        across, down = bright.mean(axis=1), bright.mean(axis=0)
        shape, rows, columns = bright.shape, np.maximum(across, 0 if rows is None else rows), np.maximum(down, 0 if columns is None else columns)
    if shape is None:
        return None
    # A line of one direction crosses the bars of the other: its share is of what they leave.
    (top, bottom), (left, right) = _between(rows), _between(columns)
    (top, bottom), (left, right) = _between(rows * shape[1] / (right - left)), _between(columns * shape[0] / (bottom - top))
    box = left, top, right, bottom
    return None if box == (0, 0, shape[1], shape[0]) else box


def _between(shares: np.ndarray) -> tuple[int, int]:
    """The first and one past the last line of the picture, of the largest share of each line that is bright: all of them, where there are no bars."""
    length, seen = len(shares), np.flatnonzero(shares >= SEEN)
    if not len(seen):
        return 0, length
    first, last = _edge(shares, int(seen[0])), length - _edge(shares[::-1], length - 1 - int(seen[-1]))
    before, after = first, length - last
    as_broad = abs(before - after) <= max(2, UNEVEN * length) and LEAST * length <= min(before, after) <= max(before, after) <= MOST * length
    return (first, last) if as_broad and min(shares[:first].max(), shares[last:].max()) <= STRAY else (0, length)


def _edge(shares: np.ndarray, first: int) -> int:
    """Where the picture begins whose line ``first`` is the first bright one: an encoder dims two lines before it at most."""
    for _ in range(2):
        if first and shares[first - 1] > STRAY:
            first -= 1
    return first


def is_outside_black(frame: Image.Image, box: Box) -> bool:
    """Whether a frame leaves the bars around ``box`` free, or most of them: subtitles may stand there."""
    pixels = np.asarray(frame)[..., :3]
    left, top, right, bottom = box
    strips = pixels[:top], pixels[bottom:], pixels[top:bottom, :left], pixels[top:bottom, right:]
    bright = sum(int((strip.max(axis=2) > BLACK).sum()) for strip in strips if strip.size)
    return bright <= PICTURE * sum(strip[..., 0].size for strip in strips)


def scaled(box: Box, before: tuple[int, int], after: tuple[int, int]) -> Box:
    """``box`` in a picture that was of one (width, height) and is of another one now, with no line that is partly outside."""
    (x, y), (left, top, right, bottom) = (a / b for a, b in zip(after, before)), box
    return math.ceil(left * x), math.ceil(top * y), math.floor(right * x), math.floor(bottom * y)
