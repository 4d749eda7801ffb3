"""Mattes: masks that move, with one for each frame of a film or an animation, as programs that cut people out of films write them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import islice, repeat
from pathlib import Path

from PIL import Image

from stylenorm.animation import frame_count
from stylenorm.animation import frames as pictures
from stylenorm.errors import ImageError, counted
from stylenorm.formats import FILMS, PHOTOGRAPHS, is_hidden
from stylenorm.images import read_picture
from stylenorm.jobs import Masks
from stylenorm.masks import inverted_mask
from stylenorm.video_files import count_frames, frames, probe

MISSING = 0.05  # of a film's frames, from which on a matte is refused before anything is painted: how many a film has is not always known


class Matte:
    """A film, white where it counts or a cut-out, or an animation or a folder of numbered pictures, each as `stylenorm.masks.mask_levels` takes one.

    inverted: the rest is meant. Raises `ImageError` where there is no such thing.
    """

    def __init__(self, path: str | Path, inverted: bool = False) -> None:
        self.path, self.inverted = Path(path), inverted
        self._pictures = numbered(self.path) if self.path.is_dir() else None
        if self._pictures == []:
            raise ImageError(f"the folder {self.path} holds no numbered pictures, such as 0001.png; a mask that moves has one for each frame")
        self.count: int | None = len(self._pictures) if self._pictures else _frames_of(self.path)
        self._film = None if self._pictures or self.count else probe(self.path)
        if self._film:
            self.count = self._film.frames
            if self._film.alpha is None:
                raise ImageError(f"what is opaque in the mask {self.path} cannot be read from VP8 or VP9; convert it to ProRes 4444 or numbered PNGs")
        self._stands: list[int] | None = None  # how many frames each of an animation is for, where not one

    def masks(self, first: int = 0) -> Iterator[Image.Image]:
        """From frame ``first`` on, each as `Stylizer.stylize` takes it. The end raises `ImageError`: whoever asks has a frame left."""
        given = first
        for mask in islice(self._all(), first, None):
            yield mask
            given += 1
        raise ImageError(f"the mask {self.path} ends after {counted(given, 'frame')}, and what it is for goes on; it has to have one for each frame")

    def _all(self) -> Iterator[Image.Image]:
        for given in self._pictures or ():
            yield inverted_mask(given) if self.inverted else read_picture(given)
        stands = iter(self._stands or repeat(1))
        for given, *_ in pictures(self.path) if self._moves else ():
            yield from repeat(inverted_mask(given) if self.inverted else given, next(stands))
        for _, _, frame in frames(self._film, cut_out=True) if self._film else ():
            given = frame()
            yield inverted_mask(given) if self.inverted else given

    @property
    def _moves(self) -> bool:
        """Whether it is an animation."""
        return not self._pictures and not self._film

    def check_length(self, source: Path, frames: int | None) -> None:
        """Refuse what is clearly shorter than a film or an animation of about so many frames. Raises `ImageError`.

        Where a film's head tells of another number, its packets are counted. Of an animation that has fewer, a frame that stands
        twice as long as the shortest one is two, and so on: programs that write animations put frames that are alike together.
        """
        if not self.count or not frames or self.count >= frames:
            return
        if self._moves:
            times = [time for _, time, _ in pictures(self.path)]
            self._stands = [round(time / max(1, min(times))) or 1 for time in times]
        count = sum(self._stands) if self._stands else self.count
        if count < (1 - MISSING) * frames and self._film:  # what a film's head says of its length is often wrong
            count = max(count, count_frames(self.path))
        if count < (1 - MISSING) * frames and source.suffix.lower() in FILMS and source.is_file():
            frames = min(frames, count_frames(source))
        if count < (1 - MISSING) * frames:
            raise ImageError(f"the mask {self.path} has {counted(count, 'frame')}, and {source} about {frames}; it has to have one for each")

    def told(self) -> str:
        """What differs as soon as it is another one."""
        files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in self._pictures or [self.path]]
        return hashlib.sha256(repr(files).encode()).hexdigest()


def _frames_of(path: Path) -> int:
    """How many an animation has; 0 for all else."""
    count = frame_count(path) if path.suffix.lower() in PHOTOGRAPHS and path.is_file() else 0
    return count if count > 1 else 0


def matte_for(masks: Masks | None, film: Path) -> Matte | None:
    """The one that is meant for a film or an animation, if what is asked for moves: such a file, a folder of numbered pictures, or one called like the film in a folder."""
    if masks is None or masks.word:
        return None
    path = masks.path
    if path.is_dir():
        own = masks.folder_for(film) / film.stem
        if own.is_dir():
            return Matte(own, masks.inverted)
        if not masks.has(film) and numbered(path):
            return Matte(path, masks.inverted)
        path = masks.file_for(film)
    moves = masks.piped is None and (path.suffix.lower() in FILMS or _frames_of(path))
    return Matte(path, masks.inverted) if moves else None


def with_each(mattes: Sequence[Matte | None], first: int = 0) -> Iterator[dict]:
    """What a `stylenorm.steady.Stream` is given with each frame from ``first`` on. mattes: of the stream and then of each of its layers."""
    if not any(mattes):
        return repeat({})
    each = zip(*(matte.masks(first) if matte else repeat(None) for matte in mattes))
    return ({"mask": mask, "layer_masks": others} for mask, *others in each)


class Mattes:
    """What was asked for as masks of a film or an animation, of which some move. asked: of a stream, and then of each of its layers.

    Raises `ImageError`, as do its methods, where there is no such thing.
    """

    def __init__(self, asked: Sequence[Masks | None], source: Path) -> None:
        self._asked, self._source = asked, source
        self.mattes = [matte_for(masks, source) for masks in asked]
        for matte in filter(None, self.mattes):
            matte.check_length(source, _frames_of(source))  # of a film that is known later

    def first(self) -> list:
        """What a stream begins with: the masks of all frames, or the first of those that move."""
        return [next(matte.masks()) if matte else masks and masks.mask_for(self._source) for matte, masks in zip(self.mattes, self._asked)]

    def each(self) -> Iterator[dict]:
        """See `with_each`."""
        return with_each(self.mattes)


def numbered(folder: Path) -> list[Path]:
    """The pictures right in a folder, by the last number in their names; none if one of them has no number, or two the same."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in PHOTOGRAPHS and not is_hidden(p.name) and p.is_file()]
    found = {int(n[-1]): p for p in files if (n := re.findall(r"\d+", p.stem))}
    return [found[n] for n in sorted(found)] if len(found) == len(files) > 1 else []
