"""Folders of pictures in and out: uploaded files, zips among them, and the zip of results."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .library import RESERVED, ImageError, StylenormError

MOST_FILES = 500
MOST_LISTED = 2_000_000  # bytes of a zip's list of members; 500 photographs need 100 kB, and a member 1 kB of memory
MOST_BYTES = 200_000_000  # of one picture in a zip, unpacked
SUFFIXES = {"jpeg": ".jpg", "png": ".png"}
OTHERS = str.maketrans({"\\": "/", **dict.fromkeys(':*?"<>|', "_")})  # for what no name holds on Windows


class Opened:
    """The zip that is being read, one at a time: its list is read once for all of its members, and few files are open."""

    def __init__(self) -> None:
        self._zip: zipfile.ZipFile | None = None

    def zip(self, file: Path) -> zipfile.ZipFile:
        if self._zip is None or self._zip.filename != str(file):
            opened = zipfile.ZipFile(file)
            if self._zip is not None:
                self._zip.close()
            self._zip = opened
        return self._zip


@dataclass(frozen=True)
class Item:
    """A file to paint: its name in the results, and how to read it."""

    name: str
    file: Path
    member: zipfile.ZipInfo | None = None
    opened: Opened | None = None

    def read(self) -> bytes | Path:
        """What `read_picture` takes. Raises `ImageError`."""
        if self.member is None:
            return self.file
        # Nothing is ever unpacked to the disk, so a member's name cannot point out of a folder; and no more is
        # unpacked than a limit, whatever the zip says about itself.
        try:
            with self.opened.zip(self.file).open(self.member) as stream:
                data = stream.read(MOST_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise ImageError(f"{self.name} cannot be unpacked ({reason(error)}); make the zip again") from None
        if len(data) > MOST_BYTES:
            raise ImageError(f"{self.name} unpacks to more than {MOST_BYTES // 1_000_000} MB; make it smaller")
        return data


def items(files: list[str | Path]) -> list[Item]:
    """What to paint, in order; of a zip each member. Raises `StylenormError` where there is nothing, or too much."""
    found: list[Item] = []
    opened = Opened()
    for file in map(Path, files):
        infos = members(file, opened) if zipfile.is_zipfile(file) else [None]
        if len(found) + len(infos) > MOST_FILES:
            raise StylenormError(f"more than {MOST_FILES} files; paint them in several parts")
        found += [Item(safe_name(i.filename), file, i, opened) if i else Item(safe_name(file.name), file) for i in infos]
    if not found:
        raise StylenormError("there is no picture to paint; add files, or a zip of them")
    return found


def members(file: Path, opened: Opened) -> list[zipfile.ZipInfo]:
    """The pictures in a zip. Raises `StylenormError` where it is damaged, or lists too much."""
    try:
        with file.open("rb") as stream:
            end = zipfile._EndRecData(stream)  # what `ZipFile` goes by, before it reads the whole list
        short = not end or end[zipfile._ECD_SIZE] <= MOST_LISTED
        infos = opened.zip(file).infolist() if short else []
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise StylenormError(f"{file.name} is a damaged zip ({reason(error)}); make it again") from None
    if not short:
        raise StylenormError(f"{file.name} lists too many files; paint them in several parts")
    return [info for info in infos if is_picture(info)]


def is_picture(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    return not info.is_dir() and "__MACOSX" not in parts and bool(parts) and not parts[-1].startswith(".")


def reason(error: Exception) -> str:
    """Without the server's path, which an OSError as a whole tells."""
    return str(getattr(error, "strerror", None) or error)[:100]


def safe_name(name: str) -> str:
    """A relative path with forward slashes that stays where it is unpacked, on any system."""
    parts = [p.strip().rstrip(". ") for p in name.translate(OTHERS).split("/")]
    parts = ["".join(c if c.isprintable() else "_" for c in p) for p in parts if p]
    parts = [f"_{p}" if p.split(".")[0].rstrip().casefold() in RESERVED else p for p in parts]  # aux.jpg is a device there
    return "/".join(parts) or "picture"


class Results:
    """A zip that keeps names and folders: a/b.heic becomes a/b.jpg, and a second a/b.jpg is a/b-2.jpg."""

    def __init__(self, path: Path, format: str) -> None:
        self.format = format
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)  # pictures are compressed already
        self._taken: set[str] = set()

    def add(self, name: str, data: bytes) -> str:
        stem = str(PurePosixPath(name).with_suffix("")) if PurePosixPath(name).suffix else name
        target, number = stem + SUFFIXES[self.format], 2
        while target.casefold() in self._taken:
            target, number = f"{stem}-{number}{SUFFIXES[self.format]}", number + 1
        self._taken.add(target.casefold())
        self._zip.writestr(target, data)
        return target

    def __len__(self) -> int:
        return len(self._taken)

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_) -> None:
        self._zip.close()
