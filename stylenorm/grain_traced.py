"""`stylenorm.grain.add_grain` in tensors and arithmetic alone, for what is traced once and then takes pictures of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stylenorm.grain import BENT, CELL, MOST, PIECES, PLAIN, SCALE, SIDE, STEP, shares, tables

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

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        rows, columns = counted(x, height), counted(x, width)
        share = self._plain_ground(x)
        share = _between(_between(share, -1, columns), -2, rows)
        noise = self._noise(rows, columns)
        levels = torch.floor((noise * torch.floor(share / 2) + 2048) / 4096)
        return (x + levels / 255).clamp(0, 1)

    def _plain_ground(self, x: Tensor) -> Tensor:
        """A share from 0 to 255 for each place, (1, 1, places down, places to the right), and perhaps one place more."""
        down, right = (_every(x, axis, STEP) for axis in (-2, -1))
        seen = torch.round(x.index_select(-2, down * STEP).index_select(-1, right * STEP) * 255)
        bent = (_bent(seen, -2, down) + _bent(seen, -1, right)).amax(1, keepdim=True).clamp(max=MOST)
        bent = _sums(_sums(bent, -2, down), -1, right)
        counts = _sums(_sums(seen[:, :1] * 0 + 1, -2, down), -1, right)
        return self.shares[torch.floor(bent * SCALE / counts + 0.5).long()]

    def _noise(self, rows: Tensor, columns: Tensor) -> Tensor:
        """(H, W), in 32nds of a level."""
        down_of, right_of = rows // SIDE % PIECES, columns // SIDE % PIECES
        down, right = (table.index_select(0, down_of).index_select(1, right_of) for table in (self.down, self.right))
        return self.pattern[(rows[:, None] + down) % SIDE * SIDE + (columns + right) % SIDE]


def counted(x: Tensor, length) -> Tensor:
    """0 to ``length`` - 1 on the device of ``x``."""
    return x.new_ones(length, dtype=torch.int64).cumsum(0) - 1


def at_least(length, least: int):
    """The larger one. A length is a tensor to `torch.jit.trace`, a symbol to `torch.export`, a number elsewhere."""
    return length.clamp(min=least) if isinstance(length, Tensor) else torch.sym_max(length, least)


def _every(x: Tensor, axis: int, step: int) -> Tensor:
    """0, 1, ... for every ``step``-th along an axis; where that is one alone, 0, 0: `torch.export` takes no length that may be 1."""
    length = x.shape[axis]
    return torch.minimum(counted(x, at_least((length + step - 1) // step, 2)), counted(x, length)[-1:] // step)


def _bent(seen: Tensor, axis: int, index: Tensor) -> Tensor:
    """Second differences along an axis, at its ends to the last one itself."""
    before = seen.index_select(axis, (index - 1).clamp(min=0))
    after = seen.index_select(axis, torch.minimum(index + 1, index[-1:]))
    return (2 * seen - before - after).abs()


def _sums(x: Tensor, axis: int, index: Tensor) -> Tensor:
    """Of each `EVERY` values along an axis, of what is left in the last ones."""
    first, last = _every(x, axis, EVERY) * EVERY, index[-1:]
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    parts = [(x.index_select(axis, torch.minimum(i, last)), i <= last) for i in (first + k for k in range(EVERY))]
    return sum(part * there.to(x.dtype).view(shape) for part, there in parts)


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
