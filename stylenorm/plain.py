"""What is asked for most, without torch: importing that takes longer than painting a photograph in a named style.

Also what `stylenorm.engine` has in common with it.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stylenorm.architecture import GeneratorConfig, shares
from stylenorm.catalog import cache_folder, network_file, style_entries, vgg_file
from stylenorm.compat import openvino
from stylenorm.errors import ImageError, StyleError, StylenormError, WeightsError, counted
from stylenorm.formats import FULL
from stylenorm.graph import FLOAT32_BYTES, PRECISIONS, CompiledGraph, GraphBackend
from stylenorm.kept import Kept, release_of, state_of
from stylenorm.machine import free_main_memory, may_have_gpu
from stylenorm.metadata import read_metadata
from stylenorm.stored import generator_hash, intact, part, ranges_file, read_arrays, read_ranges, read_vgg

# What reads pictures is imported when the first one comes: a thread takes the kept graph in the meantime.
if TYPE_CHECKING:
    from PIL import Image

    from stylenorm.bands import Pixels
    from stylenorm.images import Picture
    from stylenorm.predicting import Predictor
    from stylenorm.steady import Pool, Steady

FINE = 0.5  # strength below which rounding may be as large as what is painted
AROUND = 50  # bytes a pixel that strength and colours take beside the backend, measured: see BENCHMARKS.md

UNUSABLE = (ImportError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError)  # what bad files raise
ROWS = 64  # predicted styles that are kept, 34 kB each
LARGEST = 1 << 28  # bytes of a painting's file whose style is kept: one of a film's size is not read for that


@dataclass(frozen=True)
class PlainStyle:
    """What a `stylenorm.style.Style` is without torch. flat: (1, 2, T) float32, γ, then β.

    parts: what it was blended of, if it was: names or such styles, with weights.
    """

    name: str
    flat: np.ndarray
    parts: Sequence[tuple[str, float]] = ()
    has_regions = False

    @property
    def channels(self) -> tuple[int, ...]:
        """Those of all normalizations in one: what is asked for is their sum."""
        return self.flat.shape[2:]

    def row(self) -> np.ndarray:
        return self.flat

    def with_row(self, row: np.ndarray) -> PlainStyle:
        return replace(self, flat=row)


class PlainStylizer:
    """`stylenorm.engine.Stylizer` for named styles and any painting's, the network in OpenVINO on the CPU.

    Paints the same picture. One that takes more than half of the free memory it hands to ``stylizer()``, which gives a
    `Stylizer`, which paints in strips; it is called once, if at all.

    predicts, faces: whether the style encoder, and what finds faces, will be asked for, so that they are made ready from now on.

    Raises whatever is wrong with the network file, not always in one sentence: `plain_stylizer` takes care of that.
    """

    def __init__(
        self,
        weights: str | Path | None,
        backend: str,
        memory: float | None,
        stylizer: Callable,
        predicts: bool = False,
        faces: bool = False,
    ) -> None:
        self._file = file = network_file(weights)
        self._values = values = read_metadata(file, "network")
        self._config = config = GeneratorConfig.from_dict(values["config"])
        self._digest = digest = values["hash"]
        beside = ranges_file(file)

        @cache
        def generator() -> dict[str, np.ndarray]:  # which the graph holds, so it must not hold ``self``
            found = part(read_arrays(file, "generator."), "generator.")  # the encoder's two thirds are of no use here
            if generator_hash(config.to_dict(), found) != digest:
                raise WeightsError(f"{file} is damaged")
            return found

        has_ranges = beside.is_file() and read_metadata(beside, "ranges").get("network") == digest
        ranges = (lambda: read_ranges(file, digest, generator())) if has_ranges else None
        keep = Kept(cache_folder(), (digest, state_of(file), state_of(beside)))
        self._graph = CompiledGraph(config, generator, precision=PRECISIONS[backend], ranges=ranges, keep=keep)
        self._backend = GraphBackend(self._graph)
        self._memory = None if memory is None else memory * 1e9
        self._files = {entry.name: entry.file for entry in style_entries(file)}
        self._stylizer, self._made = stylizer, None
        if faces:
            from stylenorm.faces import prepare_faces

            prepare_faces()
        if predicts:
            _ = self._predictor

    def describe(self) -> str:
        """As `Stylizer.describe`."""
        return self._graph.name

    def together(self, picture: Picture, **options) -> int:
        """As `Stylizer.together`: OpenVINO is as quick with one after another."""
        return 1

    def style_from(self, painting, size: int | None = None):
        """As `Stylizer.style_from`. A painting that is a file is known again by the next process, as long as it stays the same."""
        from stylenorm.decode import name_of, printable
        from stylenorm.images import Picture, read_picture
        from stylenorm.predicting import STYLE_SIZE

        size, data = STYLE_SIZE if size is None else checked_style_size(size), content_of(painting)
        keep, about = (None, ()) if data is None else (self._kept_styles(data[:64]), (hashlib.sha256(data).hexdigest(), size))
        row = keep and keep.read(about)
        if row:
            return PlainStyle(Path(printable(name_of(painting))).stem, np.frombuffer(row, np.float32).reshape(1, 2, -1))
        if data is not None:
            painting = read_picture(data, name=name_of(painting))
        picture = painting if isinstance(painting, Picture) else read_picture(painting)
        try:
            flat = self._predictor(picture.seen, size)
        except UNUSABLE as error:
            return self._full(error).style_from(picture, size=size)  # which tells what is wrong
        if keep:
            keep.write(about, flat.tobytes())
        return PlainStyle(Path(picture.name).stem, flat)

    def _kept_styles(self, head: bytes) -> Kept:
        """Where the styles of files are kept, whatever they depend on beside the file, which begins with ``head``, and the size."""
        import PIL

        from stylenorm import architecture, bands, colour, decode, depth, exif, hdr, modes, predicting, profiles, psds, resources, stills, tensors, tiffs

        pixels = bands, colour, decode, depth, exif, hdr, modes, profiles, psds, resources, stills, tensors, tiffs
        modules = architecture, predicting, *pixels
        code = [hashlib.sha256(Path(module.__file__).read_bytes()).hexdigest() for module in modules]
        network = [self._digest, self._values.get("checksum"), state_of(self._file), state_of(vgg_file(self._file))]
        versions = [PIL.__version__, openvino().__version__, *map(release_of, decode.helpers(head))]
        return Kept(cache_folder() / "styles", [*network, *versions, predicting.in_half(), *code], ROWS)

    @cached_property
    def _predictor(self) -> Predictor:
        if not self._values.get("encoder"):
            raise StyleError(f"the network in {self._file} has no style encoder")
        return predictor_of(self._encoder, vgg_file(self._file))

    def _encoder(self) -> dict[str, np.ndarray]:
        """The encoder's arrays. That the file is whole is looked at once, as long as it stays the same."""
        verdict, about = Kept(cache_folder(), ("intact", self._digest)), [state_of(self._file), self._values.get("checksum")]
        if verdict.has(about):
            return part(read_arrays(self._file, "encoder."), "encoder.")
        arrays = read_arrays(self._file)
        if not intact(arrays, self._values):
            raise WeightsError(f"{self._file} is damaged")
        verdict.write(about, b"")
        return part(arrays, "encoder.")

    def resolve(self, parts: Sequence[tuple[object, float]]):
        """What `stylize` takes for (name or what `style_from` gave, weight) pairs, as `stylenorm.style.blend` has it."""
        try:
            counts = shares([weight for _, weight in parts])
            found = [(*self._row(style), count) for (style, weight), count in zip(parts, counts) if weight > 0]
        except (KeyError, ValueError, TypeError) as error:  # told by who reads it with more care
            return self._full(error).resolve(self._for_full(parts))
        if len(found) == 1:
            return PlainStyle(*found[0][:2], parts)
        name = "+".join(f"{name or 'style'}:{share:.2g}" for name, _, share in found)
        return PlainStyle(name, sum(row * np.float32(share) for _, row, share in found), parts)

    def stylize(
        self,
        image,
        style,
        strength: float = 1.0,
        preserve_color: bool = False,
        size: int | None = None,
        strip: bool = False,
        paint_at: int | str | None = None,
        grain: bool = True,
        mask=None,
        regions=(),
        faces: float | None = None,
        **others,
    ):
        """As `Stylizer.stylize`, whose further options may be given as well; style is what `resolve` or `style_from` gave."""
        from PIL import Image

        from stylenorm.bands import painted_inside
        from stylenorm.behind import moved, shown
        from stylenorm.detail import enlarge
        from stylenorm.faces import check_faces, finding, with_features
        from stylenorm.flat import painted_at
        from stylenorm.images import Picture, at_size, fit, larger_of, read_picture, recolored, rewrap, to_paint
        from stylenorm.masks import mask_levels
        from stylenorm.people import Seen

        strength, faces = check_options(strength, size=size, paint_at=paint_at), check_faces(faces)
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = picture.rgb if size is None else fit(picture.rgb, size)
        pixels = photo if picture.deep is None else at_size(picture.deep[..., :3], photo.size)
        larger = larger_of(photo, picture.rgb)
        seen = Seen(larger, others.get("notice"), picture.name)
        inside = None if mask is None or strength == 0 else mask_levels(seen(mask), photo.size)
        laid = [(over, mask_levels(seen(there), photo.size)) for over, there in regions] if strength else []
        side = None if strength == 0 else painted_at(paint_at, photo, self._config.norm)
        small, ground = to_paint(picture, photo, pixels, side)
        usual = all(isinstance(s, PlainStyle) for s in (style, *(over for over, _ in laid))) and others.keys() <= {"notice"}
        room = usual and (strength == 0 or self._has_room(ground, strength))
        if usual and not room and find_spec("torch") is None:
            raise self._too_large_at_once(ground, picture.name, strength)
        faces_in = finding(small, larger) if faces and strength and room else None

        def whole(style: PlainStyle, part: Image.Image | None):
            seen = moved(ground, small, part)
            painted = self._painted(seen, small, style, strength, grain)
            if painted is None:
                return None
            if faces_in:
                painted = with_features(painted, ground, faces_in(), faces)
            return painted if small.size == photo.size else enlarge(painted, seen, pixels, strength)

        parts = shown([there for _, there in laid], inside, small.size)
        found = whole(style, parts[0]) if room else None
        for (over, there), part in zip(laid, parts[1:]):
            if found is not None and there.getbbox():
                painted = whole(over, part)
                found = None if painted is None else painted_inside(painted, found, there)
        if found is None:
            options = {"strength": strength, "preserve_color": preserve_color, "size": size, "strip": strip, "paint_at": paint_at, "grain": grain}
            options |= {"mask": inside, "regions": self._regions_for_full(laid), "faces": faces}
            return self._full().stylize(picture, self._style_for_full(style), **options, **others)
        if preserve_color:
            found = recolored(found, pixels)
        if strength == 0:
            inside = Image.new("L", photo.size)
        return rewrap(picture, found, strip=strip, inside=inside)

    def stream(
        self,
        style,
        strength: float = 1.0,
        preserve_color: bool = False,
        size: int | None = None,
        smoothing: float | None = None,
        fixed=None,
        grain: bool = True,
        paint_at: int | str | None = None,
        mask=None,
        regions=(),
        faces: float | None = None,
    ):
        """As `Stylizer.stream`."""
        from stylenorm.faces import check_faces
        from stylenorm.flat import pooled
        from stylenorm.steady import SMOOTHING, Steady, Stream, split_moments

        strength, faces = check_options(strength, size=size, paint_at=paint_at), check_faces(faces)
        smoothing = (SMOOTHING if smoothing is None else smoothing) if strength else 0.0
        regions = list(regions)
        usual = all(isinstance(s, PlainStyle) for s in (style, *(over for over, _ in regions)))
        own, *others = split_moments(fixed)
        steady = Steady(smoothing, self._config.stride, own)
        try:
            if usual:
                self._prepare_for_films(strength)
        except UNUSABLE as error:
            self._full(error)
            usual = False
        if not usual:
            given = strength, preserve_color, size, smoothing, fixed, grain, paint_at, mask, self._regions_for_full(regions), faces
            return self._full().stream(self._style_for_full(style), *given)

        def check(frame: Image.Image) -> None:
            check_frame(frame.size, self._memory_needed(frame, strength), free_main_memory())

        def paint(frame: Image.Image, memory: Steady | Pool) -> Image.Image:
            return self._painted(frame, frame, style, strength, grain, memory)

        paint_at, faces = (paint_at, faces) if strength else (FULL, 0.0)  # whose frames stay as they are
        options = {"strength": strength, "preserve_color": preserve_color, "smoothing": smoothing, "grain": grain, "paint_at": paint_at, "faces": faces}
        layers = [self.stream(over, fixed=own, mask=there, **options) for (over, there), own in zip(regions, [*others, *[None] * len(regions)])]
        return Stream(paint, partial(pooled, self._backend, norm=self._config.norm), check, steady, preserve_color, size, paint_at, mask, faces, layers, strength)

    def sheet(self, image, tile: int = 384, columns: int = 5, faces: float | None = None, mask=None) -> Image.Image:
        """As `Stylizer.sheet`, of every named style."""
        from stylenorm.faces import check_faces, faces_of, with_features
        from stylenorm.images import Picture, fit, read_picture
        from stylenorm.bands import painted_inside
        from stylenorm.people import small_mask
        from stylenorm.plots import sheet

        faces = check_faces(faces)
        picture = image if isinstance(image, Picture) else read_picture(image)
        photo = fit(picture.rgb, tile)
        try:
            styles = [PlainStyle(*self._row(name)) for name in self._files]
            tiles = [self._painted(photo, photo, style, 1.0, True) for style in styles] if self._has_room(photo) and styles else [None]
        except UNUSABLE as error:
            tiles, _ = [None], self._full(error)
        if None in tiles:
            return self._full().sheet(picture, tile=tile, columns=columns, faces=faces, mask=mask)
        if faces:
            seen = faces_of(photo, picture.rgb)
            tiles = [with_features(painted, photo, seen, faces) for painted in tiles]
        inside = small_mask(mask, picture.rgb, photo.size)
        tiles = tiles if inside is None else [painted_inside(painted, photo, inside) for painted in tiles]
        return sheet([photo, *tiles], ["photograph", *self._files], columns, picture.alpha)

    def _painted(
        self, pixels: Pixels, photo: Image.Image, style: PlainStyle, strength: float, grain: bool, memory: Steady | Pool | None = None
    ) -> Pixels | None:
        """pixels: the photograph's, what comes back is alike. photo: the same in 8 bits. memory: of the film that it is a frame of.

        None where something that is kept turns out to be of no use, and the files that it was made of neither.
        """
        from stylenorm.bands import with_missing
        from stylenorm.flat import backend_for, grain_for
        from stylenorm.predicting import STYLE_SIZE

        if strength == 0:
            return pixels
        backend, fine = backend_for(self._backend, pixels, self._config.norm), strength < FINE
        try:
            self._graph.prepare(np.dtype(np.uint16) if fine else np.asarray(pixels).dtype, steered=backend is not self._backend)
            own = None if strength == 1 else PlainStyle("photograph", self._predictor(photo, STYLE_SIZE))
        except UNUSABLE as error:
            self._full(error)
            return None
        amount, shown = grain_for(backend) if grain else 0.0, memory.shown(pixels) if memory else pixels
        backend = Fine(backend) if fine else backend
        run, place = (partial(memory.run, backend), memory.place) if memory else (backend, (0, 0))

        def paint(style: PlainStyle) -> Pixels:
            return with_margin(shown, self._config.stride, lambda larger, _: run(larger, style), amount, place)

        if own is None:
            return paint(style)
        own = memory.settle(own) if memory else own
        return with_missing(pixels, paint(style.with_row(between(own.flat, style.flat, strength))), paint(own), strength)

    def _prepare_for_films(self, strength: float) -> None:
        """Wait for all that frames can take: what is of no use is to be known before the first, for nobody can go on in the middle."""
        from PIL import Image

        for steered, fine in ((False, True), (True, True), (True, False)):
            self._graph.prepare(np.dtype(np.uint16 if 0 < strength < FINE else np.uint8), steered, fine)
        if 0 < strength < 1:
            self._predictor(Image.new("RGB", (32, 32)), 32)

    def _has_room(self, pixels: Pixels, strength: float = 1.0) -> bool:
        """Whether it is painted at once."""
        from stylenorm.flat import never_in_strips

        most, free = self._memory_left()
        needs = self._memory_needed(pixels, strength)
        return needs <= most or (needs <= free and never_in_strips(pixels, self._config.norm))

    def _memory_left(self) -> tuple[float, float]:
        """Bytes that a painting may take, and that are free."""
        free = math.inf if (told := free_main_memory()) is None else told
        return free / 2 if self._memory is None else self._memory, free

    def _too_large_at_once(self, pixels: Pixels, name: str, strength: float) -> ImageError:
        from stylenorm.bands import size_of

        (most, _), needs, size = self._memory_left(), self._memory_needed(pixels, strength), size_of(pixels)
        side = max(16, int(max(size) * (most / needs) ** 0.5 * 0.9))
        return ImageError(
            f"{name} has {counted(round(math.prod(size) / 1e6), 'megapixel')} and would take {needs / 1e9:.2g} GB of memory at once, more than the "
            f"{most / 1e9:.2g} GB that it may take; in strips it takes PyTorch, which is not installed; give --size or --paint-at {side} or less"
        )

    def _memory_needed(self, pixels: Pixels, strength: float = 1.0) -> int:
        from stylenorm.bands import size_of

        backend = FLOAT32_BYTES if isinstance(pixels, np.ndarray) or 0 < strength < FINE else self._graph.bytes_per_pixel
        return math.prod(size_of(pixels)) * (backend + AROUND)

    def _full(self, error: Exception | None = None):
        """A `Stylizer`, which tells of ``error`` with more care. Where it cannot be had, for want of torch, the error tells."""
        try:
            self._made = self._made or self._stylizer()
        except ModuleNotFoundError:
            if isinstance(error, StylenormError):
                raise error from None
            raise
        return self._made

    def _style_for_full(self, style):
        """What a `Stylizer` takes for what `resolve` or `style_from` gave."""
        return self._full().resolve(self._for_full(style.parts or [(style, 1.0)])) if isinstance(style, PlainStyle) else style

    def _regions_for_full(self, regions):
        return [(self._style_for_full(style), mask) for style, mask in regions]

    def _for_full(self, parts: Sequence[tuple[object, float]]) -> list[tuple[object, float]]:
        """``parts`` with what a `Stylizer` takes for the styles of paintings."""

        def one(style):
            if not isinstance(style, PlainStyle):
                return style
            import torch

            from stylenorm.style import Style

            return Style.from_flat(torch.from_numpy(style.flat.copy()), self._config.channels, name=style.name, network=self._digest)

        return [(one(style), weight) for style, weight in parts]

    def _row(self, style: str | PlainStyle) -> tuple[str, np.ndarray]:
        """Name and γ and β of a part."""
        shape = 1, 2, sum(self._config.channels)
        if isinstance(style, PlainStyle):
            if style.flat.shape != shape or not np.isfinite(style.flat).all():
                raise ValueError(style.name)
            return style.name, style.flat
        file = self._files[style]
        values, arrays = read_metadata(file, "style"), read_arrays(file)
        row = np.stack([arrays["gamma"], arrays["beta"]])[None].astype(np.float32)
        if row.shape != shape or not np.isfinite(row).all() or not intact(arrays, values):
            raise WeightsError(f"{file} is damaged")
        return style, row


