"""Folders of pictures in and out: uploaded files, zips among them, and the zip of results."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .library import ImageError, StylenormError

MOST_FILES = 500
MOST_BYTES = 200_000_000  # of one picture in a zip, unpacked
SUFFIXES = {"jpeg": ".jpg", "png": ".png"}


@dataclass(frozen=True)
class Item:
    """A file to paint: its name in the results, and how to read it."""

    name: str
    file: Path
    member: zipfile.ZipInfo | None = None

    def read(self) -> bytes | Path:
        """What `read_picture` takes. Raises `ImageError`."""
        if self.member is None:
            return self.file
        # Nothing is ever unpacked to the disk, so a member's name cannot point out of a folder; and no more is
        # unpacked than a limit, whatever the zip says about itself.
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(self.member) as stream:
                data = stream.read(MOST_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise ImageError(f"{self.name} cannot be unpacked ({str(error)[:100]}); make the zip again") from None
        if len(data) > MOST_BYTES:
            raise ImageError(f"{self.name} unpacks to more than {MOST_BYTES // 1_000_000} MB; make it smaller")
        return data


def items(files: list[str | Path]) -> list[Item]:
    """What to paint, in order; of a zip each member. Raises `StylenormError` where there is nothing, or too much."""
    found: list[Item] = []
    for file in map(Path, files):
        found += members(file) if zipfile.is_zipfile(file) else [Item(safe_name(file.name), file)]
        if len(found) > MOST_FILES:
            raise StylenormError(f"more than {MOST_FILES} files; paint them in several parts")
    if not found:
        raise StylenormError("there is no picture to paint; add files, or a zip of them")
    return found


def members(file: Path) -> Iterator[Item]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as error:
        raise StylenormError(f"{file.name} is a damaged zip ({str(error)[:100]}); make it again") from None
    for info in infos:
        parts = PurePosixPath(info.filename).parts
        if not info.is_dir() and "__MACOSX" not in parts and parts and not parts[-1].startswith("."):
            yield Item(safe_name(info.filename), file, info)


def safe_name(name: str) -> str:
    """A relative path with forward slashes that stays where it is unpacked, on any system."""
    parts = [p.strip() for p in name.replace("\\", "/").replace(":", "_").split("/")]
    parts = ["".join(c if c.isprintable() else "_" for c in p) for p in parts if p not in ("", ".", "..")]
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
