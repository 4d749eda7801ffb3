"""`stylenorm.grain.add_grain` in tensors and arithmetic alone, for what is traced once and then takes pictures of any size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenorm.grain import CELL, MOST, PIECES, SCALE, SIDE, STEP, shares, tables

EVERY = CELL // STEP  # pixels that are looked at, along one side of a place


class TracedGrain(nn.Module):
    """Pictures (1, 3, H, W) in [0, 1] with grain on their plain ground. Of pictures of 8 bits, level for level what `add_grain` makes of them."""

    def __init__(self) -> None:
        super().__init__()
        pattern, moved = tables()
        self.register_buffer("pattern", torch.from_numpy(pattern[:SIDE, :SIDE].reshape(-1)).float())
        self.register_buffer("down", torch.from_numpy(moved[..., 0].copy()))
        self.register_buffer("right", torch.from_numpy(moved[..., 1].copy()))
        self.register_buffer("shares", torch.tensor(shares(), dtype=torch.float32))

    def forward(self, x: Tensor, place=0) -> Tensor:
        """place: which row and column of the grain lies on the upper left pixel."""
        height, width = x.shape[-2:]
        rows, columns = counted(x, height), counted(x, width)
        share = self._plain_ground(x)
        share = _between(_between(share, -1, columns), -2, rows)
        noise = self._noise(rows + place, columns + place)
        levels = torch.floor((noise * torch.floor(share / 2) + 2048) / 4096)
        return (x + levels / 255).clamp(0, 1)

    def _plain_ground(self, x: Tensor) -> Tensor:
        """A share from 0 to 255 for each place, (1, 1, places down, places to the right), and of some beyond the end."""
        (down, rows), (right, columns) = _looked_at(x, -2), _looked_at(x, -1)
        seen = torch.round(x.index_select(-2, down).index_select(-1, right) * 255)
        around = F.pad(seen, (1, 1, 1, 1), mode="replicate")
        bent = (2 * seen - around[..., :-2, 1:-1] - around[..., 2:, 1:-1]).abs()
        bent = bent + (2 * seen - around[..., 1:-1, :-2] - around[..., 1:-1, 2:]).abs()
        there = (rows[:, None] * columns).to(x.dtype)[None, None]
        bent = F.avg_pool2d(bent.amax(1, keepdim=True).clamp(max=MOST) * there, EVERY)
        share = F.avg_pool2d(there, EVERY).clamp(min=1 / EVERY**2)
        return self.shares[torch.floor(bent * SCALE / share + 0.5).long()]

    def _noise(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(H, W), in 32nds of a level."""
        down_of, right_of = rows // SIDE % PIECES, columns // SIDE % PIECES
        down, right = (table.index_select(0, down_of).index_select(1, right_of) for table in (self.down, self.right))
        return self.pattern[(rows[:, None] + down) % SIDE * SIDE + (columns + right) % SIDE]


def counted(x: Tensor, length) -> Tensor:
    """0 to ``length`` - 1 on the device of ``x``."""
    return x.new_ones(length, dtype=torch.int64).cumsum(0) - 1


def _looked_at(x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Places of the pixels along an axis that are looked at, beyond the end the last one's, and which are not beyond it.

    So many that their number is a multiple of `EVERY` and never 1, which `torch.export` takes for another case.
    """
    length = x.shape[axis]
    index = counted(x, (length // CELL + 2) * EVERY)
    last = counted(x, length)[-1:] // STEP
    return torch.minimum(index, last) * STEP, index <= last


def _between(share: Tensor, axis: int, pixels: Tensor) -> Tensor:
    """Places enlarged to pixels along one axis, linearly, in whole numbers as Pillow's resize has them."""
    last = pixels[-1:] // CELL
    twice = 2 * pixels + 1 - CELL  # in 32nds of a place, from the middle of the first
    lower = torch.div(twice, 2 * CELL, rounding_mode="floor")
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    part = ((twice - lower * (2 * CELL)).to(share.dtype) / (2 * CELL)).view(shape)
    here, there = (share.index_select(axis, torch.minimum(i.clamp(min=0), last)) for i in (lower, lower + 1))
    return torch.floor(here * (1 - part) + there * part + 0.5)
