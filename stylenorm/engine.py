"""`Stylizer`: photographs in, paintings out. What the command line and the app are thin over."""

from __future__ import annotations

import math
import operator
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from stylenorm.backends import Backend, OpenVINOBackend, choose_backend
from stylenorm.bands import Pixels, painted_inside, size_of, with_missing
from stylenorm.behind import moved, shown
from stylenorm.catalog import StyleEntry, network_file, style_entries, unknown_style, vgg_file
from stylenorm.checkpoint import load_network, load_ranges, load_style
from stylenorm.detail import enlarge
from stylenorm.device import choose_device, free_memory, memory_format, most_in_a_map, turn
from stylenorm.errors import StyleError, StylenormError, WeightsError, counted, in_short
from stylenorm.faces import check_faces, faces_of, finding, with_features
from stylenorm.flat import backend_for, grain_for, never_in_strips, painted_at, pooled
from stylenorm.formats import FACES, FULL
from stylenorm.generator import pad_to
from stylenorm.graph import FLOAT32_BYTES
from stylenorm.images import Picture, Source, at_size, fit, larger_of, read_picture, recolored, rewrap, to_paint, to_tensor
from stylenorm.masks import mask_levels, mask_tensor, opened_mask
from stylenorm.people import Seen, small_mask
from stylenorm.perceptual import VGGFeatures, style_statistics
from stylenorm.plain import (
    AROUND,
    FINE,
    UNUSABLE,
    Fine,
    check_frame,
    check_options,
    checked_style_size,
    margin_of,
    predictor_of,
    prepared,
    too_large,
    with_margin,
)
from stylenorm.plots import sheet
from stylenorm.predicting import MOST, STYLE_SIZE, Predictor, small_array
from stylenorm.refining import refined
from stylenorm.steady import SMOOTHING, Pool, Steady, Stream, split_moments
from stylenorm.spill import free_disk, spill_folder
from stylenorm.style import Style, StyleLike, blend, interpolate
from stylenorm.style import regions as blend_regions
from stylenorm.tensors import side_to_paint
from stylenorm.tiling import disk_needed, paint_strips

REFINE_SIZES = 64, 512  # px, smallest and largest side of the photographs' middles that a style is refined on
IN_STRIPS = 18  # bytes a pixel that painting in strips takes: two results and what wraps them; of 16 bits twice that

STARTED = os.getpid()  # the process that has read this module

ONE = str, bytes, bytearray, os.PathLike, Image.Image, np.ndarray, Picture  # what a single picture may be given as, beside an open file

Paint = Callable[[Pixels, Style], Pixels]
Regions = Sequence[tuple[StyleLike, Any]]  # with a mask each


