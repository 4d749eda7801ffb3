"""Mattes: masks that move, with one for each frame of a film, as programs that cut people out of films write them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from PIL import Image, ImageOps

from stylenorm.errors import ImageError, counted
from stylenorm.formats import FILMS, PHOTOGRAPHS, is_hidden
from stylenorm.images import read_picture
from stylenorm.jobs import Masks
from stylenorm.masks import inverted_mask
from stylenorm.video_files import Film, frames, probe

MISSING = 0.05  # of a film's frames, from which on a matte is refused before anything is painted: how many a film has is not always known


class Matte:
    """A film, white where it counts, or a folder of numbered pictures, each as `stylenorm.masks.mask_levels` takes one.

    inverted: the rest is meant. Raises `ImageError` where there is no such thing.
    """

    def __init__(self, path: str | Path, inverted: bool = False) -> None:
        self.path, self.inverted = Path(path), inverted
        self._pictures = numbered(self.path) if self.path.is_dir() else None
        if self._pictures == []:
            raise ImageError(f"the folder {self.path} holds no numbered pictures, such as 0001.png; a mask that moves has one for each frame")
        self._film = None if self._pictures else probe(self.path)
        self.count: int | None = len(self._pictures) if self._pictures else self._film.frames

    def masks(self, first: int = 0) -> Iterator[Image.Image]:
        """From frame ``first`` on, each as `Stylizer.stylize` takes it. The end raises `ImageError`: whoever asks has a frame left."""
        given = first
        for mask in islice(self._all(), first, None):
            yield mask
            given += 1
        raise ImageError(f"the mask {self.path} ends after {counted(given, 'frame')}, and the film goes on; it has to have one for each frame")

    def _all(self) -> Iterator[Image.Image]:
        for path in self._pictures or ():
            yield inverted_mask(path) if self.inverted else read_picture(path)
        for _, _, frame in frames(self._film) if self._film else ():
            grey = frame().convert("L")
            yield ImageOps.invert(grey) if self.inverted else grey

    def check_length(self, film: Film) -> None:
        """Refuse what is clearly shorter than the film. Raises `ImageError`."""
        if self.count and film.frames and self.count < (1 - MISSING) * film.frames:
            raise ImageError(f"the mask {self.path} has {counted(self.count, 'frame')}, and {film.path} about {film.frames}; it has to have one for each")

    def told(self) -> str:
        """What differs as soon as it is another one."""
        files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self._pictures or [self.path]]
        return hashlib.sha256(repr(files).encode()).hexdigest()


def matte_for(masks: Masks | None, film: Path) -> Matte | None:
    """The one that is meant for a film, if what is asked for moves: a film or a folder of numbered pictures, or one called like the film in a folder."""
    if masks is None or masks.word:
        return None
    path = masks.path
    if path.is_dir():
        own = path / film.stem
        if own.is_dir():
            return Matte(own, masks.inverted)
        if not masks.has(film) and numbered(path):
            return Matte(path, masks.inverted)
        path = masks.file_for(film)
    return Matte(path, masks.inverted) if path.suffix.lower() in FILMS else None


def numbered(folder: Path) -> list[Path]:
    """The pictures right in a folder, by the last number in their names; none if one of them has no number, or two the same."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in PHOTOGRAPHS and not is_hidden(p.name) and p.is_file()]
    found = {int(n[-1]): p for p in files if (n := re.findall(r"\d+", p.stem))}
    return [found[n] for n in sorted(found)] if len(found) == len(files) > 1 else []
