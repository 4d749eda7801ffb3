"""A painting made from a smaller copy of its photograph, brought to the photograph's size with the photograph's detail."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stylenorm.bands import Pixels, in_bands, rows_of, size_of
from stylenorm.colour import LUMA
from stylenorm.images import at_size

RADIUS = 2  # px of the small copy; the painting is compared with the photograph over squares of twice that and one
FLAT = 0.02**2  # variance of light, of 1, below which a square tells nothing
MOST = 1.0  # times the photograph's detail that the painting gets at most


@torch.inference_mode()
def enlarge(painted: Pixels, small: Pixels, photo: Pixels) -> Pixels:
    """``painted``, the painting of ``small``, at the size of ``photo``, of which ``small`` is a copy. All alike.

        q = up(p) + up(a) (I - up(i))        a = cov(i, p) / (var(i) + FLAT), from 0 to MOST

    with p the painting, i the light of the small copy, I that of the photograph, and covariance and variance over a
    small square. So an edge is as sharp as the photograph's where the painting follows the photograph, in each
    colour by as much as it follows, and where it does not it is the painting's, enlarged. This is guided
    filtering (He et al. 2010) with coefficients from the small copy (He and Sun 2015), and with what these leave
    out of the painting, its strokes, put back.

    A painting that is larger than the photograph is made smaller (Lanczos).
    """
    width, height = size_of(photo)
    if size_of(painted)[0] > width:
        return at_size(painted, (width, height))
    maps = _maps(_tensor(painted), _tensor(small))  # 1, 7, h, w
    x = ((torch.arange(width) + 0.5) * 2 / width - 1)[None]

    def finer(top: int, here: np.ndarray) -> np.ndarray:
        rows, white = here.shape[0], np.iinfo(here.dtype).max
        y = ((torch.arange(top, top + rows) + 0.5) * 2 / height - 1)[:, None]
        grid = torch.stack([x.expand(rows, -1), y.expand(-1, width)], 2)[None]  # 1, rows, W, 2
        up = F.grid_sample(maps, grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
        painting, share, light = up[:3], up[3:6], up[6:]  # 3 | 3 | 1, rows, W
        detail = _light(_floats(here))[0] - light
        q = torch.addcmul(painting, share, detail)
        return (q * white + 0.5).clamp(0, white).permute(1, 2, 0).contiguous().numpy().astype(here.dtype)

    return in_bands(finer, photo)


def _maps(painted: Tensor, small: Tensor) -> Tensor:
    """p, a and i of `enlarge`: (1, 3 + 3 + 1, h, w)."""
    light = _light(small)
    mean, mean_light = _mean(painted), _mean(light)
    covariance = _mean(painted * light) - mean * mean_light
    variance = _mean(light.square()) - mean_light.square()
    share = _mean((covariance / (variance + FLAT)).clamp(0, MOST))
    return torch.cat([painted, share, light], 1)


def _tensor(picture: Pixels) -> Tensor:
    return _floats(rows_of(picture, 0, size_of(picture)[1]))


def _floats(rows: np.ndarray) -> Tensor:
    """(h, w, 3) to (1, 3, h, w), 1 for white."""
    return torch.from_numpy(rows.astype(np.float32) / np.iinfo(rows.dtype).max).permute(2, 0, 1)[None]


def _light(x: Tensor) -> Tensor:
    """Luma, (1, 3, h, w) to (1, 1, h, w)."""
    return (x * torch.as_tensor(LUMA, dtype=x.dtype).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _mean(x: Tensor) -> Tensor:
    """Over a square around each pixel, of which at the border there is less."""
    return F.avg_pool2d(x, 2 * RADIUS + 1, 1, RADIUS, count_include_pad=False)
