"""A folder of photographs with all below it: what is in it, and what each one's painting is called. No torch."""

from __future__ import annotations

import os
import posixpath
import stat
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path

from stylenorm.catalog import RESERVED
from stylenorm.drafts import file_id, reach
from stylenorm.errors import StylenormError
from stylenorm.formats import is_hidden, is_library, told_of_others
from stylenorm.jobs import FORMAT, PHOTOGRAPHS, SUFFIX, folded
from stylenorm.manifest import NAME as MANIFEST
from stylenorm.places import UrlFile, UrlFolder

# What no file's name holds on Windows. Of some it would make a drive or another folder: C:/a.jpg, x\..\..\a.jpg
UNWRITABLE = frozenset('\\:*?"<>|' if os.name == "nt" else "")
MARKED = os.name == "nt" or sys.platform == "darwin"  # whether a mark hides files and folders, and not their names alone


@dataclass(frozen=True)
class Photo:
    """A photograph in the tree. name: its path from the top, with slashes. changed: when, in ns. mask: hash of the mask that is its own."""

    path: Path | UrlFile
    name: str
    size: int
    changed: int
    mask: str | None = None


@dataclass
class Tree:
    """The photographs by name, and a sentence for each folder that could not be read and for what is left out.

    others: names of files that people take for photographs, or have among them, and that are not painted.
    """

    photos: list[Photo] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def find_tree(top: Path | UrlFolder, out: Path | UrlFolder, recursive: bool = True) -> Tree:
    """Every photograph below ``top`` but those in ``out``, where the paintings go.

    Hidden files and folders are passed over, those of systems, and those that another batch has painted into. A link to a folder
    is followed after all real folders have been seen, and no folder is entered twice, so that a link that leads in a circle ends there.
    Raises `StylenormError` where ``out`` lies in the tree and holds photographs that no batch has painted.
    """
    if isinstance(top, UrlFolder):
        return _told(_find_at_url(top, out, recursive))
    if not top.is_dir():
        reach(top)
        what = "is a file; stylenorm stylize paints single photographs" if top.exists() else "does not exist; check the name"
        raise StylenormError(f"the folder {top} {what}")
    if isinstance(out, UrlFolder):
        out = Path(os.devnull)  # which no photograph lies in
    elif out.exists() and file_id(top) == file_id(out):
        raise _same_folder(out)
    walk = _Walk(top, out, recursive)
    walk.run()
    walk.tree.photos.sort(key=lambda photo: photo.name.split("/"))
    return _told(walk.tree)


def _told(tree: Tree) -> Tree:
    tree.left_out += told_of_others(tree.others)
    return tree


def _same_folder(out: Path | UrlFolder) -> StylenormError:
    return StylenormError(f"{out} is where the photographs are; give another folder for the paintings")


def _find_at_url(top: UrlFolder, out: Path | UrlFolder, recursive: bool) -> Tree:
    at_url = isinstance(out, UrlFolder)
    if at_url and out.holds(top.path, top.files):
        same = top.holds(out.path, out.files)
        raise _same_folder(out) if same else StylenormError(f"{top} lies in {out}; give another folder for the paintings")
    tree, listed = Tree(), list(top.listed(recursive))
    begun = {folder for file, *_ in listed if (folder := posixpath.dirname(file.name)) and posixpath.basename(file.name) == MANIFEST}
    others = [folder for folder in sorted(begun) if not (at_url and out.holds(f"{top.path}/{folder}", top.files))]
    tree.left_out += [_painted_into(f"{top}/{folder}") for folder in others]
    for file, size, changed in listed:
        name = file.name
        if any(map(is_hidden, name.split("/"))):
            continue
        if at_url and out.holds(file.where, top.files):
            if posixpath.splitext(name)[1].lower() in PHOTOGRAPHS and begun.isdisjoint(_parents(name)):
                raise _not_painted(file)
            continue
        if any(name.startswith(f"{folder}/") for folder in others):
            continue
        if posixpath.splitext(name)[1].lower() not in PHOTOGRAPHS:
            tree.others.append(name)
        elif isinstance(out, Path) and UNWRITABLE and (set(name) & UNWRITABLE or any(map(_is_no_name, name.split("/")))):
            tree.left_out.append(f"{file} was left out, for Windows has no files of such names")
        else:
            tree.photos.append(Photo(file, name, size, changed))
    tree.photos.sort(key=lambda photo: photo.name.split("/"))
    return tree


