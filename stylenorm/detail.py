"""A painting made from a smaller copy of its photograph, brought to the photograph's size with the photograph's detail."""

from __future__ import annotations

import numpy as np

from stylenorm.bands import Pixels, in_bands, rows_of, size_of, with_missing
from stylenorm.colour import LUMA
from stylenorm.images import at_size

RADIUS = 2  # px of the small copy; the painting is compared with the photograph over squares of twice that and one
FLAT = 0.02**2  # variance of light, of 1, below which a square tells nothing
MOST = 1.0  # times the photograph's detail that the painting gets at most
TILE = 32  # columns at once: products of small matrices are not shared out to threads, which wait for one another where others work


def enlarge(painted: Pixels, small: Pixels, photo: Pixels, strength: float = 1.0) -> Pixels:
    """``painted``, the painting of ``small``, at the size of ``photo``, of which ``small`` is a copy. All alike.

    strength: of the painting. What a copy that was not painted would lack of the photograph is added to one of a lower strength.

        q = up(p) + up(a) (I - up(i))        a = cov(i, p) / (var(i) + FLAT), from 0 to MOST

    with p the painting, i the light of the small copy, I that of the photograph, and covariance and variance over a
    small square. So an edge is as sharp as the photograph's where the painting follows the photograph, in each
    colour by as much as it follows, and where it does not it is the painting's, enlarged. This is guided
    filtering (He et al. 2010) with coefficients from the small copy (He and Sun 2015), and with what these leave
    out of the painting, its strokes, put back. The network draws faint lines of colour, four pixels apart; enlarged
    they would be seen, so the painting's colour, not its light, is smoothed over as much.

    A painting that is larger than the photograph is made smaller (Lanczos).
    """
    if strength < 1:
        return with_missing(photo, enlarge(painted, small, photo), enlarge(small, small, photo), strength)
    width, height = size_of(photo)
    if size_of(painted)[0] > width:
        return at_size(painted, (width, height))
    maps = _maps(_floats(rows_of(painted, 0, size_of(painted)[1])), _floats(rows_of(small, 0, size_of(small)[1])))
    tiles = [(left, *_across(maps.shape[2], width, left, min(left + TILE, width))) for left in range(0, width, TILE)]

    def finer(top: int, here: np.ndarray) -> np.ndarray:
        white, result = np.iinfo(here.dtype).max, np.empty_like(here)
        down = zip(*_cubic(maps.shape[1], height, top, top + len(here)))
        narrow = sum(maps[:, row] * share[:, None] for row, share in down)  # 7, rows, w
        for left, first, taps in tiles:
            up = narrow[..., first : first + len(taps)] @ taps  # 3 | 3 | 1, rows, columns
            columns = slice(left, left + taps.shape[1])
            q = up[:3] + up[3:6] * (_light(_floats(here[:, columns])) - up[6])
            result[:, columns] = np.clip(q * white + np.float32(0.5), 0, white).transpose(1, 2, 0)
        return result

    return in_bands(finer, photo)


def _maps(painted: np.ndarray, small: np.ndarray) -> np.ndarray:
    """p, a and i of `enlarge`: (3 + 3 + 1, h, w)."""
    light, own = _light(small)[None], _light(painted)[None]
    painted = own + _smooth(painted - own)
    mean, mean_light = _mean(painted), _mean(light)
    covariance = _mean(painted * light) - mean * mean_light
    variance = _mean(np.square(light)) - np.square(mean_light)
    share = _mean(np.clip(covariance / (variance + np.float32(FLAT)), 0, MOST))
    return np.concatenate([painted, share, light])


def _floats(rows: np.ndarray) -> np.ndarray:
    """(h, w, 3) to (3, h, w), 1 for white."""
    return (rows.astype(np.float32) / np.iinfo(rows.dtype).max).transpose(2, 0, 1)


def _light(x: np.ndarray) -> np.ndarray:
    """Luma, (3, h, w) to (h, w)."""
    return x[0] * LUMA[0] + x[1] * LUMA[1] + x[2] * LUMA[2]


def _smooth(x: np.ndarray) -> np.ndarray:
    """(C, h, w) without what comes again every two or four pixels."""
    for axis in (1, 2):
        n, around = x.shape[axis], [(2, 2) if i == axis else (0, 0) for i in range(3)]
        x = np.pad(x, around, "edge").swapaxes(1, axis)
        x = sum(x[:, i : i + n] * np.float32(w / 8) for i, w in enumerate((1, 2, 2, 2, 1))).swapaxes(1, axis)
    return x


def _mean(x: np.ndarray) -> np.ndarray:
    """Over a square around each pixel of (C, h, w), of which at the border there is less."""
    for axis in (1, 2):
        index, last = np.arange(x.shape[axis]), x.shape[axis] - 1
        count = np.minimum(index + RADIUS, last) - np.maximum(index - RADIUS, 0) + 1
        padded = np.pad(x, [(RADIUS, RADIUS) if i == axis else (0, 0) for i in range(3)])
        total = sum(padded[:, i : i + last + 1] if axis == 1 else padded[..., i : i + last + 1] for i in range(2 * RADIUS + 1))
        x = total / count.astype(np.float32).reshape(-1, *[1] * (2 - axis))
    return x


def _cubic(length: int, total: int, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the places ``first`` to ``last`` (not included) of ``total``: the four of ``length`` around each, and their shares, both (4, n).

    Cubic convolution (Keys 1981) with -3/4, as torch's. Beyond the border is what lies on it.
    """
    at = (np.arange(first, last) + 0.5) * (length / total) - 0.5
    left = np.floor(at).astype(int)
    distance, a = np.abs(at - left - np.arange(-1, 3)[:, None]), -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    shares = np.where(distance <= 1, near, far).astype(np.float32)
    return np.clip(left + np.arange(-1, 3)[:, None], 0, length - 1), shares


def _across(length: int, total: int, first: int, last: int) -> tuple[int, np.ndarray]:
    """The same as the first of those of ``length``, and a matrix from them to the wanted ones."""
    index, shares = _cubic(length, total, first, last)
    taps = np.zeros((index.max() - index.min() + 1, last - first), np.float32)
    np.add.at(taps, (index - index.min(), np.arange(last - first)), shares)
    return index.min(), taps
