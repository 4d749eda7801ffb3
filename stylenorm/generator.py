"""The generator: a photograph and a style, given as one (γ, β) pair a normalization, in; a painting out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from stylenorm.architecture import GeneratorConfig, padded_length
from stylenorm.errors import StylenormError, counted, in_short
from stylenorm.fused import vmapped
from stylenorm.layers import ConditionalNorm

Pairs = Sequence[tuple[Tensor, Tensor]]
Moments = tuple[Tensor, Tensor]  # mean, variance


class StyledConv(nn.Module):
    """3 x 3 convolution over a reflected border, then a `ConditionalNorm`.

    No bias: instance and batch norm would subtract it again. Layer and group norm, whose mean is of several channels, would not, and
    have none all the same: the kinds differ in nothing else.
    """

    def __init__(self, in_channels: int, out_channels: int, config: GeneratorConfig, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, bias=False)
        self.norm = ConditionalNorm(out_channels, kind=config.norm, num_groups=config.num_groups)

    def forward(self, x: Tensor, gamma: Tensor, beta: Tensor, choose: Callable[[Tensor], Moments] | None = None) -> Tensor:
        x = self.conv(reflect(x))
        return self.norm(x, gamma, beta, choose(x) if choose else None)


class ResidualBlock(nn.Module):
    """x + second(relu(first(x))) (He et al. 2016), both halves styled."""

    def __init__(self, channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.first = StyledConv(channels, channels, config)
        self.second = StyledConv(channels, channels, config)

    def forward(self, x: Tensor, first: tuple, second: tuple) -> Tensor:
        return x + self.second(F.relu(self.first(x, *first)), *second)


def rectified(layer: StyledConv, x: Tensor, pair: tuple) -> Tensor:
    return F.relu(layer(x, *pair))


def raised(layer: StyledConv, x: Tensor, skip: Tensor, pair: tuple) -> Tensor:
    """``x`` at the resolution of ``skip``, twice its own, and ``skip`` added to it."""
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return F.relu(layer(x, *pair) + skip)


def residual(block: ResidualBlock, x: Tensor, first: tuple, second: tuple) -> Tensor:
    return block(x, first, second)


class UnfoldingConv(nn.Module):
    """Nearest-neighbour upsampling by 2 and a 5 x 5 convolution, in one convolution before the upsampling.

    A 5 x 5 kernel over an upsampled map meets at most 3 x 3 different positions of the map, so it equals a
    3 x 3 kernel for each of the 4 pixels that a position becomes: `folded` adds up which. Where the map is flat
    the 4 pixels come out equal, so, unlike a free pixel-shuffle (Shi et al. 2016), it cannot paint a
    checkerboard on a plain ground (Odena et al. 2016), at the same cost.

    (N, C, H, W), its border reflected by 1 before, to (N, 4 D, H - 2, W - 2), for `F.pixel_shuffle` by 2.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 5, 5))
        self.bias = nn.Parameter(torch.empty(out_channels))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (4 D, C, 3, 3) and bias (4 D,) of the convolution that stands for both."""
        # taps[phase, i, k] is 1 where tap k of 5 of pixel ``phase`` of 2 falls on position i of 3
        count = torch.arange(5, device=self.weight.device)
        position = (count + count[:2, None]) // 2  # 0, 0, 1, 1, 2 and 0, 1, 1, 2, 2
        taps = (position[:, None] == count[:3, None]).to(self.weight)
        weight = torch.einsum("dckl,pik,qjl->dpqcij", self.weight, taps, taps)
        return weight.flatten(0, 2), self.bias.repeat_interleave(4)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, *self.folded())


def unfolded(layer: UnfoldingConv, x: Tensor) -> Tensor:
    return F.pixel_shuffle(torch.sigmoid(layer(reflect(x))), 2)  # from N, 12, H/2, W/2


class Generator(nn.Module):
    """Feed-forward style transfer (Johnson et al. 2016) with the style in γ and β alone (Dumoulin et al. 2017).

    A U-net: the picture is folded to half resolution, strided convolutions take it down, residual blocks work
    where a 3 x 3 kernel spans much of the picture, bilinear upsampling brings it back, and each
    resolution on the way down is added to its like on the way up, so that thin lines keep their place.

    ``generator(content, style)``: content (N, 3, H, W) in [0, 1], any H and W from 1 px up; style a sequence
    of (γ, β), one pair for each entry of ``config.channels``, each (N, C) or (1, C), or, to style regions
    differently, (N, C, h, w) at that normalization's resolution (`region_sizes`). Returns (N, 3, H, W) in
    [0, 1]. For every kind but "batch" a picture's result does not depend on the rest of its batch.

    ``moments``, if given, is called for each normalization as ``moments(index, x)`` with its index into
    ``config.channels`` and the map x (N, C, h, w) before it, and returns the (mean, variance) to strip instead
    of x's own: those of the frame before, of other pictures, of a whole of which x is a part.

    Raises:
        ValueError: content is not (N, 3, H, W) of floating point, or the style does not fit the network.
        TypeError: content is no tensor, or the style no sequence of pairs.
    """

    def __init__(self, config: GeneratorConfig = GeneratorConfig()) -> None:
        if not isinstance(config, GeneratorConfig):
            raise StylenormError(f"a Generator is made from a GeneratorConfig, which {in_short(config)} is not")
        super().__init__()
        self.config = config
        widths, blocks = config.widths, config.blocks
        self.stem = StyledConv(12, widths[0], config)
        self.down = nn.ModuleList(StyledConv(a, b, config, stride=2) for a, b in zip(widths, widths[1:]))
        self.deep = nn.ModuleList(ResidualBlock(widths[-1], config) for _ in range(blocks[-1]))
        self.up = nn.ModuleList(StyledConv(a, b, config) for a, b in zip(widths[:0:-1], widths[-2::-1]))
        self.wide = nn.ModuleList(
            nn.ModuleList(ResidualBlock(w, config) for _ in range(b)) for w, b in zip(widths[-2::-1], blocks[-2::-1])
        )
        self.out = UnfoldingConv(widths[0], 3)
        self._rectified, self._raised, self._residual, self._unfolded = rectified, raised, residual, unfolded
        self.reset_parameters()

    def compile_parts(self, disable: bool = False) -> None:
        """Compile each layer for itself, in place. Those of one shape share what is compiled. disable: none any more.

        That takes two thirds of the time that all in one take, and gives the same kernels but for a few.
        """
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)  # one for each shape of a layer
        parts = (torch.compile(part, dynamic=False, disable=disable) for part in (rectified, raised, residual, unfolded))
        self._rectified, self._raised, self._residual, self._unfolded = parts

    def reset_parameters(self) -> None:
        if self.out.weight.is_meta:  # about to be loaded, and drawing nothing at random would import half of torch
            return
        for module in self.modules():
            if isinstance(module, StyledConv):
                nn.init.kaiming_normal_(module.conv.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.out.weight, nonlinearity="sigmoid")
        nn.init.zeros_(self.out.bias)

    def forward(
        self, content: Tensor, style: Pairs, moments: Callable[[int, Tensor], Moments] | None = None
    ) -> Tensor:
        if not _traced():
            _require_pairs(style)
        if len(style) != len(self.config.channels):
            raise ValueError(
                f"this generator has {counted(len(self.config.channels), 'normalization')}, the style has {counted(len(style), '(γ, β) pair')}"
            )
        if not _traced():
            if not isinstance(content, Tensor):
                raise TypeError(f"content must be a tensor (N, 3, H, W), not a {type(content).__name__}")
            fits = content.dim() == 4 and content.shape[1] == 3 and 0 not in content.shape[2:]
            if not fits or not content.is_floating_point():
                raise ValueError(f"content must be (N, 3, H, W) of floating point, not {tuple(content.shape)} of {content.dtype}")
            if len(content) == 0:  # which F.pixel_unshuffle gives back with the channels that it had
                return content.clone()
        pairs = iter(style if moments is None else [(*pair, partial(moments, i)) for i, pair in enumerate(style)])
        height, width = content.shape[-2:]
        x = F.pixel_unshuffle(pad_to(content, self.config.stride), 2)  # N, 12, H/2, W/2
        x = self._rectified(self.stem, x, next(pairs))
        skips = []
        for down in self.down:
            skips.append(x)
            x = self._rectified(down, x, next(pairs))
        for block in self.deep:
            x = self._residual(block, x, next(pairs), next(pairs))
        for up, wide in zip(self.up, self.wide):
            x = self._raised(up, x, skips.pop(), next(pairs))
            for block in wide:
                x = self._residual(block, x, next(pairs), next(pairs))
        return self._unfolded(self.out, x)[..., :height, :width]

    def region_sizes(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(h, w) of each normalization's feature map for a picture of ``height`` x ``width`` pixels."""
        height, width = (padded_length(n, self.config.stride) for n in (height, width))
        levels = [2 ** (i + 1) for i in range(len(self.config.widths))]
        scales = levels + levels[-1:] * (2 * self.config.blocks[-1])
        for scale, count in zip(levels[-2::-1], self.config.blocks[-2::-1]):
            scales += [scale] * (1 + 2 * count)
        return tuple((height // s, width // s) for s in scales)


def _require_pairs(style: Pairs) -> None:
    if isinstance(style, str) or not isinstance(style, Sequence):
        raise TypeError(f"style must be a Style or a sequence of (γ, β) pairs, which {in_short(style)} is not; Stylizer.style gives that of a name")
    for pair in style:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(f"style must be a sequence of (γ, β) pairs, and {in_short(pair)} is none")


def reflect(x: Tensor) -> Tensor:
    """(N, C, H, W) with its border of 1 reflected."""
    others = _traced() or vmapped(x) or forward_ad._current_level >= 0  # which want no gradient, or another one
    wanted = (x.is_cpu or torch.are_deterministic_algorithms_enabled()) and not others
    if wanted and x.is_contiguous(memory_format=torch.channels_last):
        return _Reflect.apply(x)
    if torch.compiler.is_compiling() and not x.is_cpu:
        return joined_reflect(x)
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def joined_reflect(x: Tensor) -> Tensor:
    """`reflect` of parts put together, whose gradient a compiler fuses; that of `F.pad` adds up number by number."""
    x = torch.cat([x[:, :, 1:2], x, x[:, :, -2:-1]], 2)
    return torch.cat([x[..., 1:2], x, x[..., -2:-1]], 3)


def _traced() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


class _Reflect(torch.autograd.Function):
    """`F.pad`'s "reflect" by 1 that stays channels-last, and always adds up in the same order.

    On a CPU PyTorch's own goes through the other format and back. On CUDA its gradient adds up in any order, and is
    refused where every run is to give the same bits.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        n, c, h, w = x.shape
        y = x.new_empty((n, h + 2, w + 2, c)).permute(0, 3, 1, 2)
        y[:, :, 1:-1, 1:-1] = x
        y[:, :, 0, 1:-1], y[:, :, -1, 1:-1] = x[:, :, 1], x[:, :, -2]
        y[..., 0], y[..., -1] = y[..., 2], y[..., -3]
        return y

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, slope):
        inside = torch.is_grad_enabled() or vmapped(slope)  # of a function transform, whose tensors know no memory format
        layout = torch.preserve_format if inside else torch.channels_last
        rows = slope[:, :, 1:-1].clone(memory_format=layout)  # N, C, H, W + 2
        rows[:, :, 1] += slope[:, :, 0]
        rows[:, :, -2] += slope[:, :, -1]
        dx = rows[..., 1:-1].clone(memory_format=layout)  # N, C, H, W
        dx[..., 1] += rows[..., 0]
        dx[..., -2] += rows[..., -1]
        return dx


def pad_to(x: Tensor, stride: int) -> Tensor:
    """Reflect ``x`` at its right and lower edges, as often as it takes, to lengths that ``stride`` divides."""
    for axis in (-2, -1):
        length = x.shape[axis]
        target = padded_length(length, stride)
        if target != length:
            x = x.index_select(axis, reflected_index(length, target, x.device))
    return x


def reflected_index(length: int, target: int, device: torch.device) -> Tensor:
    """0, 1, ..., length-1, length-2, ..., 1, 0, 1, ...: ``target`` of them."""
    period = max(2 * (length - 1), 1)
    index = torch.arange(target, device=device) % period
    return torch.minimum(index, period - index) if length > 1 else torch.zeros_like(index)
