"""`Studio`: what the page does, without the page. Each method is thin over the library."""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from io import BytesIO
from pathlib import Path

from .archive import SUFFIXES, Results, items
from .files import Shelf
from .library import (
    BACKGROUND,
    FACES,
    LONGEST_SIDE,
    NOBODY,
    PEOPLE,
    Comparison,
    ImageError,
    StyleError,
    StylenormError,
    Stylizer,
    changed,
    compared_networks,
    drawn_mask,
    fit,
    fitted,
    frame_count,
    load_style,
    photos_folder,
    read_picture,
    style_entries,
    usual_side,
    weights_folder,
    write_picture,
)
from .newest import Newest
from .stops import Stops

SCREEN = 768  # px, longer side of what is only looked at
THUMBNAIL = 160
LARGEST = 8192  # px, longer side that can be asked for
PAINTING, STYLE_FILE = ":painting", ":file"  # where a style's name is expected; no style can be called that
UNCHANGED = "as it is"
COMPARED = {
    "instance": (
        "Instance normalization",
        "each channel of each picture on its own: the picture's contrast goes, and the style brings its own. "
        "This is the usual choice for style transfer.",
    ),
    "layer": (
        "Layer normalization",
        "all channels of one picture together: the balance between the channels is kept.",
    ),
    "group": (
        "Group normalization",
        "a few channels of one picture together: between instance and layer normalization.",
    ),
    "batch": (
        "Batch normalization",
        "each channel over all pictures of the training at once: a bright and a dark photograph keep their difference.",
    ),
}

