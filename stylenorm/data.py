"""Folders of photographs and paintings as an endless, seeded order of training pictures."""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import random
import struct
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from PIL import Image, ImageEnhance
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from stylenorm.drafts import file_id
from stylenorm.errors import ImageError, StylenormError, path_of
from stylenorm.formats import PHOTOGRAPHS, is_hidden
from stylenorm.images import Source, short_side, read_picture
from stylenorm.tensors import to_bytes


def find_images(folder: str | Path, out: str | Path | None = None) -> list[Path]:
    """Every picture below ``folder``, judged by its suffix, sorted by its path below it, but those in ``out``.

    Links to folders are followed, and each folder counts once. What is hidden is left out.
    """
    folder = path_of(folder, "a folder of pictures")
    if not folder.is_dir():
        raise StylenormError(f"{folder} is not a folder; give a folder of pictures")
    written = file_id(out) if out is not None and Path(out).is_dir() else None
    if written == file_id(folder):
        raise StylenormError(f"{folder} is where the pictures are; give another --out")
    found = [p for p in _files(folder, written) if p.suffix.lower() in PHOTOGRAPHS and p.is_file()]
    if not found:
        with os.scandir(folder):  # which tells where it may not be read
            pass
        raise StylenormError(f"{folder} holds no picture; JPEG, PNG, WebP, TIFF, AVIF, HEIC and more are read")
    return sorted(found, key=lambda p: p.relative_to(folder).as_posix())


def style_name(path: Path) -> str:
    """What the style of a painting is called: as its file, with accents composed as keyboards do, and Macs did not."""
    return unicodedata.normalize("NFC", path.stem)


def _files(folder: Path, written: object) -> Iterator[Path]:
    """written: the `file_id` of the folder that is left out."""
    tops, entered = [str(folder)], {written}
    for top in tops:  # links come after all that is really there
        for path, folders, files in os.walk(top):
            this = file_id(path)  # and not its real path, in which a Mac leaves upper and lower case as they were typed
            folders[:] = [] if this in entered else sorted(name for name in folders if not is_hidden(name))
            if this not in entered:
                yield from (Path(path, name) for name in files if not is_hidden(name))
            tops += [link for name in folders if os.path.islink(link := os.path.join(path, name))]
            entered.add(this)


@dataclass(frozen=True)
class Crop:
    """A training picture: ``data`` (3, size, size), bytes or floats in [0, 1], its file, and the broken files passed over."""

    data: Tensor
    name: str
    broken: tuple[str, ...] = ()

    @property
    def pixels(self) -> Tensor:
        """(3, size, size) in [0, 1]."""
        return floats(self.data)


class Decoded:
    """Pictures as they come from `read_picture`, RGB of 8 bits without transparent margins, kept in memory once they were decoded.

    They all fit into ``budget`` bytes, or none is kept. The memory is shared with processes that are forked off:
    what one has decoded, all have. It is not taken before pictures are put into it. side: the largest short side, in px, that
    they are wanted at; much larger ones, a camera's, come smaller, see `_kept_size`.
    """

    SHAPE = struct.Struct("=II")  # width and height before the pixels; zeros while there are none

    def __init__(self, files: Sequence[Path], budget: int, side: float = math.inf) -> None:
        self.places, self.memory, self.size, self.side = {}, None, 0, side
        if budget <= 0:
            return
        ends = list(accumulate(self.SHAPE.size + 3 * math.prod(_kept_size(_size(path), side)) for path in files))
        if ends and ends[-1] <= budget:
            with suppress(OSError):  # a system that does not promise so much
                self.memory = mmap.mmap(-1, ends[-1])
                self.size = ends[-1]
                self.places = dict(zip(files, zip([0, *ends], ends)))

    def read(self, path: Path) -> Image.Image:
        """The picture in ``path``, from memory or from its file. Raises `ImageError` for a file that cannot be read."""
        if self.memory is None:
            return self._decode(path)
        start, end = self.places[path]
        width, height = self.SHAPE.unpack_from(self.memory, start)
        first = start + self.SHAPE.size
        if width:
            return Image.frombytes("RGB", (width, height), self.memory[first : first + 3 * width * height])
        image = self._decode(path)
        if 3 * image.width * image.height <= end - first:
            self.memory[first : first + 3 * image.width * image.height] = image.tobytes()
            self.SHAPE.pack_into(self.memory, start, *image.size)  # last, so that nobody reads half a picture
        return image

    def _decode(self, path: Path) -> Image.Image:
        image = read_picture(path).seen
        size = _kept_size(image.size, self.side)
        return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS, reducing_gap=1.0)

    def __getstate__(self) -> dict:
        """Where processes are not forked off, each reads its files by itself."""
        return {"places": {}, "memory": None, "size": 0, "side": self.side}


def _size(path: Path) -> tuple[int, int]:
    """Width and height that the header of a file announces, zeros if it cannot be read."""
    with suppress(Exception), Image.open(path) as image:  # whatever is wrong with it is told when it is read
        return image.size
    return 0, 0