def _painted_into(folder: str) -> str:
    return f"the folder {folder} was left out, for another batch has painted into it"


def _not_painted(photograph: str | Path | UrlFile) -> StylenormError:
    return StylenormError(
        f"{photograph} lies where the paintings are to go, and no batch has painted it; move it, or give another folder for the paintings"
    )


class _Walk:
    def __init__(self, top: Path, out: Path, recursive: bool) -> None:
        self.top, self.recursive, self.tree = top, recursive, Tree()
        self.real_top, self.real_out = os.path.realpath(top), os.path.realpath(out)
        self.out = file_id(out) if out.exists() else None
        self.entered = {self.out}
        self.links: list[tuple[str, str]] = []

    def run(self) -> None:
        if (trouble := self.enter(str(self.top), "")) and not self.tree.photos:
            raise StylenormError(trouble.replace("its photographs were left out", "change its permissions"))
        while self.links:
            self.enter(*self.links.pop(0))

    def enter(self, path: str, name: str) -> str | None:
        """Take in a folder and the real ones below it. Returns what was wrong with itself."""
        waiting, first = [(path, name)], None
        while waiting:
            path, name = waiting.pop()
            try:
                identity = file_id(path)
                if identity == self.out:
                    _check_painted(path)
                if identity in self.entered:
                    continue
                with os.scandir(path) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
                self.entered.add(identity)  # now that it could be: another way to it may be open
            except OSError as error:
                trouble = f"the folder {path} cannot be read ({error.strerror or error}); its photographs were left out"
                first = first or (trouble if name == "" else None)
                self.tree.unread.append(trouble)
                continue
            if name and any(entry.name == MANIFEST for entry in found):
                self.tree.left_out.append(_painted_into(path))
                continue
            for entry in found:
                if MARKED and _is_marked_hidden(entry):
                    continue
                if not is_hidden(entry.name):
                    waiting += self.take(entry, posixpath.join(name, entry.name))
                elif self.recursive and is_library(entry.name):
                    told = "for it is a library, with several copies of each photograph; export them from its program, and paint those"
                    self.tree.left_out.append(f"{entry.path} was left out, {told}")
        return first

    def take(self, entry: os.DirEntry, name: str) -> list[tuple[str, str]]:
        """Note a photograph or a link. A folder is returned, to be entered."""
        link, folder = entry.is_symlink(), _is_folder(entry)
        if not folder and posixpath.splitext(name)[1].lower() not in PHOTOGRAPHS:
            self.tree.others.append(name)
            return []
        if folder and not self.recursive:
            return []
        if link and self.is_result(os.path.realpath(entry.path)):
            self.tree.left_out.append(f"{entry.path} is a link into the folder of paintings and was left out")
        elif folder and link:
            self.links.append((entry.path, name))
        elif folder:
            return [(entry.path, name)]
        else:
            self.take_photo(entry, name)
        return []

    def take_photo(self, entry: os.DirEntry, name: str) -> None:
        try:
            if not entry.is_file() and not (entry.is_symlink() and not os.path.exists(entry.path)):
                return  # a pipe or a device, which would never end; a link to nothing is told as broken
            status = entry.stat()
            size, changed = status.st_size, status.st_mtime_ns
        except OSError:  # reading it will tell
            size, changed = 0, 0
        self.tree.photos.append(Photo(Path(entry.path), name, size, changed))

    def is_result(self, real: str) -> bool:
        inside_top = lies_in(self.real_top, self.real_out) and lies_in(real, self.real_top)
        return lies_in(real, self.real_out) and not inside_top


