"""`Stylizer`: photographs in, paintings out. What the command line and the app are thin over."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylenorm.backends import FLOAT32_BYTES, choose_backend
from stylenorm.catalog import StyleEntry, network_file, style_entries, unknown_style, vgg_file
from stylenorm.checkpoint import load_network, load_style
from stylenorm.device import choose_device
from stylenorm.errors import ImageError, StyleError, StylenormError
from stylenorm.generator import pad_to
from stylenorm.images import Picture, fit, keep_color, read_picture, recolored, resized, rewrap, to_tensor
from stylenorm.masks import mask_tensor
from stylenorm.perceptual import VGGFeatures, resized_short_side, style_statistics
from stylenorm.plots import sheet
from stylenorm.steady import Pool, Steady
from stylenorm.style import Style, blend, interpolate
from stylenorm.style import regions as blend_regions

STYLE_SIZE = 384  # px, short side at which a painting is read unless the caller says otherwise
SMOOTHING = 0.8  # of films, the share of the past
AROUND = 50  # bytes a pixel that strength and colours take beside the backend, measured: see BENCHMARKS.md


class Stylizer:
    """A network, its styles, and a device to paint on.

    weights: a folder with network.safetensors and styles/, or a network file; by default the shipped ones.
    device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda" or "mps".
    backend: "auto" (OpenVINO on a CPU, torch elsewhere), "torch" or "openvino".

    Safe to call from several threads at once: nothing of one call is kept for the next.
    Raises `StylenormError`, in one sentence, for what a caller can put right.
    """

    def __init__(self, weights: str | Path | None = None, device: str = "auto", backend: str = "auto") -> None:
        self._file = network_file(weights)
        self._network = load_network(self._file)
        self._device = choose_device(device)
        self._backend = choose_backend(backend, self._network.generator, self._device)
        self._lock = threading.Lock()
        self._loaded: dict[str, Style] = {}
        self._vgg: VGGFeatures | None = None
        self.styles: dict[str, StyleEntry] = {e.name: e for e in style_entries(self._file)}

    def describe(self) -> str:
        """Backend, device and precision, for people."""
        return self._backend.name

    def style(self, name: str) -> Style:
        """A named style. An unknown name raises `StyleError`, with the nearest known ones."""
        if name not in self.styles:
            raise StyleError(unknown_style(name, self.styles))
        if name not in self._loaded:
            self._loaded[name] = load_style(self.styles[name].file, self._network.hash)
        return self._loaded[name]

    @torch.inference_mode()
    def style_from(self, painting, size: int | None = None) -> Style:
        """The style of any painting: a path, a PIL image, an array, or a `Picture`.

        size: the painting's short side in px as the network sees it (default 384). Smaller gives coarser
        strokes relative to the painting's forms, larger gives finer ones.
        """
        size = STYLE_SIZE if size is None else size
        if not 32 <= size <= 2048:
            raise StyleError(f"a style size must lie between 32 and 2048 px, not {size}")
        picture = painting if isinstance(painting, Picture) else read_picture(painting)
        return self._predicted(picture.rgb, size, Path(picture.name).stem)

    def stylize(
        self,
        image,
        style,
        strength: float = 1.0,
        preserve_color: bool = False,
        size: int | None = None,
        strip: bool = False,
    ) -> Image.Image:
        """Paint a photograph.

        image: a path, a PIL image or an array. style: a name, ``{name: weight}``, a `Style`, what `style_from`
        returned, or a sequence of (name or `Style`, weight). strength: from 0, the photograph itself, to 1; γ
        and β move from the photograph's own predicted style to the wanted one. preserve_color keeps the
        photograph's colours and takes the painting's light and dark. size: longer side of the result in px;
        without it the result has the photograph's size. strip: without the photograph's EXIF, so that nobody
        learns from it when and where it was taken.

        Returns a PIL image, upright, with the photograph's transparency, colour profile and EXIF in its
        ``info``; `stylenorm.images.write_picture` writes them into the file. A photograph of 16 bits is painted
        in 16 bits, which are there as well, for PNG and TIFF.
        """
        _check_options(strength, size)
        wanted = self.resolve(style)
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = picture.rgb if size is None else fit(picture.rgb, size)
        self._check_memory(photo, picture.name, deep=picture.deep is not None)
        self._check_regions(wanted, photo)
        if picture.deep is None:
            painted = self._paint(photo, wanted, strength)
            painted = keep_color(painted, photo) if preserve_color else painted
        else:
            pixels = resized(picture.deep[..., :3], photo.size)
            painted = self._painted(pixels, photo, wanted, strength)
            painted = recolored(painted, pixels) if preserve_color else painted
        return rewrap(picture, painted, strip=strip)

    def stream(
        self,
        style,
        strength: float = 1.0,
        preserve_color: bool = False,
        size: int | None = None,
        smoothing: float = SMOOTHING,
        fixed=None,
    ) -> Stream:
        """Paints the frames of one film, one after another, so that what holds still in them holds still painted.

        The arguments are those of `stylize`. smoothing: from 0, each frame by itself, to below 1, see
        `stylenorm.steady.Steady`. fixed: moments for all frames, `Stream.pooled` of a stream that has surveyed them.
        """
        _check_options(strength, size)
        if not 0 <= smoothing < 1:
            raise StyleError(f"smoothing must lie between 0 and 1, and below 1, not {smoothing}")
        steady = Steady(smoothing, self._network.generator.config.stride, fixed)
        return Stream(self, self.resolve(style), strength, preserve_color, size, steady)

    def region_style(self, regions: Sequence[tuple[object, object]], size: tuple[int, int]) -> Style:
        """A style that differs from place to place, for pictures of ``size`` = (width, height) px.

        regions: (style, mask) pairs. A style is anything that `stylize` takes. A mask says how much of it is
        wanted where: a PIL image (white: all) or an array (H, W) from 0 up, of any size. Masks are divided by
        their sum, so a soft edge is a soft change; a pixel that no mask covers takes the first style.
        """
        if not regions:
            raise StyleError("regions need at least one style with its mask")
        width, height = size
        masks = [mask_tensor(mask, (height, width)) for _, mask in regions]
        masks[0] = torch.where(sum(masks) > 0, masks[0], torch.ones(()))
        generator = self._network.generator
        padded = pad_to(torch.stack(masks)[None], generator.config.stride)[0]
        return blend_regions([self.resolve(s) for s, _ in regions], padded, generator.region_sizes(height, width))

    def sheet(self, image, names: Sequence[str] | None = None, tile: int = 384, columns: int = 5) -> Image.Image:
        """The photograph and every style (or ``names``) on it, labelled, each ``tile`` px at its longer side."""
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = fit(picture.rgb, tile)
        names = list(names or self.styles)
        styles = [self.style(n) for n in names]
        return sheet([photo, *(self._paint(photo, s, 1.0) for s in styles)], ["photograph", *names], columns)

    def resolve(self, style) -> Style:
        """A `Style` from whatever `stylize` takes for one."""
        if isinstance(style, Style):
            self._check_style(style)
            return style
        if isinstance(style, str):
            return self.style(style)
        if isinstance(style, Mapping):
            style = list(style.items())
        try:
            parts = [(self.resolve(s), float(w)) for s, w in style]
        except (TypeError, ValueError) as error:
            if isinstance(error, StylenormError):
                raise
            raise StyleError("a style is a name, {name: weight}, or what style_from() returned") from None
        return blend(parts)

    def _check_style(self, style: Style) -> None:
        channels = self._network.generator.config.channels
        other = style.network is not None and style.network != self._network.hash
        if other or style.channels != channels or tuple(b.shape[1] for b in style.betas) != channels:
            raise StyleError(f"the style {style.name!r} belongs to another network; train it again for this one")
        numbers = style.gammas + style.betas
        if any(t.shape[0] != 1 for t in numbers) or not all(torch.isfinite(t).all() for t in numbers):
            raise StyleError(f"the style {style.name!r} is not one row of finite numbers")

    def _check_regions(self, style: Style, photo: Image.Image) -> None:
        sizes = self._network.generator.region_sizes(photo.height, photo.width)
        for pair, size in zip(style, sizes):
            if any(t.dim() == 4 and t.shape[2:] != size for t in pair):
                raise StyleError(
                    f"the style {style.name!r} has regions for a picture of another size, this one is {photo.width} x {photo.height}"
                )

    def _paint(self, photo: Image.Image, style: Style, strength: float, steady: Steady | Pool | None = None) -> Image.Image:
        if strength == 0:
            return photo
        return Image.fromarray(self._painted(np.asarray(photo), photo, style, strength, steady))

    def _painted(
        self, pixels: np.ndarray, photo: Image.Image, style: Style, strength: float, steady: Steady | Pool | None = None
    ) -> np.ndarray:
        """pixels: the photograph's, uint8 or uint16 (H, W, 3); what comes back is alike."""
        run = partial(steady.run, self._backend) if steady else self._backend
        if strength == 0:
            return pixels
        if strength == 1:
            return run(pixels, style)
        # From the photograph's own style to the wanted one; what the network cannot give back of the
        # photograph when asked for its own style is added, and fades as the style grows.
        own = self._predicted(photo, STYLE_SIZE, "photograph")
        own = steady.settle(own) if steady else own
        painted = run(pixels, interpolate(own, style, strength)).astype(np.float32)
        missing = pixels.astype(np.float32) - run(pixels, own)
        white = np.iinfo(pixels.dtype).max
        return np.clip(painted + (1 - strength) * missing + 0.5, 0, white).astype(pixels.dtype)

    @torch.inference_mode()
    def _predicted(self, rgb: Image.Image, size: int, name: str) -> Style:
        if self._network.encoder is None:
            raise StyleError(
                f"the network in {self._file} has no style encoder; use one of its named styles, at strength 1"
            )
        x = resized_short_side(to_tensor(_not_too_long(rgb)), size)
        statistics = style_statistics(self._features()(x.to(self._device)))
        flat = self._network.encoder(statistics.cpu())
        channels = self._network.generator.config.channels
        return Style.from_flat(flat, channels, name=name, network=self._network.hash)

    def _features(self) -> VGGFeatures:
        with self._lock:
            if self._vgg is None:
                vgg = VGGFeatures.from_file(vgg_file(self._file))
                self._vgg = vgg.to(self._device, memory_format=torch.channels_last)
            return self._vgg

    def _check_memory(self, photo: Image.Image, name: str, deep: bool = False) -> None:
        free = _free_memory() if self._device.type == "cpu" else None
        each = FLOAT32_BYTES if deep else self._backend.bytes_per_pixel
        need = photo.width * photo.height * (each + AROUND)
        if free is not None and need > free:
            side = int(max(photo.size) * (free / need) ** 0.5 * 0.9)
            raise ImageError(
                f"{name} has {photo.width * photo.height / 1e6:.0f} megapixels and would take {need / 1e9:.0f} GB of memory, "
                f"{free / 1e9:.0f} GB are free; give a size of {side} px or less"
            )