class Stylizer:
    """A network, its styles, and a device to paint on.

    weights: a folder with network.safetensors and styles/, or a network file; by default the shipped ones.
    device: "auto" (CUDA, else MPS, else the CPU), "cpu", "cuda", "cuda:1" or "mps", or a torch.device.
    backend: "auto" (OpenVINO on a CPU, torch elsewhere), "torch", "openvino" or "openvino-int8": see `stylenorm.graph`.
    memory: GB that painting a picture may take; by default half of what is free at that time. A picture that
    would take more is painted in strips, with temporary files, in float32: see `stylenorm.tiling`.

    Safe to call from several threads at once: nothing of one call is kept for the next. Pickled, as for another process,
    it is the arguments above, with which it is opened again there; a copy by `copy` shares the network.
    Raises `StylenormError`, in one sentence, for what a caller can put right.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        device: str | torch.device = "auto",
        backend: str = "auto",
        memory: float | None = None,
    ) -> None:
        if memory is not None and not (isinstance(memory, Real) and memory >= 0):
            raise StylenormError(f"the memory must be a number of GB from 0 up, not {in_short(memory)}")
        self._memory = None if memory is None else memory * 1e9
        self._file = network_file(weights).absolute()  # a program may go to another folder
        self._opened = None if weights is None else self._file, device, backend, memory
        with torch.inference_mode(False):  # `refine` learns through it, whatever the caller has switched off here
            self._network = load_network(self._file)
            self._device = choose_device(device)
            self._backend = choose_backend(backend, self._network.generator, self._device, load_ranges(self._file, self._network))
        _fork_to_one_thread()
        self._lock = threading.Lock()
        self._loaded: dict[tuple[Path, int], Style] = {}
        self._vgg: VGGFeatures | None = None
        self._predictor: Predictor | None = None
        self.styles: dict[str, StyleEntry] = {e.name: e for e in style_entries(self._file)}

    def __reduce__(self):
        return _opened_again, (type(self), self._opened, self._network.hash)

    def __copy__(self) -> Stylizer:
        new = object.__new__(type(self))
        new.__dict__ |= self.__dict__ | {"_lock": threading.Lock(), "_loaded": dict(self._loaded), "styles": dict(self.styles)}
        return new

    def __deepcopy__(self, memo: dict) -> Stylizer:
        return self.__copy__()  # nothing of the network is ever changed

    def describe(self) -> str:
        """Backend, device and precision, for people."""
        return self._backend.name

    def style(self, name: str) -> Style:
        """A named style, the caller's own to write into. An unknown name raises `StyleError`, with the nearest known ones."""
        style = self._named(name)
        with torch.inference_mode(False), torch.no_grad():  # a style may be learned with
            flat = style.flat()  # a copy
        return Style.from_flat(flat, style.channels, name=style.name, provenance=dict(style.provenance), network=style.network)

    def _named(self, name: str) -> Style:
        """The same, kept for the next call, so that nobody may write into it."""
        if not isinstance(name, str):
            raise StyleError(f"a style's name is a text, which {in_short(name)} is not; Stylizer.resolve takes all that stylize takes")
        known = self.styles
        if name not in known or not known[name].file.is_file():  # it may be new, or removed
            known = {e.name: e for e in style_entries(self._file)}
        if name not in known:
            raise StyleError(unknown_style(name, known))
        file = known[name].file
        state = file, _changed(file)  # one may be removed and another trained by its name
        with torch.inference_mode(False):
            if state not in self._loaded:
                self._loaded[state] = load_style(file, self._network.hash)
        if known is not self.styles:
            self.styles = {**self.styles, name: known[name]}
        return self._loaded[state]

    @torch.no_grad()  # and not inference_mode, whose tensors no gradient may ever pass: a style may be learned with
    def style_from(self, painting: Source, size: int | None = None) -> Style:
        """The style of any painting: a path, a PIL image, an array, or a `Picture`.

        size: the painting's short side in px as the network sees it (default 384). Smaller gives coarser
        strokes relative to the painting's forms, larger gives finer ones.
        """
        size = STYLE_SIZE if size is None else checked_style_size(size)
        picture = _picture(painting)
        return self._predicted(picture.seen, size, Path(picture.name).stem)

    @torch.inference_mode(False)  # it learns whatever the caller has switched off
    def refine(
        self, style: StyleLike, painting: Source, photos: Source | Sequence[Source], steps: int = 20, size: int | None = None
    ) -> Style:
        """What `style_from` predicted for a painting, or any other style, moved nearer to that painting in some seconds
        (`stylenorm.refining`).

        photos: one of the photographs that the style is for, or a list of several, each a path, a PIL image, an array or a
        `Picture`; their middles are painted at 512 px, or as they are where they are smaller, in turn, ``steps`` times in all. painting and
        size: as given to `style_from`. Only γ and β change. A photograph whose middle is of a single colour teaches nothing and is left
        out; where all are such, the style comes back as it is. On two CPU cores a step takes 0.4 to 1.2 s.
        """
        style, size = self.resolve(style), STYLE_SIZE if size is None else checked_style_size(size)
        photos = listed(photos)
        if not isinstance(steps, Integral) or steps < 0 or not photos:
            raise StyleError("refining a style needs at least one photograph, and steps from 0 up")
        if steps == 0:
            return style
        middles = [_middle(_picture(photo).rgb, *REFINE_SIZES) for photo in photos]
        middles = [m for m in middles if any(low != high for low, high in m.getextrema())]  # others' gradient through the norms is infinite
        if not middles:
            return style
        shown = [to_tensor(Image.fromarray(prepared(m, 0, 1.0))) for m in middles]
        goal, layout = _small_tensor(_picture(painting).seen, size), {"memory_format": memory_format(self._device)}
        with turn(self._device):
            generator = self._network.generator.to(self._device).requires_grad_(False)
            goal, *shown = (x.to(self._device, **layout) for x in (goal, *shown))
            return refined(generator, self._features(), style, goal, shown, steps)

    def stylize(
        self,
        image: Source,
        style: StyleLike,
        strength: float = 1.0,
        preserve_color: bool = False,
        size: int | None = None,
        strip: bool = False,
        paint_at: int | str | None = None,
        notice: Callable[[str], None] | None = None,
        grain: bool = True,
        mask: object = None,
        regions: Regions = (),
        faces: float = FACES,
    ) -> Image.Image:
        """Paint a photograph.

        image: a path, a PIL image, an array or a `Picture`. style: a name, ``{name: weight}``, a `Style`, which is what
        `style_from` and `region_style` return, or a sequence of (name or `Style`, weight). strength: from 0, the photograph itself, to 1; γ
        and β move from the photograph's own predicted style to the wanted one. preserve_color keeps the
        photograph's colours and takes the painting's light and dark. size: longer side of the result in px;
        without it the result has the photograph's size. paint_at: longer side in px at which the network paints,
        whatever the result's: strokes are as large against the picture as in one of that size, and the
        photograph's finer detail is brought back (`stylenorm.detail`). Without it a larger picture is painted at
        1.2 megapixels, so that a style looks alike at all sizes; "full" paints every pixel of it. notice: called with a sentence
        if the picture is painted in strips, before that starts, and where nobody is found of whom a mask is wanted. strip: without the photograph's EXIF, XMP and IPTC, so that
        nobody learns from them by whom, when and where it was taken. grain: plain ground, such as a cloudless sky, is painted
        like all else (`stylenorm.grain`). A picture of next to one colour comes out in one (`stylenorm.flat`).
        mask: where to paint, a picture or an array, see `stylenorm.masks.mask_levels`, or "people" or "background", which are found in the
        photograph (`stylenorm.people`; a file of such a name is a `Path`); elsewhere the photograph stays, as at
        strength 0. regions: (style, mask) pairs: where a mask is white its style takes the place of ``style`` and of those before it. In
        each of them all of the photograph is painted, so that none changes what another one makes of its part, which `region_style` does;
        but for what is beside its part and not shown, see `stylenorm.behind`.
        faces: how much of the features of people's faces comes back where strokes have gone across them, from 0 to 1 (`stylenorm.faces`).

        Returns a PIL image, "RGB" or "RGBA", upright, with the photograph's transparency, and with its colour profile, EXIF,
        XMP and IPTC in ``info``; `write_picture` writes them into the file. A photograph of 16 bits is painted
        in 16 bits, which are there as well, for PNG and TIFF.
        """
        strength, faces = check_options(strength, size=size, paint_at=paint_at), check_faces(faces)
        wanted = self._resolved(style)
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = picture.rgb if size is None else fit(picture.rgb, size)
        pixels = photo if picture.deep is None else at_size(picture.deep[..., :3], photo.size)
        if strength == 0:
            return rewrap(picture, pixels, strip=strip, inside=Image.new("L", photo.size))
        larger = larger_of(photo, picture.rgb)
        seen = Seen(larger, notice, picture.name)
        inside = None if mask is None else mask_levels(seen(mask), photo.size)
        laid = [(self._resolved(over), mask_levels(seen(there), photo.size)) for over, there in _pairs(regions)]
        if any(s.has_regions for s in (wanted, *(over for over, _ in laid))):  # which were made for a size
            side = None if paint_at == FULL else paint_at
        else:
            side = painted_at(paint_at, photo, self._network.generator.config.norm)
        small, ground = to_paint(picture, photo, pixels, side)
        found = finding(small, larger) if faces else None

        def whole(style: Style, part: Image.Image | None, tell: Callable[[str], None] | None = None) -> Pixels:
            self._check_regions(style, small)
            seen = moved(ground, small, part)
            way = self._way(seen, picture.name, tell, style, strength)
            painted = self._painted(seen, small, style, strength, partial(way, grain=grain))
            if found:
                painted = with_features(painted, ground, found(), faces)
            return painted if small.size == photo.size else enlarge(painted, seen, pixels, strength)

        parts = shown([there for _, there in laid], inside, small.size)
        painted = whole(wanted, parts[0], notice)
        for (over, there), part in zip(laid, parts[1:]):
            painted = painted_inside(whole(over, part), painted, there) if there.getbbox() else painted
        if preserve_color:
            painted = recolored(painted, pixels)
        return rewrap(picture, painted, strip=strip, inside=inside)

    def together(self, picture: Picture, **options: Any) -> int:
        """How many pictures like this one `stylize_alike` had better be given at once."""
        photo = picture.size if options.get("size") is None else fit(picture.rgb, options["size"]).size
        plain = options.get("strength", 1.0) == 1 and side_to_paint(photo, options.get("paint_at")) is None and picture.deep is None
        plain = plain and options.get("mask") is None and not options.get("regions")
        if not plain or self._memory is not None:  # `stylize` keeps to that
            return 1
        return max(1, self._backend.pixels_together // math.prod(photo))

    def stylize_alike(self, pictures: Sequence[Picture], style: StyleLike, **options: Any) -> list[Image.Image]:
        """The same as `stylize` of each of ``pictures``, which are as large as one another, in one pass of the network.

        A level of 255 may differ here and there, since sums are taken in another order.

        options: of `stylize`. Where `together` gives 1 with them, the pictures are painted one after another.
        """
        if pictures and self.together(pictures[0], **options) == 1:
            return [self.stylize(picture, style, **options) for picture in pictures]
        wanted, size, faces = self._resolved(style), options.get("size"), check_faces(options.get("faces", FACES))
        photos = [p.rgb if size is None else fit(p.rgb, size) for p in pictures]
        self._check_regions(wanted, photos[0])
        grain = options.get("grain", True)
        alone = {i: self._whole(p, wanted, grain) for i, p in enumerate(photos) if self._backend_for(p) is not self._backend}
        together = iter(self._together([p for i, p in enumerate(photos) if i not in alone], wanted, grain))
        painted = [alone[i] if i in alone else next(together) for i in range(len(photos))]
        if faces:
            found = [faces_of(photo, larger_of(photo, picture.rgb)) for picture, photo in zip(pictures, photos)]
            painted = [with_features(p, photo, f, faces) for p, photo, f in zip(painted, photos, found)]
        if options.get("preserve_color"):
            painted = map(recolored, painted, photos)
        return [rewrap(p, image, strip=options.get("strip", False)) for p, image in zip(pictures, painted)]

    def stream(
        self,
        style: StyleLike,
        strength: float = 1.0,
        preserve_color: bool = False,
        size: int | None = None,
        smoothing: float = SMOOTHING,
        fixed: Mapping[str, np.ndarray] | None = None,
        grain: bool = True,
        paint_at: int | str | None = None,
        mask: object = None,
        regions: Regions = (),
        faces: float = FACES,
    ) -> Stream:
        """Paints the frames of one film, one after another, so that strokes stay on what they are painted on.

        The arguments are those of `stylize`; a mask lies over every frame. smoothing: from 0, each frame by itself, to below 1, see
        `stylenorm.steady.Steady`. fixed: moments for all frames, `Stream.pooled` of a stream that has surveyed them.
        """
        strength, faces = check_options(strength, size=size, paint_at=paint_at), check_faces(faces)
        fixed, *others = split_moments(fixed)
        steady = Steady(smoothing if strength else 0.0, self._network.generator.config.stride, fixed)
        wanted, laid = self._resolved(style), [(self._resolved(over), there) for over, there in _pairs(regions)]

        def check(frame: Image.Image) -> None:
            check_frame(frame.size, self._memory_needed(frame, strength=strength), free_memory(self._device))
            self._check_regions(wanted, frame)

        def paint(frame: Image.Image, memory: Steady | Pool) -> Image.Image:
            return self._frame(frame, wanted, strength, grain, memory)

        norm = self._network.generator.config.norm
        faces = faces if strength else 0.0
        of_regions = any(s.has_regions for s in (wanted, *(over for over, _ in laid)))
        if strength == 0 or (of_regions and paint_at is None):  # whose frames stay as they are; which was made for their size
            paint_at = FULL
        options = {"strength": strength, "preserve_color": preserve_color, "smoothing": smoothing, "grain": grain, "paint_at": paint_at, "faces": faces}
        layers = [self.stream(over, fixed=own, mask=there, **options) for (over, there), own in zip(laid, [*others, *[None] * len(laid)])]
        stream = Stream(paint, partial(pooled, self._backend, norm=norm), check, steady, preserve_color, size, paint_at, mask, faces, layers, strength)
        stream.of_regions = of_regions
        return stream

    def region_style(self, regions: Regions, size: tuple[int, int]) -> Style:
        """A style that differs from place to place, for pictures of ``size`` = (width, height) px.

        γ and β then differ from place to place, and one painting has them all: styles go over into one another, and what the
        network normalizes by is of all places together, so that each style changes the others. The ``regions`` of `stylize` do not mix so.

        regions: (style, mask) pairs. A style is anything that `stylize` takes. A mask says how much of it is
        wanted where: a path or a PIL image (white: all, transparent: nothing) or an array (H, W) from 0 up, of any
        size. Masks are divided by their sum, so a soft edge is a soft change; a pixel that no mask covers takes the
        first style.
        """
        regions = _pairs(regions)
        if not regions:
            raise StyleError("regions need at least one style with its mask")
        width, height = _whole_size(size)
        self._check_region_memory(width, height)
        masks = [mask_tensor(opened_mask(mask), (height, width)) for _, mask in regions]
        masks[0] = torch.where(sum(masks) > 0, masks[0], masks[0].new_ones(()))
        generator = self._network.generator
        padded = pad_to(torch.stack(masks)[None], generator.config.stride)[0]
        return blend_regions([self.resolve(s) for s, _ in regions], padded, generator.region_sizes(height, width))

    def sheet(
        self, image: Source, names: Sequence[str] | None = None, tile: int = 384, columns: int = 5, faces: float = FACES, mask: object = None
    ) -> Image.Image:
        """The photograph and every style (or ``names``) on it, labelled, each ``tile`` px at its longer side. faces, mask: as of `stylize`."""
        faces = check_faces(faces)
        if not isinstance(columns, Integral) or columns < 1:
            raise StylenormError(f"a sheet has at least one column, not {in_short(columns)}")
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = fit(picture.rgb, tile)
        names = listed(names or self.styles)
        styles = [self._named(n) for n in names]
        found, inside = faces_of(photo, picture.rgb) if faces else [], small_mask(mask, picture.rgb, photo.size)
        tiles = [with_features(self._whole(photo, style), photo, found, faces) for style in styles]
        tiles = tiles if inside is None else [painted_inside(painted, photo, inside) for painted in tiles]
        return sheet([photo, *tiles], ["photograph", *names], columns, picture.alpha)

    def resolve(self, style: StyleLike) -> Style:
        """A `Style` from whatever `stylize` takes for one. One of a name is the caller's own, as from `style`."""
        return self._resolved(style, self.style)

    def _resolved(self, style, named: Callable[[str], Style] | None = None) -> Style:
        """named: what gives the style of a name, `_named` if nothing is said."""
        if isinstance(style, Style):
            self._check_style(style)
            return style
        if isinstance(style, str):
            return (named or self._named)(style)
        if isinstance(style, Mapping):
            style = list(style.items())
        try:
            parts = [(self._resolved(s, named), float(w)) for s, w in style]
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
        unfit = next((t for t in numbers if t.is_meta or t.element_size() == 1), None)
        if unfit is not None:
            raise StyleError(f"the style {style.name!r} holds {unfit.dtype} on {unfit.device}, which nothing can be painted with; give floats of 16 bits or more")
        if any(t.shape[0] != 1 for t in numbers) or not all(torch.isfinite(t).all() for t in numbers):
            raise StyleError(f"the style {style.name!r} is not one row of finite numbers")

    def _check_region_memory(self, width: int, height: int) -> None:
        """A style with regions is a γ and β for each position of each map: 530 bytes a pixel with the shipped network."""
        generator, free = self._network.generator, free_memory(torch.device("cpu"))
        need = 8 * sum(c * h * w for c, (h, w) in zip(generator.config.channels, generator.region_sizes(height, width)))
        if free is not None and need > free / 2:
            raise StyleError(
                f"regions of a picture of {width} x {height} px would take {need / 1e9:.2g} GB of memory, {free / 1e9:.2g} GB are "
                "free and half of them are for the painting; make the picture smaller, or paint it in one style"
            )

    def _check_regions(self, style: Style, photo: Image.Image) -> None:
        sizes = self._network.generator.region_sizes(photo.height, photo.width)
        for pair, size in zip(style, sizes):
            if any(t.dim() == 4 and t.shape[2:] != size for t in pair):
                raise StyleError(
                    f"the style {style.name!r} has regions for a picture of another size, "
                    f"this one is painted at {photo.width} x {photo.height}"
                )

    def _painted(self, pixels: Pixels, photo: Image.Image, style: Style, strength: float, paint: Paint, settle=None) -> Pixels:
        """pixels: the photograph's, what comes back is alike. photo: the same in 8 bits. settle: of films, `Steady.settle`."""
        if strength == 0:
            return pixels
        if strength == 1:
            return paint(pixels, style)
        own = self._predicted(photo, STYLE_SIZE, "photograph")
        own, paint = settle(own) if settle else own, partial(paint, fine=strength < FINE)
        return with_missing(pixels, paint(pixels, interpolate(own, style, strength)), paint(pixels, own), strength)

    def _frame(self, photo: Image.Image, style: Style, strength: float, grain: bool, steady: Steady | Pool) -> Image.Image:
        """A film's frame is painted at once: its moments are taken and given in the backend."""
        return self._painted(photo, photo, style, strength, partial(self._whole, grain=grain, memory=steady), steady.settle)

    def _whole(self, photo: Pixels, style: Style, grain: bool = True, memory: Steady | Pool | None = None, fine: bool = False) -> Pixels:
        """memory: of the film that it is a frame of. fine: in 16 bits."""
        backend, stride = self._backend_for(photo), self._network.generator.config.stride
        amount, photo = grain_for(backend) if grain else 0.0, memory.shown(photo) if memory else photo
        backend = Fine(backend) if fine else backend
        run, place = (partial(memory.run, backend), memory.place) if memory else (backend, (0, 0))
        return with_margin(photo, stride, lambda pixels, beyond: run(pixels, self._style_beyond(style, beyond)), amount, place)

    def _together(self, photos: Sequence[Image.Image], style: Style, grain: bool) -> list[Image.Image]:
        """Photographs of one size, each with colours of its own, in one pass."""
        if not photos:
            return []
        beyond = margin_of(photos[0].size, self._network.generator.config.stride)
        stack = np.stack([prepared(p, beyond, float(grain)) for p in photos])
        painted = self._backend.together(stack, self._style_beyond(style, beyond))
        return [Image.fromarray(p) for p in np.ascontiguousarray(painted[:, beyond:, beyond:])]

    def _backend_for(self, photo: Pixels) -> Backend:
        return backend_for(self._backend, photo, self._network.generator.config.norm)

    def _in_strips(self, photo: Pixels, style: Style, grain: bool = True, fine: bool = False) -> Pixels:
        """What has hardly any colours, and would get less grain, is never painted so. It is in float32, and so ``fine``, in any case."""
        beyond = margin_of(size_of(photo), self._network.generator.config.stride)
        larger = prepared(photo, beyond, float(grain))
        if not isinstance(photo, np.ndarray):
            larger = Image.fromarray(larger)
        with turn(self._device):
            painted = paint_strips(self._network.generator, larger, self._style_beyond(style, beyond), self._device)
        del larger
        cut = np.ascontiguousarray(np.asarray(painted)[beyond:, beyond:])  # Pillow takes a large crop for an attack
        return cut if isinstance(photo, np.ndarray) else Image.fromarray(cut)

    def _style_beyond(self, style: Style, beyond: int) -> Style:
        """``style`` for a picture with its margin: of one with regions every map is continued like the picture."""
        if not beyond or not style.has_regions:
            return style
        generator = self._network.generator
        side = 4 * generator.config.stride
        shares = [h * beyond // side for h, _ in generator.region_sizes(side, side)]

        def continued(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            return [t if t.dim() == 2 else _mirrored_map(t, share) for t, share in zip(tensors, shares)]

        return Style(tuple(continued(style.gammas)), tuple(continued(style.betas)), style.name, style.provenance, style.network)

    def _memory_needed(self, photo: Pixels, regions: bool = False, strength: float = 1.0) -> int:
        """Bytes to paint it at once. regions: the style has some, so that it is torch that paints."""
        slow = regions or isinstance(photo, np.ndarray) or 0 < strength < FINE
        return math.prod(size_of(photo)) * ((FLOAT32_BYTES if slow else self._backend.bytes_per_pixel) + AROUND)

    def _way(self, photo: Pixels, name: str, notice: Callable[[str], None] | None, style: Style, strength: float) -> Paint:
        """How to paint: at once where the memory is there for it, else in strips. Raises `ImageError` where nothing helps."""
        free = free_memory(self._device)
        most = self._memory if self._memory is not None else None if free is None else free / 2
        deep, size = isinstance(photo, np.ndarray), size_of(photo)
        # Maps of regions are copied to be continued over the margin, and copied once more at another strength.
        maps = sum(t.nbytes for t in style.gammas + style.betas if t.dim() == 4) * (1 if strength == 1 else 2)
        pixels, need = math.prod(size), self._memory_needed(photo, style.has_regions, strength) + maps
        fits = pixels * self._network.generator.config.largest_map <= most_in_a_map(self._device)
        if fits and (most is None or need <= most):
            return self._whole
        if fits and (free is None or need <= free) and never_in_strips(photo, self._network.generator.config.norm):
            return self._whole
        least = pixels * IN_STRIPS * (2 if deep else 1) + maps
        if self._device.type == "cpu" and free is not None and least > free:
            raise too_large(size, name, least, free, "memory")
        folder, disk = spill_folder(), disk_needed(self._network.generator, size)
        if disk > (room := free_disk(folder)):
            raise too_large(size, name, disk, room, f"disk in {folder}", "set TMPDIR to a folder with more room, or ")
        if notice:
            told = f"{need / 1e9:.1f} GB of memory at once, more than the {most / 1e9:.1f} GB that it may take" if fits else "maps that are too large for this GPU"
            notice(
                f"{name}: {counted(round(pixels / 1e6), 'megapixel')} would take {told}; "
                f"painting in strips, with {disk / 1e9:.1f} GB of temporary files in {folder}"
            )
        return self._in_strips

    @torch.no_grad()
    def _predicted(self, rgb: Image.Image, size: int, name: str) -> Style:
        if self._network.encoder is None:
            raise StyleError(
                f"the network in {self._file} has no style encoder; use one of its named styles, at strength 1"
            )
        channels = self._network.generator.config.channels
        return Style.from_flat(self._row_of(rgb, size), channels, name=name, network=self._network.hash)

    def _row_of(self, rgb: Image.Image, size: int) -> torch.Tensor:
        """What the encoder predicts, (1, 2, T): where OpenVINO paints, VGG is in it as well."""
        if isinstance(self._backend, OpenVINOBackend):
            try:
                return torch.from_numpy(self._openvino_predictor()(rgb, size))
            except UNUSABLE:  # torch tells what is wrong with the file
                pass
        with turn(self._device):
            statistics = style_statistics(self._features()(_small_tensor(rgb, size).to(self._device))).cpu()
        return self._network.encoder(statistics)

    def _openvino_predictor(self) -> Predictor:
        with self._lock:
            if self._predictor is None:
                encoder = {name: value.detach().numpy() for name, value in self._network.encoder.state_dict().items()}
                self._predictor = predictor_of(encoder, vgg_file(self._file))
            return self._predictor

    def _features(self) -> VGGFeatures:
        with self._lock:
            if self._vgg is None:
                # Gradients are to pass through it as well; and a new layer draws at random, which moves on a program's own numbers.
                with torch.inference_mode(False), torch.random.fork_rng(()):
                    vgg = VGGFeatures.from_file(vgg_file(self._file))
                    self._vgg = vgg.to(self._device, memory_format=memory_format(self._device))
            return self._vgg


def _opened_again(kind: type[Stylizer], arguments: tuple, digest: str) -> Stylizer:
    """A pickled `Stylizer`. Raises `WeightsError` where there is no network file any more, or another network in it."""
    if os.getpid() != STARTED:  # a fork, in which torch's threads of the process before are missing, and it would wait for them
        torch.set_num_threads(1)
    stylizer = kind(*arguments)
    if stylizer._network.hash != digest:
        raise WeightsError(f"{stylizer._file} is another network than it was when the Stylizer was pickled; make a new Stylizer")
    return stylizer


@cache
def _fork_to_one_thread() -> None:
    """In a fork of this process torch computes in one thread: the others are missing there, and it would wait for them for ever."""
    if hasattr(os, "register_at_fork"):  # which Windows has not
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:  # reading it will tell
        return 0


def _mirrored_map(x: torch.Tensor, margin: int) -> torch.Tensor:
    """The same of a map (N, C, h, w)."""
    x = torch.cat([x[:, :, :margin].flip(2), x], 2)
    return torch.cat([x[..., :margin].flip(3), x], 3)


def listed(pictures: Source | Sequence[Source]) -> list[Source]:
    """One, or several, as a list. What is neither is taken for one: reading it tells."""
    several = isinstance(pictures, Iterable) and not isinstance(pictures, ONE) and not hasattr(pictures, "read")
    return list(pictures) if several else [pictures]


def _picture(image: Source) -> Picture:
    return image if isinstance(image, Picture) else read_picture(image)


def _pairs(regions: Regions) -> list[tuple]:
    try:
        return [(style, mask) for style, mask in regions]
    except (TypeError, ValueError):
        raise StyleError("regions are (style, mask) pairs") from None


def _whole_size(size) -> tuple[int, int]:
    """``size`` as a width and a height of 1 px or more."""
    try:
        width, height = map(operator.index, size)
    except (TypeError, ValueError):
        raise StyleError(f"a size is (width, height) in whole px, not {size!r}") from None
    if min(width, height) < 1:
        raise StyleError(f"a size is 1 x 1 px or more, not {width} x {height}")
    return width, height


def _middle(image: Image.Image, least: int, most: int) -> Image.Image:
    """The square in the middle, between ``least`` and ``most`` px large, which is made larger or smaller for it."""
    side = max(least, min(most, *image.size))
    return ImageOps.fit(image, (side, side), Image.Resampling.LANCZOS)


def _small_tensor(rgb: Image.Image, size: int, most: float = MOST) -> torch.Tensor:
    """`stylenorm.predicting.small_array` as (1, 3, h, w)."""
    return torch.from_numpy(small_array(rgb, size, most)).permute(0, 3, 1, 2).contiguous()
