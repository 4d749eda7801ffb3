"""A trained network made larger, with what it has learned kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from stylenorm.errors import StylenormError
from stylenorm.generator import GeneratorConfig
from stylenorm.style import StyleEncoder


@torch.no_grad()
def grown(model, blocks: Sequence[int] = (), widths: Sequence[int] = (), gamma: float = 0.1):
    """A `stylenorm.training_model.StyledModel` with more residual blocks and channels (after Chen et al. 2016, Net2Net).

    ``blocks`` and ``widths`` are those at each resolution, () for as many as there are. New blocks come after those
    that there are, and the last γ of each is ``gamma`` for every style, so that the picture hardly changes at first
    (exactly not, if it is 0) and the new weights learn from the first step on. New channels see all others and are
    seen by none of the old ones yet. With instance and batch norm, whose moments are a channel's own, they change
    nothing at first.

    Raises `StylenormError` where the network would have to shrink.
    """
    before = model.generator.config
    blocks, widths = tuple(blocks or before.blocks), tuple(widths or before.widths)
    for what, new, old in (("blocks", blocks, before.blocks), ("widths", widths, before.widths)):
        if len(new) != len(old) or any(b < a for b, a in zip(new, old)):
            raise StylenormError(f"a network with {what} {_listed(old)} cannot grow to {_listed(new)}")
    config = replace(before, blocks=blocks, widths=widths)
    bigger = type(model)(config, len(model.rows))
    own, wanted = model.generator.state_dict(), bigger.generator.state_dict()
    bigger.generator.load_state_dict({k: _enlarged(own[k], v) if k in own else v for k, v in wanted.items()})
    _fit_styles(model, bigger, before, config, gamma)
    return bigger


@torch.no_grad()
def wider(encoder: StyleEncoder, hidden: int) -> StyleEncoder:
    """A style encoder of ``hidden`` hidden units that predicts the same as ``encoder`` does, and has room to learn.

    The new units see everything, and nothing listens to them yet. Raises `StylenormError` where it would have to shrink.
    """
    old, statistics = encoder.layers[0].out_features, len(encoder.mean)
    if hidden < old:
        raise StylenormError(f"an encoder {old} wide cannot grow to {hidden}")
    bigger = StyleEncoder((encoder.total,), statistics, hidden)
    own, wanted = encoder.state_dict(), bigger.state_dict()
    bigger.load_state_dict({key: _enlarged(own[key], value) for key, value in wanted.items()})
    return bigger


def _enlarged(old: Tensor, fresh: Tensor) -> Tensor:
    """``old`` in the corner of ``fresh``: its channels read nothing new, and the new ones read everything."""
    if old.shape == fresh.shape:
        return old
    new = fresh.clone()
    if old.dim() > 1:
        new[: old.shape[0]] = 0
    new[tuple(slice(n) for n in old.shape)] = old
    return new


def _fit_styles(model, bigger, before: GeneratorConfig, config: GeneratorConfig, gamma: float) -> None:
    """Give ``bigger`` an encoder and rows with γ and β of ``model`` where it had them, else 1 (or ``gamma``) and 0."""
    hidden = model.encoder.layers[0].out_features
    bigger.encoder = StyleEncoder(config.channels, len(model.encoder.mean), hidden)
    starts = dict(zip(before.names, zip([0, *accumulate(before.channels)], before.channels)))
    old, ends = [], []
    for name, channels in zip(config.names, config.channels):
        start, count = starts.get(name, (0, 0))
        old += [start + i if i < count else -1 for i in range(channels)]
        ends += [name not in starts and name.endswith("second")] * channels
    old, ends = torch.tensor(old), torch.tensor(ends)  # T each
    kept = old >= 0

    def spread(values: Tensor) -> Tensor:
        """(..., T before) to (..., T), 0 where a channel is new."""
        out = values.new_zeros(*values.shape[:-1], len(old))
        out[..., kept] = values[..., old[kept]]
        return out

    tensors = dict(model.encoder.state_dict())
    last = f"layers.{len(bigger.encoder.layers) - 1}"
    weight = spread(tensors[f"{last}.weight"].unflatten(0, (2, -1)).transpose(1, 2))  # 2, hidden, T
    bias = spread(tensors[f"{last}.bias"].unflatten(0, (2, -1)))  # 2, T
    bias[0, ends] = gamma - 1  # the encoder adds 1
    tensors |= {f"{last}.weight": weight.transpose(1, 2).flatten(0, 1), f"{last}.bias": bias.flatten()}
    bigger.encoder.load_state_dict(tensors)
    bigger.rows.copy_(spread(model.rows))


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