class Stream:
    """`Stylizer.stream`: called with one frame after another, each an RGB PIL image; gives their paintings."""

    def __init__(self, stylizer: Stylizer, style: Style, strength: float, preserve_color: bool, size, steady: Steady) -> None:
        self._stylizer, self._style, self._strength, self._preserve_color, self._size = stylizer, style, strength, preserve_color, size
        self.steady = steady
        self._pool = Pool()
        self.size: tuple[int, int] | None = None  # (width, height) of the last painting

    def __call__(self, frame: Image.Image) -> Image.Image:
        frame = self._sized(frame)
        self.steady.begin(np.array(frame))
        painted = self._colored(frame, self._stylizer._paint(frame, self._style, self._strength, self.steady))
        return Image.fromarray(self.steady.end(np.asarray(painted)))

    def survey(self, frame: Image.Image) -> Image.Image:
        """Take note of a frame's moments, for `pooled`. Returns how it would be painted by itself."""
        self._pool.begin()
        return self._colored(frame := self._sized(frame), self._stylizer._paint(frame, self._style, self._strength, self._pool))

    def pooled(self) -> dict[str, np.ndarray]:
        """The moments of all surveyed frames together, for the ``fixed`` of another stream."""
        return self._pool.pooled()

    def _colored(self, frame: Image.Image, painted: Image.Image) -> Image.Image:
        return keep_color(painted, frame) if self._preserve_color else painted

    def _sized(self, frame: Image.Image) -> Image.Image:
        frame = frame if self._size is None else fit(frame, self._size)
        if self.size != frame.size:
            self._stylizer._check_memory(frame, "a frame")
            self._stylizer._check_regions(self._style, frame)
            self.size = frame.size
        return frame


def _check_options(strength: float, size: int | None) -> None:
    if not 0 <= strength <= 1:
        raise StyleError(f"strength must lie between 0 and 1, not {strength}")
    if size is not None and not 16 <= size <= 30000:
        raise StyleError(f"size must lie between 16 and 30000 px, not {size}")


def _not_too_long(rgb: Image.Image, most: float = 4.0) -> Image.Image:
    """The middle of a scroll: sides at most 4 to 1, so that a painting's short side sets the cost."""
    w, h = rgb.size
    keep_w, keep_h = min(w, round(h * most)), min(h, round(w * most))
    x, y = (w - keep_w) // 2, (h - keep_h) // 2
    return rgb.crop((x, y, x + keep_w, y + keep_h))


def _free_memory() -> int | None:
    """Bytes of memory that can be taken without swapping, where the system tells."""
    try:
        with open("/proc/meminfo") as file:
            fields = dict(line.split(":") for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