def plain_stylizer(
    weights: str | Path | None,
    device: str,
    backend: str,
    memory: float | None,
    stylizer: Callable,
    predicts: bool = False,
    faces: bool = False,
) -> PlainStylizer | None:
    """A `PlainStylizer` where `Stylizer` with these arguments would paint by OpenVINO on the CPU, else None."""
    if device not in ("auto", "cpu") or backend not in PRECISIONS or find_spec("openvino") is None:
        return None
    if device == "auto" and may_have_gpu():
        return None
    try:
        return PlainStylizer(weights, backend, memory, stylizer, predicts, faces)
    except UNUSABLE as error:
        if isinstance(error, StylenormError) and find_spec("torch") is None:
            raise
        return None  # `Stylizer` says in one sentence what is wrong


def predictor_of(encoder, vgg: Path) -> Predictor:
    """A `stylenorm.predicting.Predictor` of an encoder and a file of VGG-16's features, with the compiled VGG-16 of an earlier process."""
    from stylenorm.predicting import Predictor

    return Predictor(encoder, lambda: read_vgg(vgg), Kept(cache_folder(), ("vgg", state_of(vgg))))


def content_of(painting) -> bytes | None:
    """What is in a painting's file; None where it is no file, a large one, or one that cannot be read."""
    if not isinstance(painting, (str, os.PathLike)) or not os.path.isfile(painting):
        return None
    try:
        return Path(painting).read_bytes() if os.path.getsize(painting) <= LARGEST else None
    except OSError:  # told by who reads pictures
        return None


