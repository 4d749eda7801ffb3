"""What a command's words mean: which pictures to read, where to write, which styles at which weights. No torch."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Container, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from unicodedata import normalize

from stylenorm.catalog import style_entries, unknown_style
from stylenorm.drafts import DAY, file_id, is_read_only, reach, remove_drafts
from stylenorm.errors import ImageError, StyleError, StylenormError, counted, how_to_install
from stylenorm.formats import ANIMATABLE, ANIMATED, BACKGROUND, FILMS, FORMAT, PEOPLE, PHOTOGRAPHS, told_of_others

# What is written, by the name that --format takes.
SUFFIX = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif", "avif": ".avif", "heic": ".heic"}


@dataclass(frozen=True)
class Job:
    """A photograph and where its painting goes; None for standard input and output. format: None is by suffix."""

    source: Path | None
    target: Path | None
    format: str | None

    @property
    def named(self) -> str:
        """What messages call the photograph."""
        return str(self.source or "standard input")

    @property
    def written(self) -> str:
        """The format of what is written."""
        return self.format or {**FORMAT, **ANIMATED}[self.target.suffix.lower()]


def plan(
    photos: Sequence[str], output: str, format: str | None, others: Sequence[Path] = (), stills: bool = False
) -> list[Job]:
    """What to read and where to write it, such that nothing is written over an input or over another result.

    others: further inputs, such as paintings and masks. stills: for a verb that writes no animations.
    """
    sources, many = find_photographs(photos)
    check_limit()
    check_writable(format)
    if output == "-":
        if many:
            raise StylenormError("only one photograph can go to standard output; give a folder with -o")
        check_stdout()
        if not stills and sources[0] and (format or "png") in ANIMATABLE.values() and _frame_count(sources[0]) > 1:
            raise StylenormError(
                f"{sources[0]} moves, and an animation is written to a file; give -o FILE, or --format jpeg for its first frame"
            )
        return [Job(sources[0], None, format or "png")]
    if not output:
        raise StylenormError("-o is empty; give a file or a folder")
    target, inputs = Path(output), {identity(p) for p in [*sources, *others] if p}
    if target.is_dir() or output.endswith(("/", os.sep)) or many:
        if many and target.suffix.lower() in {**FORMAT, **ANIMATED} and not target.is_dir() and not output.endswith(("/", os.sep)):
            raise StylenormError(f"{counted(len(sources), 'photograph does', 'photographs do')} not fit into the file {output}; give a folder")
        taken: set[str] = set()
        return [Job(source, free_name(target, source, format, inputs, taken, stills), format) for source in sources]
    known = FORMAT if stills else {**FORMAT, **ANIMATED}
    if target.suffix.lower() in FILMS:
        raise StylenormError(f"{output} is a film's name; stylenorm video paints films")
    if target.suffix.lower() not in known and format is None:
        raise StylenormError(
            f"{output} does not end in a format ({', '.join(known)}); "
            f"add one, {'' if stills else 'or give --format, '}or end a folder in a slash"
        )
    if format and known.get(target.suffix.lower(), format) != format:
        raise StylenormError(f"{output} says {known[target.suffix.lower()]} and --format says {format}; give one of them")
    check_writable(known.get(target.suffix.lower()))
    if (sources[0] is None or sources[0].is_fifo()) and target.suffix.lower() in ANIMATED:
        raise StylenormError(f"{output} is an animation, and one is read from a file; give that file's name in place of {photos[0]}")
    spare(inputs, target)
    if not target.absolute().parent.is_dir():
        reach(target.absolute().parent)
        raise StylenormError(f"there is no folder {target.parent}; make it first, or end -o in a slash")
    return [Job(sources[0], target, format)]


def plan_one(photo: str, output: str, others: Sequence[Path] = ()) -> Job:
    """`plan` for a verb that makes a still of one photograph. A folder is told to be one before ``output`` is looked at."""
    if photo and Path(photo).is_dir():
        raise StylenormError(f"{photo} is a folder; give one photograph")
    return plan([photo], output, None, others, stills=True)[0]


def find_photographs(photos: Sequence[str]) -> tuple[list[Path | None], bool]:
    """The files that are meant, None for standard input, and whether a folder is needed for the results."""
    sources: list[Path | None] = []
    for name in photos:
        path = Path(name)
        if not name:  # which would be the folder that one is in
            raise StylenormError("a photograph's name is empty; give a file or a folder")
        if name == "-":
            if None in sources:
                raise StylenormError("standard input can be read once; give - once")
            if sys.stdin is None or sys.stdin.isatty():
                told = "closed" if sys.stdin is None else "a terminal"
                raise StylenormError(f"standard input is {told}; send a photograph to it, as in: stylenorm stylize - < photo.jpg")
            sources.append(None)
        elif path.is_dir():
            files = [p for p in path.iterdir() if p.name[0] != "." and (os.path.isfile(p) or not os.path.exists(p))]  # a link to nothing is told as broken
            found = sorted(p for p in files if p.suffix.lower() in PHOTOGRAPHS)
            if not found:
                others = told_of_others(p.name for p in files)
                raise StylenormError("; ".join([f"the folder {name} holds no photograph; only files right in it are taken", *others]))
            sources += found
        elif path.exists():  # a pipe is fine
            sources.append(path)
        else:
            reach(path)
            raise StylenormError(f"there is no photograph {name}; check the name")
    return sources, len(photos) > 1 or Path(photos[0]).is_dir()


def left_out(photos: Sequence[str]) -> list[str]:
    """A sentence for raw files and one for films that lie among the photographs of the folders which are meant."""
    return told_of_others(p.name for path in map(Path, photos) if path.is_dir() for p in path.iterdir() if p.name[0] != "." and os.path.isfile(p))


def check_stdout() -> None:
    """Refuse to send a picture to where none can go."""
    if sys.stdout is None:
        raise StylenormError("standard output is closed; send it to a file, or give -o FILE")
    if sys.stdout.isatty():
        raise StylenormError("a picture is nothing for a terminal; send standard output to a file, or give -o FILE")


def free_name(
    folder: Path, source: Path | None, format: str | None, inputs: Container[str], taken: set[str], stills: bool = False
) -> Path:
    """The photograph's name in ``folder``, numbered if it is taken: a.jpg, a-2.jpg. From now on it is taken."""
    stem, suffix = (source.stem, source.suffix) if source else ("stdin", ".png")
    moving = not stills and source is not None and suffix.lower() in ANIMATED and _frame_count(source) > 1
    suffix = SUFFIX[format] if format else suffix if suffix.lower() in FORMAT or moving else ".png"
    target = folder / f"{stem}{suffix}"
    name = identity(target)
    if name in inputs:
        raise StylenormError(f"{target} is an input and would be overwritten; give another folder with -o")
    numbered = (folder / f"{stem}-{n}{suffix}" for n in count(2))
    while name in inputs or name in taken:
        target = next(numbered)
        name = identity(target)
    taken.add(name)
    return target


