"""Where each place of a frame was in the frame before, and pictures carried along: by OpenCV, where it is installed.

Arrays in, arrays out. A flow is (H, W, 2) float32, (dx, dy) px: ``now[y, x]`` shows what ``before[y + dy, x + dx]`` showed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

PIXELS = 500_000  # a flow is searched in frames of at most this size, and enlarged
LEAST = 32  # px: in frames with a shorter side than this it is not searched
STRIDE, STEPS = 4, 12  # px between patches, and steps of descent for each: half of the time that OpenCV's "medium" takes, and as good
NEAR = 0.5  # px off a motion that still counts as that motion
WHOLE = 0.1  # px: a motion this near to a whole number of pixels is that
CORNERS, QUALITY, APART, FEWEST = 200, 0.02, 8, 12  # how many are looked at, how strong of the strongest, px between two, and how many must be
ZOOM = 1.5  # times, or to that part: what is more, from one frame to the next, is no camera
AGREE = 0.5  # of the corners, at least, on one motion
EASIER = 1.25, 0.03  # times the error of the best motion, and px beyond that, that a simpler one may have
MARGIN = 0.02  # of the frame: so much more has a motion to explain to be preferred to a simpler one
BOXES = (3, 7)  # px: their blur tells details from what is larger; the second finds those of half of the resolution
SPARSE, AROUND = 3, 11  # details are measured at each so many-th pixel both ways, in boxes of so many of these
STRONGER = 1.3  # times at most, in one frame
FAINT = 0.05  # levels squared: details below it are not amplified


@cache
def opencv():
    """The module cv2, or None. One that needs a screen's libraries may be installed where there are none."""
    try:
        import cv2
    except ImportError:
        return None
    return cv2


def dense(before: np.ndarray, now: np.ndarray) -> np.ndarray | None:
    """The flow between two frames (H, W, 3) uint8 of one size (Kroeger et al. 2016), or None: no OpenCV, or very small.

    Every place gets one, also what was not to be seen before: whether it is true is told by what it brings.
    """
    cv2 = opencv()
    height, width = now.shape[:2]
    if cv2 is None or min(height, width) < LEAST:
        return None
    new, old = _grey(now), _grey(before)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setPatchStride(STRIDE)
    search.setGradientDescentIterations(STEPS)
    flow = search.calc(new, old, None)
    if flow.shape[:2] == (height, width):
        return flow
    return cv2.resize(flow, (width, height)) * np.float32([width / flow.shape[1], height / flow.shape[0]])


def _grey(frame: np.ndarray) -> np.ndarray:
    """(H, W) uint8, of at most `PIXELS`."""
    cv2 = opencv()
    height, width = frame.shape[:2]
    k = 1
    while height * width > PIXELS * k * k:
        k *= 2
    size = max(LEAST, width // k), max(LEAST, height // k)
    return cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)


def camera(flow: np.ndarray, now: np.ndarray, shift: tuple[int, int]) -> np.ndarray | None:
    """The one motion of all that stands still before a camera which moves, turns or zooms: (2, 3) float32, or None.

    It takes a pixel (x, y, 1) to its place in the frame before. Most corners of ``now`` (H, W, 3) uint8 have to agree on it (Shi and
    Tomasi 1994; Fischler and Bolles 1981). It is the simplest that tells their motion about as well as any: ``shift``, some other, or
    a similarity.
    """
    cv2 = opencv()
    seen = _grey(now)
    found = cv2.goodFeaturesToTrack(seen, CORNERS, QUALITY, APART)
    if found is None or len(found) < FEWEST:
        return None
    corners = found[:, 0] * np.float32([now.shape[1] / seen.shape[1], now.shape[0] / seen.shape[0]])
    column, row = corners.astype(int).T
    motions = flow[row, column]
    matrix, agree = cv2.estimateAffinePartial2D(corners, corners + motions, ransacReprojThreshold=NEAR)
    if matrix is None or agree.mean() < AGREE or not 1 / ZOOM < np.hypot(*matrix[:, 0]) < ZOOM:
        return None
    members = agree[:, 0] > 0
    corners, motions = corners[members], motions[members]
    shifts = [moved_by(shift), moved_by(np.median(motions, axis=0)[::-1])]

    def error(matrix: np.ndarray) -> float:
        return float(np.median(np.linalg.norm(corners @ matrix[:, :2].T + matrix[:, 2] - corners - motions, axis=1)))

    matrix = matrix.astype(np.float32)
    most = error(matrix) * EASIER[0] + EASIER[1]
    return next((simple for simple in shifts if error(simple) <= most), matrix)


