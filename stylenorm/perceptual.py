"""What VGG-16 sees: features, Gram matrices, and the content and style losses built on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from stylenorm.architecture import DARK, VGG_MEAN, VGG_PLAN
from stylenorm.device import cpu_bfloat16, usual_defaults
from stylenorm.fused import vmapped
from stylenorm.stored import check_shipped_vgg, check_vgg, load_tensors, no_vgg
from stylenorm.tensors import short_side_shape

LAYERS = (
    "relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2", "relu3_3",
    "relu4_1", "relu4_2", "relu4_3", "relu5_1", "relu5_2", "relu5_3",
)  # fmt: skip
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")
CONTENT_LAYER = "relu3_3"

Features = Mapping[str, Tensor]


class VGGFeatures(nn.Module):
    """The convolutions of VGG-16, configuration D (Simonyan and Zisserman 2015), up to the layer ``last``.

    ``vgg(x, layers)`` takes RGB (N, 3, H, W) in [0, 1], H and W from 8 px up for relu4_3, and returns
    ``{layer: features}``. It subtracts the training mean and multiplies by 255, as this network expects.
    Its parameters never ask for gradients.
    """

    def __init__(self, last: str = "relu4_3") -> None:
        super().__init__()
        if last not in LAYERS:
            raise ValueError(f"no layer {last!r} in VGG-16; choose one of {', '.join(LAYERS)}")
        modules: list[nn.Module] = []
        self.names: list[str | None] = []
        channels, names = 3, iter(LAYERS)
        for step in VGG_PLAN:
            if step == "pool":
                modules.append(nn.MaxPool2d(2))
                self.names.append(None)
                continue
            name = next(names)
            modules += [nn.Conv2d(channels, step, 3, padding=1), nn.ReLU(inplace=True)]
            self.names += [None, name]
            channels = step
            if name == last:
                break
        self.features = nn.Sequential(*modules)
        self.register_buffer("mean", torch.tensor(VGG_MEAN).view(1, 3, 1, 1), persistent=False)
        self._halves: dict[nn.Conv2d, tuple] = {}
        self.requires_grad_(False).eval()

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor], last: str = "relu4_3") -> "VGGFeatures":
        """From a state dict in torchvision's layout: ``features.0.weight`` or ``0.weight``, any dtype."""
        with usual_defaults():
            vgg = cls(last)
        given = {k.removeprefix("features."): v.float() for k, v in state.items()}
        wanted = vgg.features.state_dict()
        check_vgg(given, {k: v.shape for k, v in wanted.items()})
        vgg.features.load_state_dict({k: given[k] for k in wanted})
        return vgg

    @classmethod
    def from_file(cls, path: str | Path, last: str = "relu4_3") -> "VGGFeatures":
        """From a safetensors file in torchvision's layout. Raises `WeightsError` in one sentence."""
        from safetensors import SafetensorError

        try:
            state = load_tensors(path)
            check_shipped_vgg(path, state)
            return cls.from_state(state, last)
        except (SafetensorError, OSError, ValueError, TypeError) as error:
            raise no_vgg(path, error) from None

    def forward(self, x: Tensor, layers: Sequence[str] = STYLE_LAYERS) -> dict[str, Tensor]:
        x = (x - self.mean) * 255
        out: dict[str, Tensor] = {}
        missing = set(layers)
        fused = _fuses(x)
        for module, name in zip(self.features, self.names):
            if fused and isinstance(module, nn.Conv2d):
                x = _ConvReLU.apply(x.bfloat16(), *self._halved(module))
            elif not (fused and isinstance(module, nn.ReLU)):
                x = module(x)
            if name in missing:
                out[name] = x
                missing.discard(name)
                if not missing:
                    return out
        raise ValueError(f"these layers were not loaded: {', '.join(sorted(missing))}")


    def _halved(self, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
        """Weight and bias in bfloat16, kept until they change."""
        # what is loaded in inference mode counts no versions, and does not change either
        key = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in (conv.weight, conv.bias))
        if self._halves.get(conv, (None,))[0] != key:
            with torch.inference_mode(False), torch.no_grad():  # so that a gradient may pass through them later
                weight = conv.weight.to(torch.bfloat16, memory_format=torch.channels_last, copy=True)
                self._halves[conv] = key, weight, conv.bias.to(torch.bfloat16, copy=True)
        return self._halves[conv][1:]


def _fuses(x: Tensor) -> bool:
    """Whether `_ConvReLU` computes what a convolution under autocast and a ReLU would."""
    return (
        x.is_cpu
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and cpu_bfloat16()
        and not torch.compiler.is_compiling()
    )


class _ConvReLU(torch.autograd.Function):
    """relu(conv(x)) of 3 x 3 taps and a border of zeros, in one pass over memory. The weights get no gradient."""

    @staticmethod
    def forward(x, weight, bias):
        one = [1, 1]
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, one, one, one, 1, "relu", [], "")

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:2], output)

    @staticmethod
    def backward(ctx, slope):
        x, weight, y = ctx.saved_tensors
        slope = torch.ops.aten.threshold_backward(slope.to(y.dtype), y, 0)
        one, only_x = [1, 1], [True, False, False]
        dx, *_ = torch.ops.aten.convolution_backward(slope, x, weight, None, one, one, one, False, [0, 0], 1, only_x)
        return dx, None, None


