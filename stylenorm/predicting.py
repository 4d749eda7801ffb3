"""The style of any painting, without torch: VGG-16 in OpenVINO, and a network's style encoder in numpy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from stylenorm import architecture
from stylenorm.architecture import CLAMP, DARK, FARTHEST, VGG_MEAN, VGG_SEEN
from stylenorm.bands import BAND
from stylenorm.compat import openvino, openvino_core
from stylenorm.compiled import CompiledModel, Keep, has_bfloat16, precision
from stylenorm.tensors import short_side_shape

STYLE_SIZE = 384  # px, short side at which a painting is read unless the caller says otherwise
MOST = 4.0  # sides of what is read of it, to 1

Arrays = Mapping[str, np.ndarray]


class Predictor:
    """γ and β that an encoder predicts for a picture, as `stylenorm.style.StyleEncoder` and `stylenorm.perceptual` do with torch.

    bfloat16 where the processor computes in it, else float32: the encoder has learned from statistics in bfloat16.

    encoder: its arrays by the names that a `StyleEncoder` gives them. vgg: VGG-16's features in torchvision's layout. Both may be
    of any floating type, or functions that read them. ``encoder`` is called by a thread, at once; ``vgg`` unless the compiled model
    is found by ``keep``, see `stylenorm.compiled.CompiledModel`. What they raise, the first call raises, or this.
    """

    def __init__(
        self, encoder: Arrays | Callable[[], Arrays], vgg: Arrays | Callable[[], Arrays], keep: Keep | None = None, half: bool | None = None
    ) -> None:
        self._encoder, self._error = encoder, None
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        half = in_half() if half is None else half
        self._vgg = CompiledModel(
            lambda: statistics_graph(vgg() if callable(vgg) else vgg), precision(half), keep, (__file__, architecture.__file__)
        )

    def __call__(self, rgb: Image.Image, size: int = STYLE_SIZE) -> np.ndarray:
        """An "RGB" picture to (1, 2, T) float32, γ, then β. size: its short side in px as VGG sees it."""
        return self.from_statistics(self.statistics(rgb, size))

    def statistics(self, rgb: Image.Image, size: int) -> np.ndarray:
        """(1, D), as `stylenorm.perceptual.style_statistics`."""
        seen = (small_array(rgb, size) - np.array(VGG_MEAN, np.float32)) * np.float32(255)  # here, and not in bfloat16
        return self._vgg(seen)[0].reshape(1, -1)

    def from_statistics(self, statistics: np.ndarray) -> np.ndarray:
        """As `stylenorm.style.StyleEncoder.forward`."""
        self._reading.join()
        if self._error:
            raise self._error
        values = self._encoder
        x = np.clip((statistics - values["mean"]) / values["std"], -CLAMP, CLAMP)
        x = x * (FARTHEST / max(FARTHEST, float(np.sqrt(np.square(x).mean()))))
        for layer in ("layers.0", "layers.2", "layers.4"):
            x = x @ values[f"{layer}.weight"].T + values[f"{layer}.bias"]
            if layer != "layers.4":
                x = x * (0.5 + 0.5 * np.tanh(x / 2))  # SiLU, and nothing overflows
        flat = x.reshape(1, 2, -1)
        flat[:, 0] += 1
        return flat

    def _read(self) -> None:
        try:
            arrays = self._encoder() if callable(self._encoder) else self._encoder
            self._encoder = {name: value.astype(np.float32, copy=False) for name, value in arrays.items()}
        except Exception as error:  # noqa: BLE001: raised again where somebody waits for it
            self._error = error


def in_half() -> bool:
    """Whether VGG is computed in bfloat16 here."""
    return has_bfloat16(openvino_core())


def small_array(rgb: Image.Image, size: int, most: float = MOST) -> np.ndarray:
    """What an encoder sees: (1, h, w, 3) float32 in [0, 1], its shorter side ``size`` px, antialiased; of a scroll, the middle.

    Sides are at most ``most`` to 1, so that a painting's short side sets the cost. First along the rows, and these in bands:
    floats of a large picture are many, and Pillow warns of large crops. Bicubic as torch's, in floats.
    """
    width, height = min(rgb.width, round(rgb.height * most)), min(rgb.height, round(rgb.width * most))
    left, upper = (rgb.width - width) // 2, (rgb.height - height) // 2
    tops = range(upper, upper + height, BAND)
    bands = [rgb.crop((left, top, left + width, min(top + BAND, upper + height))) for top in tops]
    rows, columns = short_side_shape(height, width, size)
    if (rows, columns) == (height, width):
        return np.concatenate([np.asarray(band, np.float32) for band in bands])[None] / 255
    channels = []
    for channel in range(3):
        narrow = [np.asarray(_resized(band.getchannel(channel).convert("F"), columns, band.height)) for band in bands]
        channels.append(np.asarray(_resized(Image.fromarray(np.concatenate(narrow)), columns, rows)))
    return np.clip(np.stack(channels, 2)[None] / 255, 0, 1, dtype=np.float32)


def _resized(image: Image.Image, width: int, height: int) -> Image.Image:
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)


def statistics_graph(vgg: Arrays):
    """What VGG takes, (1, H, W, 3) float32, to what `stylenorm.perceptual.style_statistics` tells of it, (1, D, 1, 1)."""
    openvino()
    import openvino.opset13 as ops

    arrays = {name.removeprefix("features."): np.ascontiguousarray(value, np.float32) for name, value in vgg.items()}
    image = ops.parameter([1, -1, -1, 3], np.float32, name="image")
    x = ops.transpose(image, np.array([0, 3, 1, 2]))
    one, space, told, index = [1, 1], np.array([2, 3]), [], 0
    for step, following in zip(VGG_SEEN, (*VGG_SEEN[1:], "pool")):
        if step == "pool":
            x, index = ops.max_pool(x, [2, 2], one, [0, 0], [0, 0], [2, 2]).output(0), index + 1
            continue
        weight, bias = arrays[f"{index}.weight"], arrays[f"{index}.bias"]
        x = ops.relu(ops.add(ops.convolution(x, ops.constant(weight), one, one, one, one), bias.reshape(1, step, 1, 1)))
        index += 2
        if following == "pool":
            mean = ops.reduce_mean(x, space, True)
            centred = ops.subtract(x, mean)
            told += [mean, ops.sqrt(ops.reduce_mean(ops.multiply(centred, centred), space, True))]
    return openvino().Model([ops.result(ops.log(ops.add(ops.concat(told, 1), np.float32(DARK))))], [image], "statistics")