def of_the_middle(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(dy, dx) px, how the middle of the frame has moved by what `camera` gave. size: (height, width)."""
    middle = np.array([size[1] / 2, size[0] / 2])
    return (matrix[:, :2] @ middle + matrix[:, 2] - middle)[::-1]


def is_shift(matrix: np.ndarray, shift: tuple[int, int]) -> bool:
    """Whether that is a shift of so many pixels, (dy, dx), and nothing else."""
    return np.array_equal(matrix, moved_by(shift))


def moved_by(shift: Sequence[float]) -> np.ndarray:
    """(dy, dx) px as `camera` would have it."""
    return np.float32([[1, 0, shift[1]], [0, 1, shift[0]]])


def everywhere(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """It as a flow. size: (height, width)."""
    x, y = np.arange(size[1], dtype=np.float32), np.arange(size[0], dtype=np.float32)[:, None]
    (a, b, c), (d, e, f) = matrix - np.eye(2, 3, dtype=np.float32)
    return np.stack([a * x + b * y + c, d * x + e * y + f], 2)


def sources(flow: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32, (x, y): where in the frame before each place was."""
    places = flow.copy()
    height, width = flow.shape[:2]
    places[..., 0] += np.arange(width, dtype=np.float32)
    places[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return places


def carried(picture: np.ndarray, places: np.ndarray, smooth: bool = False) -> np.ndarray:
    """A picture (H, W, 3) of the frame before, uint8 or float32, as it would lie in this one. places: its `sources`.

    Numbers in float32 are taken from four by four pixels, which keeps them sharp, or with ``smooth`` from two by two, as in uint8.
    """
    cv2 = opencv()
    kind = cv2.INTER_CUBIC if picture.dtype == np.float32 and not smooth else cv2.INTER_LINEAR
    return cv2.remap(picture, places, None, kind, borderMode=cv2.BORDER_REPLICATE)


def outside(places: np.ndarray) -> np.ndarray:
    """(H, W) bool: what comes from beyond the border of the frame before."""
    height, width = places.shape[:2]
    x, y = opencv().split(places)
    return (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)


def put(into: np.ndarray, picture: np.ndarray, where: np.ndarray) -> None:
    """``picture`` (H, W, 3) float32 into another, in place, where (H, W) bool says so: by OpenCV in a fifth of numpy's time."""
    if cv2 := opencv():
        cv2.copyTo(picture, where.view(np.uint8), into)
    else:
        np.copyto(into, picture, where=where[..., None])


def shared(flow: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """(dy, dx) px, the motion of most of the frame: none at all, ``shift``, or the median, whichever explains most of it.

    A part of a pixel in each frame adds up to pixels, so it is not rounded, but to a whole number that it hardly differs from.
    """
    seen = flow[::8, ::8, ::-1].reshape(-1, 2)
    share = -1.0
    for motion in (np.zeros(2), np.array(shift, float), np.median(seen, axis=0)):
        near = np.abs(seen - motion).max(axis=1) < NEAR
        if near.mean() > share + MARGIN:
            best, share, members = motion, near.mean(), near
    exact = np.median(seen[members], axis=0) if members.any() else best
    return np.rint(exact) if np.abs(exact - np.rint(exact)).max() < WHOLE else exact


def vivid(blended: np.ndarray, painted: np.ndarray) -> np.ndarray:
    """``blended``, a mean of paintings, with details about as strong again as those of ``painted``, one of them.

    Strokes of several paintings that do not lie on each other weaken in their mean as independent numbers do, so
    contrast is given back (Heitz and Neyret 2018), here half of it: with all of it, what lasts longest, streaks along
    the motion, would stand out. Both (H, W, 3) float32.
    """
    cv2 = opencv()
    height, width = blended.shape[:2]

    def energy(picture: np.ndarray, coarse: np.ndarray) -> np.ndarray:
        details = picture[::SPARSE, ::SPARSE] - coarse[::SPARSE, ::SPARSE]
        return cv2.blur(np.square(details, out=details).mean(2), (AROUND, AROUND)) + np.float32(FAINT)

    result = blended
    for level, side in enumerate(BOXES):
        if level:
            half = tuple(max(1, n // 2) for n in blended.shape[1::-1])
            blended, painted = (cv2.resize(x, half, interpolation=cv2.INTER_AREA) for x in (blended, painted))
        coarse, wanted = (cv2.blur(cv2.blur(x, (side, side)), (side, side)) for x in (blended, painted))
        gain = np.sqrt(np.sqrt(energy(painted, wanted) / energy(blended, coarse)))  # half of the way, for energies
        gain = np.clip(gain, 1, STRONGER) - 1
        details = blended - coarse
        details *= cv2.resize(gain, blended.shape[1::-1])[..., None]
        result = result + (cv2.resize(details, (width, height)) if level else details)
        blended, painted = coarse, wanted
    return result
