"""What runs a generator: torch anywhere, or OpenVINO, which is several times quicker on a CPU."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from stylenorm.compat import openvino
from stylenorm.device import gpu_bfloat16
from stylenorm.errors import StylenormError
from stylenorm.functional import moments
from stylenorm.generator import Generator, ResidualBlock, StyledConv, padded_length, reflected_index
from stylenorm.style import Style


FLOAT32_BYTES = 220  # a pixel, measured, see BENCHMARKS.md


class Backend(Protocol):
    """Something that paints. ``name`` is for people; ``bytes_per_pixel`` of a picture is the memory that it takes at most."""

    name: str
    bytes_per_pixel: int

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        """uint8 (H, W, 3) to uint8 (H, W, 3), or uint16 to uint16, which takes `FLOAT32_BYTES` a pixel."""

    def steered(self, picture: np.ndarray, style: Style, given: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """The same, stripping ``share`` of the picture's own moments and 1 - ``share`` of the ``given`` ones.

        given: (2, T) float32, mean and variance of all T channels in the generator's order. Returns the painting
        and the picture's own moments, alike, as each normalization met them.
        """

    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        """What `steered` strips, (2, T), where the moments are those of several pictures (N, H, W, 3) together.

        Each normalization meets what those before it have made with common moments. So all of them fit together, and
        a picture can be painted by them alone.
        """


class TorchBackend:
    """The generator as it is. bfloat16 on CUDA for pictures of 8 bits; float32 elsewhere."""

    bytes_per_pixel = FLOAT32_BYTES
    pixels_together = 1_048_576  # in one pass of several small pictures, which gains with torch: see BENCHMARKS.md

    def __init__(self, generator: Generator, device: torch.device) -> None:
        self.device = device
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.half = gpu_bfloat16(device)
        self.name = f"torch on {device}, {'bfloat16' if self.half else 'float32'}"

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        return self._paint(picture[None], style, None)[0]

    def together(self, pictures: np.ndarray, style: Style) -> np.ndarray:
        """(N, H, W, 3) to the same: pictures of one size in one pass."""
        return self._paint(pictures, style, None)

    def steered(self, picture: np.ndarray, style: Style, given: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        config, own = self.generator.config, []
        given = torch.tensor(given, device=self.device).split(list(config.channels), 1)

        def mixed(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
            own.append(torch.stack([m.expand(1, x.shape[1], 1, 1).flatten() for m in moments(x, config.norm, config.num_groups)]))
            return tuple(torch.lerp(given[index], own[index], share)[:, None, :, None, None])

        steer = None if config.norm == "batch" else mixed  # its moments are the same for every picture
        painted = self._paint(picture[None], style, steer)[0]
        return painted, torch.cat(own or list(given), 1).cpu().numpy()

    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        config, stripped = self.generator.config, []
        given = torch.tensor(given, device=self.device).split(list(config.channels), 1)

        def together(index: int, x: Tensor) -> tuple[Tensor, Tensor]:
            mean, var = moments(x, config.norm, config.num_groups)
            var = var.mean(0) + mean.var(0, correction=0)  # within the pictures and between them
            own = torch.stack([m.expand(x.shape[1], 1, 1).flatten() for m in (mean.mean(0), var)])
            stripped.append(torch.lerp(given[index], own, share))
            return tuple(stripped[-1][:, None, :, None, None])

        if config.norm != "batch":
            self._paint(pictures, style, together)
        return torch.cat(stripped or list(given), 1).cpu().numpy()

    @torch.inference_mode()
    def _paint(self, pictures: np.ndarray, style: Style, steer) -> np.ndarray:
        white = np.iinfo(pictures.dtype).max
        pixels = np.array(pictures, np.uint8 if white == 255 else np.int32)  # no device computes in uint16
        x = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)  # N, 3, H, W, channels-last
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and white == 255):
            y = self.generator(x.float() / white, style.to(self.device), steer)
        y = (y.float() * white + 0.5).clamp(0, white).to(torch.uint8 if white == 255 else torch.int32)
        return y.permute(0, 2, 3, 1).contiguous().cpu().numpy().astype(pictures.dtype, copy=False)


class OpenVINOBackend:
    """The generator's graph in OpenVINO, on the CPU, in bfloat16 where the processor computes in it.

    The graph takes uint8 pixels and gives uint8 pixels, so that scaling and reordering run in it, too, and γ
    and β are an input, so one compiled graph serves every style, blend and picture size. A style with regions,
    which has a γ and β for each position, goes through torch. Pictures of 16 bits have a graph of their own in
    float32, compiled when the first one comes.
    """

    pixels_together = 0  # one after another is as quick

    def __init__(self, generator: Generator, threads: int | None = None, precision: str = "auto") -> None:
        core = self.core = openvino().Core()
        native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        half = precision == "bf16" or (precision == "auto" and native)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if half else "f32"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        self.settings, self.generator, self._steered = settings, generator, None
        self.stride = generator.config.stride
        self.regional = TorchBackend(generator, torch.device("cpu"))
        self.compiled = core.compile_model(openvino_graph(generator), "CPU", settings)
        self.compile_deep = lambda: core.compile_model(
            openvino_graph(generator, np.uint16), "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"}
        )
        self.deep, self.lock = None, threading.Lock()
        self.bytes_per_pixel = 120 if half else FLOAT32_BYTES  # measured, see BENCHMARKS.md
        self.name = f"OpenVINO on cpu, {'bfloat16' if half else 'float32'}"

    def __call__(self, picture: np.ndarray, style: Style) -> np.ndarray:
        if style.has_regions:
            return self.regional(picture, style)
        return self._run(self._compiled_for(picture.dtype), picture, style)[0]

    def steered(self, picture: np.ndarray, style: Style, given: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        if style.has_regions:
            return self.regional.steered(picture, style, given, share)
        painted, own = self._run(self._steered_graph(), picture, style, given[None], np.array([share], np.float32))
        return painted, own.reshape(2, -1)

    def pooled(self, pictures: np.ndarray, style: Style, given: np.ndarray, share: float) -> np.ndarray:
        return self.regional.pooled(pictures, style, given, share)

    def _steered_graph(self):
        with self.lock:
            if self._steered is None:
                self._steered = self.core.compile_model(openvino_graph(self.generator, steered=True), "CPU", self.settings)
            return self._steered

    def _run(self, compiled, picture: np.ndarray, style: Style, *more: np.ndarray) -> list[np.ndarray]:
        height, width = picture.shape[:2]
        padded = picture
        for axis, length in enumerate((height, width)):
            target = padded_length(length, self.stride)
            if target != length:
                padded = padded.take(reflected_index(length, target, torch.device("cpu")).numpy(), axis)
        request = compiled.create_infer_request()  # one a call: several threads may paint at once
        found = request.infer([np.ascontiguousarray(padded)[None], style.flat().float().cpu().numpy(), *more])
        out, *rest = (found[port] for port in compiled.outputs)
        return [out[0, :height, :width].copy(), *(r.copy() for r in rest)]

    def _compiled_for(self, dtype: np.dtype):
        if dtype == np.uint8:
            return self.compiled
        with self.lock:
            self.deep = self.deep or self.compile_deep()
            return self.deep


def openvino_graph(generator: Generator, dtype: type = np.uint8, steered: bool = False):
    """`Generator.forward` in OpenVINO's operations: (1, H, W, 3) and (1, 2, T) float32 to (1, H, W, 3).

    dtype: of the pixels in and out, uint8 or uint16. H and W must be multiples of the generator's stride. A test
    holds it against the generator itself. steered adds the inputs and the output of `Backend.steered`: given
    (1, 2, T) and share (1,), and own (1, 2 T, 1, 1).
    """
    return _Graph(generator, steered).model(dtype)


class _Graph:
    """Walks a generator's modules in the order of its forward and writes down one operation for each step."""

    def __init__(self, generator: Generator, steered: bool) -> None:
        openvino()
        import openvino.opset13 as ops

        self.ops, self.generator, self.steered = ops, generator, steered

    def model(self, dtype: type):
        white = np.float32(np.iinfo(dtype).max)

        ops, generator = self.ops, self.generator
        image = ops.parameter([1, -1, -1, 3], dtype, name="image")
        total = sum(generator.config.channels)
        style = ops.parameter([1, 2, total], np.float32, name="style")
        inputs = [image, style]
        self.pairs = self.columns(style)
        if self.steered:
            given, self.share = ops.parameter([1, 2, total], np.float32, name="given"), ops.parameter([1], np.float32, name="share")
            inputs += [given, self.share]
            self.given, self.own = self.columns(given), []

        x = ops.transpose(ops.convert(image, "f32"), np.array([0, 3, 1, 2]))
        x = ops.space_to_depth(ops.multiply(x, np.float32(1 / white)), "depth_first", 2)
        x = self.relu(self.styled(x, generator.stem))
        skips = []
        for down in generator.down:
            skips.append(x)
            x = self.relu(self.styled(x, down))
        for block in generator.deep:
            x = self.residual(x, block)
        for up, wide in zip(generator.up, generator.wide):
            x = self.relu(ops.add(self.styled(self.double(x), up), skips.pop()))
            for block in wide:
                x = self.residual(x, block)
        x = self.convolution(x, *generator.out.folded())
        x = ops.depth_to_space(ops.sigmoid(x), "depth_first", 2)
        x = ops.transpose(ops.add(ops.multiply(x, white), np.float32(0.5)), np.array([0, 2, 3, 1]))
        results = [ops.result(ops.convert(x, "u8" if dtype == np.uint8 else "u16"))]
        if self.steered:
            own = [m for kind in zip(*self.own) for m in kind]  # every mean, then every variance
            results.append(ops.result(ops.concat(own, 1)))
        return openvino().Model(results, inputs, "stylenorm")

    def columns(self, rows):
        """Of an input (1, 2, T): the two (1, C, 1, 1) of each normalization, in the generator's order."""
        channels = self.generator.config.channels
        whole = self.ops.reshape(rows, np.array([1, 2 * sum(channels), 1, 1]), False)
        parts = self.ops.variadic_split(whole, 1, np.array(channels * 2, np.int64))
        return iter([(parts.output(i), parts.output(len(channels) + i)) for i in range(len(channels))])

    def relu(self, x):
        return self.ops.relu(x)

    def double(self, x):
        return self.ops.interpolate(
            x,
            np.array([2.0, 2.0], np.float32),
            "linear_onnx",
            "scales",
            coordinate_transformation_mode="half_pixel",
            axes=np.array([2, 3]),
        )

    def residual(self, x, block: ResidualBlock):
        return self.ops.add(x, self.styled(self.relu(self.styled(x, block.first)), block.second))

    def convolution(self, x, weight: Tensor, bias: Tensor | None = None, stride: tuple[int, int] = (1, 1)):
        ops = self.ops
        one = np.array([0, 0, 1, 1])
        x = ops.pad(x, one, one, "reflect")
        x = ops.convolution(x, _numpy(weight), list(stride), [0, 0], [0, 0], [1, 1])
        return x if bias is None else ops.add(x, _numpy(bias).reshape(1, -1, 1, 1))

    def styled(self, x, layer: StyledConv):
        gamma, beta = next(self.pairs)
        x = self.convolution(x, layer.conv.weight, stride=layer.conv.stride)
        x = (self.stripped if self.steered else self.normalized)(x, layer.norm)
        return self.ops.add(self.ops.multiply(x, gamma), beta)

    def stripped(self, x, norm):
        """The normalization with moments that are partly given, partly the map's own."""
        ops, given = self.ops, next(self.given)
        if norm.kind == "batch":
            self.own.append(given)
            return self.normalized(x, norm)
        own = self.moments(x, norm)
        self.own.append(own)
        mean, var = (ops.add(g, ops.multiply(ops.subtract(o, g), self.share)) for g, o in zip(given, own))
        scale = ops.power(ops.add(var, np.float32(norm.eps)), np.float32(-0.5))
        return ops.multiply(ops.subtract(x, mean), scale)

    def moments(self, x, norm):
        """Mean and variance as (1, C, 1, 1), whichever channels share them."""
        ops, channels = self.ops, norm.num_features
        space = np.array([2, 3])
        groups = {"instance": channels, "layer": 1, "group": norm.num_groups}[norm.kind]

        def shared(t):  # (1, C, 1, 1) averaged over the channels of a group
            if groups == channels:
                return t
            t = ops.reduce_mean(ops.reshape(t, np.array([1, groups, -1, 1]), False), np.array([2]), True)
            t = ops.broadcast(t, np.array([1, groups, channels // groups, 1]))
            return ops.reshape(t, np.array([1, channels, 1, 1]), False)

        mean = shared(ops.reduce_mean(x, space, True))
        centred = ops.subtract(x, mean)
        return mean, shared(ops.reduce_mean(ops.multiply(centred, centred), space, True))

    def normalized(self, x, norm):
        ops = self.ops
        if norm.kind == "batch":
            scale = torch.rsqrt(norm.running_var + norm.eps)
            shift = -norm.running_mean * scale
            return ops.add(ops.multiply(x, _numpy(scale).reshape(1, -1, 1, 1)), _numpy(shift).reshape(1, -1, 1, 1))
        if norm.kind == "group":
            shape = ops.shape_of(x)
            x = ops.reshape(x, np.array([0, norm.num_groups, -1]), True)
            return ops.reshape(ops.mvn(x, np.array([2]), True, norm.eps, "inside_sqrt"), shape, False)
        axes = {"instance": [2, 3], "layer": [1, 2, 3]}[norm.kind]
        return ops.mvn(x, np.array(axes), True, norm.eps, "inside_sqrt")


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


def choose_backend(name: str, generator: Generator, device: torch.device) -> Backend:
    """"auto" is OpenVINO on a CPU where it is installed, else torch."""
    if name not in ("auto", "torch", "openvino"):
        raise StylenormError(f"no backend {name!r}; choose auto, torch or openvino")
    if name == "openvino" and device.type != "cpu":
        raise StylenormError(f"the openvino backend computes on the cpu, not on {device}; use --backend torch there")
    if name == "torch" or device.type != "cpu":
        return TorchBackend(generator, device)
    try:
        return OpenVINOBackend(generator)
    except ImportError:
        if name == "openvino":
            raise StylenormError("openvino is not installed; pip install openvino, or use --backend torch") from None
        return TorchBackend(generator, device)