log = logging.getLogger("stylenorm.app")


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for. file_bytes: of an upload. megapixels: of a picture, checked before it is decoded.

    minutes: of the training of a style. long_minutes: of a film or a folder, which ends there with what is painted.
    """

    megapixels: float = 120
    file_bytes: int = 200_000_000
    style_bytes: int = 4_000_000
    minutes: float = 30
    long_minutes: float = math.inf

    @property
    def pixels(self) -> int:
        return int(self.megapixels * 1e6)


@dataclass(frozen=True)
class Wish:
    """How a photograph is to be painted. styles: (name, weight), up to four. size: longer side in px, or None.

    closer: the uploaded painting's style is refined on the photograph. strokes: times as large as usual.
    faces: how much of their features stays. where: what is painted, `PEOPLE`, `BACKGROUND`, or "" for all of it.
    mask_file: of a film, a mask of one's own, which may move; inverted: what it leaves out is painted. drawn: a mask as an image.
    """

    styles: Sequence[tuple[str | None, float]]
    painting: str | None = None
    style_file: str | None = None
    strength: float = 1.0
    keep_colors: bool = False
    size: int | None = None
    closer: bool = False
    strokes: float = 1.0
    faces: float = FACES
    where: str = ""
    mask_file: str | None = None
    inverted: bool = False
    drawn: object = None

    @property
    def mask(self):
        """As `Stylizer.stylize` takes it."""
        return self.where or self.drawn


@dataclass
class Studio:
    """A network, its gallery, and the shelf that results are laid on. notice: called with what a visitor should know."""

    stylizer: Stylizer
    shelf: Shelf
    weights: Path = field(default_factory=weights_folder)
    limits: Limits = Limits()
    notice: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._thumbnails: dict[tuple, Path] = {}
        self._examples: dict[tuple, tuple[Path, Path]] = {}
        self._small: OrderedDict[tuple[str, float], Path] = OrderedDict()
        self._own: OrderedDict[str, object] = OrderedDict()
        self.stops, self.newest = Stops(), Newest()
        self._long_job = threading.Semaphore(1)

    @contextmanager
    def turn(self, stop: threading.Event | None = None) -> Iterator[threading.Event]:
        """Films, folders and trainings take turns, and leave room for single pictures.

        stop: set when ``limits.long_minutes`` are over; before it, the event that this gives is set.
        """
        if not self._long_job.acquire(blocking=False):
            raise StylenormError("somebody's film, folder or training is at work; try again in a few minutes")
        over = threading.Event()

        def end() -> None:
            over.set()
            stop.set()

        seconds = min(60 * self.limits.long_minutes, threading.TIMEOUT_MAX)
        timer = threading.Timer(seconds, end)
        timer.daemon = True
        try:
            if stop is not None:
                timer.start()
            yield over
        finally:
            timer.cancel()
            self._long_job.release()

    def leave(self, visitor: str) -> None:
        """``visitor`` closed the page."""
        for part in (self.stops.leave, self.newest.forget, self.shelf.leave):
            part(visitor)

    # ---- styles --------------------------------------------------------------------------------

    def reload(self) -> None:
        """See styles that were added or removed, by this page or by a command. Where they cannot be listed, it keeps what it had."""
        try:
            self.stylizer.styles = {e.name: e for e in style_entries(self.weights)}
        except StylenormError as error:
            log.warning("the styles are as they were: %s", error)

    def labels(self, short: bool = False) -> dict[str, str]:
        """What people read -> name: "The Great Wave, Katsushika Hokusai, 1831", or short, "The Great Wave"."""
        found: dict[str, str] = {}
        for entry in self.stylizer.styles.values():
            known = [str(part) for part in (entry.title, entry.artist, entry.year) if part]
            label = (entry.title if short else ", ".join(known)) if entry.title else entry.name
            found[label if label not in found else f"{label} ({entry.name})"] = entry.name
        return found

    def choices(self, own: bool = True) -> list[tuple[str, str]]:
        mine = [("My own painting", PAINTING), ("My style file", STYLE_FILE)] if own else []
        return [*self.labels().items(), *mine]

    def listed(self) -> list[dict]:
        """Every style: name, title, artist, year."""
        return [{k: v for k, v in e.to_dict().items() if k != "file"} for e in self.stylizer.styles.values()]

    def gallery(self) -> list[tuple[str, str]]:
        """(thumbnail, title) of every style that can be read: its real output on one example photograph."""
        return list(self.thumbnails())

    def thumbnails(self) -> Iterator[tuple[str, str]]:
        """`gallery`, one by one."""
        photo = None
        for label, name in self.labels(short=True).items():
            with self._lock:
                if not self._sound(name):
                    continue
                key = self._version(name)
                if key not in self._thumbnails or not self._thumbnails[key].is_file():
                    photo = photo or self.stylizer.stylize(example_photo(), name, strength=0, size=2 * THUMBNAIL)
                    target = self.shelf.new(f"{name}.jpg")
                    write(self.stylizer.stylize(photo, name), target, quality=88)
                    self.shelf.keep(target)
                    self._thumbnails[key] = target
                thumbnail = str(self._thumbnails[key])
            yield thumbnail, label

    def place(self, name: str | None) -> int | None:
        """Where a style is in the gallery; None for an upload and for what is not there."""
        shown = list(self.labels().values())
        return shown.index(name) if name in shown else None

    def _sound(self, name: str) -> bool:
        """Whether the style can be read. A damaged one is logged, and in no list until `reload` looks at it again."""
        try:
            self.stylizer.style(name)
        except (StylenormError, OSError) as error:
            log.warning("the style %r is left out: %s", name, error)
            self.stylizer.styles = {n: entry for n, entry in self.stylizer.styles.items() if n != name}
            return False
        return True

    def _version(self, name: str) -> tuple[str, int]:
        """Another one for a style that was trained anew under the same name."""
        file = self.stylizer.styles[name].file
        return name, file.stat().st_mtime_ns if file.exists() else 0

    def first(self) -> str | None:
        """The style that is chosen when the page opens."""
        return next((n for n in ("starry-night", *self.stylizer.styles) if n in self.stylizer.styles), None)

    def example(self) -> tuple[Path, Path] | None:
        """(a photograph, its painting), for a page on which nothing has happened yet."""
        while (name := self.first()) is not None and not self._sound(name):
            pass
        if name is None:
            return None
        with self._lock:
            key = self._version(name)
            pair = self._examples.get(key)
            if pair is None or not all(path.is_file() for path in pair):
                before = self.save(self._small_image(self.read(example_photo())), "example", "preview")
                pair = before, self.save(self.stylizer.stylize(before, name), "example", "painted")
                self.shelf.keep(*pair)
                self._examples[key] = pair
            return pair

    def style(self, wish: Wish, photo: str | Path | None = None):
        """What `Stylizer.stylize` takes for the wish. photo: what a style is refined on, if that is wished for."""
        parts = [(self._named(name, wish, photo), weight) for name, weight in wish.styles if name and weight > 0]
        if not parts:
            raise StyleError("choose a style, with a share above 0")
        if len(parts) > 4:
            raise StyleError("at most four styles can be blended")
        return self.stylizer.resolve(parts[0][0] if len(parts) == 1 else parts)

    def _named(self, name: str, wish: Wish, photo: str | Path | None):
        if name == PAINTING:
            if not wish.painting:
                raise StyleError("upload a painting first, or choose one of the styles")
            predicted = self._remembered("painting " + wish.painting, lambda: self.stylizer.style_from(self.read(wish.painting)))
            if not (wish.closer and photo):
                return predicted
            key = f"painting {wish.painting} on {photo}"
            return self._remembered(key, lambda: self.stylizer.refine(predicted, self.read(wish.painting), [self.read(photo)]))
        if name == STYLE_FILE:
            if not wish.style_file:
                raise StyleError("upload a style file first, or choose one of the styles")
            return self._remembered("file " + wish.style_file, lambda: self._read_style(Path(wish.style_file)))
        if not isinstance(name, str):
            raise StyleError("a style is called by its name")
        return name

    def _read_style(self, path: Path):
        if path.stat().st_size > self.limits.style_bytes:
            raise StyleError(f"{path.name} is too large to be a style; upload a .safetensors file that was trained here")
        with plainly(path):
            return self.stylizer.resolve(load_style(path))

    def _remembered(self, key: str, make):
        """Uploads are called by their content, so a path says what was made of it."""
        with self._lock:
            if key in self._own:
                self._own.move_to_end(key)
                return self._own[key]
        made = make()
        with self._lock:
            self._own[key] = made
            while len(self._own) > 16:
                self._own.popitem(last=False)
        return made

    # ---- one picture ---------------------------------------------------------------------------

    def read(self, path: str | Path | bytes, name: str | None = None):
        """The library's picture, if it is one and within the limits. Messages call it by its file name alone."""
        if isinstance(path, (str, Path)):
            name = name or Path(path).name
            if not Path(path).is_file():
                raise ImageError(f"{name} is no longer on the server; upload it again")
        try:
            return read_picture(path, name=name, max_pixels=self.limits.pixels)
        except ImageError as error:
            text = str(error).replace("resize it or raise the limit", "make it smaller").replace(sys.executable or "python", "python")
            raise ImageError(text.replace("stylenorm video paints films", "the tab “Film” paints it")) from None

    def moves(self, photo: str) -> bool:
        """Whether the upload is an animation, of which the first frame is painted here."""
        return self._remembered(f"frames of {photo}", lambda: frame_count(photo)) > 1

    def small(self, photo: str, most: float = math.inf) -> Path:
        """The photograph at preview size, or ``most`` px, on the shelf; made once, for it is read at each change of a setting."""
        with self._lock:
            path = self._small.get((photo, most))
        if path is None or not path.is_file():
            picture = self.read(photo)
            path = self.save(self._small_image(picture, most), Path(photo).stem, "preview")
            with self._lock:
                self._small[photo, most] = path
                while len(self._small) > 256:
                    self._small.popitem(last=False)
        return path

    def _small_image(self, picture, most: float = math.inf):
        any_style = next(iter(self.stylizer.styles), None) or self.stylizer.style_from(picture)
        longest = max(picture.size)
        size = min(usual_side(picture.size) or longest, most)  # so that a preview is what the file will be
        return self.stylizer.stylize(picture, any_style, strength=0, size=None if size == longest else size)  # at strength 0 it is the photograph

    def preview(self, visitor: str, photo: str | None, wish: Wish, page: str = "stylize") -> tuple[Path, Path]:
        """(the photograph, its painting), at preview size."""
        before = self._start(visitor, photo, wish, page)
        after = self._paint(before, wish, wish.size and min(wish.size, max(self.read(before).size)), before)
        after = self.save(after, Path(photo).stem, "painted")
        self.shelf.hold(visitor, f"{page} after", [after])
        return before, after

    def finish(self, visitor: str, photo: str | None, wish: Wish, format: str, quality: int, page: str = "stylize") -> Path:
        """The painting at full size, as a file of ``format``, with the photograph's EXIF, XMP and colour profile."""
        check_format(format, quality)
        sample = self._start(visitor, photo, wish, page, small=wish.closer)  # so that the file is what the preview showed
        image = self._paint(photo, wish, wish.size, sample)
        target = self.shelf.new(f"{Path(photo).stem}-painted{SUFFIXES[format]}")
        write(image, target, format=format, quality=int(quality))
        self.shelf.hold(visitor, f"{page} file", [target])
        return target

    def _start(
        self, visitor: str, photo: str | None, wish: Wish, page: str, small: bool = True, layers: Sequence = ()
    ) -> Path | None:
        if not photo:
            raise ImageError("add a photograph first")
        drawn = [layer for layer in layers if isinstance(layer, Path)]
        self.shelf.hold_all(visitor, {f"{page} photo": [photo], f"{page} style": [wish.painting, wish.style_file, *drawn]})
        if not small:
            return None
        before = self.small(photo)
        self.shelf.hold(visitor, f"{page} before", [before])
        return before

    def _paint(self, photo: str | Path, wish: Wish, size: int | None, sample: str | Path | None = None):
        picture = self.read(photo)
        self.check_size(picture, wish.size)
        return self.stylizer.stylize(
            picture,
            self.style(wish, sample),
            strength=wish.strength,
            preserve_color=wish.keep_colors,
            size=size,
            paint_at=painted_at(wish.strokes, fitted(picture.size, size)),
            notice=self._noticed,
            faces=wish.faces,
            mask=wish.mask,
        )

    def _noticed(self, told: str) -> None:  # what the library says is about this machine's memory and folders
        nobody = NOBODY.removesuffix(" it") in told
        self.notice("No people are to be seen in this picture." if nobody else "This picture is large, so it is painted strip by strip. That takes a few minutes.")

    def save(self, image, stem: str, what: str) -> Path:
        """A picture for the screen: PNG where it is transparent, else JPEG."""
        target = self.shelf.new(f"{stem}-{what}{'.png' if image.mode == 'RGBA' else '.jpg'}")
        write(image, target, quality=92)
        return target

    # ---- regions -------------------------------------------------------------------------------

    def regions(
        self, visitor: str, photo: str | None, layers: Sequence, inside: Wish, outside: str, edge: float, follow: bool = False,
        people: bool = False,
    ) -> tuple[Path, Path]:  # fmt: skip
        """(the photograph, its painting with one style inside the mask and another outside), at preview size.

        Without a style the photograph stays as it is there. follow: the mask is brought to the photograph's own edges. people: they are
        the part, and nothing need be drawn.
        """
        before = self._start(visitor, photo, inside, "regions", layers=layers)
        masks = partial(self._masks, photo, layers, edge, follow, people)
        after = self.save(self._paint_regions(before, masks, inside, outside), Path(photo).stem, "painted")
        self.shelf.hold(visitor, "regions after", [after])
        return before, after

    def finish_regions(
        self, visitor: str, photo: str | None, layers: Sequence, inside: Wish, outside: str, edge: float, format: str, quality: int,
        follow: bool = False, people: bool = False,
    ) -> Path:  # fmt: skip
        """The same at full size, as a file."""
        check_format(format, quality)
        self._start(visitor, photo, inside, "regions", small=False, layers=layers)
        image = self._paint_regions(photo, partial(self._masks, photo, layers, edge, follow, people), inside, outside)
        target = self.shelf.new(f"{Path(photo).stem}-painted{SUFFIXES[format]}")
        write(image, target, format=format, quality=int(quality))
        self.shelf.hold(visitor, "regions file", [target])
        return target

    def _masks(self, photo: str, layers: Sequence, edge: float, follow: bool, people: bool):
        """What is drawn, or is to be found, and the rest."""
        if people:
            return PEOPLE, BACKGROUND
        drawn = [self.read(layer, "the mask") for layer in layers]
        seen = self.read(self.small(photo, SCREEN)).rgb if follow else None  # for a preview and for the file
        return drawn_mask([p.alpha or p.rgb.convert("L") for p in drawn], edge, seen)

    def _paint_regions(self, photo: str | Path, masks: Callable[[], tuple], inside: Wish, outside: str):
        chosen = bool(inside.styles[0][0])
        if not chosen and not outside:
            raise StyleError("choose a style for at least one of the two parts")
        mask, rest = masks()
        base = self.style(replace(inside, styles=[(outside, 1)]) if outside else inside)
        where = {"regions": [(self.style(inside), mask)]} if chosen and outside else {"mask": mask if chosen else rest}
        wish_of = {"strength": inside.strength, "preserve_color": inside.keep_colors, "faces": inside.faces, "notice": self._noticed}
        return self.stylizer.stylize(self.read(photo), base, **wish_of, **where)

    # ---- folder --------------------------------------------------------------------------------

    def folder(
        self,
        visitor: str,
        files: Sequence[str],
        wish: Wish,
        format: str,
        quality: int,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[int, int, float | None, list[list[str]], Path | None]]:
        """Paint many pictures: (done, of how many, seconds left, rows of the table, the zip when it is ready).

        ``should_stop`` is asked before each; the zip then holds those that are done.
        """
        check_format(format, quality)
        self.shelf.hold_all(visitor, {"folder photo": files, "folder style": [wish.painting, wish.style_file]})
        work, style = items(list(files)), self.style(wish)
        wish_of = {"strength": wish.strength, "preserve_color": wish.keep_colors, "size": wish.size, "faces": wish.faces, "notice": self._noticed, "mask": wish.mask}
        target = self.shelf.new("painted.zip")
        self.shelf.hold(visitor, "folder file", [target])
        rows: list[list[str]] = []
        started = time.monotonic()
        yield 0, len(work), None, rows, None
        with Results(target, format) as results:
            for number, item in enumerate(work, 1):
                if should_stop():
                    break
                self.shelf.stay(visitor)
                try:
                    picture = self.read(source := item.read(), item.name)
                    self.check_size(picture, wish.size)
                    paint_at = painted_at(wish.strokes, fitted(picture.size, wish.size))
                    image = self.stylizer.stylize(picture, style, paint_at=paint_at, **wish_of)
                    write_picture(image, buffer := BytesIO(), format=format, quality=int(quality))
                    name = results.add(item.name, buffer.getvalue())
                    alone = ", its first frame alone" if frame_count(source) > 1 else ""
                    rows.append([item.name, "painted", f"{name}, {image.width} x {image.height} px{alone}"])
                except (StylenormError, MemoryError) as error:
                    rows.append([item.name, "left out", str(error) or "it needs more memory than there is; make it smaller"])
                left = (time.monotonic() - started) / number * (len(work) - number)
                yield number, len(work), left, rows, None
            painted_any = len(results) > 0
        yield len(rows), len(work), 0.0, rows, target if painted_any else None

    def check_size(self, picture, size: int | None) -> None:
        if size is None:
            return
        width, height = (length * size / max(picture.size) for length in picture.size)
        if not 16 <= size <= LARGEST or width * height > self.limits.pixels:
            most = f"{LARGEST} px and {self.limits.megapixels:g} megapixels"
            raise ImageError(f"{picture.name} cannot be painted at {size} px; choose a size from 16 px up to {most}")

    # ---- compare -------------------------------------------------------------------------------

    def comparable(self) -> list[str]:
        """The kinds of normalization that there is a network for."""
        there = compared_networks(self.weights / "compare")
        return [kind for kind in COMPARED if kind in there]

    def compared_styles(self) -> list[str]:
        """Names of the styles that all of these networks know."""
        return self._comparison.styles if self.comparable() else []

    def compare(self, visitor: str, photo: str | None, style: str, change: str = UNCHANGED) -> list[tuple[Path, str]]:
        """The photograph, perhaps changed, then its painting by each network, with a sentence for each."""
        before = self._start(visitor, photo, Wish([]), "compare")
        picture = self.read(before)
        if max(picture.size) > SCREEN or change != UNCHANGED:
            image = self._small_image(picture, SCREEN)
            before = self.save(image if change == UNCHANGED else changed(image, change), Path(photo).stem, "compared")
        shown = [(before, "The photograph")]
        for kind, image in self._comparison.paint(before, style).items():
            shown.append((self.save(image, Path(photo).stem, kind), f"{COMPARED[kind][0]}: {COMPARED[kind][1]}"))
        self.shelf.hold(visitor, "compare after", [path for path, _ in shown])
        return shown

    @cached_property
    def _comparison(self) -> Comparison:
        return Comparison(self.weights / "compare")


