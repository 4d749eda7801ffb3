"""How large the values are that the convolutions of a generator meet: what it takes to compute them in 8 bits."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stylenorm.device import usual_defaults
from stylenorm.generator import Generator, UnfoldingConv
from stylenorm.style import Style

LEFT_OUT = 0.0005  # of a map's positions: the largest values of a channel, which are cut off
LEAST = 1 / 8  # of the largest channel's range: styles that were not looked at may need more of a quiet channel


@torch.no_grad()
def measured_ranges(generator: Generator, pictures: Iterable[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """For each convolution of ``generator``, by its name: the range (C,) of each channel that goes into it.

    pictures: photographs (1, 3, H, W) in [0, 1], each with the row (1, 2, T) of the style to paint it in. They should show
    what the generator will meet: its named styles, and some that its encoder predicts. A range is the largest absolute value,
    but for the `LEFT_OUT` largest of each map. Integer arithmetic by such ranges: Jacob et al. 2018.
    """
    device = next(generator.parameters()).device
    with usual_defaults():
        copy = Generator(generator.config)
    copy = copy.to(device).eval()  # hooks are not called in what is compiled
    copy.load_state_dict(generator.state_dict())
    found: dict[str, Tensor] = {}

    def look(name: str, x: Tensor) -> None:
        values = x[0].flatten(1).abs().float()
        top = values.topk(1 + int(LEFT_OUT * values.shape[1])).values[:, -1]
        found[name] = torch.maximum(found[name], top) if name in found else top

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name.removesuffix(".conv"): look(name, given[0]))
        for name, module in copy.named_modules()
        if isinstance(module, (nn.Conv2d, UnfoldingConv))
    ]
    for photo, row in pictures:
        copy(photo.to(device), Style.from_flat(row.to(device), copy.config.channels))
    for hook in hooks:
        hook.remove()
    found["stem"] = torch.ones_like(found["stem"])  # a picture
    return {name: top.clamp_min(max(LEAST * top.max().item(), 1e-3)).cpu() for name, top in found.items()}