def checked_style_size(size: int) -> int:
    if not _between(32, size, 2048):
        raise StyleError(f"a style size must lie between 32 and 2048 px, not {size!r}")
    return size


def between(own: np.ndarray, wanted: np.ndarray, strength: float) -> np.ndarray:
    """From the photograph's own γ and β to the wanted ones, as `torch.lerp`."""
    share = np.float32(strength)
    return own + share * (wanted - own) if strength < 0.5 else wanted - (wanted - own) * (1 - share)


class Fine:
    """``backend`` in float32, its paintings of 8 bits in 16.

    Of a low strength, what two paintings differ by is added to the photograph. In bfloat16 or in 8 bits they differ on plain ground
    by rounding as well, which would be seen there as scratches.
    """

    def __init__(self, backend) -> None:
        self.backend = backend

    def __call__(self, picture: np.ndarray, style) -> np.ndarray:
        return self.backend(in_sixteen(picture), style)

    def steered(self, picture: np.ndarray, style, given: np.ndarray, share: float, fine: bool = True) -> tuple[np.ndarray, np.ndarray]:
        return self.backend.steered(in_sixteen(picture), style, given, share, fine)


def in_sixteen(picture: np.ndarray) -> np.ndarray:
    """The same in 16 bits."""
    return picture if picture.dtype == np.uint16 else picture.astype(np.uint16) * 257


