"""What the networks are like, told without torch: a generator's settings and what follows from them, and VGG-16."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import index
from typing import Any

from stylenorm.errors import StyleError, StylenormError

KINDS = ("batch", "layer", "instance", "group")
EPSILON = 1e-5  # torch's, which float32 statistics allow with twenty orders of magnitude to spare

VGG_MEAN = (0.48235, 0.45882, 0.40784)
VGG_PLAN = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)
VGG_SEEN = VGG_PLAN[: VGG_PLAN.index(512) + 3]  # what a style encoder reads: up to conv4_3
DARK = 1e-3  # is added before the logarithm of what an encoder reads: channels that a picture leaves dark count as equally dark
FARTHEST = 2.0  # see `stylenorm.style.StyleEncoder`
CLAMP = 5.0  # of a standardized statistic


@dataclass(frozen=True)
class GeneratorConfig:
    """What it takes to build a `Generator`.

    widths: channels at 1/2, 1/4, 1/8, ... of the picture's resolution.
    blocks: residual blocks at each of those resolutions. The deep ones are what sees a painting's large forms.
    norm: "instance", "layer", "group" or "batch", the kind of every normalization.
    num_groups: groups of the "group" kind; must divide every width.
    """

    widths: tuple[int, ...] = (24, 48, 96, 160)
    blocks: tuple[int, ...] = (0, 1, 2, 4)
    norm: str = "instance"
    num_groups: int = 8

    def __post_init__(self) -> None:
        try:
            for name in ("widths", "blocks"):
                object.__setattr__(self, name, tuple(index(number) for number in getattr(self, name)))
            if self.num_groups is not None:
                object.__setattr__(self, "num_groups", index(self.num_groups))
        except TypeError:
            raise StylenormError("a generator's widths and blocks are whole numbers, one for each resolution, and num_groups is one") from None
        if len(self.widths) != len(self.blocks) or len(self.widths) < 2:
            raise StylenormError("a generator needs at least two widths, and one number of blocks for each width")
        if min(self.widths) < 1 or min(self.blocks) < 0:
            raise StylenormError("a generator's widths must be positive, and its blocks not negative")
        if self.norm not in KINDS:
            raise StylenormError(f"no norm {self.norm!r}; choose one of {', '.join(KINDS)}")
        if self.norm == "group" and ((self.num_groups or 0) < 1 or any(w % self.num_groups for w in self.widths)):
            raise StylenormError(f"{self.num_groups} groups do not divide every width of {self.widths}")

    @property
    def stride(self) -> int:
        """Pixels of the picture for one position of the deepest feature map."""
        return 2 ** len(self.widths)

    @property
    def largest_map(self) -> float:
        """Bytes, for each pixel of the picture, of the largest map in float32: on the way up, one has the channels of the level below."""
        return max(4 * max(pair) / 4**level for level, pair in enumerate(zip(self.widths, self.widths[1:]), 1))

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each normalization, in the order in which `Generator` uses them."""
        down = list(self.widths)
        deep = [self.widths[-1]] * (2 * self.blocks[-1])
        up = [w for w, b in zip(self.widths[-2::-1], self.blocks[-2::-1]) for _ in range(1 + 2 * b)]
        return tuple(down + deep + up)

    @property
    def names(self) -> tuple[str, ...]:
        """What `Generator` calls the layer of each normalization, in the order of `channels`."""
        levels = len(self.widths) - 1
        names = ["stem"] + [f"down.{i}" for i in range(levels)]
        names += [f"deep.{i}.{half}" for i in range(self.blocks[-1]) for half in ("first", "second")]
        for level, blocks in enumerate(self.blocks[-2::-1]):
            names += [f"up.{level}"] + [f"wide.{level}.{i}.{half}" for i in range(blocks) for half in ("first", "second")]
        return tuple(names)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"widths": list(self.widths), "blocks": list(self.blocks)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GeneratorConfig":
        unknown = set(values) - set(cls.__dataclass_fields__)
        if unknown:
            raise StylenormError(f"unknown generator settings: {', '.join(sorted(unknown))}")
        return cls(**values)


def vgg_shapes() -> dict[str, tuple[int, ...]]:
    """Weights and biases of `VGG_SEEN` by torchvision's names without ``features.``."""
    shapes, channels, index = {}, 3, 0
    for step in VGG_SEEN:
        if step == "pool":
            index += 1
            continue
        shapes |= {f"{index}.weight": (step, channels, 3, 3), f"{index}.bias": (step,)}
        channels, index = step, index + 2
    return shapes


def shares(weights: Sequence[float]) -> list[float]:
    """What each style of a blend counts: its weight over the sum of all. Raises `StyleError` where there is no such share."""
    total = sum(weights)
    if not all(0 <= weight < math.inf for weight in weights) or not 0 < total < math.inf:
        raise StyleError("the weights of a blend must be finite, not negative, and not all zero")
    return [weight / total for weight in weights]


def padded_length(length: int, stride: int) -> int:
    """The next multiple of ``stride``, and at least two of them: a map of one position has nothing to reflect."""
    return max(-(-length // stride), 2) * stride
