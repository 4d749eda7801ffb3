"""The same network with each kind of normalization: side by side, and how far a changed photograph moves each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stylenorm.catalog import require_compared_networks
from stylenorm.engine import Stylizer
from stylenorm.errors import StyleError, StylenormError, in_short
from stylenorm.formats import FULL
from stylenorm.generator import Generator
from stylenorm.images import Picture, Source, fit, read_picture, to_image, to_tensor
from stylenorm.plots import sheet
from stylenorm.style import Style

TITLES = {
    "instance": "instance norm", "layer": "layer norm", "group": "group norm", "batch": "batch norm",
}  # fmt: skip


def _cast(x: Tensor) -> Tensor:
    return x * x.new_tensor([1.0, 0.85, 0.6]).view(1, 3, 1, 1)


# What befalls a photograph, on (N, 3, H, W) in [0, 1]. None leaves that range, so nothing is cut off.
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "half contrast": lambda x: 0.25 + 0.5 * x,
    "darker": lambda x: 0.5 * x,
    "brighter": lambda x: 0.3 + 0.7 * x,
    "warm cast": _cast,
}


def changed(image: Source, change: str) -> Image.Image:
    """A photograph, as `Stylizer.stylize` takes it, after one of `CHANGES`, in 8 bits. Raises `StylenormError` for any other change."""
    if not isinstance(change, str) or change not in CHANGES:
        raise StylenormError(f"there is no change {in_short(change)}; choose from {', '.join(CHANGES)}")
    picture = image if isinstance(image, Picture) else read_picture(image)
    result = to_image(CHANGES[change](to_tensor(picture.rgb)))
    if picture.alpha is not None:
        result.putalpha(picture.alpha)
    return result


class Comparison:
    """The networks in ``folder``/KIND, by default the shipped ones, in the order of `TITLES`.

    Raises `WeightsError` where there is none.
    """

    def __init__(self, folder: str | Path | None = None, device: str | torch.device = "auto", backend: str = "auto") -> None:
        files = require_compared_networks(folder)
        self.stylizers = {kind: Stylizer(files[kind], device, backend) for kind in TITLES if kind in files}

    @property
    def styles(self) -> list[str]:
        """The names that all of the networks know."""
        return sorted(set.intersection(*(set(s.styles) for s in self.stylizers.values())))

    def check(self, style: str) -> None:
        """Raises `StyleError` for a style that not all of the networks know."""
        if style not in self.styles:
            raise StyleError(f"the compared networks have no style {style!r}; choose one of {', '.join(self.styles)}")

    def paint(self, image: Source, style: str) -> dict[str, Image.Image]:
        """A photograph, as `Stylizer.stylize` takes it, by the network of each kind: ``{kind: picture}``.

        Without grain, which would be the same in a photograph of half the contrast, and faces like all else: what is compared is what the norms see.
        Raises as `check`.
        """
        self.check(style)
        picture = image if isinstance(image, Picture) else read_picture(image)
        return {kind: stylizer.stylize(picture, style, grain=False, paint_at=FULL, faces=0) for kind, stylizer in self.stylizers.items()}

    def sheet(self, image: Source, style: str, changes: Sequence[str] = (), tile: int = 512) -> Image.Image:
        """The photograph and its painting by each kind, labelled; below, the same of the photograph changed.

        changes: names from `CHANGES`, a row each. tile: longer side of each picture in px.
        """
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = fit(picture.rgb, tile)
        tiles, labels = [], []
        for name in ("", *([changes] if isinstance(changes, str) else changes or ())):
            shown = changed(photo, name) if name else photo
            tiles += [shown, *self.paint(shown, style).values()]
            labels += [name or "photograph", *(TITLES[kind] for kind in self.stylizers)]
        return sheet(tiles, labels, 1 + len(self.stylizers), picture.alpha)


@torch.no_grad()
def moved(generator: Generator, styles: Sequence[Style], photos: Tensor) -> dict[str, float]:
    """How far each of `CHANGES` to the photographs moves the paintings, as a share of how far it moved the photographs.

        mean |G(change(x)) - G(x)| / mean |change(x) - x|

    photos: (N, 3, H, W) in [0, 1]. A mean over photographs, pixels and ``styles``. Where the kind strips a
    picture's own moments channel by channel it is 0 for every change a x + b that is the same for all channels,
    since each map after the first convolution, which has no bias, becomes a times itself plus a constant.
    """
    mode = generator.training
    generator.eval()
    try:
        plain = [torch.cat([generator(x[None], style) for x in photos]) for style in styles]
        result = {}
        for name, change in CHANGES.items():
            changed = change(photos)
            distances = [
                (torch.cat([generator(x[None], style) for x in changed]) - before).abs().mean()
                for style, before in zip(styles, plain)
            ]
            result[name] = (torch.stack(distances).mean() / (changed - photos).abs().mean()).item()
        return result
    finally:
        generator.train(mode)


@torch.no_grad()
def moved_by_neighbours(generator: Generator, style: Style, photos: Tensor, training: bool) -> float:
    """How far the painting of the first photograph moves when the rest of its batch is exchanged.

    photos: (N, 3, H, W), N odd and at least 3. The first is painted beside the one half of the others and beside
    the other half; the result is the mean difference of the two in 8-bit levels. ``training`` normalizes as
    training does, with the batch's own statistics. Nothing of the generator is changed.
    """
    half = (len(photos) - 1) // 2
    first, before = photos[:1], {k: v.clone() for k, v in generator.state_dict().items()}
    mode = generator.training
    generator.train(training)
    try:
        a, b = (generator(torch.cat([first, rest]), style)[0] for rest in (photos[1 : 1 + half], photos[1 + half :]))
    finally:
        generator.load_state_dict(before)  # running statistics have followed
        generator.train(mode)
    return (a - b).abs().mean().item() * 255
