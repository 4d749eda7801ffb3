"""Where each place of a frame was in the frame before, and pictures carried along: by OpenCV, where it is installed.

Arrays in, arrays out. A flow is (H, W, 2) float32, (dx, dy) px: ``now[y, x]`` shows what ``before[y + dy, x + dx]`` showed.
"""

from __future__ import annotations

from functools import cache

import numpy as np

PIXELS = 500_000  # a flow is searched in frames of at most this size, and enlarged
LEAST = 32  # px: in frames with a shorter side than this it is not searched
STRIDE, STEPS = 4, 12  # px between patches, and steps of descent for each: half of the time that OpenCV's "medium" takes, and as good
NEAR = 0.5  # px off a motion that still counts as that motion
WHOLE = 0.1  # px: a motion this near to a whole number of pixels is that
MARGIN = 0.02  # of the frame: so much more has a motion to explain to be preferred to a simpler one
BANDS = (3, 13)  # px, sides of the boxes whose blur tells details of one size from those of the next
COARSE, AROUND = 4, 9  # details are measured in cells of so many px a side, and in boxes of so many cells
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
    k = 1
    while height * width > PIXELS * k * k:
        k *= 2
    size = max(LEAST, width // k), max(LEAST, height // k)
    new, old = (cv2.resize(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for p in (now, before))
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setPatchStride(STRIDE)
    search.setGradientDescentIterations(STEPS)
    flow = search.calc(new, old, None)
    return flow if k == 1 else cv2.resize(flow, (width, height)) * np.float32([width / size[0], height / size[1]])


def carried(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) of the frame before, uint8 or float32, as it would lie in this one."""
    cv2 = opencv()
    kind = cv2.INTER_CUBIC if picture.dtype == np.float32 else cv2.INTER_LINEAR
    return cv2.remap(picture, _places(flow), None, kind, borderMode=cv2.BORDER_REPLICATE)


def outside(flow: np.ndarray) -> np.ndarray:
    """(H, W) bool: what comes from beyond the border of the frame before."""
    x, y = np.moveaxis(_places(flow), 2, 0)
    height, width = x.shape
    return (x < 0) | (y < 0) | (x > width - 1) | (y > height - 1)


def _places(flow: np.ndarray) -> np.ndarray:
    places = flow.copy()
    height, width = flow.shape[:2]
    places[..., 0] += np.arange(width, dtype=np.float32)
    places[..., 1] += np.arange(height, dtype=np.float32)[:, None]
    return places


def shared(flow: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """(dy, dx) px, the motion of most of the frame: none at all, ``shift``, or the median, whichever explains most of it.

    A part of a pixel in each frame adds up to pixels, so it is not rounded, but to a whole number that it hardly differs from.
    """
    seen = flow[::4, ::4, ::-1].reshape(-1, 2)
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
    few, mean = (-(-width // COARSE), -(-height // COARSE)), np.full((1, 3), 1 / 3, np.float32)

    def blurred(x: np.ndarray, side: int) -> np.ndarray:
        return cv2.blur(cv2.blur(x, (side, side)), (side, side))

    def energy(details: np.ndarray) -> np.ndarray:
        squares = cv2.resize(cv2.transform(details * details, mean), few, interpolation=cv2.INTER_AREA)
        return cv2.blur(squares, (AROUND, AROUND)) + np.float32(FAINT)

    result = np.zeros_like(blended)
    for side in BANDS:
        coarse, wanted = blurred(blended, side), blurred(painted, side)
        details = blended - coarse
        gain = np.sqrt(np.sqrt(energy(painted - wanted) / energy(details)))  # half of the way, for energies
        details *= cv2.resize(np.clip(gain, 1, STRONGER), (width, height))[..., None]
        result += details
        blended, painted = coarse, wanted
    result += blended
    return result
