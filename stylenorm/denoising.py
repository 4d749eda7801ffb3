"""Noise of moving pictures, taken out of what the network sees of a frame and replaced by grain that stands still.

Where a film shows plain ground, its noise is all that a network has to decide by where a star or a stroke lies, and each frame
has noise of its own. The mean of the frames, carried along with the picture's motion, has little. In its place comes grain
(`stylenorm.grain`) as strong as what was taken out, for a network paints noisy ground otherwise than even ground, and grain moves along.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from stylenorm import grain

LIMIT = 12.0  # levels of 255 by which the mean may differ from the frame: so nothing leaves a ghost, and
LATE = 1.0  # level by which a place of some pixels may, for what is more is no noise but a fade
MOST = 4.0  # levels: standard deviation of grain that is put back at most
NOISE, LEAST = (1.0, 1.5), 10  # levels: deviation from which on, and from which on wholly, a film is noisy, in this percentile of its places
DEVIATION = 1.25  # times the mean size of white noise
SCALE = 16  # by which that is multiplied to be told in 8 bits


def denoised(frame: np.ndarray, before: np.ndarray, weight: np.ndarray, place: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What was seen of all frames on average, (H, W, 3) float32, and what to show of it, uint8: with grain for the noise that it lacks.

    Of a film that has next to no noise both are the frame.

    frame: (H, W, 3) uint8. before: the mean up to the frame before, carried to where this one has it, float32; changed in place.
    weight: (H, W) float32, its share of the new one. place: which (row, column) of the grain lies on the upper left pixel.
    """
    taken = before
    taken -= frame
    np.clip(taken, -LIMIT, LIMIT, out=taken)
    noisy = _noisiness(taken[..., 1])
    if not noisy:
        return frame, frame
    taken *= (weight * noisy)[..., None]
    _keep_up(taken)
    strength = _strength(taken[..., 1])
    mean = np.add(taken, frame, out=taken)
    height, width = frame.shape[:2]
    noise = grain.grain(*place, height, width) * strength
    shown = mean + (noise + np.float32(0.5))[..., None]
    return mean, np.clip(shown, 0, 255, out=shown).astype(np.uint8)


def _keep_up(taken: np.ndarray) -> None:
    """Lessen what is taken out (H, W, 3), in place, where a whole place would become lighter or darker by it."""
    height, width = taken.shape[:2]
    box = 0, 0, width / grain.CELL, height / grain.CELL
    for channel in range(3):
        mean = Image.fromarray(taken[..., channel]).reduce(grain.CELL)
        late = np.asarray(mean)
        late = late - np.clip(late, -LATE, LATE)
        if late.any():
            taken[..., channel] -= Image.fromarray(late).resize((width, height), Image.Resampling.BILINEAR, box)


def _noisiness(apart: np.ndarray) -> np.float32:
    """From 0 to 1, by how far (H, W) a frame and the mean are apart where that is least.

    A mean loses details each time that it is carried along by parts of a pixel, and so is of use for a film that has noise only.
    """
    sizes = np.asarray(_sizes(apart))
    noise = np.percentile(sizes[sizes > 0], LEAST) / SCALE if sizes.any() else 0.0  # what is black, or shines, has none
    return np.float32(np.clip((noise - NOISE[0]) / (NOISE[1] - NOISE[0]), 0, 1))


def _strength(taken: np.ndarray) -> np.ndarray:
    """(H, W) float32: how many levels a 32nd of the grain's unit is to be, for what was taken out (H, W) there and nearby."""
    places = _sizes(taken).point([min(v, round(MOST * SCALE)) for v in range(256)])
    height, width = taken.shape
    full = places.resize((width, height), Image.Resampling.BILINEAR, (0, 0, width / grain.CELL, height / grain.CELL))
    return np.asarray(full) * np.float32(1 / (SCALE * 32 * grain.GRAIN))


def _sizes(values: np.ndarray) -> Image.Image:
    """The standard deviation of values (H, W), as far as they are noise, for each place of `stylenorm.grain.CELL` px: "L", `SCALE` times as large."""
    return Image.fromarray(np.minimum(np.abs(values) * np.float32(DEVIATION * SCALE), 255).astype(np.uint8)).reduce(grain.CELL)