def gram(features: Tensor) -> Tensor:
    """Gram matrix, (N, C, H, W) to (N, C, C), divided by C H W (Gatys et al. 2016; Johnson et al. 2016).

    float32. Under autocast the product itself runs in autocast's type, which halves the cost of a training step.
    """
    forward = forward_ad._current_level >= 0  # which wants another derivative than `_Gram` has
    return (_Gram.forward if forward else _Gram.apply)(features)


class _Gram(torch.autograd.Function):
    """G = F F^T / (C H W), and its gradient F (dG + dG^T) / (C H W) in the memory format of F.

    Autograd's own comes from two products instead of one, and in another memory format than the map, so that
    everything that is added to it on the way down through VGG has to be reordered: half of a training step on a CPU.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(features):
        c, h, w = features.shape[1:]
        pixels = _pixels(features.float() if features.dtype == torch.float16 else features)  # N, H*W, C; sums of squares leave float16
        return torch.bmm(pixels.transpose(1, 2), pixels).float() / (c * h * w)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, slope):
        (features,) = ctx.saved_tensors
        n, c, h, w = features.shape
        both = ((slope + slope.transpose(1, 2)) / (c * h * w)).to(features.dtype)  # N, C, C
        if _channels_last(features):
            return torch.bmm(_pixels(features), both).view(n, h, w, c).permute(0, 3, 1, 2)
        return torch.bmm(both, features.flatten(2)).view(n, c, h, w)


def _pixels(features: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H*W, C), without a copy where it is channels-last or contiguous."""
    if _channels_last(features):
        return features.permute(0, 2, 3, 1).flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


def _channels_last(features: Tensor) -> bool:
    return not vmapped(features) and features.is_contiguous(memory_format=torch.channels_last)


def grams(features: Features, layers: Sequence[str] = STYLE_LAYERS) -> dict[str, Tensor]:
    return {layer: gram(features[layer]) for layer in layers}


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared error over the mean square of ``target``: (N, C, H, W) twice to (N,). 0 for the target itself."""
    features, target = features.float(), target.float()
    error = (features - target).square().mean((1, 2, 3))  # N
    return error / target.square().mean((1, 2, 3)).clamp_min(1e-12)


def style_loss(grams: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Squared error of Gram matrices over the target's squared norm, mean over the layers: (N,).

    Dividing by the target's norm lets paintings of very different contrast train evenly.
    """
    losses = []
    for layer, target in targets.items():
        error = (grams[layer] - target).square().sum((1, 2))
        losses.append(error / target.square().sum((1, 2)).clamp_min(1e-12))
    return torch.stack(losses).mean(0)


def diversity(features: Tensor, group: int = 2) -> Tensor:
    """How far each picture's features are from the nearest in its group, place by place: (N, C, H, W) to (N,).

    Groups are ``group`` pictures in a row, of one style. |a - b|^2 / (|a|^2 + |b|^2): 0 for equal pictures, 1 where
    no feature is met at the same place in both.
    """
    flat = features.float().unflatten(0, (-1, group)).flatten(2)  # N / group, group, C H W
    square = flat.square().sum(2)
    shared = 2 * torch.bmm(flat, flat.transpose(1, 2)) / (square[:, :, None] + square[:, None]).clamp_min(1e-12)
    itself = torch.eye(group, dtype=torch.bool, device=features.device)
    return 1 - shared.masked_fill(itself, -1.0).amax(2).flatten()


def diversity_loss(features: Tensor, group: int = 2) -> Tensor:
    """-log of `diversity`: 0 at best, and the steeper the more alike the pictures are (Ulyanov et al. 2017): (N,)."""
    return -diversity(features, group).clamp_min(1e-4).log()


def structure_loss(painted: Tensor, photos: Tensor, cell: int = 16) -> Tensor:
    """1 - the correlation of the light and dark of two pictures (N, 3, H, W), averaged over cells of ``cell`` px: (N,).

    The Gram loss asks for the painting's colours in the right amounts and does not say where, and the content
    loss sees no farther than 40 px, so a network with a wide view may lay large patches of colour across a
    picture. This keeps light places light and dark ones dark, whatever the palette. From 0 to 2.
    """
    light = []
    for red, green, blue in (x.float().split(1, 1) for x in (painted, photos)):
        light.append(F.avg_pool2d(0.299 * red + 0.587 * green + 0.114 * blue, cell).flatten(1))
    a, b = (x - x.mean(1, keepdim=True) for x in light)  # N, cells
    norm = (a.square().sum(1) * b.square().sum(1) + 1e-6).sqrt()
    return 1 - (a * b).sum(1) / norm


def style_statistics(features: Features, layers: Sequence[str] = STYLE_LAYERS) -> Tensor:
    """Log channel means and standard deviations at each layer, (N, 2 Σ C): what the style encoder reads.

    1e-3 is added before the logarithm: channels that a picture leaves dark count as equally dark.
    """
    parts = []
    for layer in layers:
        x = features[layer].float()
        mean = x.mean((2, 3), keepdim=True)  # N, C, 1, 1
        std = (x - mean).square().mean((2, 3)).sqrt()  # `torch.std` is several times slower on a CPU
        parts += [(mean[..., 0, 0] + DARK).log(), (std + DARK).log()]
    return torch.cat(parts, 1)


def resized_short_side(x: Tensor, size: int) -> Tensor:
    """(N, 3, H, W) with its shorter side ``size`` px, antialiased."""
    shape = short_side_shape(*x.shape[-2:], size)
    return F.interpolate(x, shape, mode="bicubic", antialias=True).clamp(0, 1) if shape != tuple(x.shape[-2:]) else x