def check_limit() -> None:
    """Refuse a limit of pixels that is none, once and for all photographs."""
    if os.environ.get("STYLENORM_MEGAPIXELS"):
        from stylenorm.decode import most_pixels  # takes Pillow, as below

        most_pixels()


def check_writable(format: str | None) -> None:
    """Refuse a format that takes a package which is not there: before the work, and not after it."""
    if format == "heic" and find_spec("pillow_heif") is None:
        raise StylenormError(f"writing HEIC takes another library: {how_to_install('heic')}; or use JPEG or PNG")
    if format == "avif":
        from PIL import features  # not before it is needed: wrong use is to be told at once

        if not features.check("avif"):  # conda's and the distributions' may lack it
            raise StylenormError("this Pillow was built without AVIF: pip install --force-reinstall pillow; or use JPEG or PNG")


def spare(inputs: Container[str], *targets: Path | None) -> None:
    """Refuse to write over an input. inputs: their `identity`."""
    for target in targets:
        if target is not None and identity(target) in inputs:
            raise StylenormError(f"{target} is an input and would be overwritten; give another name with -o")


def identity(path: Path) -> str:
    """Equal for two names of one file, also where case, or how an accent is composed, does not count.

    And where its folder is mounted at two places, as containers have it.
    """
    folder, name = os.path.split(os.path.realpath(path))
    with suppress(OSError):
        folder = ":".join(map(str, file_id(folder)))
    return folded(os.path.normcase(os.path.join(folder, name)))