def output_names(
    photos: Sequence[Photo], format: str, known: Mapping[str, str], moving: Container[str] = frozenset()
) -> dict[str, str]:
    """What each photograph's painting is called: {name: name below the folder of paintings}.

    The painting keeps the photograph's name, with the suffix of ``format``; "keep" keeps that, too, where it can
    be written, and where it is in ``moving``, as an animation; it is .png where not. Where several would get one name, the photograph that has this very name
    gets it, else the first one by name; the others get their suffix into the name: a.png becomes a-png.jpg. Names
    that differ in case alone, or in how an accent is composed, count as one. ``known`` names, of an earlier run,
    stay, those of photographs that are gone as well. Nothing else counts, above all not which files are there already.
    """
    names: dict[str, str] = {}
    present = {photo.name for photo in photos}
    taken = {folded(parent) for name in present for parent in _parents(name)}
    taken |= {folded(output) for name, output in known.items() if name not in present} - {folded(known[name]) for name in present & known.keys()}

    def give(photo: Photo, candidates: Iterable[str]) -> None:
        names[photo.name] = next(c for c in candidates if folded(c) not in taken)
        taken.add(folded(names[photo.name]))

    def first_come(photo: Photo) -> tuple[bool, bool, list[str]]:
        return photo.name not in known, _wanted(photo.name, format, moving) != photo.name, photo.name.split("/")

    for photo in sorted(photos, key=first_come):
        earlier = (known[photo.name],) if photo.name in known else ()
        give(photo, chain(earlier, _candidates(photo.name, format, moving)))
    return names


def _candidates(name: str, format: str, moving: Container[str]) -> Iterator[str]:
    yield (wanted := _wanted(name, format, moving))
    stem, own = posixpath.splitext(name)
    ending = posixpath.splitext(wanted)[1]
    yield f"{stem}-{own[1:]}{ending}"
    for n in count(2):
        yield f"{stem}-{own[1:]}-{n}{ending}"


def _wanted(name: str, format: str, moving: Container[str]) -> str:
    stem, suffix = posixpath.splitext(name)
    own = FORMAT.get(suffix.lower())
    if format == "keep":
        return name if own or name in moving else stem + ".png"
    return name if own == format else stem + SUFFIX[format]


def check_targets(top: Path, out: Path, folders: Iterable[str], photos: Iterable[Photo] = ()) -> None:
    """Refuse a result that would lie among the photographs. folders: of the results, below ``out``."""
    taken = set(filter(None, map(_id_if_there, {photo.path.parent for photo in photos})))
    for folder in sorted(set(folders)):
        real = os.path.realpath(os.path.join(out, folder))
        own = lies_in(out, top) and lies_in(real, out)
        if lies_in(real, top) and not own or _id_if_there(real) in taken:
            raise StylenormError(
                f"{os.path.join(out, folder)} lies in {top}, and a painting there would be taken for a photograph; "
                "give another folder for the paintings"
            )


def check_noted(top: Path, out: Path, targets: Iterable[str], noted: Container[str]) -> None:
    """Refuse to paint over a photograph below ``top``, where ``out`` is. targets: below ``out``. noted: those of them that were painted."""
    if not lies_in(out, top):
        return
    for target in targets:
        with suppress(OSError):
            if target not in noted and os.stat(out / target).st_size:
                raise _not_painted(out / target)


def _check_painted(out: str) -> None:
    """Refuse photographs in the folder of paintings and those below it that are nobody's paintings."""
    for folder, below, files in os.walk(out):
        if MANIFEST in files and os.path.getsize(os.path.join(folder, MANIFEST)):
            below.clear()
            continue
        below[:] = [name for name in below if not is_hidden(name)]
        for name in sorted(files):
            if not is_hidden(name) and posixpath.splitext(name)[1].lower() in PHOTOGRAPHS:
                raise _not_painted(os.path.join(folder, name))


def _parents(name: str) -> Iterator[str]:
    while name := posixpath.dirname(name):
        yield name


def lies_in(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is ``folder`` or lies in it, though it may not be there yet. And not by name: on a Mac, Photos is photos."""
    above, wanted = Path(os.path.realpath(path)), _id_if_there(folder)
    if wanted is None:
        return Path(os.path.realpath(folder)) in (above, *above.parents)
    return any(_id_if_there(one) == wanted for one in (above, *above.parents))


def _is_no_name(part: str) -> bool:
    """Whether Windows takes it for a device, or for another name."""
    return part.endswith((".", " ")) or part.split(".")[0].rstrip().casefold() in RESERVED


def _id_if_there(path: str | Path) -> tuple[int, int | str] | None:
    with suppress(OSError):
        return file_id(path)
    return None


def _is_marked_hidden(entry: os.DirEntry) -> bool:
    """Such as AppData and a Mac's Library, and links to Pictures among Windows' Documents, which nobody may look into."""
    with suppress(OSError):
        about = entry.stat(follow_symlinks=False)
        hidden = getattr(about, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN
        return bool(hidden or getattr(about, "st_flags", 0) & stat.UF_HIDDEN)
    return False


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