def check_options(strength: float, **sides: int | str | None) -> float:
    """``strength``, which may be numpy's or torch's, as a plain number, or a `StyleError`, also for one of ``sides``."""
    try:
        strength = float(strength)
    except (TypeError, ValueError):
        raise StyleError(f"strength must be a number between 0 and 1, not {strength!r}") from None
    if not 0 <= strength <= 1:
        raise StyleError(f"strength must lie between 0 and 1, not {strength}")
    for what, side in sides.items():
        full = f', or "{FULL}"' if what == "paint_at" else ""
        if side is not None and not (full and side == FULL) and not _between(16, side, 30000):
            raise StyleError(f"{what} must lie between 16 and 30000 px{full}, not {side!r}")
    return strength


def _between(least: int, side: float, most: int) -> bool:
    try:
        return bool(least <= side <= most)
    except (TypeError, ValueError):  # a text, as from a form, or several numbers
        return False


def check_frame(size: tuple[int, int], need: float, free: float | None) -> None:
    """Refuse a frame for which there is no memory: films are not painted in strips."""
    if free is not None and need > free:
        raise too_large(size, "a frame", need, free, "memory")


def too_large(size: tuple[int, int], name: str, need: float, free: float, what: str, advice: str = "") -> ImageError:
    side = int(max(size) * (free / need) ** 0.5 * 0.9)
    return ImageError(
        f"{name} has {counted(round(math.prod(size) / 1e6), 'megapixel')} and would take {need / 1e9:.2g} GB of {what}, "
        f"{free / 1e9:.2g} GB are free; {advice}give a size of {side} px or less"
    )


