"""A generator in OpenVINO, from its configuration and weights as arrays. Without torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from stylenorm import architecture
from stylenorm.architecture import EPSILON, GeneratorConfig, padded_length
from stylenorm.compat import is_x86, openvino, openvino_core
from stylenorm.compiled import CompiledModel, Keep, has_bfloat16
from stylenorm.compiled import precision as settings_of
from stylenorm.errors import StylenormError

PRECISIONS = {"auto": "auto", "openvino": "float", "openvino-int8": "int8"}  # of the backends that are OpenVINO
FLOAT32_BYTES = 220  # a pixel, measured, see BENCHMARKS.md

Weights = Mapping[str, np.ndarray]  # by the names that a `Generator` gives them
Ranges = Mapping[str, np.ndarray]  # by the names of the convolutions: the largest value, but for a few, of each channel that goes in


class CompiledGraph:
    """The graph on the CPU.

    precision: "float" is bfloat16 where the processor computes in it, else float32. "int8" takes convolutions in 8 bits, by
    ranges, as `stylenorm.ranges.measured_ranges` gives them: a third of the time of float32, two thirds of bfloat16's, for
    a loss that is one to two hundredths higher. "auto" is that on x86 processors without bfloat16, and "float" on others.
    "bf16" and "f32" are for tests.

    It takes uint8 pixels and gives uint8 pixels, so that scaling and reordering run in it, too, and γ and β are an
    input, so one compiled graph serves every style, blend and picture size. Pictures of 16 bits have a graph of their
    own in float32, compiled when the first one comes, and so have those that are painted with given moments.

    keep: where to look for the graphs of another process, and to leave them for the next. Then ``weights`` and ``ranges`` may be
    functions that read them, which are called if one is not there. If the usual one is, a thread takes it from there, so that the
    caller can go on until the first picture; and if it turns out to be of no use then, the first picture may raise what
    these functions do.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        weights: Weights | Callable[[], Weights],
        threads: int | None = None,
        precision: str = "auto",
        ranges: Ranges | Callable[[], Ranges] | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.config, self._weights = config, weights
        if precision == "int8" and not ranges:
            raise StylenormError("this network cannot be computed in 8 bits: what it takes was not measured when it was trained")
        self.core = openvino_core()
        native = has_bfloat16(self.core)
        half = precision == "bf16" or (precision != "f32" and native)
        self._ranges = ranges if precision == "int8" or (precision == "auto" and is_x86() and not native) else None
        self.settings = settings_of(half)
        if threads:
            self.settings["INFERENCE_NUM_THREADS"] = threads
        self._keep = keep
        self._first = self._made(np.dtype(np.uint8), False, False, bool(self._ranges))
        self._others: dict[tuple[str, bool, bool, bool], CompiledModel] = {}
        self.lock = threading.Lock()
        self.bytes_per_pixel = 120 if half else FLOAT32_BYTES  # measured, see BENCHMARKS.md
        self.name = f"OpenVINO on cpu, {'int8' if self._ranges else 'bfloat16' if half else 'float32'}"

    @cached_property
    def weights(self) -> Weights:
        return self._weights() if callable(self._weights) else self._weights

    @cached_property
    def ranges(self) -> Ranges | None:
        return self._ranges() if callable(self._ranges) else self._ranges

    def __call__(self, picture: np.ndarray, style: np.ndarray) -> np.ndarray:
        """picture: uint8 or uint16 (H, W, 3), and so the painting. style: float32 (1, 2, T)."""
        return self._run(self._model(picture.dtype), picture, style)[0]

    def steer(
        self, picture: np.ndarray, style: np.ndarray, given: np.ndarray, share: float, fine: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `stylenorm.backends.Backend.steered`."""
        model = self._model(picture.dtype, steered=True, fine=fine)
        painted, own = self._run(model, picture, style, given[None], np.array([share], np.float32))
        return painted, own.reshape(-1, given.shape[1])[:2]

    def pool(self, pictures: np.ndarray, style: np.ndarray, given: np.ndarray, share: float) -> np.ndarray:
        """As `stylenorm.backends.Backend.pooled`."""
        model = self._model(pictures.dtype, steered=True, pooled=True)
        return model(self._padded(pictures), style, given[None], np.array([share], np.float32))[0].reshape(2, -1)

    @property
    def compiled(self):
        return self._first.model

    def prepare(self, dtype: np.dtype, steered: bool = False, fine: bool = True) -> None:
        """Wait for, or make, what pictures of ``dtype`` take: what raises for want of weights raises here."""
        _ = self._model(np.dtype(dtype), steered, fine=fine).model

    def _model(self, dtype: np.dtype, steered: bool = False, pooled: bool = False, fine: bool = True) -> CompiledModel:
        """For pictures of ``dtype``; all but the usual one is compiled when the first picture comes that takes it."""
        if dtype == np.uint8 and not steered:
            return self._first
        # Given moments leave maps as small as they are, in a picture of one colour far below a step of 8 bits.
        eight = bool(self._ranges) and dtype == np.uint8 and not (pooled or fine)
        kind = dtype.name, steered, pooled, eight
        with self.lock:
            if kind not in self._others:
                self._others[kind] = self._made(dtype, steered, pooled, eight)
            return self._others[kind]

    def _made(self, dtype: np.dtype, steered: bool, pooled: bool, eight: bool) -> CompiledModel:
        wide = {} if dtype == np.uint8 and not pooled else {"INFERENCE_PRECISION_HINT": "f32"}
        keep = None if pooled else self._keep  # what is asked for rarely would take the place of what is not
        about, sources = (eight, dtype.name, steered), (__file__, architecture.__file__)

        def graph():
            return openvino_graph(self.config, self.weights, dtype, steered, self.ranges if eight else None, pooled)

        return CompiledModel(graph, self.settings | wide, keep, sources, about)

    def _run(self, model: CompiledModel, picture: np.ndarray, style: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
        height, width = picture.shape[:2]
        out, *rest = model(self._padded(picture[None]), style, *more)
        return [out[0, :height, :width], *rest]

    def _padded(self, pictures: np.ndarray) -> np.ndarray:
        """(N, H, W, 3) with sides that are multiples of the stride."""
        for axis, length in enumerate(pictures.shape[1:3], 1):
            target = padded_length(length, self.config.stride)
            if target != length:
                pictures = pictures.take(_reflected_index(length, target), axis)
        return np.ascontiguousarray(pictures)


class GraphBackend:
    """A `stylenorm.backends.Backend` for styles without regions, of torch or not."""

    def __init__(self, graph: CompiledGraph) -> None:
        self.graph, self.name, self.bytes_per_pixel = graph, graph.name, graph.bytes_per_pixel

    def __call__(self, picture: np.ndarray, style) -> np.ndarray:
        return self.graph(picture, style.row())

    def steered(self, picture: np.ndarray, style, given: np.ndarray, share: float, fine: bool = True) -> tuple[np.ndarray, np.ndarray]:
        return self.graph.steer(picture, style.row(), given, share, fine)

    def pooled(self, pictures: np.ndarray, style, given: np.ndarray, share: float) -> np.ndarray:
        return self.graph.pool(pictures, style.row(), given, share)


def _reflected_index(length: int, target: int) -> np.ndarray:
    """As `stylenorm.generator.reflected_index`."""
    period = max(2 * (length - 1), 1)
    index = np.arange(target) % period
    return np.minimum(index, period - index) if length > 1 else np.zeros_like(index)


def openvino_graph(
    config: GeneratorConfig,
    weights: Weights,
    dtype: type = np.uint8,
    steered: bool = False,
    ranges: Ranges | None = None,
    pooled: bool = False,
):
    """`Generator.forward` in OpenVINO's operations: (1, H, W, 3) and (1, 2, T) float32 to (1, H, W, 3).

    dtype: of the pixels in and out, uint8 or uint16. H and W must be multiples of the generator's stride. A test
    holds it against the generator itself. steered adds the inputs and the output of `Backend.steered`: given
    (1, 2, T) and share (1,), and own (1, 2 T, 1, 1), behind which the γ and β that were used may follow. ranges: for
    convolutions in 8 bits (Jacob et al. 2018). pooled takes (N, H, W, 3) and gives what `Backend.pooled` does, alone,
    (1, 2 T, 1, 1); it is steered as well.
    """
    return _Graph(config, weights, steered, ranges, pooled).model(dtype)


class _Graph:
    """Goes the way of a generator's forward and writes down one operation for each step."""

    def __init__(self, config: GeneratorConfig, weights: Weights, steered: bool, ranges: Ranges | None, pooled: bool = False) -> None:
        openvino()
        import openvino.opset13 as ops

        self.ops, self.config, self.steered, self.ranges, self.pooled = ops, config, steered, ranges, pooled
        self.weights = {k: np.ascontiguousarray(v, np.float32) for k, v in weights.items()}
        self.names = iter(config.names)

    def model(self, dtype: type):
        white = np.float32(np.iinfo(dtype).max)

        ops, config = self.ops, self.config
        image = ops.parameter([-1 if self.pooled else 1, -1, -1, 3], dtype, name="image")
        total = sum(config.channels)
        style = ops.parameter([1, 2, total], np.float32, name="style")
        inputs = [image, style]
        self.pairs = self.columns(style)
        if self.steered:
            given, self.share = ops.parameter([1, 2, total], np.float32, name="given"), ops.parameter([1], np.float32, name="share")
            inputs += [given, self.share]
            self.given, self.own = self.columns(given), []

        x = ops.transpose(ops.convert(image, "f32"), np.array([0, 3, 1, 2]))
        x = ops.space_to_depth(ops.multiply(x, np.float32(1 / white)), "depth_first", 2)
        x = self.relu(self.styled(x))
        skips = []
        for _ in config.widths[1:]:
            skips.append(x)
            x = self.relu(self.styled(x, stride=2))
        for _ in range(config.blocks[-1]):
            x = self.residual(x)
        for blocks in config.blocks[-2::-1]:
            x = self.relu(ops.add(self.styled(self.double(x)), skips.pop()))
            for _ in range(blocks):
                x = self.residual(x)
        x = self.convolution(x, "out", *_folded(self.weights["out.weight"], self.weights["out.bias"]))
        x = ops.depth_to_space(ops.sigmoid(x), "depth_first", 2)
        x = ops.transpose(ops.add(ops.multiply(x, white), np.float32(0.5)), np.array([0, 2, 3, 1]))
        results = [ops.result(ops.convert(x, "u8" if dtype == np.uint8 else "u16"))]
        if self.steered:
            own = [m for kind in zip(*self.own) for m in kind]  # every mean, then every variance; γ and β so that they are float32
            results = [*results, ops.result(ops.concat(own, 1))][self.pooled :]
        return openvino().Model(results, inputs, "stylenorm")

    def columns(self, rows):
        """Of an input (1, 2, T): the two (1, C, 1, 1) of each normalization, in the generator's order."""
        channels = self.config.channels
        whole = self.ops.reshape(rows, np.array([1, 2 * sum(channels), 1, 1]), False)
        parts = self.ops.variadic_split(whole, 1, np.array(channels * 2, np.int64))
        return iter([(parts.output(i), parts.output(len(channels) + i)) for i in range(len(channels))])

    def alone(self, t, channels: int):
        """The same (1, C, 1, 1), by a convolution with ones.

        OpenVINO multiplies a map, adds to it and rectifies it in one pass where what comes in is no two outputs of one operation,
        and lies in memory as convolutions have it. And what it computes in bfloat16 ends at a convolution.
        """
        ones = np.ones((channels, 1, 1, 1, 1), np.float32)
        return self.ops.group_convolution(t, self.ops.constant(ones), [1, 1], [0, 0], [0, 0], [1, 1])

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

    def residual(self, x):
        return self.ops.add(x, self.styled(self.relu(self.styled(x))))

    def convolution(self, x, name: str, weight: np.ndarray, bias: np.ndarray | None = None, stride: int = 1):
        ops = self.ops
        one = np.array([0, 0, 1, 1])
        # Given as an array, it would become a list of Python numbers on the way.
        x, weight = self.quantized(x, weight, self.ranges[name]) if self.ranges else (x, ops.constant(weight))
        x = ops.pad(x, one, one, "reflect")
        x = ops.convolution(x, weight, [stride, stride], [0, 0], [0, 0], [1, 1])
        return x if bias is None else ops.add(x, bias.reshape(1, -1, 1, 1))

    def quantized(self, x, weight: np.ndarray, largest: np.ndarray):
        """A convolution's map in 8 bits, and its weight in 7: processors without VNNI add up two products in 16.

        Each channel of the map is brought to the same range, from 0 or -1 to 1, and its column of the weight takes the factor.
        """
        low = 0.0 if x.get_type_name() in ("Relu", "SpaceToDepth") else -1.0  # the picture and what is rectified have no sign
        low = np.float32(low * 128 / 127)
        largest = largest.astype(np.float32).reshape(1, -1, 1, 1)
        weight = weight * largest
        most = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), np.float32(1e-12)) * 2  # so that half of 255 levels is used
        return (
            self.rounded(x, low * largest, largest, low, np.float32(1), 256),
            self.rounded(weight, -most, most, -most, most, 255),
        )

    def rounded(self, x, *more):
        """levels of equal distance: x from low to high becomes what they are from the new low to the new high."""
        *bounds, levels = more
        constant = self.ops.constant
        return self.ops.fake_quantize(constant(x) if isinstance(x, np.ndarray) else x, *map(constant, bounds), levels)

    def styled(self, x, stride: int = 1):
        (gamma, beta), name = next(self.pairs), next(self.names)
        weight = self.weights[f"{name}.conv.weight"]
        x, channels = self.convolution(x, name, weight, stride=stride), len(weight)
        if self.steered and self.config.norm != "batch":
            x, gamma, beta = self.steered_normalized(x, channels, gamma, beta)
        else:
            if self.steered:
                self.own.append(next(self.given))
            x = self.normalized(x, f"{name}.norm")
        return self.ops.add(self.ops.multiply(x, self.alone(gamma, channels)), self.alone(beta, channels))

    def steered_normalized(self, x, channels: int, gamma, beta):
        """The map normalized, and the γ and β with which it is as if moments partly given, partly its own had been stripped.

        So it is computed in bfloat16 where the rest is; only means and variances are wanted more exactly. They are float32 all along, as
        OpenVINO leaves what lies between the last convolution and a result as it is.
        """
        ops = self.ops
        if self.ranges:  # else OpenVINO takes the mean before it scales what a convolution in 8 bits has made, and not after
            x = ops.clamp(x, -1e30, 1e30)
        own, given = self.moments(x, channels), next(self.given)
        mean, var = (ops.add(g, ops.multiply(ops.subtract(o, g), self.share)) for g, o in zip(given, own))
        deviation, owned = (ops.sqrt(ops.add(v, np.float32(EPSILON))) for v in (var, own[1]))
        if self.pooled:  # pictures that share moments, which no operation normalizes by
            self.own.append((mean, var))
            return ops.divide(ops.subtract(x, mean), deviation), gamma, beta
        beta = ops.add(beta, ops.multiply(gamma, ops.divide(ops.subtract(own[0], mean), deviation)))
        gamma = ops.multiply(gamma, ops.divide(owned, deviation))
        self.own.append((*own, gamma, beta))
        return self.normalized(x), gamma, beta

    def moments(self, x, channels: int):
        """Mean and variance as (1, C, 1, 1), whichever channels, and if pooled pictures, share them."""
        ops = self.ops
        groups = {"instance": channels, "layer": 1, "group": self.config.num_groups}[self.config.norm]

        def shared(t):  # (1, C, 1, 1) averaged over the channels of a group
            if groups == channels:
                return t
            t = ops.reduce_mean(ops.reshape(t, np.array([1, groups, -1, 1]), False), np.array([2]), True)
            t = ops.broadcast(t, np.array([1, groups, channels // groups, 1]))
            return ops.reshape(t, np.array([1, channels, 1, 1]), False)

        def average(t):
            return self.average_of_all(t) if self.pooled else self.average(t, channels)

        mean = average(x)
        var = average(ops.squared_difference(x, mean))
        if groups == channels:
            return mean, var
        common = shared(mean)
        return common, shared(ops.add(var, ops.squared_difference(mean, common)))

    def average(self, x, channels: int):
        """(1, C, H, W) to (1, C, 1, 1). Along rows in bfloat16 where all is, and these errors go out in the float32 mean over them."""
        ops = self.ops
        return ops.reduce_mean(self.alone(ops.reduce_mean(x, np.array([3]), True), channels), np.array([2]), True)

    def average_of_all(self, x):
        """(N, C, H, W) to (1, C, 1, 1), one axis after another: float32 has too few digits for one sum of so many.

        With a reshape in between, for OpenVINO makes one of two averages.
        """
        ops = self.ops
        x = ops.reduce_mean(x, np.array([3]), True)
        x = ops.reduce_mean(ops.reshape(x, np.array([0, 0, -1]), True), np.array([2]), True)
        x = ops.reduce_mean(ops.reshape(x, np.array([0, -1]), True), np.array([0]), True)
        return ops.reshape(x, np.array([1, -1, 1, 1]), False)

    def normalized(self, x, name: str | None = None):
        ops, kind, groups = self.ops, self.config.norm, self.config.num_groups
        if kind == "batch":
            scale = 1 / np.sqrt(self.weights[f"{name}.running_var"] + np.float32(EPSILON))
            shift = -self.weights[f"{name}.running_mean"] * scale
            return ops.add(ops.multiply(x, scale.reshape(1, -1, 1, 1)), shift.reshape(1, -1, 1, 1))
        if kind == "group":
            shape = ops.shape_of(x)
            x = ops.reshape(x, np.array([0, groups, -1]), True)
            return ops.reshape(ops.mvn(x, np.array([2]), True, EPSILON, "inside_sqrt"), shape, False)
        axes = {"instance": [2, 3], "layer": [1, 2, 3]}[kind]
        return ops.mvn(x, np.array(axes), True, EPSILON, "inside_sqrt")


def _folded(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """As `stylenorm.generator.UnfoldingConv.folded`."""
    count = np.arange(5)
    position = (count + count[:2, None]) // 2
    taps = (position[:, None] == count[:3, None]).astype(np.float32)
    folded = np.einsum("dckl,pik,qjl->dpqcij", weight, taps, taps)
    return folded.reshape(-1, *folded.shape[3:]), bias.repeat(4)