def _kept_size(size: tuple[int, int], side: float) -> tuple[int, int]:
    """Width and height of ``size``, or, where the shorter is beyond three times ``side``, so that it is twice as long: what is then
    cut at a short side of ``side`` or less is as good as from the whole, and takes a fraction of the time and memory."""
    if min(size) <= 3 * side:
        return size
    width, height = (round(length * 2 * side / min(size)) for length in size)
    return width, height


class RandomCrops(Dataset):
    """Square crops of pictures, in an order that depends on ``seed`` and the index alone.

    Item i is picture i mod n of the (i div n)-th shuffle, scaled to a random short side within ``scales`` px,
    cropped to ``size`` px and perhaps mirrored. So a run that stops at item i goes on at item i, however
    many workers load the pictures. A file that cannot be read is passed over for the next in order and named. So is, but
    not named, one whose crop is of a single colour: it has no style, and as a photograph no deviation for an instance norm
    to divide by, so that each passes on some hundred times the gradient, which ends beyond all numbers.

    cache: bytes of memory for decoded pictures, see `Decoded`; changes nothing but the speed. recolored: the share
    of the items that get other colours (`recolor`).
    """

    def __init__(
        self, files: Sequence[Path], size: int, scales: tuple[int, int], seed: int, cache: int = 0, recolored: float = 0.0
    ) -> None:
        self.files, self.size, self.seed, self.recolored = list(files), size, seed, recolored
        self.scales = (max(size, scales[0]), max(size, scales[1]))
        self.decoded = Decoded(self.files, cache, self.scales[1])

    def __len__(self) -> int:
        return 2**62

    def __getitem__(self, index: int) -> Crop:
        broken, flat = [], None
        for offset in range(len(self.files)):
            path = self._file(index, offset)
            try:
                data = self._crop(path, random.Random(f"{self.seed}/crop/{index}"))
            except ImageError as error:
                broken.append(str(error))
                continue
            if uneven(data[None]):
                return Crop(data, path.name, tuple(broken))
            flat = flat or (data, path.name)
        if flat:
            return Crop(*flat, tuple(broken))
        raise ImageError(f"none of the {len(self.files)} pictures can be read; the first says: {broken[0]}" if self.files[1:] else broken[0])

    def _file(self, index: int, offset: int = 0) -> Path:
        count = len(self.files)
        epoch, place = divmod(index, count)
        key = (self.seed, epoch) if hash(self.seed) == self.seed else (self.seed, epoch, self.seed >> 61)  # hash(-1) is hash(-2)
        generator = torch.Generator("cpu").manual_seed(hash(key) % 2**63)
        return self.files[int(torch.randperm(count, generator=generator, device="cpu")[(place + offset) % count])]

    def _crop(self, path: Path, rng: random.Random) -> Tensor:
        image = short_side(_not_too_long(self.decoded.read(path)), round(rng.uniform(*self.scales)))
        x, y = rng.randint(0, image.width - self.size), rng.randint(0, image.height - self.size)
        image = image.crop((x, y, x + self.size, y + self.size))
        if rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.recolored and rng.random() < self.recolored:
            image = recolor(image, rng)
        return to_bytes(image)


def refuse_blank(pictures: RandomCrops) -> None:
    """Raise `StylenormError` where each picture is of a single colour: instance norm makes of such ones gradients beyond all
    numbers. Reads pictures until one is not; what is wrong with those that cannot be read is told where they are cut.
    """
    blank = []
    for path in pictures.files:
        with suppress(ImageError):
            if not is_blank(pictures.decoded.read(path)):
                return
            blank.append(path)
    if blank:
        told = f"{blank[0]} is" if len(blank) == 1 else f"{blank[0].parent} holds photographs that are each"
        raise StylenormError(f"{told} of a single colour, on which nothing can be learned; give photographs that show something")


def is_blank(image: Image.Image) -> bool:
    """Whether a picture is of a single colour."""
    return all(dark == light for dark, light in image.getextrema())


def painting_rgb(painting: Source) -> Image.Image:
    """A painting's colours. Raises `ImageError` where there is but one: every photograph would come out as flat ground in it."""
    picture = read_picture(painting)
    if is_blank(picture.seen):
        raise ImageError(f"{picture.name} is of a single colour, which is no style to learn; give a painting that shows something")
    return picture.seen


def recolor(image: Image.Image, rng: random.Random) -> Image.Image:
    """The same strokes in another palette: colours exchanged, each with a curve of its own, more or less vivid.

    A few thousand paintings hold few of the palettes that there are; an encoder that sees each of them often learns
    it by heart, unless it comes in other colours.
    """
    bands = list(image.split())
    rng.shuffle(bands)
    curved = []
    for band in bands:
        gamma, dark, light = 2 ** rng.uniform(-0.7, 0.7), rng.uniform(0, 0.15), rng.uniform(0.85, 1)
        curved.append(band.point([round(255 * (dark + (light - dark) * (i / 255) ** gamma)) for i in range(256)]))
    return ImageEnhance.Color(Image.merge("RGB", curved)).enhance(rng.uniform(0.4, 1.4))