def folded(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return normalize("NFC", normalize("NFC", name).casefold())


def is_moving(job: Job) -> bool:
    """Whether all frames of an animation are to be painted; a GIF is always written as one."""
    if job.source is None or job.target is None:
        return False
    return job.written in ANIMATED.values() or (job.written in ANIMATABLE.values() and _frame_count(job.source) > 1)


def _frame_count(source: Path) -> int:
    from stylenorm.animation import frame_count  # takes Pillow, and wrong use is to be told without it

    return frame_count(source) if source.is_file() else 1  # a pipe gives its bytes once


def make_folder(jobs: Sequence[Job]) -> None:
    """Make the folder of the results if need be, and rid it of what a killed run has left there.

    Raises `StylenormError` where they could not be written: before the work, and not after it.
    """
    target = jobs[0].target
    if target is None:
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StylenormError(f"the folder {target.parent} cannot be made ({error.strerror or error}); give another") from None
    for job in jobs:
        try:
            allowed = may_be_written(job.target)
        except OSError as error:  # its name is too long, as it may be with the suffix of --format
            if len(jobs) == 1:
                raise StylenormError(f"{job.target} cannot be written ({error.strerror or error}); give another name with -o") from None
            continue  # it is told when its turn comes, and the rest goes on
        if not allowed:
            raise StylenormError(f"{job.target} may not be written; change the permissions or the place")
    remove_drafts(target.parent, age=DAY)


def may_be_written(path: Path) -> bool:
    """Whether the system lets a file be made or replaced there, or written through, if it is a device or a pipe."""
    path = Path(os.path.realpath(path))  # a link stays one
    reach(path)
    if is_read_only(path):
        return False
    through = path.exists() and not path.is_file()
    return through or os.access(path.parent, os.W_OK | os.X_OK)


@dataclass(frozen=True)
class Masks:
    """The masks that were asked for: a file for all photographs or films, or a folder that has one for each, called like it.

    inverted: the rest of them is meant. top: of a tree of photographs, which that folder is like. piped: what came through a pipe.
    word: `PEOPLE` or `BACKGROUND`, which are found in each photograph, and no file is meant.
    """

    path: Path
    inverted: bool = False
    top: Path | None = None
    piped: bytes | None = None
    word: str | None = None

    @classmethod
    def of(cls, text: str, option: str, inverted: bool = False) -> "Masks":
        path = Path(text)
        if text in (PEOPLE, BACKGROUND):
            return cls(path, word=text if not inverted else PEOPLE if text == BACKGROUND else BACKGROUND)
        if not text or not path.exists():
            reach(path)
            told = f"there is no mask {text}" if text else f"{option} is empty"
            raise StylenormError(f"{told}; give a picture that is white where it counts, a folder of such, people or background")
        return cls(path, inverted, piped=path.read_bytes() if path.is_fifo() else None)  # it gives its bytes once

    def mask_for(self, source: Path | None):
        """What `Stylizer.stylize` takes as a mask. source: None is standard input. Raises `ImageError`."""
        if self.word:
            return self.word
        from stylenorm.images import read_picture
        from stylenorm.masks import inverted_mask

        found = self.file_for(source) if self.piped is None else read_picture(self.piped, name=str(self.path))
        return inverted_mask(found) if self.inverted else found

    def content_for(self, source: Path | None) -> bytes:
        return self.file_for(source).read_bytes() if self.piped is None else self.piped

    def files(self) -> list[Path]:
        """What nothing may be written over."""
        if self.word:
            return []
        return [*self.path.iterdir()] if self.path.is_dir() else [self.path]

    def folder_for(self, source: Path | None) -> Path:
        """Of a folder of masks, where those lie that are for photographs in the same place as ``source``."""
        return self.path / source.parent.relative_to(self.top) if self.top and source else self.path

    def has(self, source: Path) -> bool:
        """Whether there is one for it."""
        return not self.path.is_dir() or bool(self._alike(source.stem, self.folder_for(source)))

    def _alike(self, stem: str, folder: Path) -> list[Path]:
        return [p for p in _by_stem(folder).get(folded(stem), ()) if p.is_file()]

    def file_for(self, source: Path | None) -> Path:
        if not self.path.is_dir():
            return self.path
        stem = source.stem if source else "stdin"
        folder = self.folder_for(source)
        alike = self._alike(stem, folder)
        found = sorted([p for p in alike if p.stem == stem] or alike)
        if len(found) != 1:
            told = "has no mask" if not found else f"has {len(found)} masks ({', '.join(p.name for p in found)})"
            raise ImageError(f"{folder} {told} for {source or 'standard input'}; one is called like what it is for, as in {stem}.png")
        return found[0]


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The pictures right in a folder; it is listed once, as long as it stays the same, for there may be as many photographs as masks."""
    return _listed(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}


@lru_cache(16)
def _listed(folder: Path, changed: int) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in folder.iterdir():
        if path.suffix.lower() in PHOTOGRAPHS | FILMS:
            found.setdefault(folded(path.stem), []).append(path)
    return found


@dataclass(frozen=True)
class Region:
    """What --region asks for: a mask, and the style where it is white: named ones with weights, or a painting."""

    masks: Masks
    names: list[tuple[str, float]]
    painting: Path | None


def weighted(text: str) -> tuple[str, float]:
    """``kiss:0.7`` is ("kiss", 0.7), ``kiss`` ("kiss", 1), and ``C:\\kiss.jpg`` is a name and nothing else."""
    name, colon, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        return text, 1.0
    if not colon or not name:
        return text, 1.0
    if not 0 <= weight < math.inf:
        raise StyleError(f"{text}: a weight is a number from 0 up")
    return name, weight


def weighted_names(texts: Sequence[str], weights: Path | None) -> list[tuple[str, float]]:
    parts = [weighted(part.strip()) for text in texts for part in text.split(",") if part.strip()]
    if texts and not parts:
        raise StyleError("--style is empty; give a name, as in --style starry-night")
    known = [entry.name for entry in style_entries(weights)] if parts else []
    return [(style_named(name.rstrip(), known), weight) for name, weight in parts]


def region_of(text: str, weights: Path | None) -> Region:
    """``sky.png=water-lilies``. A file's name may have an = in it: it is split where that leaves a mask which is there."""
    places = [i for i, letter in enumerate(text) if letter == "=" and text[:i]]
    at = next((i for i in places if Path(text[:i]).exists()), next(iter(places), -1))
    wanted = text[at + 1 :].strip()
    if at < 0 or not wanted:
        raise StylenormError(f"--region cannot be {text!r}; give MASK=STYLE, as in sky.png=water-lilies")
    masks = Masks.of(text[:at], "--region")
    if Path(wanted).is_file():
        return Region(masks, [], Path(wanted))
    return Region(masks, weighted_names([wanted], weights), None)


def style_named(name: str, known: Sequence[str]) -> str:
    """The known style of this name, else the only one whose name differs in case alone. Macs take accents apart."""
    name = name if name in known else normalize("NFC", name)
    alike = [name] if name in known else [other for other in known if other.casefold() == name.casefold()]
    if len(alike) != 1:
        raise StyleError(unknown_style(name, known))
    return alike[0]


def weighted_file(text: str) -> tuple[Path, float]:
    """A file of the whole name wins, so that a painting called ``night:2`` can be given. It may be a pipe, which can be read once."""
    name, weight = (text, 1.0) if text and Path(text).exists() else weighted(text)
    if not name:
        raise StyleError("--style-image is empty; give a picture file")
    if not (Path(name).is_file() or Path(name).is_fifo()):
        reach(name)
        kind = "a folder" if Path(name).is_dir() else "neither a file nor a pipe"
        told = f"{name} is {kind}" if Path(name).exists() else f"there is no painting {name}"
        raise StyleError(f"{told}; --style-image takes a picture file")
    return Path(name), weight
