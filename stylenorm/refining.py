"""A predicted style moved towards its painting in seconds, on the very photographs that it is to paint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stylenorm.device import autocast
from stylenorm.generator import Generator
from stylenorm.perceptual import CONTENT_LAYER, VGGFeatures, content_loss, grams, style_loss
from stylenorm.style import Style

STYLE_WEIGHT = 10.0  # against 1 for the content, as in training
LEARNING_RATE = 0.3  # of Adam; γ and β are some units large
WARMUP = 3  # steps


def refined(generator: Generator, vgg: VGGFeatures, style: Style, painting: Tensor, photos: Sequence[Tensor], steps: int) -> Style:
    """``style`` after ``steps`` of Adam (Kingma and Ba 2015) on its γ and β, the network as it is.

    The loss is the training's, content + 10 x style (`stylenorm.perceptual`), of photographs (1, 3, H, W) that are
    painted in turn against ``painting`` (1, 3, h, w), all in [0, 1] on the generator's device. The rate falls to 0 on a line.
    """
    device = painting.device
    channels = generator.config.channels
    row = style.flat().detach().float().to(device).clone().requires_grad_()  # 1, 2, T
    optimizer = torch.optim.Adam([row], betas=(0.9, 0.99))
    with autocast(device):
        with torch.no_grad():
            goals = grams(vgg(painting))
            wanted = [vgg(photo, [CONTENT_LAYER])[CONTENT_LAYER] for photo in photos]
        for step in range(steps):
            place = step % len(photos)
            seen = vgg(generator(photos[place], Style.from_flat(row, channels)))
            content = content_loss(seen[CONTENT_LAYER], wanted[place]).mean()
            loss = content + STYLE_WEIGHT * style_loss(grams(seen), goals).mean()
            (row.grad,) = torch.autograd.grad(loss, row)
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps)
            optimizer.step()
    return Style.from_flat(row.detach().cpu(), channels, name=style.name, provenance=style.provenance, network=style.network)