def _not_too_long(image: Image.Image, most: int = 8) -> Image.Image:
    """The middle of a banner: one of a few pixels' height, scaled up, would take all memory."""
    w, h = image.size
    if max(w, h) <= most * min(w, h):
        return image
    keep_w, keep_h = min(w, most * h), min(h, most * w)
    x, y = (w - keep_w) // 2, (h - keep_h) // 2
    return image.crop((x, y, x + keep_w, y + keep_h))


def held_out(files: Sequence[Path], percent: int = 4) -> tuple[list[Path], list[Path]]:
    """(kept for training, held out for judging), by a hash of each file's name.

    The split stays the same when files come and go. Fewer than 100 files are all kept.
    """
    if len(files) < 100:
        return list(files), []
    out = [p for p in files if int(hashlib.sha1(p.name.encode(errors="surrogatepass")).hexdigest(), 16) % 100 < percent]
    judged = set(out)
    return [p for p in files if p not in judged] or list(files), out


@dataclass(frozen=True)
class Batch:
    """N photographs and what each is to look like.

    photos: (N, 3, H, W), bytes where they come from files, a quarter of what floats would be to hand on from the
    process that loads them; see `floats`. named: (N,) index of a named style, or -1. paintings: (M, 3, h, w), one for
    each -1, in order. names: N files, or pairs of files, for messages. broken: complaints about files that were passed over.
    """

    photos: Tensor
    named: Tensor
    paintings: Tensor | None
    names: list[str]
    broken: list[str]

    def pin_memory(self) -> "Batch":
        """The pictures in memory that a GPU can fetch them from by itself; torch's DataLoader calls this."""
        paintings = None if self.paintings is None else self.paintings.pin_memory()
        return replace(self, photos=self.photos.pin_memory(), named=self.named.pin_memory(), paintings=paintings)

    def share_memory(self) -> "Batch":
        """The pictures where another process finds them. Where there is no room for them, this raises; torch's queue would drop them,
        and they would be waited for without end."""
        for tensor in (self.photos, self.named, self.paintings):
            if tensor is not None:
                tensor.share_memory_()
        return self

    def part(self, count: int, size: int) -> "Batch":
        """The first ``count`` photographs, cut to ``size`` px, with what they are to look like."""
        named = self.named[:count]
        wanted = int((named < 0).sum())
        paintings = self.paintings[:wanted] if wanted else None
        return Batch(self.photos[:count, :, :size, :size], named, paintings, self.names[:count], [])


class Pairs(Dataset):
    """Item i: a photograph crop with a named style's index, or with a crop of a random painting.

    ``named_share`` of the items, evenly spread, take the named styles in turn.
    """

    def __init__(self, photos: RandomCrops, styles: int, paintings: RandomCrops | None, named_share: float) -> None:
        if styles == 0 and paintings is None:
            raise StylenormError("training needs named styles, or a folder of paintings, or both")
        self.photos, self.styles, self.paintings = photos, styles, paintings
        self.share = 0.0 if styles == 0 else 1.0 if paintings is None else named_share

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> tuple[Crop, int, Crop | None]:
        before, after = math.floor(index * self.share), math.floor((index + 1) * self.share)
        photo = self.photos[index]
        if after > before:
            return photo, before % self.styles, None
        return photo, -1, self.paintings[index - before]


def collate(items: Sequence[tuple[Crop, int, Crop | None]]) -> Batch:
    paintings = [p for _, _, p in items if p is not None]
    names = [c.name + (f" with {p.name}" if p else "") for c, _, p in items]
    batch = Batch(
        photos=torch.stack([c.data for c, _, _ in items]),
        named=torch.tensor([k for _, k, _ in items], device="cpu"),
        paintings=torch.stack([p.data for p in paintings]) if paintings else None,
        names=names,
        broken=[b for c in [c for c, _, _ in items] + paintings for b in c.broken],
    )
    return batch if get_worker_info() is None else batch.share_memory()


def uneven(pictures: Tensor) -> Tensor:
    """Which of pictures (N, 3, H, W) are of more than one colour, (N,): of bytes in next to no time."""
    channels = pictures.flatten(2)
    return (channels.amin(2) < channels.amax(2)).any(1)


def floats(pixels: Tensor) -> Tensor:
    """Bytes as floats in [0, 1], as `stylenorm.images.to_tensor` has them. Floats stay as they are."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


class Share:
    """The indices from ``first`` to ``last`` that process ``rank`` of ``size`` takes: of each batch its even part.

    ``batch`` is that of all processes together and a multiple of ``size``. All of them together see what one
    process alone would have seen in the same step.
    """

    def __init__(self, first: int, last: int, batch: int, rank: int = 0, size: int = 1) -> None:
        self.starts, self.part = range(first + rank * (batch // size), last, batch), batch // size

    def __iter__(self) -> Iterator[int]:
        for start in self.starts:
            yield from range(start, start + self.part)

    def __len__(self) -> int:
        return len(self.starts) * self.part