def painted_at(strokes: float, size: tuple[int, int]) -> int | None:
    """Longer side in px at which a picture of ``size`` is painted, so that strokes are so many times as large as usual."""
    return None if strokes == 1 else max(16, round((usual_side(size) or max(size)) / strokes))


def small_enough(image):
    """A PIL image as a preview of it is painted."""
    side = usual_side(image.size)
    return image if side is None else fit(image, side)


def write(image, target: Path, **options) -> None:
    """`write_picture`, whose messages call the file by its name alone. Raises `ImageError`."""
    with plainly(target):
        write_picture(image, target, **options)


@contextmanager
def plainly(*paths: Path) -> Iterator[None]:
    """Messages call files by their names alone."""
    try:
        yield
    except StylenormError as error:
        raise type(error)(by_name(str(error), *paths)) from None


def by_name(text: str, *paths: Path) -> str:
    for path in paths:
        text = text.replace(str(path), path.name)
    return text


def check_format(format: str, quality: float, longest: int = 0) -> None:
    """Raises `ImageError` where no file can be of this format or quality. longest: side in px, where it is known before."""
    if longest > LONGEST_SIDE.get(format, longest):
        raise ImageError(f"a {format.upper()} holds at most {LONGEST_SIDE[format]} pixels a side; choose another kind of file")
    if format not in SUFFIXES:
        raise ImageError(f"the file can be {' or '.join(SUFFIXES)}, not {format}")
    if not 1 <= quality <= 100:
        raise ImageError(f"the quality must lie between 1 and 100, not {quality:g}")


def example_photo() -> Path:
    """The photograph that the gallery's thumbnails show."""
    photos = example_photos()
    return next((p for p in photos if p.stem == "astronaut"), photos[0])


def example_photos() -> list[Path]:
    found = sorted(photos_folder().glob("[!.]*.jpg"))  # a Mac leaves ._coffee.jpg beside it on some drives
    if not found:
        raise StylenormError(f"the example photographs in {photos_folder()} are missing; install stylenorm again")
    return found