def margin_of(size: tuple[int, int], stride: int) -> int:
    """Pixels that are painted beyond the upper and the left edge and cut off again.

    The network draws a few coloured lines along an upper edge, as it has learned to know it by its reflection.
    One stride, so that the grid of its maps stays where it is; none for a picture that is no larger itself.
    """
    return stride if min(size) > stride else 0


def with_margin(
    photo: Pixels,
    stride: int,
    paint: Callable[[np.ndarray, int], np.ndarray],
    grain: float = 0.0,
    place: tuple[int, int] = (0, 0),
) -> Pixels:
    """The painting of a photograph, alike, or an array of 16 bits. paint: called with the photograph and its margin, which is cut off again, and how wide that is.

    grain, place: what `prepared` takes.
    """
    from PIL import Image

    from stylenorm.bands import size_of

    beyond = margin_of(size_of(photo), stride)
    painted = np.ascontiguousarray(paint(prepared(photo, beyond, grain, place), beyond)[beyond:, beyond:])
    return painted if isinstance(photo, np.ndarray) or painted.dtype == np.uint16 else Image.fromarray(painted)


def prepared(photo: Pixels, margin: int, grain: float, place: tuple[int, int] = (0, 0)) -> np.ndarray:
    """What the network is shown of a photograph: grain, and ``margin`` more rows above and columns to the left, mirrored.

    grain, place: amount and place of `stylenorm.grain.add_grain`, on the upper left corner of what is shown.
    """
    from stylenorm.grain import add_grain

    pixels = np.asarray(photo)
    if grain:
        pixels = pixels.copy()
        add_grain(pixels, grain, (place[0] + margin, place[1] + margin))
    return np.pad(pixels, ((margin, 0), (margin, 0), (0, 0)), "symmetric") if margin else pixels
