"""`Cinema`: what the tab for films does, without the page."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from .library import (
    ANIMATABLE,
    FILMS,
    PHOTOGRAPHS,
    Cancelled,
    ImageError,
    Masks,
    Mattes,
    StylenormError,
    fit,
    fitted,
    frame_count,
    mask_levels,
    paint_animation,
    paint_film,
    picture_box,
    probe_film,
    read_frames,
)
from .studio import SCREEN, Studio, Wish, by_name, painted_at, plainly, small_enough
from .training import watch

EVERY = 2.0  # seconds between two looks at a film that is being painted
DARK = 12.0  # levels of 255: a frame whose deviation is smaller shows next to nothing
LOOKED_AT = 150  # frames at most, for one that shows something


@dataclass(frozen=True)
class Moving:
    """What moves: its name, its (width, height) in px, about how many frames, or None, and for films what was found in the file."""

    name: str
    size: tuple[int, int]
    frames: int | None
    film: object | None = None

    def told(self) -> str:
        """In words."""
        width, height = self.size
        rate = f", {float(self.film.rate):.4g} a second{', HDR, painted in standard range' if self.film.hdr else ''}" if self.film else ""
        return f"{width} x {height} px{f', about {self.frames} frames{rate}' if self.frames else rate}"


@dataclass(frozen=True)
class Look:
    """What is known of a film that is being painted. pair: (a frame, its painting). left: seconds. path: when it is ready. whole: painted to its end."""

    done: int = 0
    total: int | None = None
    left: float | None = None
    pair: tuple[Path, Path] | None = None
    path: Path | None = None
    whole: bool = False
    notes: tuple[str, ...] = ()


class Cinema:
    """Paints films and animated pictures, with the styles of a studio. Safe to use from several threads at once."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._lock = threading.Lock()
        self._stills: OrderedDict[str, tuple[Path, int, tuple | None]] = OrderedDict()
        self._wanted: dict[str, tuple] = {}  # what a visitor whose film is being painted wants to see

    def opened(self, file: str | None) -> Moving:
        """What was uploaded. Raises `StylenormError` where it does not move."""
        if not file:
            raise ImageError("add a film first")
        path, limit = Path(file), self.studio.limits.pixels
        check_there(path)
        if (count := frame_count(path)) > 1:
            return Moving(path.name, self.studio.read(path).size, count)
        try:
            self.studio.read(path)
        except ImageError:
            if path.suffix.lower() in PHOTOGRAPHS:  # a broken one
                raise
        else:
            raise StylenormError(f"{path.name} does not move; the tab “Stylize” paints it")
        with plainly(path):
            film = probe_film(path, limit)
        return Moving(path.name, film.size, film.frames, film)

    def preview(self, visitor: str, file: str | None, wish: Wish) -> tuple[Moving, tuple[Path, Path]]:
        """(what it is, (one frame of it, its painting)), at preview size."""
        moving = self.opened(file)
        self.studio.check_size(moving, wish.size)
        self.studio.shelf.hold(visitor, "film", [file, wish.mask_file])
        if visitor in self._wanted:
            self._wanted[visitor] = file, wish
        still, number, box = self._still(file, moving)
        if masks := self._masks(file, wish):
            wish = replace(wish, drawn=_drawn(masks, moving, Path(wish.mask_file), number, box))
        return moving, self.studio.preview(visitor, str(still), wish, page="film")

    def _masks(self, file: str, wish: Wish) -> Mattes | None:
        """Those of the visitor's own."""
        if not wish.mask_file:
            return None
        if wish.where:
            raise StylenormError("choose “Everything” as what is painted, or take your mask away; it takes one of them to say where")
        path, film = Path(wish.mask_file), Path(file)
        check_there(path)
        with plainly(path, film):
            if path.suffix.lower() in FILMS:
                probe_film(path, self.studio.limits.pixels)
            else:
                self.studio.read(path, "the mask")
            return Mattes([Masks(path, wish.inverted)], film)

    def paint(self, visitor: str, file: str | None, wish: Wish, stop: threading.Event) -> Iterator[Look]:
        """Paint all of it. After ``stop`` a film ends there, with its sound; of an animation nothing is left. Raises `Cancelled`.

        While the visitor looks at a `preview` of something else, looks come without frames.
        """
        self._wanted[visitor] = file, wish
        try:
            yield from self._paint(visitor, file, wish, stop)
        finally:
            self._wanted.pop(visitor, None)
            self.studio.shelf.release(visitor, "film at work")

    def _paint(self, visitor: str, file: str | None, wish: Wish, stop: threading.Event) -> Iterator[Look]:
        moving = self.opened(file)
        self.studio.check_size(moving, wish.size)
        files = [file, wish.mask_file]
        self.studio.shelf.hold_all(visitor, {"film": files, "film at work": files, "film style": [wish.painting, wish.style_file]})
        masks, called = self._masks(file, wish), [Path(p) for p in (file, wish.mask_file) if p]
        paint_at = painted_at(wish.strokes, fitted(moving.size, wish.size))
        with plainly(*called):
            mask = masks.first()[0] if masks else wish.mask
        options = {"strength": wish.strength, "preserve_color": wish.keep_colors, "size": wish.size, "paint_at": paint_at, "faces": wish.faces, "mask": mask}
        begin = partial(self.studio.stylizer.stream, self.studio.style(wish), **options)
        suffix = ".mp4" if moving.film else Path(file).suffix.lower()
        target = self.studio.shelf.new(f"{Path(file).stem}-painted{suffix if moving.film or suffix in ANIMATABLE else '.webp'}")
        self.studio.shelf.hold(visitor, "film file", [target])
        work = partial(_film, moving, target, begin, masks, stop) if moving.film else partial(_animation, moving, Path(file), target, begin, masks, stop)
        passes = 1 if moving.film else 2  # of an animation all frames are looked at first
        total, started, shown = moving.frames and passes * moving.frames, time.monotonic(), 0
        yield Look(0, moving.frames)
        with plainly(*called, target):
            for seen in watch(work, stop, EVERY, record=lambda _: None):
                seen.curve.clear()
                self.studio.shelf.stay(visitor)
                done, frame, painted = seen.latest if seen.latest else (0, None, None)
                if seen.result is None and done != shown:
                    left = (time.monotonic() - started) / done * (total - done) if total and total > done else None
                    watched = self._wanted.get(visitor) == (file, wish)
                    pair = self._pair(visitor, Path(file).stem, frame, painted) if watched else None
                    yield Look(done // passes, moving.frames, left, pair)
                    shown = done
        if not target.exists():
            raise Cancelled("nothing was painted")
        made = seen.result
        notes = tuple(by_name(note, Path(file), target) for note in made.notes)
        yield Look(made.frames, moving.frames, 0.0, None, target, made.whole, notes)

    def _pair(self, visitor: str, stem: str, *images: Image.Image) -> tuple[Path, Path]:
        pair = tuple(self.studio.save(fit(image, SCREEN) if max(image.size) > SCREEN else image, stem, "frame") for image in images)
        self.studio.shelf.hold(visitor, "film frames", pair)
        return pair

    def _still(self, file: str, moving: Moving) -> tuple[Path, int, tuple | None]:
        """(a frame that shows something, at preview size, on the shelf; its number; which part of it that is, or None for all of it).

        Looked for once, for it is read at each change of a setting.
        """
        if not moving.film:
            return self.studio.small(file), 0, None
        with self._lock:
            found = self._stills.get(file)
        if found is None or not found[0].is_file():
            with plainly(Path(file)):
                number, image = telling(moving.film)
                box = picture_box(moving.film)
            found = self.studio.save(small_enough(image.crop(box)), Path(file).stem, "still"), number, box
            with self._lock:
                self._stills[file] = found
                while len(self._stills) > 64:
                    self._stills.popitem(last=False)
        return found


def check_there(path: Path) -> None:
    if not path.is_file():
        raise ImageError(f"{path.name} is no longer on the server; upload it again")


def _drawn(masks: Mattes, moving: Moving, path: Path, number: int, box: tuple | None) -> Image.Image:
    """The mask of frame ``number``, or of the part of it in ``box``."""
    (matte,) = masks.mattes
    with plainly(path):
        if matte and moving.film:
            matte.check_length(moving.film.path, moving.film.frames)
        mask = next(matte.masks(number)) if matte else masks.first()[0]
        return mask_levels(mask, moving.size).crop(box)


def telling(film) -> tuple[int, Image.Image]:
    """(number, frame) of the first that is not next to one colour, as films begin, or of the last one that was looked at."""
    image = None
    for number, (_, _, frame) in enumerate(read_frames(film)):
        if number % 10 and number > 10:
            continue
        at, image = number, frame()
        if number >= LOOKED_AT or np.asarray(image.convert("L")).std() > DARK:
            break
    if image is None:
        raise StylenormError(f"{film.path} holds no frame that can be read; get a whole copy")
    return at, image


@dataclass(frozen=True)
class Made:
    """frames: painted. whole: to the end. notes: what was not copied as it is, and that nobody was seen."""

    frames: int
    whole: bool = True
    notes: tuple[str, ...] = ()


def _film(moving: Moving, target: Path, begin: Callable, masks: Mattes | None, stop: threading.Event, progress: Callable) -> Made:
    matte = masks and masks.mattes[0]
    report = paint_film(moving.film, target, begin(), should_stop=stop.is_set, tell=lambda *now: progress(now), mask=matte)
    trouble = moving.film.trouble if report.finished else None
    return Made(report.frames, report.finished, (*report.notes, *([trouble] if trouble else [])))


def _animation(moving: Moving, source: Path, target: Path, begin: Callable, masks: Mattes | None, stop: threading.Event, progress: Callable) -> Made:
    notes: list[str] = []

    def stream(fixed) -> Telling:
        return Telling(begin(fixed=fixed), moving.frames if fixed else 0, stop, progress)

    paint_animation(source, target, stream, notice=notes.append, **({"each": masks.each} if masks else {}))
    return Made(moving.frames, notes=tuple(notes))


class Telling:
    """A stream that says what it paints, and ends when it shall. done: frames that another one painted before."""

    def __init__(self, stream, done: int, stop: threading.Event, progress: Callable) -> None:
        self._stream, self._done, self._stop, self._progress = stream, done, stop, progress
        self.pooled, self.steady = stream.pooled, stream.steady

    def survey(self, frame: Image.Image, **masks) -> Image.Image:
        return self._tell(frame, partial(self._stream.survey, **masks))

    def __call__(self, frame: Image.Image, **masks) -> Image.Image:
        return self._tell(frame, partial(self._stream, **masks))

    def _tell(self, frame: Image.Image, paint: Callable) -> Image.Image:
        if self._stop.is_set():
            raise Cancelled("the animation was stopped")
        painted = paint(frame)
        self._done += 1
        self._progress((self._done, frame, painted))
        return painted
