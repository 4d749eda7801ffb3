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
