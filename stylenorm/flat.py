"""Pictures of next to one colour, which have no moments of their own to strip.

Instance norm divides by the picture's own deviation, so that what it makes of a single colour is rounding errors, and
of a black frame the sensor's noise. Such a picture is painted with the moments that ordinary photographs have in the
same style, the more of them the flatter it is: black comes out dark, a blue sky blue, as far as the painting has blue.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from PIL import Image, ImageOps

from stylenorm.bands import Pixels, size_of
from stylenorm.catalog import photos_folder
from stylenorm.images import read_picture
from stylenorm.tensors import side_to_paint

if TYPE_CHECKING:  # which would import torch
    from stylenorm.backends import Backend
    from stylenorm.style import Style

PLAIN = 3.0  # levels of 255: the deviation from which on a picture has enough of its own
SIDE = 256  # px of each photograph
KEPT = 64  # styles of which the moments of ordinary photographs are kept, 34 kB each, and as much to know the style by
LARGEST = 2048  # px, longer side at which pictures of next to one colour are painted: so they need no strips, which know nothing of them


def own_share(pixels: Pixels) -> float:
    """How much of its own moments a picture is painted with: 1 for all but nearly flat ones, 0 for a single colour."""
    if isinstance(pixels, np.ndarray):  # of 16 bits
        counts = np.stack([np.bincount((pixels[..., c] >> 8).ravel(), minlength=256) for c in range(3)])
    else:
        counts = np.array(pixels.histogram(), np.int64).reshape(3, 256)
    levels, share = np.arange(256), counts / counts.sum(1, keepdims=True)
    mean = share @ levels
    deviation = np.sqrt((share * (levels - mean[:, None]) ** 2).sum(1)).max()
    return min(1.0, float(deviation) / PLAIN)


def has_colours(photo: Pixels, norm: str) -> bool:
    """Whether a network of this kind of normalization paints it as any other; that of batch norm has no use for a picture's moments."""
    return norm == "batch" or own_share(photo) == 1


def painted_at(paint_at: int | str | None, photo: Pixels, norm: str) -> int | None:
    """Longer side in px at which to paint what was to be painted at ``paint_at``, see `Stylizer.stylize`; None: as it is."""
    side = side_to_paint(size_of(photo), paint_at)
    too_large = (side or max(size_of(photo))) > LARGEST and not has_colours(photo, norm)
    return LARGEST if too_large else side


def never_in_strips(photo: Pixels, norm: str) -> bool:
    """Whether it is to be painted at once even where it takes more memory than a picture should."""
    return max(size_of(photo)) <= LARGEST and not has_colours(photo, norm)


def backend_for(backend: Backend, photo: Pixels, norm: str) -> Backend:
    """The backend, and for a picture of next to one colour what makes sense of it."""
    return backend if has_colours(photo, norm) else FlatBackend(backend, own_share(photo), ordinary_photos)


def grain_for(backend: Backend) -> float:
    """The amount of grain (`stylenorm.grain`) that goes with what `backend_for` gave: a single colour gets none, and comes out in one."""
    return backend.share if isinstance(backend, FlatBackend) else 1.0


def pooled(backend: Backend, frames: np.ndarray, style: Style, norm: str) -> np.ndarray:
    """The moments (2, T) of frames (N, H, W, 3) together, see `Backend.pooled`."""
    backend = backend_for(backend, Image.fromarray(frames.reshape(-1, *frames.shape[2:])), norm)
    return backend.pooled(frames, style, np.zeros((2, sum(style.channels)), np.float32), 1.0)


@lru_cache(1)
def ordinary_photos() -> np.ndarray:
    """The photographs that come with the package, as one picture."""
    return side_by_side([read_picture(path).rgb for path in sorted(photos_folder().glob("[!.]*.jpg"))])


def side_by_side(photos: list[Image.Image]) -> np.ndarray:
    """(SIDE, SIDE n, 3): the middles of photographs as one picture, whose moments are those of all."""
    squares = [ImageOps.fit(photo.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS) for photo in photos]
    return np.concatenate([np.asarray(square) for square in squares], 1)


class FlatBackend:
    """``backend`` for one picture that strips ``share`` of its own moments and for the rest those of ``ordinary`` pixels."""

    def __init__(self, backend: Backend, share: float, ordinary: Callable[[], np.ndarray]) -> None:
        self.backend, self.share, self.ordinary = backend, share, ordinary

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        return self.steered(picture, style, np.zeros((2, sum(style.channels)), np.float32), 1.0)[0]

    def steered(
        self, picture: np.ndarray, style: Style, given: np.ndarray, share: float, fine: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Backend.steered`, always fine; what counts as the picture's own moments is the mixture."""
        if style.has_regions:  # whose places are the picture's
            return self.backend.steered(picture, style, given, share)
        usual = self._usual(style, picture.dtype)
        painted, own = self.backend.steered(picture, style, *self._mixed(usual, given, share))
        return painted, (usual + self.share * (own - usual)).astype(np.float32)

    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        """As `Backend.pooled`, of pictures that are nearly flat all together."""
        if style.has_regions:
            return self.backend.pooled(pictures, style, given, share)
        return self.backend.pooled(pictures, style, *self._mixed(self._usual(style, pictures.dtype), given, share))

    def _mixed(self, usual: np.ndarray, given: np.ndarray, share: float) -> tuple[np.ndarray, float]:
        """What ``backend`` is given to strip beside the picture's own moments, and the share of these."""
        own_part = share * self.share
        others = (share * (1 - self.share) * usual + (1 - share) * given) / max(1 - own_part, 1e-6)
        return others.astype(np.float32), own_part

    def _usual(self, style: Style, dtype: np.dtype) -> np.ndarray:
        """The moments of the ordinary pixels, met with those that they are mixed with in one precision.

        They are kept for the next flat picture in this style: of a small one they take most of the time.
        """
        key = self.ordinary, style.row().tobytes(), np.dtype(dtype)
        with _turn:
            known = _known.setdefault(self.backend, {})
            if key not in known:
                pixels = self.ordinary() if dtype == np.uint8 else self.ordinary().astype(dtype) * 257
                found = self.backend.steered(pixels, style, np.zeros((2, sum(style.channels)), np.float32), 1.0)[1]
                if len(known) == KEPT:
                    del known[next(iter(known))]
                known[key] = found
            return known[key]


_known: WeakKeyDictionary[Backend, dict] = WeakKeyDictionary()
_turn = Lock()
